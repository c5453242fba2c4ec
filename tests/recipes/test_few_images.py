"""A run on one image, whatever counts images: batch, length, held-out loss, T-LoRA, pick."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.recipes.matrix import losses, result_of, run_with

from lorasmith.advice.pick import pick
from lorasmith.core.errors import UserError
from lorasmith.core.events import Event, Notice, StepDone
from lorasmith.demo.character import write_training_set
from lorasmith.measures.records import Extent
from lorasmith.training.loop import do_step
from lorasmith.training.run import resume
from lorasmith.training.setup.build import Run

ONE = {
    "train.batch": "4",
    "train.steps": "6",
    "adapter.type": "tlora",
    "save.every_steps": "3",
    "save.every_epochs": "0",
    "save.state_every_steps": "2",
    "captions.trigger": "zorp",
    "sample.steps": "2",
    "sample.cfg": "1",
}


@pytest.fixture
def one(tmp_path: Path) -> Path:
    write_training_set(tmp_path / "data", images=1, regularisation=0, repeats=1)
    return tmp_path


@pytest.mark.slow
def test_one_image_trains_is_resumed_and_picked_from(
    one: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[Event] = []
    whole = run_with(one, ONE, observer=events.append)
    assert len([event for event in events if isinstance(event, StepDone)]) == 6
    (warning,) = [e.text for e in events if isinstance(e, Notice) and e.level == "warning"]
    assert "makes 6 steps" in warning, "which are few for any set"
    broken = one / "broken"

    def killed(run: Run, inputs: object, meter: object, step: int) -> None:
        if step == 5:
            raise KeyboardInterrupt
        do_step(run, inputs, meter, step)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr("lorasmith.training.loop.do_step", killed)
        with pytest.raises(KeyboardInterrupt):
            run_with(one, {**ONE, "save.output": str(broken)})
    resume(broken / "run", [])
    assert result_of(broken / "run").read_bytes() == result_of(whole).read_bytes()
    assert losses(broken / "run") == losses(whole)
    monkeypatch.setattr("lorasmith.advice.pick.AT_LEISURE", Extent(timesteps=2))
    pick(whole, images=1)


def test_of_one_image_nothing_can_be_held_out(one: Path) -> None:
    with pytest.raises(UserError, match="nothing can be held out"):
        run_with(one, {**ONE, "validation.split": "0.2"})
