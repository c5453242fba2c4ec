"""A learning rate that is looked for: the run is then as if it had been given."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tests.recipes.matrix import PLAIN, run_with

from lorasmith.config.load import load_settings
from lorasmith.core.errors import Stopped
from lorasmith.core.events import Controls, Event, Progress, StepDone
from lorasmith.demo.character import write_training_set
from lorasmith.training.found_lr import find_lr
from lorasmith.training.run import resume, train
from lorasmith.training.runs.state import list_states, read_state

# Long enough for a search; stopped after two steps.
LONG = {"train.batch": "8", "train.steps": "90", "adapter.dropout": "0.1", "train.ema": "0.9"}
SEEKING = {**LONG, "optimizer.lr": "find"}


class StopAfter:
    """Stops the run at an event."""

    def __init__(self, kind: type[Event], step: int = 1) -> None:
        self.controls = Controls()
        self.events: list[Event] = []
        self._kind, self._step = kind, step

    def __call__(self, event: Event) -> None:
        self.events.append(event)
        if not isinstance(event, self._kind):
            return
        if isinstance(event, Progress) and event.what != "looking for the learning rate":
            return
        if not isinstance(event, StepDone) or event.step >= self._step:
            self.controls.stop()


def stopped(folder: Path, changes: dict[str, str], kind: type[Event], step: int = 1) -> Path:
    watcher = StopAfter(kind, step)
    with pytest.raises(Stopped):
        run_with(folder, changes, observer=watcher, controls=watcher.controls)
    runs = sorted((folder / "out").iterdir(), key=lambda path: path.stat().st_mtime_ns)
    return runs[-1]


def state_of(run: Path) -> dict:
    return read_state(list_states(run / "state")[-1])


def test_the_run_is_the_one_that_was_given_the_rate(tmp_path: Path) -> None:
    sought = stopped(tmp_path, SEEKING, StepDone, 2)
    settings = load_settings(sought / "settings.toml")
    rate = settings.optimizer.lr
    assert isinstance(rate, float)
    assert 1e-3 < rate < 2e-2, "the demo's own is 4e-3"
    record = json.loads((sought / "find_lr.json").read_text())
    assert record["rates"] == {"unet": rate, "text_encoder": rate}
    assert record["steps"] <= 9
    assert f"{rate:g}" in (sought / "find_lr.txt").read_text()

    given = stopped(
        tmp_path, {**LONG, "optimizer.lr": repr(rate), "save.name": "given"}, StepDone, 2
    )
    one, other = state_of(sought), state_of(given)
    assert one["step"] == other["step"] == 2
    for name, numbers in one["parameters"].items():
        assert torch.equal(numbers, other["parameters"][name])
        assert torch.equal(one["ema"][name], other["ema"][name])
    moments = zip(
        one["optimizer"]["state"].values(), other["optimizer"]["state"].values(), strict=True
    )
    assert all(torch.equal(a["exp_avg"], b["exp_avg"]) for a, b in moments)

    watcher = StopAfter(StepDone, 3)
    with pytest.raises(Stopped):
        resume(sought, observer=watcher, controls=watcher.controls)
    assert not any(
        getattr(event, "what", "") == "looking for the learning rate" for event in watcher.events
    )
    assert load_settings(sought / "settings.toml").optimizer.lr == rate


def test_stopped_while_looking_it_looks_again(tmp_path: Path) -> None:
    run = stopped(tmp_path, SEEKING, Progress)
    assert load_settings(run / "settings.toml").optimizer.lr == "find"
    assert not list_states(run / "state")
    watcher = StopAfter(StepDone)
    with pytest.raises(Stopped):
        resume(run, observer=watcher, controls=watcher.controls)
    assert isinstance(load_settings(run / "settings.toml").optimizer.lr, float)


@pytest.mark.broad_beyond(4)
@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer.unet_lr": "2e-3", "optimizer.text_encoder_lr": "5e-4"},
        {"adapter.type": "lora", "adapter.weight_decompose": "true"},
        {"adapter.type": "loha"},
        {"optimizer.name": "Lion", "optimizer.lr": "find"},
        {"train.precision": "bf16"},
        {"optimizer.loraplus_ratio": "16"},
    ],
    ids=lambda changes: " ".join(changes.values()),
)
def test_whatever_is_trained(tmp_path: Path, changes: dict[str, str]) -> None:
    write_training_set(tmp_path / "data", images=3, regularisation=2, repeats=2)
    values = {
        **PLAIN, **LONG, "data.path": str(tmp_path / "data"), "save.output": str(tmp_path / "out"),
    } | changes  # fmt: skip
    search = find_lr(load_settings(None, values))
    assert not list((tmp_path / "out").rglob("*")), "it proposes, and writes nothing"
    assert min(trial.loss for trial in search.trials if trial.loss is not None) < search.loss
    assert 1e-5 < search.rates["unet"] < 0.5
    ratio = 4 if "optimizer.text_encoder_lr" in changes else 1
    assert search.rates["unet"] == pytest.approx(ratio * search.rates["text_encoder"], rel=1e-3)


FULL = {
    "train.kind": "full", "full.layers": "attn2.*", "train.batch": "8", "train.steps": "90",
    "optimizer.lr": "find", "optimizer.max_grad_norm": "0", "preservation.enabled": "false",
}  # fmt: skip


@pytest.mark.slow
def test_of_a_bases_own_weights(tmp_path: Path) -> None:
    """However they are stepped; and afterwards they are what they were."""
    write_training_set(tmp_path / "data", images=3, regularisation=0, repeats=2)
    of_loras = ("adapter.rank", "save.precision", "optimizer.lr")
    plain = {name: value for name, value in PLAIN.items() if name not in of_loras}
    places = {"data.path": str(tmp_path / "data"), "save.output": str(tmp_path / "out")}
    settings = {**plain, **FULL, **places}
    search = find_lr(load_settings(None, settings))
    assert min(trial.loss for trial in search.trials if trial.loss is not None) < search.loss
    assert 1e-5 < search.rates["unet"] < 0.5
    fused = find_lr(load_settings(None, {**settings, "full.fused_backward": "true"}))
    assert fused.rates == pytest.approx(search.rates, rel=1e-3)

    states = []
    for name, rate in (("sought", "find"), ("given", repr(search.rates["unet"]))):
        watcher, own = StopAfter(StepDone), {"save.name": name, "optimizer.lr": rate}
        with pytest.raises(Stopped):
            train(
                load_settings(None, {**settings, **own}),
                observer=watcher,
                controls=watcher.controls,
            )
        states.append(state_of(tmp_path / "out" / name))
    one, other = (state["parameters"] for state in states)
    assert one.keys() == other.keys()
    assert all(all(map(torch.equal, numbers, other[name])) for name, numbers in one.items())
