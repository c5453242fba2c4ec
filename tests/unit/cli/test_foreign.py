"""The commands for people who come from other trainers."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from lorasmith.cli.main import cli
from lorasmith.config.foreign.reference import arguments_page
from lorasmith.config.load import load_settings
from lorasmith.demo.character import write_training_set

SAMPLES = Path(__file__).parents[1] / "config" / "foreign"


def run(*args: str) -> Result:
    return CliRunner().invoke(cli, list(args))


def test_everything_wrong_at_once() -> None:
    result = run("train-network", "--network_dims=8", "--resume=x", "--learning_rate=0,0001")
    assert result.exit_code == 2
    for says in ("--network_dims", "did you mean --network_dim", "states of sd-scripts",
                 "write 0.0001, with a point", "--train_data_dir: is missing"):  # fmt: skip
        assert says in result.output


def test_settings_that_are_wrong_name_the_argument() -> None:
    argv = ["--pretrained_model_name_or_path=demo", "--train_data_dir=x", "--network_dim=0"]
    result = run("train-network", *argv, "--network_module=networks.lora")
    assert result.exit_code == 2
    assert "--network_dim: 0 is out of range" in result.output


def test_plan_shows_what_became_of_each_argument(tmp_path: Path) -> None:
    write_training_set(tmp_path, pictures=2, repeats=1, regularisation=0)
    argv = ["--pretrained_model_name_or_path=demo", f"--train_data_dir={tmp_path / 'img'}",
            "--network_module=networks.lora", "--resolution", "64", "--xformers",
            "--caption_extension=.txt", "--max_train_epochs", "1"]  # fmt: skip
    result = run("train-network", *argv, f"--output_dir={tmp_path / 'out'}", "--plan")
    assert result.exit_code == 0, result.output
    assert "adapter.rank = 4" in result.output
    assert "--xformers: PyTorch's own attention" in result.output
    assert not list((tmp_path / "out").rglob("*")), "nothing was trained"


@pytest.mark.parametrize("name", ["sample.ps1", "sample.sh"])
def test_convert_config(tmp_path: Path, name: str) -> None:
    out = tmp_path / "run.toml"
    result = run("convert-config", str(SAMPLES / name), "--out", str(out))
    assert result.exit_code == 0, result.output
    settings = load_settings(out, for_training=True)
    assert settings.optimizer.unet_lr == 1e-4
    assert "rank = " in run("convert-config", str(SAMPLES / name)).output


def test_convert_config_in_part(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text(
        'network_module = "networks.lora"\nnetwork_dim = 99999\nresume = "x"\nclip_skip = 2\n'
    )
    out = tmp_path / "run.toml"
    result = run("convert-config", str(file), "--out", str(out))
    assert result.exit_code == 2
    assert not out.exists()
    result = run("convert-config", str(file), "--out", str(out), "--partial")
    assert result.exit_code == 0, result.output
    assert "left out" in result.output
    text = out.read_text(encoding="utf-8")
    assert "Refused, and not in this file" in text
    assert load_settings(out).model.clip_skip == 2


def test_the_table_of_arguments() -> None:
    assert run("convert-config", "--arguments").output == arguments_page()
