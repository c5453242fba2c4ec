"""``lorasmith advise``"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tests.recipes.runs import small_dataset

from lorasmith import advise
from lorasmith.cli import advise as command
from lorasmith.cli.main import cli
from lorasmith.config.load import load_settings
from lorasmith.core.errors import UserError
from lorasmith.jobs.advise import card_memory


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_dataset(tmp_path_factory.mktemp("advise") / "zorp")


def run(*arguments: object, answers: str = "") -> Result:
    return CliRunner().invoke(cli, ["advise", *map(str, arguments)], input=answers)


def test_it_writes_a_settings_file_and_nothing_over_another(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "train.toml"
    result = run(data, "--out", out, "--kind", "character")
    assert result.exit_code == 0, result.output
    assert "Kind: character (as said)" in result.stdout
    assert f"lorasmith train {out}" in result.stdout
    settings = load_settings(out, for_training=True)
    assert settings.data.path == data
    text = out.read_text(encoding="utf-8")
    again = run(data, "--out", out)
    assert again.exit_code == 2
    assert "exists already" in again.output
    assert out.read_text(encoding="utf-8") == text


@pytest.mark.slow
def test_without_out_it_prints_the_file_or_everything(data: Path) -> None:
    printed = run(data)
    assert printed.exit_code == 0, printed.output
    assert "\nversion = 2\n" in printed.stdout
    record = json.loads(run(data, "--json", "--yes").stdout)
    assert _without_memory(record["file"]) == _without_memory(printed.stdout)
    assert record["seconds"] is None
    assert record["settings"]["model.path"]["value"] == "demo"
    assert all(line["reason"] and line["source"]["name"] for line in record["settings"].values())


def _without_memory(text: str) -> list[str]:
    """What is free changes from call to call."""
    return [line for line in text.splitlines() if not line.startswith("# Memory:")]


@pytest.mark.slow
def test_it_asks_what_was_not_said(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "has_terminal", lambda: True)
    result = run(data, answers="character\nd\n\n")
    assert result.exit_code == 0, result.output
    assert "Kind: character (as said)" in result.stdout
    assert "Difficulty: D" in result.stdout
    style = run(data, "--kind", "style", "--use", "faithful")
    assert style.exit_code == 0, style.output
    assert "Your choice" not in style.stdout
    assert "Difficulty" not in style.stdout
    assert "Your choice" not in run(data, "--yes").stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--gpu", "large"], "--gpu: 'large' is not the memory of a GPU; write it as 8GB"),
        (["--gpu", "0.1"], "--gpu: '0.1' is out of range"),
        (["--kind", "person"], "--kind"),
        (["--difficulty", "J"], "--difficulty"),
        (["--model", "nowhere.safetensors"], "nowhere.safetensors"),
    ],
)
def test_mistakes_are_told(data: Path, arguments: list[str], message: str) -> None:
    result = run(data, *arguments)
    assert result.exit_code == 2
    assert message in result.output


def test_a_folder_without_pictures_is_told(tmp_path: Path) -> None:
    result = run(tmp_path)
    assert result.exit_code == 2
    assert "the dataset is empty" in result.output


@pytest.mark.parametrize(
    ("text", "gigabytes"), [("8GB", 8), ("8", 8), (" 6 gb ", 6), ("24GiB", 24), ("6144MB", 6)]
)
def test_memory_is_written_as_cards_are_called(text: str, gigabytes: int) -> None:
    assert card_memory(text) == gigabytes * 1024**3


@pytest.mark.slow
def test_from_python(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "train.toml"
    advised = advise(data, kind="character", out=out)
    assert out.read_text(encoding="utf-8") == advised.text
    with pytest.raises(UserError, match="exists already"):
        advise(data, out=out)
    assert advise(data, gpu=8, out=out, overwrite=True).target.name == "a GPU of 8 GB"
