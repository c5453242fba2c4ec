"""Command lines of sd-scripts: how its parser takes them, and what is refused."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from lorasmith.config.checks import oddities
from lorasmith.config.checks_run import has_wandb
from lorasmith.config.foreign.argv import read_argv
from lorasmith.config.foreign.engine import convert_source
from lorasmith.config.foreign.result import Conversion
from lorasmith.config.foreign.toml_out import to_toml
from lorasmith.config.load import load_settings
from lorasmith.errors import SettingsError

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
    ("argv", "todo"),
    [
        (["--keep_tok=1"], "--keep_tokens"),  # It could be --keep_tokens_separator, too.
        (["--cache_latent"], "--cache_latents"),
        (["--epoch=10"], "--max_train_epochs"),  # A field of kohya_ss' files.
        (["-network_dim=8"], "write --network_dim"),
        (["-network_dim", "8"], "write --network_dim"),
        (["--mixed_precision=fp32"], "take no"),
    ],
)
def test_what_is_no_argument_is_refused_with_what_is_meant(argv: list[str], todo: str) -> None:
    (problem,) = converted(*argv).problems
    assert todo in problem.todo


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
    notices = oddities(load_settings(None, result.overrides(), for_training=True))
    assert any("wandb" in notice.what for notice in notices) is not installed


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
