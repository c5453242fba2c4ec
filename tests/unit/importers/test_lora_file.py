"""Settings from the metadata that a LoRA carries: sd-scripts', written down by hand, and ours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file

from lorasmith.cli.main import cli
from lorasmith.config.load import load_settings
from lorasmith.core.errors import SettingsError
from lorasmith.demo.character import write_training_set
from lorasmith.formats.training_metadata import TrainingFacts
from lorasmith.importers.conversion import Conversion
from lorasmith.importers.convert import convert_source
from lorasmith.importers.detect import read_file

# As train_network.py writes it of a run with folders.
KOHYA = {
    "ss_session_id": "1780218262", "ss_training_started_at": "1680000000.5",
    "ss_output_name": "zorp", "ss_learning_rate": "0.0001", "ss_text_encoder_lr": "5e-05",
    "ss_unet_lr": "0.0001", "ss_num_train_images": "200", "ss_num_reg_images": "0",
    "ss_num_batches_per_epoch": "100", "ss_num_epochs": "10", "ss_epoch": "8", "ss_steps": "800",
    "ss_batch_size_per_device": "2", "ss_total_batch_size": "2",
    "ss_gradient_checkpointing": "False", "ss_gradient_accumulation_steps": "1",
    "ss_max_train_steps": "1000", "ss_lr_warmup_steps": "0.05", "ss_lr_scheduler": "cosine",
    "ss_network_module": "networks.lora", "ss_network_dim": "32", "ss_network_alpha": "16.0",
    "ss_network_args": '{"conv_dim": "8", "conv_alpha": "4"}', "ss_mixed_precision": "bf16",
    "ss_full_fp16": "False", "ss_v2": "False", "ss_base_model_version": "sd_v1",
    "ss_clip_skip": "2", "ss_max_token_length": "225", "ss_cache_latents": "True",
    "ss_seed": "1234", "ss_lowram": "False", "ss_noise_offset": "0.05",
    "ss_adaptive_noise_scale": "None", "ss_min_snr_gamma": "5.0", "ss_zero_terminal_snr": "False",
    "ss_debiased_estimation": "False", "ss_prior_loss_weight": "1.0", "ss_max_grad_norm": "1.0",
    "ss_caption_dropout_rate": "0.0", "ss_training_comment": "None",
    "ss_optimizer": "bitsandbytes.optim.adamw.AdamW8bit(weight_decay=0.1,betas=(0.9, 0.99))",
    "ss_sd_model_name": "animefull-final-pruned.safetensors", "ss_resolution": "(512, 768)",
    "ss_shuffle_caption": "True", "ss_keep_tokens": "1", "ss_flip_aug": "True",
    "ss_color_aug": "False", "ss_random_crop": "False", "ss_enable_bucket": "True",
    "ss_bucket_no_upscale": "False", "ss_min_bucket_reso": "320", "ss_max_bucket_reso": "960",
    "ss_dataset_dirs": '{"10_zorp": {"n_repeats": 10, "img_count": 20}}',
    "ss_reg_dataset_dirs": "{}", "ss_tag_frequency": '{"10_zorp": {"zorp": 20}}',
}  # fmt: skip


def converted(folder: Path, metadata: dict[str, str], **tensors: Any) -> Conversion:
    plain = {"lora_unet_x.lora_down.weight": torch.zeros(3, 4, dtype=torch.float16)}
    save_file(tensors or plain, folder / "zorp.safetensors", metadata)
    return convert_source(read_file(folder / "zorp.safetensors"), complete=False)


def test_of_kohya(tmp_path: Path) -> None:
    result = converted(tmp_path, KOHYA)
    assert result.problems == []
    expected = {
        "model.prediction": "epsilon", "model.clip_skip": 2, "model.max_tokens": 225,
        "model.defaults": False,
        "data.resolution": [512, 768], "captions.shuffle": True, "captions.keep_tokens": 1,
        "captions.dropout": 0.0, "buckets.enabled": True, "buckets.min": 320, "buckets.max": 960,
        "augment.flip": True, "adapter.type": "c3lier", "adapter.rank": 32, "adapter.alpha": 16.0,
        "adapter.conv_rank": 8, "adapter.conv_alpha": 4.0, "optimizer.name": "AdamW8bit",
        "optimizer.lr": 1e-4, "optimizer.unet_lr": 1e-4, "optimizer.text_encoder_lr": 5e-5,
        "optimizer.args": {"weight_decay": 0.1, "betas": (0.9, 0.99)},
        "optimizer.max_grad_norm": 1.0, "schedule.name": "cosine", "schedule.warmup": 0.05,
        "loss.noise_offset": 0.05, "loss.min_snr_gamma": 5.0, "loss.prior_weight": 1.0,
        "loss.zero_terminal_snr": False, "train.epochs": 10, "train.batch": 2,
        "train.accumulation": 1, "train.seed": 1234, "train.precision": "bf16",
        "save.name": "zorp", "save.precision": "fp16",
    }  # fmt: skip
    assert result.values == expected
    said = " ".join(f"{remark.what} {remark.why}" for remark in result.remarks)
    for text in ("animefull-final-pruned", "10_zorp held 20 pictures, each used 10 times",
                 "epoch 8 of 10", "caption files", "ip_noise_gamma", "add --data"):  # fmt: skip
        assert text in said, text


def test_of_sdxl_and_lycoris_with_a_dataset_config(tmp_path: Path) -> None:
    sets = [{
        "is_dreambooth": True, "batch_size_per_device": 4, "resolution": [1024, 1024],
        "enable_bucket": True, "min_bucket_reso": 256, "max_bucket_reso": 2048,
        "bucket_no_upscale": True,
        "subsets": [{"img_count": 9, "num_repeats": 3, "shuffle_caption": True, "keep_tokens": 2,
                     "flip_aug": False, "image_dir": "pics", "is_reg": False}],
    }]  # fmt: skip
    metadata = {
        "ss_network_module": "lycoris.kohya", "ss_network_dim": "16", "ss_network_alpha": "8",
        "ss_network_args": '{"algo": "loha", "preset": "attn-mlp"}', "ss_learning_rate": "1.0",
        "ss_base_model_version": "sdxl_base_v1-0", "ss_datasets": json.dumps(sets),
        "ss_max_train_steps": "777", "ss_num_epochs": "3", "ss_num_batches_per_epoch": "300",
        "ss_optimizer": "prodigyopt.prodigy.Prodigy(decouple=True)", "ss_lr_scheduler": "constant",
    }  # fmt: skip
    values = converted(tmp_path, metadata).values
    expected = {
        "model.family": "sdxl", "adapter.type": "loha", "adapter.rank": 16, "train.steps": 777,
        "train.batch": 4, "data.resolution": 1024, "buckets.upscale": False,
        "captions.keep_tokens": 2, "optimizer.name": "Prodigy",
        "optimizer.args": {"decouple": True},
    }  # fmt: skip
    assert {path: values.get(path) for path in expected} == expected


@pytest.mark.parametrize(
    ("text", "name", "args"),
    [
        ("torch.optim.adamw.AdamW", "AdamW", None),
        ("torch.optim.sgd.SGD(nesterov=True,momentum=0.9)", "SGDNesterov", None),
        ("transformers.optimization.Adafactor(relative_step=False)", "AdaFactor",
         {"relative_step": False}),
        ("dadaptation.dadapt_adam.DAdaptAdam(decouple=True,weight_decay=0.02)", "DAdaptAdam",
         {"decouple": True, "weight_decay": 0.02}),
        ("lion_pytorch.lion_pytorch.Lion(weight_decay=0.1)", "Lion", {"weight_decay": 0.1}),
        ("torch.optim.AdamW(weight_decay=", "AdamW", None),
    ],
)  # fmt: skip
def test_optimizers(tmp_path: Path, text: str, name: str, args: dict[str, Any] | None) -> None:
    values = converted(tmp_path, {**KOHYA, "ss_optimizer": text}).values
    assert (values["optimizer.name"], values.get("optimizer.args")) == (name, args)


def test_a_resized_file_has_its_tensors_rank(tmp_path: Path) -> None:
    tensors = {f"lora_unet_{n}.lora_down.weight": torch.zeros(n, 4) for n in (3, 5)}
    tensors["lora_unet_y.lora_down.weight"] = torch.zeros(5, 9)
    metadata = {**KOHYA, "ss_network_dim": "Dynamic", "ss_network_alpha": "Dynamic"}
    result = converted(tmp_path, metadata, **tensors)
    assert result.problems == []
    assert result.values["adapter.rank"] == 5
    assert result.values["save.precision"] == "fp32"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_a_resized_file_has_its_tensors_alpha(tmp_path: Path, dtype: torch.dtype) -> None:
    tensors = {f"lora_unet_{n}.lora_down.weight": torch.zeros(6, 4, dtype=dtype) for n in range(3)}
    tensors |= {f"lora_unet_{n}.alpha": torch.tensor(1.5, dtype=dtype) for n in range(3)}
    tensors["lora_unet_y.lora_down.weight"] = torch.zeros(2, 4, dtype=dtype)
    metadata = {**KOHYA, "ss_network_dim": "Dynamic", "ss_network_alpha": "Dynamic"}
    result = converted(tmp_path, metadata, **tensors)
    assert result.problems == []
    assert (result.values["adapter.rank"], result.values["adapter.alpha"]) == (6, 1.5)
    assert any("3 of its 4 layers" in remark.why for remark in result.remarks)


@pytest.mark.parametrize("seed", ["-1", "99999999999999999999", "1e30", "1.5", "abc", "[1]"])
def test_a_seed_that_is_none_here_stops_nothing(tmp_path: Path, seed: str) -> None:
    result = converted(tmp_path, {**KOHYA, "ss_seed": seed})
    assert result.problems == []
    assert "train.seed" not in result.values
    assert any(f"ss_seed {seed[:2]}" in remark.what for remark in result.remarks)


@pytest.mark.parametrize(
    ("metadata", "program"),
    [
        ({"ot_branch": "master", "modelspec.title": "zorp"}, "OneTrainer"),
        ({"software": '{"name": "ai-toolkit"}', "ss_base_model_version": "sdxl_1.0"}, "ai-toolkit"),
        ({"lora_adapter_metadata": "{}"}, "diffusers"),
    ],
)
def test_files_of_other_programs_are_named(
    tmp_path: Path, metadata: dict[str, str], program: str
) -> None:
    with pytest.raises(SettingsError, match=program):
        converted(tmp_path, metadata)


@pytest.mark.parametrize("metadata", [{}, {"format": "pt"}, {"ss_base_model_version": "sd_v1"}])
def test_a_file_that_says_nothing(tmp_path: Path, metadata: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match="says nothing of how it was trained"):
        converted(tmp_path, metadata)


@pytest.mark.slow
def test_other_models_and_broken_files(tmp_path: Path) -> None:
    (problem,) = converted(tmp_path, {**KOHYA, "ss_base_model_version": "flux1"}).problems
    assert "flux1" in problem.what
    for name in KOHYA:  # No entry breaks it, whatever it holds.
        for text in (
            "",
            "None",
            "[1, 2",
            "{",
            "x" * 50,
            "[[1]]",
            '{"a": {"b": []}}',
            "-1",
            "1e999",
        ):
            result = converted(
                tmp_path, {**KOHYA, name: text, "ss_network_module": "networks.lora"}
            )
            assert "adapter.type" in result.values
    path = tmp_path / "zorp.safetensors"
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(SettingsError, match=r"zorp\.safetensors"):
        read_file(path)


def test_of_ours_trains_the_same(tmp_path: Path) -> None:
    facts = TrainingFacts(
        output_name="zorp", learning_rate=2e-4, num_train_images=4, num_batches_per_epoch=4,
        num_epochs=3, epoch=3, steps=12, batch_size_per_device=1, total_batch_size=1,
        resolution="(64, 64)", max_train_steps=12, network_dim=6, network_alpha=3.0, seed=5,
        optimizer="torch.optim.AdamW(weight_decay=0.05)", flip_aug=True, min_snr_gamma=5.0,
        network_args={"conv_dim": "2", "conv_alpha": "1"}, lr_scheduler="cosine",
    )  # fmt: skip
    result = converted(tmp_path, facts.metadata())
    assert result.problems == []
    settings = load_settings(None, result.overrides())
    assert (settings.adapter.type, settings.adapter.rank, settings.adapter.conv_rank) == (
        "c3lier",
        6,
        2,
    )
    assert (settings.optimizer.lr, settings.optimizer.args) == (2e-4, {"weight_decay": 0.05})
    assert (settings.train.epochs, settings.train.seed, settings.augment.flip) == (3, 5, True)
    assert settings.captions == load_settings(None, ["captions.extension=auto"]).captions
    assert settings.buckets == load_settings(None).buckets
    write_training_set(tmp_path / "set", images=4, repeats=1, regularisation=0)
    argv = ["train", str(tmp_path / "zorp.safetensors"), "--data", str(tmp_path / "set" / "img")]
    planned = CliRunner().invoke(cli, [*argv, "--plan"])
    assert planned.exit_code == 0, planned.output
    assert "trains 12 steps on demo" in planned.output
