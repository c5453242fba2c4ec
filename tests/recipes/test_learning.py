"""The demo's settings teach the demo's character, in half of the steps of `make demo`."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.learning import train_and_judge


@pytest.mark.slow
def test_learns_the_character_and_leaves_the_rest_alone(tmp_path: Path) -> None:
    result = train_and_judge(16, "demo", ["train.epochs=4"], tmp_path, novel=0)
    before, after = result["before"], result["after"]
    assert before.character == 0
    assert after.character >= 0.7
    assert after.leak <= before.leak + 0.1
    for name, share in before.kept.items():
        assert after.kept[name] >= share - 0.15, name
