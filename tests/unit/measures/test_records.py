"""The file of measures: what was measured is not measured again, and a damaged file is no harm."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import torch

from lorasmith.measures.block_effects import BlockEffects, _losses
from lorasmith.measures.noise_probe import Probe
from lorasmith.measures.records import DIVERGED, FULL, HIGH, LOW, Measures, MeasuresFile, finite

ONE = Measures(
    loss={LOW: -0.5, FULL: -0.625, HIGH: -0.25},
    by_picture=[-0.5, -0.75],
    training=-0.625,
    held_out=None,
    plain_moved=0.25,
    plain_loss=0.5,
    norms={"unet": 2.0},
    likeness={LOW: 0.25, FULL: 0.5, HIGH: 0.75},
)


def test_numbers_that_are_none_stand_for_divergence() -> None:
    assert finite(torch.tensor(-0.5)) == -0.5
    assert [finite(math.nan), finite(math.inf), finite(-math.inf)] == [DIVERGED] * 3


def test_blocks_of_a_lora_that_has_diverged_are_weighed_all_the_same() -> None:
    ruined = SimpleNamespace(predict=lambda: None, change=lambda _: torch.tensor([math.nan, 1.0]))
    losses = _losses(cast("list[Probe]", [ruined, ruined]))
    assert losses == [DIVERGED] * 2
    assert BlockEffects(["IN01"], losses, [losses]).contributions() == {"IN01": (0.0, 0.0)}


def test_what_is_put_is_there_for_the_next(tmp_path: Path) -> None:
    MeasuresFile(tmp_path / "new").put("a", ONE)
    MeasuresFile(tmp_path / "new").put("b", ONE)
    again = MeasuresFile(tmp_path / "new")
    assert again.get("a") == again.get("b") == ONE
    assert again.get("c") is None


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "{}", '{"version": 0}', '{"version": 1, "snapshots": {"a": {}}}']
)
def test_a_damaged_or_foreign_file_is_measured_anew(tmp_path: Path, content: str) -> None:
    (tmp_path / "measures.json").write_text(content)
    known = MeasuresFile(tmp_path)
    assert known.get("a") is None
    known.put("a", ONE)
    assert MeasuresFile(tmp_path).get("a") == ONE


def test_numbers_are_written_as_json_has_them(tmp_path: Path) -> None:
    MeasuresFile(tmp_path).put("a", ONE)
    text = (tmp_path / "measures.json").read_text()
    json.loads(text, parse_constant=pytest.fail)
