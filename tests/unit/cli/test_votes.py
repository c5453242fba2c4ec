"""``lorasmith votes`` from the outside."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tests.made_up_grids import EPOCHS_BY_STRENGTHS, write_grid

from lorasmith.cli.main import cli
from lorasmith.grids.record import read_grid
from lorasmith.grids.votes import cast, pairs


def votes(*arguments: object) -> Result:
    result = CliRunner().invoke(cli, ["votes", *map(str, arguments)])
    assert "Traceback" not in result.output, result.output
    return result


@pytest.fixture
def grid(tmp_path: Path) -> Path:
    folder = write_grid(tmp_path / "grid", EPOCHS_BY_STRENGTHS)
    opened = read_grid(folder)
    for pair in pairs(opened, (0,), 0):
        cast(opened, 0, pair, "left" if pair.left.place > pair.right.place else "right")
    return folder


def test_a_tally_by_epoch(grid: Path) -> None:
    result = votes(grid)
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert lines[0].split()[:4] == ["Epoch", "won", "equal", "lost"]
    assert lines[4].split()[:6] == ["epoch", "4", "6", "0", "0", "100%"]
    assert lines[5] == "epoch 4 leads with 100% after 12 votes, which may still be chance"


def test_all_of_it_as_json(grid: Path) -> None:
    told = json.loads(votes(grid, "--by", "epoch,strength", "--json").stdout)
    assert (told["by"], told["votes"], len(told["standings"])) == (
        ["Epoch", "LoRA strength"],
        12,
        8,
    )
    assert told["standings"][0]["item"] == ["epoch 1", "0.6"]
    assert told["pick"] == ""


def test_what_is_wrong_is_said(grid: Path, tmp_path: Path) -> None:
    result = votes(grid, "--by", "seed")
    assert result.exit_code == 2
    assert 'no axis "seed"' in result.output
    assert "it has epoch, strength" in result.output
    assert votes(tmp_path).exit_code == 2
    empty = votes(write_grid(tmp_path / "new", {"Seed": ["1", "2"]}))
    assert "no votes yet" in empty.output
    assert "lorasmith studio" in empty.output
