"""``train.stop = "best"``: runs that end by themselves, with what ``pick`` would keep."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from tests.recipes.matrix import run_with

from lorasmith.advice.pick import pick
from lorasmith.config.load import Override
from lorasmith.core.errors import Stopped
from lorasmith.core.events import BestKept, Controls, Event, Notice, SnapshotJudged
from lorasmith.measures.records import FULL, HIGH, LOW, Measures
from lorasmith.training import early_stopping
from lorasmith.training.early_stopping import DRAWINGS, EXTENT, EarlyStopping
from lorasmith.training.run import resume
from lorasmith.training.runs.folder import RunFolder, read_info, steps_of

STEPS = 6
SETTINGS = {
    "train.stop": "best",
    "train.steps": str(STEPS),
    "train.batch": "1",
    "schedule.name": "constant",
    "save.name": "lora",
    "save.every_steps": "1",
    "save.every_epochs": "0",
    "captions.trigger": "zorp",
    "sample.steps": "2",
    "sample.cfg": "1",
}


@pytest.fixture(autouse=True)
def judges_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of a few steps are judged, whatever it costs."""
    monkeypatch.setattr(early_stopping, "SHARE", 1000.0)


Losses = Callable[[int], float]


def measured_as(monkeypatch: pytest.MonkeyPatch, losses: Losses) -> list[int]:
    """Snapshots are well trained, with the loss that a step has; the list fills with the steps of
    those that were measured."""
    seen: list[int] = []

    def measure(self: EarlyStopping, path: Path, fingerprint: str) -> Measures:
        self._context.controls.check()
        step = steps_of(path)
        assert step is not None
        seen.append(step)
        loss = losses(step)
        return Measures(
            loss={LOW: loss + 0.1, FULL: loss, HIGH: loss + 0.1},
            by_picture=[loss] * 4,
            training=loss,
            held_out=None,
            plain_moved=0.2,
            plain_loss=0.0,
            norms={},
            likeness={FULL: 0.95},
            copying=1.0,
        )

    monkeypatch.setattr(EarlyStopping, "_measure", measure)
    return seen


def beside(folder: Path, settings: Mapping[str, str], controls: Controls | None = None) -> Path:
    """Another run on the training set in ``folder``."""
    output = {"save.output": str(folder / "beside")}
    return run_with(folder, {**settings, **output}, controls=controls)


def flat_after_two(step: int) -> float:
    return -0.4 if step < 2 else -0.8


def contents(run: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in run.glob("*.safetensors")}


def test_a_run_that_gains_no_more_ends_and_can_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = measured_as(monkeypatch, flat_after_two)
    events: list[Event] = []
    run = run_with(tmp_path, SETTINGS, observer=events.append)
    assert seen == [1, 2, 3, 4], "two more than the best one"
    result = RunFolder(run).result
    assert steps_of(result) == 2
    assert sorted(contents(run)) == [
        "lora-step00000001.safetensors", "lora-step00000003.safetensors",
        "lora-step00000004.safetensors", "lora.safetensors",
    ]  # fmt: skip
    (kept,) = [event for event in events if isinstance(event, BestKept)]
    assert (kept.path, kept.step, kept.after) == (result, 2, 4)
    assert kept.why.startswith("Ended after step 4 of 6: the last 2 snapshots")
    info = read_info(RunFolder(run))
    assert info["status"] == "done"
    assert info["best"] == {"step": 2, "after": 4, "why": kept.why}
    assert "2 steps" in (run / "lora.md").read_text()

    before = contents(run)
    events.clear()
    resume(run, observer=events.append)
    assert any(isinstance(e, Notice) and "finished" in e.text for e in events)
    assert contents(run) == before

    resume(run, [Override("train.stop", "end")])
    whole = beside(tmp_path, {**SETTINGS, "train.stop": "end"})
    assert contents(run) == contents(whole)
    assert read_info(RunFolder(run))["best"] is None


@pytest.mark.slow
def test_a_run_that_gains_goes_on_and_the_best_is_the_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its end is worse than what came before, which is seen at the end alone."""
    measured_as(monkeypatch, lambda step: -0.1 * min(step, 5))
    run = run_with(tmp_path, {**SETTINGS, "save.keep_last": "1"})
    assert steps_of(RunFolder(run).result) == 5
    assert sorted(contents(run)) == ["lora-step00000006.safetensors", "lora.safetensors"]
    assert read_info(RunFolder(run))["best"]["after"] == STEPS
    before = contents(run)
    resume(run)
    assert contents(run) == before


@pytest.mark.slow
@pytest.mark.parametrize("at", [3, 4])
def test_a_run_that_was_stopped_while_it_judged_ends_where_it_would_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    measured_as(monkeypatch, flat_after_two)
    whole = run_with(tmp_path, SETTINGS)
    controls = Controls()
    seen = measured_as(monkeypatch, flat_after_two)
    judge = EarlyStopping.judge

    def stopping(self: EarlyStopping, path: Path, step: int, epoch: int | None) -> object:
        if step == at:
            controls.stop()
        return judge(self, path, step, epoch)

    with monkeypatch.context() as patch:
        patch.setattr(EarlyStopping, "judge", stopping)
        with pytest.raises(Stopped, match=f"after step {at}"):
            beside(tmp_path, SETTINGS, controls)
    run = resume(tmp_path / "beside" / "lora")
    assert seen == [1, 2, 3, 4], "each once"
    assert contents(run) == contents(whole)
    one, other = (read_info(RunFolder(folder))["best"] for folder in (run, whole))
    assert one == other


@pytest.mark.slow
def test_what_is_measured_is_what_pick_measures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And so the same snapshot is kept; the training is not disturbed by it."""
    events: list[Event] = []
    settings = {**SETTINGS, "train.steps": "4", "save.every_steps": "2", "train.ema": "0.5"}
    run = run_with(tmp_path, settings, observer=events.append)
    kept = steps_of(RunFolder(run).result)
    records = json.loads((run / "best" / "snapshots.json").read_text())["snapshots"]
    assert [record["step"] for record in records] == [2, 4]
    monkeypatch.setattr("lorasmith.advice.pick.AT_LEISURE", EXTENT)
    monkeypatch.setattr("lorasmith.advice.pick.save_chart", lambda *_: None)
    monkeypatch.setattr("lorasmith.advice.pick.save_sheet", lambda *_: None)
    picked = pick(run, images=DRAWINGS)
    for record, measures in zip(records, picked.measures, strict=True):
        own, others = ({**one, "seconds": 0} for one in (record["measures"], measures.record()))
        assert own == others
    assert picked.kept.step == kept
    assert [e.verdict for e in events if isinstance(e, SnapshotJudged)]

    whole = beside(tmp_path, {**settings, "train.stop": "end"})
    assert set(contents(run).values()) == set(contents(whole).values())
