"""`dataset tag` as people call it, with the tagger that ships."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tests.crashes import contents
from tests.tiny_taggers import write_tagger

from lorasmith.cli.main import cli
from lorasmith.demo.character import write_training_set


@pytest.fixture
def zorps(tmp_path: Path) -> Path:
    write_training_set(tmp_path / "set", images=3, regularisation=1)
    folder = tmp_path / "set" / "img" / "25_zorp"
    (folder / "zorp_000.txt").unlink()
    return folder


def tag(*arguments: object) -> Result:
    words = ["dataset", "tag", *(str(each) for each in arguments)]
    return CliRunner().invoke(cli, words, terminal_width=80)


def test_it_tags_what_has_no_caption_and_is_taken_back(zorps: Path) -> None:
    before = contents(zorps)
    result = tag(zorps, "--tagger", "demo", "--yes")
    assert result.exit_code == 0, result.output
    assert "tags 1 picture on the processor" in result.output
    text = (zorps / "zorp_000.txt").read_text()
    assert {"purple body", "round body", "wings", "antennae"} <= set(text.strip().split(", "))
    assert text.endswith("zorp\n")
    undone = CliRunner().invoke(cli, ["dataset", "undo", str(zorps)])
    assert undone.exit_code == 0
    assert contents(zorps) == before


def test_without_a_terminal_nothing_is_changed_but_the_scores_are_kept(zorps: Path) -> None:
    before = contents(zorps)
    result = tag(zorps, "--tagger", "demo", "--mode", "replace")
    assert result.exit_code == 2
    assert contents(zorps) == before
    again = tag(zorps, "--tagger", "demo", "--mode", "replace", "--general", "0.9", "--dry-run")
    assert "on the processor" not in again.output


def test_json_is_all_that_is_on_the_standard_output(zorps: Path) -> None:
    result = tag(zorps, "--tagger", "demo", "--json", "--dry-run")
    value = json.loads(result.stdout)
    (change,) = value["changes"]
    assert change["change"] == "new"
    assert "purple body" in change["after"]
    assert value["applied"] is None


def test_mistakes_are_told_before_a_model_is_opened(zorps: Path) -> None:
    result = tag(zorps, "--general", "0", "--mode", "apend", "--batch", "none")
    assert result.exit_code == 2
    for option in ("--general", "--mode", "--batch"):
        assert option in result.output
    assert "Traceback" not in result.output
    result = tag(zorps, "--replace", "a", "--replace", "=b", "--tagger", "demo")
    assert result.exit_code == 2
    assert result.output.count("is not A=B") == 2


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda folder: (folder / "selected_tags.csv").unlink(), "holds no label file"),
        (lambda folder: (folder / "model.onnx").unlink(), "holds no tagger"),
        (lambda folder: (folder / "model.onnx").write_bytes(b"?"), "cannot be opened"),
        (lambda folder: write_tagger(folder, ("a", "b")), "gives 3 scores"),
        (lambda folder: write_tagger(folder, bias=(float("nan"),) * 3), "not numbers"),
    ],
)
def test_a_tagger_that_is_none(zorps: Path, tmp_path: Path, break_it: object, message: str) -> None:
    folder = write_tagger(tmp_path / "tagger")
    break_it(folder)
    before = contents(zorps)
    result = tag(zorps, "--tagger", folder, "--yes")
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())
    assert contents(zorps) == before


def test_a_damaged_picture_is_said_and_the_others_are_tagged(zorps: Path) -> None:
    (zorps / "zorp_001.txt").unlink()
    path = zorps / "zorp_000.png"
    path.write_bytes(path.read_bytes()[:200])
    result = tag(zorps, "--tagger", "demo", "--yes")
    assert result.exit_code == 2
    assert "left out: img/25_zorp/zorp_000.png" in result.output
    assert (zorps / "zorp_001.txt").exists()
    assert not (zorps / "zorp_000.txt").exists()
