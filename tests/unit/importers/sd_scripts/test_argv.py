"""Command lines of sd-scripts: how its parser takes them, and what is refused."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from random import Random
from types import ModuleType

import pytest

from lorasmith.config.checks.run import has_wandb
from lorasmith.config.checks.table import warnings
from lorasmith.config.load import load_settings
from lorasmith.core.errors import SettingsError
from lorasmith.importers.conversion import Conversion, to_toml
from lorasmith.importers.convert import convert_source
from lorasmith.importers.sd_scripts.argv import read_argv

BARE = [
    *("--pretrained_model_name_or_path=demo", "--train_data_dir=img", "--output_dir=out"),
    *("--network_module=networks.lora", "--resolution=64"),
]


def converted(*argv: str) -> Conversion:
    return convert_source(read_argv([*BARE, *argv]))


@pytest.mark.parametrize(
    ("argv", "setting", "value"),
    [
        (["--max_train_epoch=3"], "train.epochs", 3),
        (["--save_every_n_ep", "2"], "save.every_epochs", 2),
        (["--network_di", "8"], "adapter.rank", 8),
        (["--network_train_u"], "adapter.text_encoder", False),
        (["--min_snr=5"], "loss.min_snr_gamma", 5.0),
        (["--caption_sep", " "], "captions.separator", " "),
    ],
)
def test_beginnings_of_names_count_as_in_argparse(
    argv: list[str], setting: str, value: object
) -> None:
    result = converted(*argv)
    assert result.problems == []
    assert result.values[setting] == value
    assert any("as it does for sd-scripts" in remark.why for remark in result.remarks)


@pytest.mark.parametrize(
    ("argv", "hint"),
    [
        (["--keep_tok=1"], "--keep_tokens"),  # It could be --keep_tokens_separator, too.
        (["--cache_latent"], "--cache_latents"),
        (["--epoch=10"], "--max_train_epochs"),  # A field of kohya_ss' files.
        (["-network_dim=8"], "write --network_dim"),
        (["-network_dim", "8"], "write --network_dim"),
        (["--mixed_precision=fp32"], "take no"),
    ],
)
def test_what_is_no_argument_is_refused_with_what_is_meant(argv: list[str], hint: str) -> None:
    (problem,) = converted(*argv).problems
    assert hint in problem.hint


def test_blanks_count_in_separators() -> None:
    for argv in (["--caption_separator= "], ["--caption_separator", " "]):
        result = converted("--shuffle_caption", *argv)
        assert result.problems == []
        settings = load_settings(None, result.overrides(), for_training=True)
        assert settings.captions.separator == " "
    assert converted("--secondary_separator= ; ").values["captions.secondary_separator"] == " ; "


@pytest.mark.parametrize("seed", [2**53 + 1, 2**63 - 1])
def test_large_seeds_are_exact(seed: int) -> None:
    result = converted(f"--seed={seed}")
    assert load_settings(None, result.overrides(), for_training=True).train.seed == seed


@pytest.mark.parametrize("seed", ["9223372036854775808", "9" * 20, "-1", "1e30", "1.5", "9" * 5000])
def test_seeds_that_are_none(seed: str) -> None:
    result = converted(f"--seed={seed}")
    problems = list(result.problems)
    try:
        load_settings(None, result.overrides(), for_training=True)
    except SettingsError as error:
        problems += error.problems
    assert [problem.where for problem in problems] == ["--seed"]


def test_a_config_file_that_is_not_there_is_one_mistake() -> None:
    result = convert_source(read_argv(["--config_file=none.toml", "--train_data_dir=img"]))
    (problem,) = result.problems
    assert problem.where == "none.toml"


@pytest.mark.parametrize("installed", [True, False])
def test_weights_and_biases(monkeypatch: pytest.MonkeyPatch, installed: bool) -> None:
    monkeypatch.setitem(sys.modules, "wandb", ModuleType("wandb"))
    if not installed:
        monkeypatch.delitem(sys.modules, "wandb")
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    plain = converted("--log_with=wandb")
    assert (plain.values["log.wandb"], plain.values["log.tensorboard"]) == ("network_train", False)
    assert any("not installed" in remark.why for remark in plain.remarks) is not installed
    result = converted(
        *("--log_with=all", "--log_tracker_name=zorps", "--wandb_run_name=first"),
        "--wandb_api_key=secret",
    )
    assert result.problems == plain.problems == []
    assert result.values["log.wandb"] == "zorps"
    assert result.values["log.wandb_name"] == "first"
    assert result.values["log.tensorboard"] is True
    assert not any("secret" in str(value) for value in result.values.values())
    assert not any("secret" in remark.what for remark in result.remarks)
    found = warnings(load_settings(None, result.overrides(), for_training=True))
    assert any("wandb" in warning.what for warning in found) is not installed


def test_secrets_are_not_shown() -> None:
    result = converted("--huggingface_token=secret", "--wandb_api_key", "secret")
    assert {"--huggingface_token …", "--wandb_api_key …"} <= {each.what for each in result.remarks}
    assert "secret" not in to_toml(result, "x")


def test_a_folder_named_wandb_is_not_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "wandb").mkdir()
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert not has_wandb()
    (tmp_path / "wandb" / "__init__.py").touch()
    importlib.invalidate_caches()
    assert has_wandb()


OPTIONS = [
    ["--network_dim=8", "--network_alpha=0"], ["--network_train_unet_only"],
    ["--network_args", "conv_dim=4", "conv_alpha=2"], ["--network_args", "loraplus_lr_ratio=16"],
    ["--network_args", "down_lr_weight=cosine+.25", "mid_lr_weight=0.5"], ["--unet_lr=2e-4"],
    ["--text_encoder_lr", "5e-5", "1e-5"], ["--learning_rate=2e-4"],
    ["--optimizer_type=AdaFactor", "--optimizer_args", "relative_step=True"],
    ["--optimizer_type=Prodigy", "--optimizer_args", "d_coef=2", "betas=0.9,0.99"],
    ["--lr_scheduler=cosine_with_restarts", "--lr_scheduler_num_cycles=3"],
    ["--lr_scheduler=cosine_with_min_lr", "--lr_scheduler_min_lr_ratio=0.1"],
    ["--lr_warmup_steps=5%"], ["--lr_scheduler_type=CosineAnnealingLR"], ["--max_train_epochs=3"],
    ["--mixed_precision=fp16"], ["--save_every_n_steps=10", "--save_last_n_steps=30"],
    ["--save_n_epoch_ratio=2"], ["--output_name=my lora"], ["--enable_bucket"],
    ["--enable_bucket", "--bucket_no_upscale"], ["--color_aug"], ["--caption_extension=caption"],
    ["--caption_separator= ", "--shuffle_caption"], ["--caption_suffix=, \"best\" \\ # end"],
    ["--token_warmup_step=10"], ["--noise_offset=0.05", "--adaptive_noise_scale=0.01"],
    ["--loss_type=huber", "--huber_schedule=exponential"], ["--min_timestep=100"],
    ["--alpha_mask"], ["--max_grad_norm=0"], ["--clip_skip=2"], ["--validation_split=0.2"],
    ["--log_with=wandb", "--wandb_run_name=x y"], ["--training_comment=a \"b\" # c \\ d\ttab"],
    ["--seed=9223372036854775807"], ["--fp8_base"], ["--vae_batch_size=2"],
]  # fmt: skip
MODULES = [
    ["--network_module=networks.lora"], ["--network_module=networks.dylora"],
    ["--network_module=lycoris.kohya", "--network_args", "algo=loha", "conv_dim=4"],
    ["--network_module=lycoris.kohya", "--network_args", "algo=lokr", "preset=attn-mlp"],
]  # fmt: skip


@pytest.mark.parametrize("number", range(40))
def test_the_converted_file_is_the_command_line(tmp_path: Path, number: int) -> None:
    random = Random(number)
    lists = [random.choice(MODULES), *random.sample(OPTIONS, 8)]
    result = converted(*(word for words in lists for word in words))
    assert result.problems == []
    (tmp_path / "run.toml").write_text(to_toml(result, "a test"), encoding="utf-8")
    direct = load_settings(None, result.overrides(), for_training=True)
    file = load_settings(tmp_path / "run.toml", [], None, for_training=True)
    assert file == direct
