"""The guides' two scripts train the embedded model: their arguments, with other paths.

The scripts are for pictures of 512 pixels, at which a step of the demo model takes a CPU core some
seconds; the runs are of one picture and one epoch.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from safetensors import safe_open
from safetensors.torch import load_file
from tests.tiny_models import tiny_checkpoint

from lorasmith.cli.main import cli
from lorasmith.demo.character import write_training_set

# As the scripts at the end of the guide give them; {…} are the paths, and epochs are cut to 1.
POWERSHELL = [
    "--network_module=networks.lora",
    "--pretrained_model_name_or_path={ckpt}", "--train_data_dir={image_dir}",
    "--reg_data_dir={reg_dir}", "--output_dir={output}",
    "--caption_extension=.txt", "--shuffle_caption", "--keep_tokens=1`",
    "--prior_loss_weight=1",
    "--resolution=512",
    "--enable_bucket", "--min_bucket_reso=320", "--max_bucket_reso=960",
    "--train_batch_size=1",
    "--learning_rate=0.0001", "--unet_lr=0.0001", "--text_encoder_lr=5E-05",
    "--max_train_epochs=1",
    "--mixed_precision=fp16", "--save_precision=fp16",
    "--optimizer_type=AdamW8bit", "--xformers",
    "--save_every_n_epochs=1",
    "--save_model_as=safetensors",
    "--clip_skip=2",
    "--seed=420",
    "--flip_aug",
    "--network_dim=128", "--network_alpha=128",
    "--max_token_length=225",
    "--cache_latents",
    "--lr_scheduler=cosine_with_restarts",
    "--noise_offset=0",
]  # fmt: skip

BASH = [
    "--network_module=networks.lora",
    "--pretrained_model_name_or_path={ckpt}", "--train_data_dir={image_dir}",
    "--reg_data_dir={image_dir}/reg/", "--output_dir={output}",
    "--output_name=penny_last_e6_n160",
    "--caption_extension=.txt", "--shuffle_caption",
    "--prior_loss_weight=1",
    "--network_alpha=160",
    "--resolution=512",
    "--enable_bucket", "--min_bucket_reso=320", "--max_bucket_reso=768",
    "--train_batch_size=2",
    "--gradient_accumulation_steps=1",
    "--learning_rate=0.0001", "--unet_lr=0.0001", "--text_encoder_lr=0.00005",
    "--max_train_epochs=1",
    "--mixed_precision=fp16", "--save_precision=fp16",
    "--use_8bit_adam", "--xformers",
    "--save_every_n_epochs=2",
    "--save_model_as=safetensors",
    "--clip_skip=2",
    "--seed=420",
    "--flip_aug", "--color_aug", "--face_crop_aug_range=2.0,4.0",
    "--network_dim=160",
    "--max_token_length=150",
    "--lr_scheduler=cosine_with_restarts",
    "--training_comment=LORA:penny",
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "name", "rank"),
    [(POWERSHELL, "last", 128), (BASH, "penny_last_e6_n160", 160)],
    ids=["powershell", "bash"],
)
def test_a_guides_script_trains(tmp_path: Path, arguments: list[str], name: str, rank: int) -> None:
    write_training_set(tmp_path / "data", pictures=1, regularisation=0, repeats=1)
    (tmp_path / "data" / "img" / "reg").mkdir()
    paths = {
        "ckpt": "demo", "image_dir": tmp_path / "data" / "img",
        "reg_dir": tmp_path / "reg", "output": tmp_path / "lora",
    }  # fmt: skip
    argv = [argument.format(**paths) for argument in arguments]
    result = CliRunner().invoke(cli, ["train-network", *argv])
    assert result.exit_code == 0, result.output
    if not torch.cuda.is_available():
        assert "8-bit and paged states are for NVIDIA GPUs" in result.output
    assert "PyTorch's own attention is always used" in result.output
    file = tmp_path / "lora" / name / f"{name}.safetensors"
    tensors = load_file(file)
    downs = [tensor for key, tensor in tensors.items() if key.endswith("lora_down.weight")]
    assert {tensor.shape[0] for tensor in downs} == {rank}
    assert any(tensor.any() for key, tensor in tensors.items() if key.endswith("lora_up.weight"))
    with safe_open(file, "pt") as opened:
        metadata = opened.metadata()
    assert metadata["ss_network_dim"] == str(rank)
    assert metadata["ss_seed"] == "420"


def test_sdxl(tmp_path: Path) -> None:
    """The usual lines of a script for SDXL, in small."""
    base = tiny_checkpoint(tmp_path / "base.safetensors", family="sdxl")
    write_training_set(tmp_path / "data", pictures=1, regularisation=0, repeats=1)
    argv = [
        "--network_module=networks.lora", f"--pretrained_model_name_or_path={base}",
        f"--train_data_dir={tmp_path / 'data' / 'img'}", f"--output_dir={tmp_path}",
        "--output_name=kin", "--caption_extension=.txt", "--resolution=64", "--max_train_steps=2",
        "--train_batch_size=1", "--unet_lr=1e-3", "--text_encoder_lr", "5e-4", "5e-4",
        "--network_dim=4", "--network_alpha=1", "--mixed_precision=bf16", "--save_precision=fp16",
        "--optimizer_type=AdamW8bit", "--optimizer_args", "weight_decay=0.1",
        "--min_snr_gamma=5", "--no_half_vae", "--cache_latents", "--max_data_loader_n_workers=2",
        "--gradient_checkpointing", "--sdpa", "--max_token_length=225",
    ]  # fmt: skip
    result = CliRunner().invoke(cli, ["sdxl-train-network", *argv])
    assert result.exit_code == 0, result.output
    tensors = load_file(tmp_path / "kin" / "kin.safetensors")
    assert {key.split("_")[1] for key in tensors} == {"unet", "te1", "te2"}
    refused = CliRunner().invoke(cli, ["train-network", *argv, "--v2"])
    assert refused.exit_code == 2
    assert "sd2" in refused.output or "Stable Diffusion 2" in refused.output
