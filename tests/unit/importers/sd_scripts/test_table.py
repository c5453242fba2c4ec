"""sd-scripts' arguments against settings written down by hand."""

# ruff: noqa: E501 - a combination of options is one line

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from lycoris.modules.lokr import LokrModule
from torch import nn

from lorasmith.adapters.base import AdapterOptions
from lorasmith.adapters.types.lokr import LoKr
from lorasmith.config.load import load_settings
from lorasmith.core.errors import SettingsError
from lorasmith.importers.conversion import Conversion
from lorasmith.importers.convert import convert_source
from lorasmith.importers.sd_scripts.argument import Argument
from lorasmith.importers.sd_scripts.argv import read_argv
from lorasmith.importers.sd_scripts.network import NETWORK_ARGUMENTS
from lorasmith.importers.sd_scripts.table import ARGUMENTS, arguments_page
from lorasmith.sampling.samplers import SAMPLERS as OUR_SAMPLERS
from lorasmith.training.lr_schedules import learning_rate


def converted(*argv: str, sdxl: bool = False) -> Conversion:
    return convert_source(read_argv(argv, sdxl=sdxl))


# The command line of the guide's PowerShell script as PowerShell hands it on.
POWERSHELL = [
    "--network_module=networks.lora",
    "--pretrained_model_name_or_path=X:\\SD\\voldy\\models\\Stable-diffusion\\animefull-final-pruned.ckpt",
    "--train_data_dir=X:\\SD\\training\\my_concepts_folder", "--reg_data_dir=X:\\SD\\training\\reg",
    "--output_dir=X:\\SD\\voldy\\models\\lora",
    "--caption_extension=.txt", "--shuffle_caption", "--keep_tokens=1", "--prior_loss_weight=1",
    "--resolution=512", "--enable_bucket", "--min_bucket_reso=320", "--max_bucket_reso=960",
    "--train_batch_size=1", "--learning_rate=0.0001", "--unet_lr=0.0001",
    "--text_encoder_lr=5E-05", "--max_train_epochs=8", "--mixed_precision=fp16",
    "--save_precision=fp16", "--optimizer_type=AdamW8bit", "--xformers", "--save_every_n_epochs=1",
    "--save_model_as=safetensors", "--clip_skip=2", "--seed=420", "--flip_aug",
    "--network_dim=128", "--network_alpha=128", "--max_token_length=225", "--cache_latents",
    "--lr_scheduler=cosine_with_restarts", "--noise_offset=0",
]  # fmt: skip

POWERSHELL_SETTINGS: dict[str, Any] = {
    "model.path": "X:\\SD\\voldy\\models\\Stable-diffusion\\animefull-final-pruned.ckpt",
    "model.prediction": "epsilon", "model.clip_skip": 2, "model.max_tokens": 225, "model.defaults": False,
    "data.path": "X:\\SD\\training\\my_concepts_folder", "data.reg": "X:\\SD\\training\\reg",
    "data.resolution": 512,
    "captions.extension": ".txt", "captions.shuffle": True, "captions.keep_tokens": 1,
    "captions.trigger_in_front": False,
    "buckets.enabled": True, "buckets.min": 320, "buckets.max": 960, "buckets.step": 64,
    "augment.flip": True,
    "adapter.type": "lora", "adapter.rank": 128, "adapter.alpha": 128.0,
    "optimizer.name": "AdamW8bit", "optimizer.lr": 1e-4, "optimizer.unet_lr": 1e-4,
    "optimizer.text_encoder_lr": 5e-5,
    "schedule.name": "cosine_with_restarts", "schedule.cycles": 1,
    "loss.min_snr_gamma": None, "loss.zero_terminal_snr": False, "loss.prior_weight": 1.0,
    "preservation.enabled": False,
    "train.epochs": 8, "train.batch": 1, "train.seed": 420, "train.precision": "fp16",
    "save.output": "X:\\SD\\voldy\\models\\lora", "save.name": "last", "save.layout": "flat", "save.every_epochs": 1,
    "save.precision": "fp16",
    "sample.every_epochs": None, "sample.at_start": False, "log.tensorboard": False,
}  # fmt: skip

# The bash script's, likewise.
BASH = [
    "--network_module=networks.lora",
    "--pretrained_model_name_or_path=/mnt/DATA/AI/stable-diffusion-models/Stable-diffusion//animefinal-full-pruned.ckpt",
    "--train_data_dir=/mnt/DATA/AI/sd-scripts/SETS/penny/",
    "--reg_data_dir=/mnt/DATA/AI/sd-scripts/SETS/penny/reg/",
    "--output_dir=/mnt/DATA/AI/stable-diffusion-models/LORA/",
    "--output_name=penny_last_e6_n160", "--caption_extension=.txt", "--shuffle_caption",
    "--prior_loss_weight=1", "--network_alpha=160", "--resolution=512", "--enable_bucket",
    "--min_bucket_reso=320", "--max_bucket_reso=768", "--train_batch_size=2",
    "--gradient_accumulation_steps=1", "--learning_rate=0.0001", "--unet_lr=0.0001",
    "--text_encoder_lr=0.00005", "--max_train_epochs=6", "--mixed_precision=fp16",
    "--save_precision=fp16", "--use_8bit_adam", "--xformers", "--save_every_n_epochs=2",
    "--save_model_as=safetensors", "--clip_skip=2", "--seed=420", "--flip_aug", "--color_aug",
    "--face_crop_aug_range=2.0,4.0", "--network_dim=160", "--max_token_length=150",
    "--lr_scheduler=cosine_with_restarts", "--training_comment=LORA:penny",
]  # fmt: skip

BASH_SETTINGS: dict[str, Any] = {
    "model.path": "/mnt/DATA/AI/stable-diffusion-models/Stable-diffusion//animefinal-full-pruned.ckpt",
    "model.prediction": "epsilon", "model.clip_skip": 2, "model.max_tokens": 150, "model.defaults": False,
    "data.path": "/mnt/DATA/AI/sd-scripts/SETS/penny/",
    "data.reg": "/mnt/DATA/AI/sd-scripts/SETS/penny/reg/", "data.resolution": 512,
    "captions.extension": ".txt", "captions.shuffle": True, "captions.trigger_in_front": False,
    "buckets.enabled": True, "buckets.min": 320, "buckets.max": 768, "buckets.step": 64,
    "augment.flip": True, "augment.colour": 0.2, "augment.variants": "fresh",
    "adapter.type": "lora", "adapter.rank": 160, "adapter.alpha": 160.0,
    "optimizer.name": "AdamW8bit", "optimizer.lr": 1e-4, "optimizer.unet_lr": 1e-4,
    "optimizer.text_encoder_lr": 5e-5,
    "schedule.name": "cosine_with_restarts", "schedule.cycles": 1,
    "loss.min_snr_gamma": None, "loss.zero_terminal_snr": False, "loss.prior_weight": 1.0,
    "preservation.enabled": False,
    "train.epochs": 6, "train.batch": 2, "train.accumulation": 1, "train.seed": 420,
    "train.precision": "fp16",
    "save.output": "/mnt/DATA/AI/stable-diffusion-models/LORA/",
    "save.name": "penny_last_e6_n160", "save.layout": "flat", "save.every_epochs": 2, "save.precision": "fp16",
    "save.comment": "LORA:penny",
    "sample.every_epochs": None, "sample.at_start": False, "log.tensorboard": False,
    "performance.cache_latents": False,
}  # fmt: skip

# What sd-scripts does when it is told no more than it must be.
BARE = ["--pretrained_model_name_or_path=demo", "--train_data_dir=d", "--output_dir=o",
        "--network_module=networks.lora"]  # fmt: skip
BARE_SETTINGS: dict[str, Any] = {
    "model.path": "demo", "model.prediction": "epsilon", "model.defaults": False, "data.path": "d",
    "captions.extension": ".caption", "captions.trigger_in_front": False, "buckets.enabled": False,
    "adapter.type": "lora", "adapter.rank": 4, "adapter.alpha": 1.0,
    "optimizer.name": "AdamW", "optimizer.lr": 2e-6, "schedule.name": "constant",
    "loss.min_snr_gamma": None, "loss.zero_terminal_snr": False,
    "preservation.enabled": False, "train.steps": 1600, "train.precision": "fp32",
    "save.output": "o", "save.name": "last", "save.layout": "flat", "save.every_epochs": None, "save.precision": "fp32",
    "sample.every_epochs": None, "sample.at_start": False, "log.tensorboard": False,
}  # fmt: skip


@pytest.mark.parametrize(
    ("argv", "expected"),
    [(POWERSHELL, POWERSHELL_SETTINGS), (BASH, BASH_SETTINGS), (BARE, BARE_SETTINGS)],
    ids=["powershell", "bash", "bare"],
)
def test_whole_command_lines(argv: list[str], expected: dict[str, Any]) -> None:
    result = converted(*argv)
    assert result.problems == []
    assert result.values == expected
    assert list(result.values) == list(expected), "in the order of the settings"
    load_settings(None, result.overrides(), for_training=True)


# What each combination changes of BARE_SETTINGS; GONE: settings that are no longer made.
GONE = object()
LYCORIS = "--network_module=lycoris.kohya"
COMBINATIONS: dict[str, tuple[list[str], dict[str, Any]]] = {
    "steps, no epochs": (["--max_train_steps", "500", "--train_batch_size", "4"], {"train.steps": 500, "train.batch": 4}),
    "unet alone": (["--network_train_unet_only", "--unet_lr", "1e-4", "--text_encoder_lr", "5e-5"], {"adapter.text_encoder": False, "optimizer.unet_lr": 1e-4}),
    "a rate of zero": (["--learning_rate", "1e-4", "--text_encoder_lr", "0"], {"adapter.text_encoder": False, "optimizer.lr": 1e-4}),
    "text encoder alone": (["--network_train_text_encoder_only", "--text_encoder_lr", "5e-5", "5e-5"], {"adapter.unet": False, "optimizer.text_encoder_lr": 5e-5}),
    "guide 003: constant with warm-up": (["--lr_warmup_steps", "5%", "--learning_rate", "1e-4"], {"schedule.name": "constant_with_warmup", "schedule.warmup": 0.05, "optimizer.lr": 1e-4}),
    "warm-up as a fraction, restarts": (["--lr_warmup_steps", "0.1", "--lr_scheduler", "cosine_with_restarts", "--lr_scheduler_num_cycles", "4"], {"schedule.name": "cosine_with_restarts", "schedule.warmup": 0.1, "schedule.cycles": 4}),
    "warm-up in steps, polynomial": (["--lr_warmup_steps=100", "--lr_scheduler=polynomial"], {"schedule.name": "polynomial", "schedule.warmup": 100, "schedule.power": 1.0}),
    "easy settings: DAdaptation": (["--optimizer_type=DAdaptation", "--optimizer_args", "decouple=True", "weight_decay=0.01", "betas=0.9,0.99", "--learning_rate=1.0"], {"optimizer.name": "dadaptation.experimental.dadapt_adam_preprint.DAdaptAdamPreprint", "optimizer.args": {"decouple": True, "weight_decay": 0.01, "betas": (0.9, 0.99)}, "optimizer.lr": 1.0}),
    "a guide's typing error": (["--optimizer_type=SDGNesterov8bit", "--caption_extention=.txt"], {"optimizer.name": "SGDNesterov8bit", "captions.extension": ".txt"}),
    "Adafactor by itself": (["--optimizer_type=Adafactor", "--learning_rate=1e-3", "--lr_scheduler=cosine", "--lr_warmup_steps=10"], {"optimizer.name": "AdaFactor", "optimizer.lr": GONE}),
    "Adafactor with a rate": (["--optimizer_type=AdaFactor", "--optimizer_args", "relative_step=False", "scale_parameter=False", "warmup_init=False", "--learning_rate=4e-7", "--lr_scheduler=constant_with_warmup", "--lr_warmup_steps=8%"],
                              {"optimizer.name": "AdaFactor", "optimizer.args": {"relative_step": False, "scale_parameter": False, "warmup_init": False}, "optimizer.lr": 4e-7, "schedule.name": "constant_with_warmup", "schedule.warmup": 0.08}),
    "LoCon of kohya": (["--network_args", "conv_dim=8", "conv_alpha=4", "rank_dropout=0.1"], {"adapter.type": "c3lier", "adapter.conv_rank": 8, "adapter.conv_alpha": 4.0, "adapter.rank_dropout": 0.1}),
    "block weights": (["--network_args", "down_lr_weight=sine+0.2", "mid_lr_weight=0.5", "up_lr_weight=cosine", "block_lr_zero_threshold=0.1", "loraplus_lr_ratio=16"],
                      {"adapter.blocks": "down_lr_weight=sine+0.2 mid_lr_weight=0.5 up_lr_weight=cosine", "adapter.block_lr_zero_threshold": 0.1, "optimizer.loraplus_ratio": 16.0}),
    "block dims": (["--network_args", "block_dims=" + ",".join(["8"] * 25), "block_alphas=" + ",".join(["4"] * 25)], {"adapter.block_ranks": ",".join(["8"] * 25), "adapter.block_alphas": ",".join(["4"] * 25)}),
    "DyLoRA": (["--network_module=networks.dylora", "--network_dim=16", "--network_alpha=0", "--network_args", "unit=4", "conv_dim=16"],
               {"adapter.type": "dylora", "adapter.rank": 16, "adapter.alpha": None, "adapter.unit": 4, "adapter.conv_rank": 16, "adapter.conv_alpha": None}),
    "LyCORIS LoHa, its own preset": ([LYCORIS, "--network_dim=8", "--network_args", "algo=loha", "conv_dim=4", "conv_alpha=1", "use_cp=True"],
                                     {"adapter.type": "loha", "adapter.rank": 8, "adapter.targets": ["full"], "adapter.conv_rank": 4, "adapter.conv_alpha": 1.0, "adapter.tucker": True}),
    "LyCORIS LoKr, full matrices": ([LYCORIS, "--network_dim=100000", "--network_args", "algo=lokr", "preset=attn-mlp", "factor=8", "decompose_both=True"],
                                    {"adapter.type": "lokr", "adapter.rank": GONE, "adapter.alpha": GONE, "adapter.full_matrix": True, "adapter.targets": ["attn-mlp"], "adapter.conv_rank": 0, "adapter.factor": 8, "adapter.decompose_both": True}),
    "LyCORIS DoRA, rank stabilised": ([LYCORIS, "--network_args", "dora_wd=True", "rs_lora=True", "preset=attn-only"], {"adapter.type": "locon", "adapter.targets": ["attn"], "adapter.conv_rank": 0, "adapter.weight_decompose": True, "adapter.decompose_on_output": True, "adapter.rs_lora": True}),
    "LyCORIS DoRA of inputs": ([LYCORIS, "--network_args", "dora_wd=True", "wd_on_output=False", "preset=attn-only"], {"adapter.type": "locon", "adapter.targets": ["attn"], "adapter.conv_rank": 0, "adapter.weight_decompose": True}),
    "LyCORIS IA3": ([LYCORIS, "--network_args", "algo=ia3", "preset=ia3", "--scale_weight_norms=1"], {"adapter.type": "ia3", "adapter.rank": GONE, "adapter.alpha": GONE}),
    "LyCORIS OFT": ([LYCORIS, "--network_args", "algo=diag-oft", "constraint=0.01", "rescaled=True"], {"adapter.type": "oft", "adapter.alpha": GONE, "adapter.targets": ["full"], "adapter.constraint": 0.01, "adapter.rescaled": True}),
    "like v": (["--v_pred_like_loss=0.5"], {"loss.v_like": 0.5}),
    "noise": (["--noise_offset=0.0357", "--adaptive_noise_scale=0.00357", "--ip_noise_gamma=0.1", "--min_snr_gamma=5"],
              {"loss.noise_offset": 0.0357, "loss.adaptive_noise_scale": 0.00357, "loss.input_perturbation": 0.1, "loss.min_snr_gamma": 5.0}),
    "pyramid noise, nothing else": (["--multires_noise_iterations=8", "--noise_offset=0.0", "--min_snr_gamma=0"], {"loss.multires_iterations": 8, "loss.multires_discount": 0.3}),
    "velocity": (["--v_parameterization", "--zero_terminal_snr", "--scale_v_pred_loss_like_noise_pred"], {"model.prediction": "v", "loss.zero_terminal_snr": True, "loss.scale_v_like_noise": True}),
    "Stable Diffusion 2": (["--v2", "--clip_skip=1"], {"model.family": "sd2", "model.clip_skip": 1}),
    "huber": (["--loss_type=huber", "--min_timestep=100", "--max_timestep=900"], {"loss.type": "huber", "loss.huber_c": 0.1, "loss.huber_schedule": "snr", "loss.min_timestep": 100, "loss.max_timestep": 900}),
    "huber scaled": (["--loss_type=smooth_l1", "--huber_schedule=exponential", "--huber_scale=2.5"], {"loss.type": "smooth_l1", "loss.huber_c": 0.1, "loss.huber_schedule": "exponential", "loss.huber_scale": 2.5}),
    "huber scaled where nothing is": (["--loss_type=huber", "--huber_scale=2.5"], {"loss.type": "huber", "loss.huber_c": 0.1, "loss.huber_schedule": "snr"}),
    "buckets without enlarging": (["--resolution=768,512", "--enable_bucket", "--bucket_no_upscale", "--bucket_reso_steps=32", "--max_bucket_reso=2048"], {"data.resolution": [768, 512], "buckets.enabled": True, "buckets.upscale": False, "buckets.step": 32}),
    "no buckets after all": (["--resolution=640,640", "--min_bucket_reso=320"], {"data.resolution": 640}),
    "faces, no buckets": (["--face_crop_aug_range=2.0,4.0", "--random_crop"], {"augment.random_crop": True, "augment.face_crop": "2.0,4.0", "augment.variants": "fresh", "performance.cache_latents": False}),
    "colours with a cache": (["--color_aug", "--cache_latents"], {"augment.colour": 0.2}),
    "captions": (["--caption_dropout_rate=0.1", "--caption_dropout_every_n_epochs=3", "--caption_tag_dropout_rate=0.2", "--keep_tokens_separator=|||", "--enable_wildcard", "--caption_prefix=zorp,", "--token_warmup_step=0.1", "--token_warmup_min=2"],
                 {"captions.dropout": 0.1, "captions.dropout_every_n_epochs": 3, "captions.tag_dropout": 0.2, "captions.keep_tokens_separator": "|||", "captions.wildcards": True, "captions.prefix": "zorp,", "captions.tag_warmup_steps": 160, "captions.tag_warmup_min": 2}),
    "saving": (["--max_train_epochs=20", "--save_n_epoch_ratio=4", "--save_last_n_epochs=2", "--save_precision=bf16", "--output_name=zorp", "--logging_dir=logs", "--save_state"],
               {"train.epochs": 20, "train.steps": GONE, "save.every_epochs": 5, "save.keep_last": 2, "save.precision": "bf16", "save.name": "zorp", "save.layout": "flat", "log.tensorboard": True}),
    "saving by steps": (["--save_every_n_steps=100", "--save_last_n_steps=300"], {"save.every_steps": 100, "save.keep_last": 4}),
    "going on, held-out pictures": (["--network_weights=old.safetensors", "--dim_from_weights", "--validation_split=0.1", "--seed=7", "--max_validation_steps=8", "--train_batch_size=2"],
                                    {"adapter.init_from": "old.safetensors", "validation.split": 0.1, "validation.seed": 7, "validation.every_epochs": 1, "validation.pictures": 16, "train.seed": 7, "train.batch": 2}),
    "lean": (["--gradient_checkpointing", "--mixed_precision=bf16", "--full_bf16", "--cache_latents_to_disk", "--vae_batch_size=2", "--network_train_unet_only", "--cache_text_encoder_outputs"],
             {"train.gradient_checkpointing": True, "train.precision": "bf16", "performance.vae_batch": 2, "adapter.text_encoder": False, "performance.cache_text": True}),
}  # fmt: skip


@pytest.mark.parametrize("name", COMBINATIONS)
def test_combinations(name: str) -> None:
    argv, changes = COMBINATIONS[name]
    result = converted(*BARE, *argv)
    assert result.problems == []
    expected = {p: v for p, v in {**BARE_SETTINGS, **changes}.items() if v is not GONE}
    assert result.values == expected
    if "model.family" not in result.values:
        load_settings(None, result.overrides(), for_training=True)


def test_there_are_twenty_combinations() -> None:
    assert len(COMBINATIONS) >= 20


def sample(row: Argument) -> list[str]:
    """The argument with a value that asks for something."""
    values = {
        "flag": [], "whole": ["3"], "number": ["0.5"], "text": ["x"], "separator": [";"],
            "texts": ["a=1"],
        "numbers": ["1e-5"], "share": ["7"],
    }  # fmt: skip
    return [f"--{row.name}", *([row.choices[0]] if row.choices else values[row.kind])]


@pytest.mark.parametrize("name", ARGUMENTS)
def test_no_argument_is_silent(name: str) -> None:
    result = converted(*BARE, *sample(ARGUMENTS[name]))
    said = [made.source for made in result.settings.values()]
    said += [remark.what for remark in result.remarks]
    said += [f"{problem.where} {problem.what}" for problem in result.problems]
    # A file that is not there is named itself.
    assert any(f"--{name}" in text for text in said) or ARGUMENTS[name].fate == "read", said


@pytest.mark.parametrize("name", ARGUMENTS)
def test_the_table_is_complete(name: str) -> None:
    row = ARGUMENTS[name]
    if row.fate == "setting":
        assert row.paths or name in ("save_model_as", "dynamo_backend", "wandb_api_key"), (
            "checked by a rule alone"
        )
    else:
        assert row.why
    if row.fate == "refused":
        assert row.hint


@pytest.mark.parametrize("name", NETWORK_ARGUMENTS)
def test_no_network_argument_is_silent(name: str) -> None:
    row = NETWORK_ARGUMENTS[name]
    value = {"flag": "True", "text": "1,1", "whole": "4", "number": "0.5"}[row.kind]
    extra = {
        "algo": ["algo=loha"], "preset": ["preset=attn-mlp"], "block_size": ["algo=dylora", "block_size=2"],
        "factor": ["algo=lokr", "factor=4"], "full_matrix": ["algo=lokr", "full_matrix=True"],
        "decompose_both": ["algo=lokr", "decompose_both=True"], "constraint": ["algo=boft", "constraint=1"],
        "constrain": ["algo=boft", "constrain=1"], "rescaled": ["algo=boft", "rescaled=1"],
        "wd_on_output": ["dora_wd=True", "wd_on_output=False"],
        "rank_dropout_scale": ["rank_dropout=0.5", "rank_dropout_scale=True"],
    }.get(name, [f"{name}={value}"])  # fmt: skip
    without = converted(*BARE, f"--network_module={row.modules[0]}")
    result = converted(*BARE, f"--network_module={row.modules[0]}", "--network_args", *extra)
    changed = (
        result.values != without.values
        or result.problems != without.problems
        or result.remarks != without.remarks
    )
    assert changed


@pytest.mark.parametrize(
    ("module", "scale", "notes"),
    [
        ("lycoris.kohya", [], 1),
        ("lycoris.kohya", ["rank_dropout_scale=True"], 0),
        ("networks.lora", [], 0),
    ],
)
def test_a_rank_dropout_that_lycoris_does_not_scale_is_told(
    module: str, scale: list[str], notes: int
) -> None:
    args = ["--network_args", "rank_dropout=0.5", *scale]
    result = converted(*BARE, f"--network_module={module}", *args)
    assert result.values["adapter.rank_dropout"] == 0.5
    assert sum("rank_dropout" in str(remark) for remark in result.remarks) == notes


REFUSALS: dict[str, tuple[list[str], str, str]] = {
    "near name": (["--network_dims=8"], "--network_dims", "did you mean --network_dim"),
    "another trainer's name": (["--batch_size=8"], "--batch_size", "--train_batch_size"),
    "hyphens": (["--learning-rate=1"], "--learning-rate", "--learning_rate"),
    "Flux": (["--t5xxl=x"], "--t5xxl", "Flux"),
    "decimal comma": (["--learning_rate=0,0001"], "--learning_rate", "write 0.0001, with a point"),
    "decimal comma of an optimizer": (["--optimizer_args", "weight_decay=0,1"], "--optimizer_args", "with a point"),
    "no number": (["--network_dim=eight"], "--network_dim", "'eight' is not a whole number"),
    "not whole": (["--network_dim=8.5"], "--network_dim", "not a whole number"),
    "no value": (["--network_dim"], "--network_dim", "has no value"),
    "no argument": (["lost words"], "lost words", "belongs to no argument"),
    "optimizer": (["--optimizer_type=AdamW8bits"], "--optimizer_type", "did you mean AdamW8bit"),
    "two optimizers": (["--use_8bit_adam", "--optimizer_type=Lion"], "--use_8bit_adam", "two optimizers"),
    "schedule": (["--lr_scheduler=cosin"], "--lr_scheduler", "did you mean cosine"),
    "module": (["--network_module=networks.lora_fa"], "--network_module", "networks.lora"),
    "algorithm": ([LYCORIS, "--network_args", "algo=glora"], "--network_args", "algo=glora is not trained"),
    "DyLoRA's convolutions": (["--network_module=networks.dylora", "--network_args", "conv_dim=2"], "--network_args", "write conv_dim=4"),
    "two LoRA+ ratios": (["--network_args", "loraplus_unet_lr_ratio=16"], "--network_args", "one LoRA+ ratio"),
    "resume": (["--resume=state"], "--resume", "--network_weights"),
    "adaptive noise alone": (["--adaptive_noise_scale=0.1"], "--adaptive_noise_scale", "--noise_offset"),
    "velocity weights of noise": (["--scale_v_pred_loss_like_noise_pred"], "--scale_v_pred_loss_like_noise_pred", "--v_parameterization"),
    "nothing to train": (["--network_train_unet_only", "--network_train_text_encoder_only"], "--network_train_unet_only", "keep one"),
}  # fmt: skip


# What changes nothing of what is learned, and what sd-scripts itself leaves unread.
NOTED: dict[str, tuple[list[str], str]] = {
    "wandb": (["--log_with=wandb", "--wandb_api_key=k"], "keys are not written into settings"),
    "wandb's names": (["--log_tracker_name=x"], "nothing without --log_with wandb"),
    "unknown tracker": (["--log_with=comet"], "comet is not known"),
    "upload": (["--huggingface_repo_id=me/x"], "nothing is uploaded"),
    "uploaded states": (["--save_state_to_huggingface", "--async_upload"], "nothing is uploaded"),
    "file form": (["--save_model_as=ckpt"], "safetensors"),
    "metadata": (["--metadata_description=a preset"], "no place for it"),
    "no metadata": (["--no_metadata"], "always says how it was trained"),
    "DeepSpeed": (["--deepspeed", "--zero_stage=3"], "fits on one device"),
    "compiler": (["--torch_compile", "--dynamo_backend=eager"], "inductor"),
    "prompts that are not there": (["--sample_prompts=none.txt", "--sample_every_n_epochs=1"], "cannot be read"),
    "ratio of epochs without epochs": (["--save_n_epoch_ratio=5"], "each one's LoRA is saved"),
    "both numbers of files": (["--save_every_n_epochs=1", "--save_last_n_epochs=2", "--save_every_n_steps=9", "--save_last_n_steps=9"], "all are kept"),
    "network argument": (["--network_args", "conv_dims=4"], "did you mean conv_dim"),
    "network argument of another module": (["--network_args", "unit=4"], "has no unit"),
}  # fmt: skip


@pytest.mark.parametrize("name", NOTED)
def test_what_changes_nothing_of_what_is_learned_never_stops_a_run(name: str) -> None:
    argv, says = NOTED[name]
    result, plain = converted(*BARE, *argv), converted(*BARE)
    assert result.problems == []
    assert any(says in f"{remark.what}: {remark.why}" for remark in result.remarks)
    learned = (
        "model.",
        "data.",
        "captions.",
        "adapter.",
        "optimizer.",
        "schedule.",
        "loss.",
        "train.",
    )
    assert {k: v for k, v in result.values.items() if k.startswith(learned)} == {
        k: v for k, v in plain.values.items() if k.startswith(learned)
    }
    load_settings(None, result.overrides(), for_training=True)


# sd-scripts' own choices of --sample_sampler, and the schedulers of diffusers that it takes.
SAMPLERS = {
    "ddim": "DDIMScheduler", "pndm": "PNDMScheduler", "lms": "LMSDiscreteScheduler",
    "euler": "EulerDiscreteScheduler", "euler_a": "EulerAncestralDiscreteScheduler",
    "heun": "HeunDiscreteScheduler", "dpm_2": "KDPM2DiscreteScheduler",
    "dpm_2_a": "KDPM2AncestralDiscreteScheduler", "dpmsolver++": "DPMSolverMultistepScheduler",
    "k_lms": "LMSDiscreteScheduler", "k_euler": "EulerDiscreteScheduler",
    "k_euler_a": "EulerAncestralDiscreteScheduler", "k_dpm_2": "KDPM2DiscreteScheduler",
    "k_dpm_2_a": "KDPM2AncestralDiscreteScheduler",
}  # fmt: skip


@pytest.mark.parametrize("name", SAMPLERS)
def test_samplers_are_the_same_schedulers(name: str, tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("a cat", encoding="utf-8")
    argv = [f"--sample_prompts={tmp_path / 'p.txt'}", "--sample_every_n_epochs=1"]
    result = converted(*BARE, *argv, f"--sample_sampler={name}")
    assert OUR_SAMPLERS[result.values["sample.sampler"]].scheduler.__name__ == SAMPLERS[name]


def test_samplers_that_are_not_there_are_said(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("a cat", encoding="utf-8")
    argv = [f"--sample_prompts={tmp_path / 'p.txt'}", "--sample_every_n_epochs=1"]
    for name, sampler in (("dpmsingle", "dpmpp_2m"), ("nonsense", "ddim"), ("unipc", "unipc")):
        result = converted(*BARE, *argv, f"--sample_sampler={name}")
        assert result.values["sample.sampler"] == sampler
        assert any(name in remark.what for remark in result.remarks)


@pytest.mark.parametrize(
    ("argv", "name"),
    [
        (["--lr_scheduler=cosine_annealing"], "cosine"),
        (["--lr_scheduler=CosineAnnealingLR"], "cosine"),
        (["--lr_scheduler=CosineAnnealingWarmRestarts"], "cosine_with_restarts"),
        (["--lr_scheduler_type=CosineAnnealingLR"], "cosine"),
        (["--lr_scheduler_type=torch.optim.lr_scheduler.CosineAnnealingLR"], "cosine"),
        (["--lr_scheduler_type=LoraEasyCustomOptimizer.CustomOptimizers.Rex"], "rex"),
    ],
)
def test_schedules_by_other_names(argv: list[str], name: str) -> None:
    result = converted(*BARE, *argv)
    assert result.problems == []
    assert result.values["schedule.name"] == name


@pytest.mark.parametrize(
    ("kind", "args"),
    [
        ("CosineAnnealingLR", {"T_max": 40}),
        ("CosineAnnealingLR", {"T_max": 7, "eta_min": 1e-5}),
        ("CosineAnnealingLR", {"T_max": 1000, "eta_min": 0.0}),
        ("CosineAnnealingWarmRestarts", {"T_0": 10}),
        ("PolynomialLR", {"total_iters": 40, "power": 2.0}),
        ("ConstantLR", {"factor": 1.0}),
    ],
)
def test_scheduler_classes_give_the_rates_that_torch_gives(kind: str, args: dict[str, Any]) -> None:
    texts = [f"{key}={value}" for key, value in args.items()]
    argv = [f"--lr_scheduler_type={kind}", "--lr_scheduler_args", *texts]
    result = converted(*BARE, *argv, "--max_train_steps=40", "--learning_rate=1e-4")
    assert result.problems == []
    ours = learning_rate(load_settings(None, result.overrides()), 40)
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1e-4)
    theirs = getattr(torch.optim.lr_scheduler, kind)(optimizer, **args)
    rates = []
    for _ in range(40):
        rates.append(theirs.get_last_lr()[0])
        optimizer.step()
        theirs.step()
    assert [1e-4 * ours.factor(step) for step in range(40)] == pytest.approx(rates, abs=1e-12)


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--lr_scheduler_type=OneCycleLR", "--lr_scheduler_args", "max_lr=1"], "OneCycleLR"),
        (["--lr_scheduler_type=CosineAnnealingLR", "--lr_scheduler_args", "gamma=1"], "gamma"),
        (["--lr_scheduler_type=CosineAnnealingLR", "--lr_scheduler_args", "eta_min=1e-6",
          "--unet_lr=1e-4", "--text_encoder_lr=1e-5"], "each part's"),
        (["--lr_scheduler=cosine", "--lr_scheduler_args", "x=1"], "no free arguments"),
    ],
)  # fmt: skip
def test_scheduler_classes_that_are_not_here_are_refused(argv: list[str], says: str) -> None:
    assert any(says in str(problem) for problem in converted(*BARE, *argv).problems)


@pytest.mark.parametrize("name", REFUSALS)
def test_refusals(name: str) -> None:
    argv, where, says = REFUSALS[name]
    problems = [str(p) for p in converted(*BARE, *argv).problems if p.where == where]
    assert problems, converted(*BARE, *argv).problems
    assert any(says in text for text in problems), problems


def test_what_is_missing_is_said_together() -> None:
    where = {problem.where for problem in converted().problems}
    assert where == {"--pretrained_model_name_or_path", "--train_data_dir", "--network_module"}


def test_the_family_of_the_script() -> None:
    assert converted(*BARE, "--v2").values["model.family"] == "sd2"
    assert "v2" in str(converted(*BARE, "--v2", sdxl=True).problems[0])
    assert converted(*BARE, "--clip_skip=2", sdxl=True).values["model.family"] == "sdxl"
    assert "model.clip_skip" not in converted(*BARE, "--clip_skip=2", sdxl=True).values


def test_what_settings_find_wrong_names_the_argument() -> None:
    result = converted(*BARE, "--network_dim=0")
    with pytest.raises(SettingsError) as error:
        load_settings(None, result.overrides())
    assert error.value.problems[0].where == "--network_dim"


@pytest.mark.parametrize(
    "words",
    [
        ["accelerate", "launch", "--num_cpu_threads_per_process", "8", "train_network.py"],
        ["python", "C:\\kohya\\sdxl_train_network.py"],
    ],
)
def test_a_launcher_is_left_aside(words: list[str]) -> None:
    source = read_argv([*words, *BARE])
    assert source.problems == []
    assert source.sdxl == ("sdxl" in words[-1])
    assert source.given.keys() == read_argv(BARE).given.keys()


def test_other_scripts_are_refused() -> None:
    assert "not the script for LoRAs" in str(read_argv(["flux_train_network.py"]).problems[0])


@pytest.mark.parametrize("word", ["--keep_tokens=1`", "--keep_tokens=1 \\"])
def test_marks_of_continued_lines_come_off(word: str) -> None:
    assert converted(*BARE, word, "`").values["captions.keep_tokens"] == 1


def test_the_last_of_two_counts() -> None:
    assert converted(*BARE, "--seed=1", "--seed", "2").values["train.seed"] == 2


words = st.one_of(
    st.sampled_from([f"--{name}" for name in ARGUMENTS]),
    st.builds(lambda n, v: f"--{n}={v}", st.sampled_from(sorted(ARGUMENTS)), st.text(max_size=12)),
    st.builds(lambda n, v: f"{n}={v}", st.sampled_from(sorted(NETWORK_ARGUMENTS)), st.text("0123456789.,-aTrue", max_size=8)),
    st.sampled_from(["networks.lora", "lycoris.kohya", "1", "0", "-1", "nan", "1e999", "", "`", "0,1", "networks.dylora"]),
    st.text(max_size=8),
)  # fmt: skip


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(argv=st.lists(words, max_size=12), sdxl=st.booleans())
@example(argv=["--resolution=²"], sdxl=False)
@example(
    argv=["--train_batch_size=2", "--max_validation_steps=1", "--validation_split=.1"], sdxl=False
)
def test_no_command_line_breaks_it(argv: list[str], sdxl: bool) -> None:
    result = converted(*argv, sdxl=sdxl)
    with contextlib.suppress(SettingsError):
        load_settings(None, result.overrides())


@pytest.mark.parametrize(
    ("factor", "conv_dim"), [(-1, 4), (5, 16), (6, 4), (7, 4), (8, 4), (16, 4)]
)
def test_full_lokr_with_low_rank_convolutions_is_as_in_lycoris(factor: int, conv_dim: int) -> None:
    own = (
        f"algo=lokr conv_dim={conv_dim} conv_alpha=1 factor={factor} use_tucker=1 decompose_both=1"
    )
    argv = [LYCORIS, "--network_dim=10000", "--network_alpha=1", "--network_args", *own.split()]
    result = convert_source(read_argv(argv), complete=False)
    assert result.problems == []
    adapter = load_settings(None, result.overrides()).adapter
    options = AdapterOptions(
        factor=adapter.factor,
        full_matrix=adapter.full_matrix,
        decompose_both=adapter.decompose_both,
        tucker=adapter.tucker,
    )
    with torch.device("meta"):
        wide = [nn.Linear(*sides) for sides in ((1280, 10240), (5120, 1280), (768, 3072))]
        convs = [nn.Conv2d(4, 320, 3), nn.Conv2d(2560, 1280, 3), nn.Conv2d(1280, 1280, 1)]
    for layer in (*wide, *convs):
        low = getattr(layer, "kernel_size", (1,))[0] > 1
        rank = adapter.effective_conv_rank if low else adapter.rank
        ours = LoKr.create(
            layer, rank=rank, alpha=None, generator=torch.Generator(), options=options
        )
        with torch.device("meta"):
            theirs = LokrModule(
                "x", layer, lora_dim=conv_dim if low else 10000, alpha=1, use_tucker=True,
                decompose_both=True, factor=factor,
            )  # fmt: skip
        shapes = {n: tuple(p.shape) for n, p in theirs.named_parameters() if n.startswith("lokr")}
        assert {name: tuple(p.shape) for name, p in ours.named_parameters()} == shapes
    assert adapter.effective_conv_alpha == 1


def test_full_lokr_with_low_rank_convolutions_needs_a_factor() -> None:
    argv = [LYCORIS, "--network_dim=10000", "--network_args", "algo=lokr", "conv_dim=4", "factor=4"]
    (problem,) = convert_source(read_argv(argv), complete=False).problems
    assert "conv_dim=4 beside --network_dim 10000" in problem.what
    assert "factor=5" in problem.hint


PAGE = Path(__file__).parents[4] / "docs" / "sd-scripts-arguments.md"


def test_the_page_is_fresh() -> None:
    what = "run `lorasmith convert-config --arguments > docs/sd-scripts-arguments.md`"
    assert PAGE.read_text(encoding="utf-8") == arguments_page(), what


def test_the_page_holds_every_argument() -> None:
    page = arguments_page()
    assert all(f"| `--{name}` |" in page for name in ARGUMENTS)
