"""The commands of docs/dataset-tag.md run, in their order, and do what the page says."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from tests.docs.test_docs import command_lines

from lorasmith.cli.main import cli
from lorasmith.curation.tagger.folders import DEFAULT, DEMO, KNOWN
from lorasmith.curation.tagger.model import Tagger
from lorasmith.demo.character import write_training_set

PAGE = Path(__file__).parents[2] / "docs" / "dataset-tag.md"
TEXT = PAGE.read_text(encoding="utf-8")


@pytest.fixture
def captions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Caption files of six zorps, four of which are not there."""
    monkeypatch.chdir(tmp_path)
    write_training_set(tmp_path / "zorps", images=6, regularisation=1)
    paths = sorted((tmp_path / "zorps/img").rglob("*.txt"))
    for path in paths[:4]:
        path.unlink()
    return paths


def test_its_commands_run(captions: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[str] = []
    scores = Tagger.scores

    def counted(self: Tagger, inputs: np.ndarray, names: Sequence[str] = ()) -> np.ndarray:
        looks.extend(names)
        return scores(self, inputs, names)

    monkeypatch.setattr(Tagger, "scores", counted)
    lines = [line for line in command_lines(TEXT) if " DIR" not in line]
    assert len(lines) >= 9
    texts = []
    for line in lines:
        result = CliRunner().invoke(cli, shlex.split(line)[1:])
        # Without --yes there is no terminal to ask on here.
        asks = not any(word in line for word in ("--yes", "--dry-run", " undo "))
        assert result.exit_code == (2 if asks else 0), f"{line}\n{result.output}"
        texts.append([path.read_text() if path.exists() else None for path in captions])
    before, tagged, undone, strict, loose = texts[:5]
    assert before == undone
    assert before[:4] == [None] * 4
    assert all("purple body" in text for text in tagged[:4])
    assert tagged[4:] == before[4:]
    assert all("zorp" not in text.split(", ")[:-1] for text in loose)
    assert all("zorp" in text for text in strict)
    dry = texts[5:7]
    assert dry == [loose, loose]
    # Those that had captions were looked at when these were to be replaced; each picture once.
    assert len(looks) == len(set(looks)) == len(captions)


def test_known_taggers_are_listed() -> None:
    (table,) = re.findall(r"\| `--tagger` \|.*?\n\n", TEXT, re.DOTALL)
    names = set(re.findall(r"`([\w-]+)`", table)) - {"owner"}
    assert names >= {DEMO, DEFAULT, *KNOWN}
    assert f"`{DEFAULT}` (the default)" in table
