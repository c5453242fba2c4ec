"""Real runs that load ahead in a thread: those that do not, bit for bit."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.recipes.matrix import losses, run_with

from lorasmith.core.errors import RunError, Stopped
from lorasmith.core.events import Controls
from lorasmith.data.cache.tensor_store import TensorStore
from lorasmith.tensors import transfer as tensor_transfer
from lorasmith.training import loop
from lorasmith.training import run as runs
from lorasmith.training.batches import Batches
from lorasmith.training.objective import MicroBatch, Objective
from lorasmith.training.setup.build import Run

RUNS = {
    "cached text": {
        "adapter.text_encoder": "false",
        "loss.timesteps": "logit_normal",
        "loss.noise_offset": "0.1",
        "loss.adaptive_noise_scale": "0.1",
    },
    "accumulation, varied captions, trained text encoder": {
        "train.accumulation": "2",
        "captions.shuffle": "true",
        "captions.tag_dropout": "0.3",
        "adapter.rank_dropout": "0.2",
        "loss.multires_iterations": "3",
        "loss.timestep_strata": "both",
        "loss.antithetic_noise": "true",
    },
    "varied captions, text encoder not trained": {
        "adapter.text_encoder": "false",
        "captions.shuffle": "true",
        "train.batch": "1",
    },
    "fresh colours and crops, so that nothing is cached": {
        "augment.colour": "0.5",
        "augment.random_crop": "true",
        "performance.cache_latents": "false",
        "loss.type": "huber",
    },
}


@pytest.fixture
def ahead(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[bool], None]]:
    """Whether runs load ahead, as on a GPU; none leaves a thread behind."""
    drawn_in: set[str] = set()
    add_noise = Objective.add_noise

    def noted(self: Objective, batch: MicroBatch, step: int) -> object:
        drawn_in.add(threading.current_thread().name.partition("_")[0])
        return add_noise(self, batch, step)

    monkeypatch.setattr(Objective, "add_noise", noted)

    def choose(on: bool) -> None:
        drawn_in.clear()
        monkeypatch.setattr(loop, "frees_cpu", lambda device: on)

    choose.drawn_in = drawn_in  # type: ignore[attr-defined]
    yield choose
    assert not [t for t in threading.enumerate() if t.name.startswith("step-inputs")]


def same_bytes(one: Path, other: Path) -> bool:
    return (one / "run.safetensors").read_bytes() == (other / "run.safetensors").read_bytes()


@pytest.mark.slow_but_first
@pytest.mark.parametrize("name", RUNS)
def test_the_same_file_byte_for_byte(name: str, tmp_path: Path, ahead) -> None:
    settings = {"train.steps": "6", **RUNS[name]}
    ahead(False)
    plain = run_with(tmp_path, {**settings, "save.output": str(tmp_path / "plain")})
    assert ahead.drawn_in == {"MainThread"}
    ahead(True)
    loaded = run_with(tmp_path, {**settings, "save.output": str(tmp_path / "ahead")})
    live = RUNS[name].get("performance.cache_latents") == "false"
    assert ahead.drawn_in == {"MainThread" if live else "step-inputs"}
    assert losses(plain) == losses(loaded)
    assert same_bytes(plain, loaded)


@pytest.mark.slow
def test_stopped_and_resumed(tmp_path: Path, ahead, monkeypatch: pytest.MonkeyPatch) -> None:
    ahead(False)
    whole = run_with(tmp_path, {"train.steps": "7", "save.output": str(tmp_path / "whole")})
    ahead(True)
    controls = Controls()
    do_step = loop.do_step

    def stop_in_the_third(run: Run, inputs: Any, meter: Any, step: int) -> None:
        do_step(run, inputs, meter, step)
        if step == 2:
            controls.stop()

    monkeypatch.setattr(loop, "do_step", stop_in_the_third)
    settings = {"train.steps": "7", "save.output": str(tmp_path / "parts")}
    with pytest.raises(Stopped):
        run_with(tmp_path, settings, controls=controls)
    folder = tmp_path / "parts" / "run"
    assert not [t for t in threading.enumerate() if t.name.startswith("step-inputs")]
    runs.resume(folder, ())
    assert same_bytes(folder, whole)
    assert losses(folder) == losses(whole)


@pytest.mark.slow
def test_interrupted_at_once(tmp_path: Path, ahead, monkeypatch: pytest.MonkeyPatch) -> None:
    ahead(True)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "poll", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_with(tmp_path, {})
    assert not [t for t in threading.enumerate() if t.name.startswith("step-inputs")]


@pytest.mark.slow
def test_going_back_leaves_the_image_out(
    tmp_path: Path, ahead, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One image's latents hold infinity from the fourth step on."""
    really = Batches.ahead

    def poisoned(self: Batches, step: int) -> Iterator[Callable[[], MicroBatch]]:
        items = {sample.id: sample.item for group in self.samples(step) for sample in group}
        for complete in really(self, step):
            batch = complete()
            mean = batch.mean.clone()
            for row, sample in enumerate(batch.samples):
                if items[sample] == 1 and step > 2:
                    mean[row, 0, 0, 0] = math.inf
            yield lambda batch=batch, mean=mean: replace(batch, mean=mean)

    monkeypatch.setattr(Batches, "ahead", poisoned)
    settings = {"train.steps": "8", "watchdog.copy_every": "2", "watchdog.action": "rollback"}
    found = []
    for on in (False, True):
        ahead(on)
        run = run_with(tmp_path, {**settings, "save.output": str(tmp_path / str(on))})
        found.append(run)
    assert losses(found[0]) == losses(found[1])
    assert same_bytes(*found)
    events = [(run / "events.jsonl").read_text(encoding="utf-8") for run in found]
    assert all('"event": "RolledBack"' in text and "left out" in text for text in events)


@pytest.mark.slow
def test_a_damaged_cache_is_said_and_nothing_after_it_trained(
    tmp_path: Path, ahead, monkeypatch: pytest.MonkeyPatch
) -> None:
    said, get, shares_of = [], TensorStore.get, Batches.shares
    steps = [0]

    def shares(self: Batches, step: int) -> Any:
        steps[0] = step
        return shares_of(self, step)

    def damaged(self: TensorStore, key: str) -> Any:
        if steps[0] == 3:
            raise RunError.of("cache/a.safetensors", "a file of the cache was damaged")
        return get(self, key)

    monkeypatch.setattr(Batches, "shares", shares)
    monkeypatch.setattr(TensorStore, "get", damaged)
    for on in (False, True):
        ahead(on)
        steps[0] = 0
        with pytest.raises(RunError) as caught:
            run_with(tmp_path, {"train.steps": "6", "save.output": str(tmp_path / str(on))})
        said.append((str(caught.value), losses(tmp_path / str(on) / "run")))
    assert said[0] == said[1]
    assert len(said[0][1]) == 3


@pytest.mark.slow
def test_samples_written_in_threads_are_the_same_and_told_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {
        "train.steps": "2",
        "sample.at_start": "true",
        "sample.every_steps": "2",
        "sample.steps": "2",
        "sample.prompts": '["a star", "a hat", "red body"]',
    }
    images, told = [], []
    for apart in (False, True):
        monkeypatch.setattr(tensor_transfer, "frees_cpu", lambda device, apart=apart: apart)
        run = run_with(tmp_path, {**settings, "save.output": str(tmp_path / str(apart))})
        images.append({p.name: p.read_bytes() for p in (run / "samples").glob("*.png")})
        lines = (run / "events.jsonl").read_text(encoding="utf-8").splitlines()
        events = [json.loads(line) for line in lines]
        told.append([(e["event"], e.get("step"), e.get("prompt")) for e in events])
    assert len(images[0]) == 6
    assert images[0] == images[1]
    assert told[0] == told[1]
    assert not [t for t in threading.enumerate() if t.name.startswith("image-writer")]
