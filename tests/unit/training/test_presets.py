"""Every preset against images: what it plans, and what is odd about it."""

from __future__ import annotations

from pathlib import Path

import pytest

from lorasmith.config.load import load_settings
from lorasmith.config.presets import preset_names
from lorasmith.demo.character import write_training_set
from lorasmith.training import plan as plan_module
from lorasmith.training.memory.estimates import Speed
from lorasmith.training.plan import make_plan

ODDITIES: dict[str, dict[str, str]] = {}
"""What a preset is told of on purpose: by its name, the setting and why it stays."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("presets") / "data"
    write_training_set(folder, images=6, regularisation=6, repeats=1)
    return folder


@pytest.mark.slow_but_first
@pytest.mark.parametrize("name", preset_names())
def test_presets_plan_without_contradictions_or_oddities(
    name: str, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan_module, "speed_of", lambda device, dtype: Speed(1e10, 1e10, 1e10))
    given = {"data.path": str(data / "img"), "save.output": str(data.parent / "out")}
    if name in ("character-hard", "demo"):
        given["data.reg"] = str(data / "reg")
    if name == "slider":
        del given["data.path"]
        given |= {"model.path": "demo", "slider.positive": "top hat"}
    settings = load_settings(None, given, preset=name, for_training=True)
    plan = make_plan(settings)
    told = {problem.where for problem in plan.warnings}
    assert told == set(ODDITIES.get(name, {})), plan.warnings
    assert plan.run_plan.steps > 0
    assert plan.memory.peak.total > 0
    # The first of each part; LoRA+, which the base says, has others after it.
    lrs = {rate.part: rate.lr for rate in reversed(plan.rates)}
    assert lrs == {part: plan.run_plan.settings.optimizer.lr_of(part) for part in lrs}
