"""A running training is asked for things from outside, and does them."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import load_file
from tests.recipes.matrix import losses, run_with
from tests.recipes.runs import command, environment, small_dataset

from lorasmith.cli.main import cli
from lorasmith.core.errors import Stopped
from lorasmith.core.events import Controls, Event, Request, StepDone
from lorasmith.training import run as runs

# Seconds, for a busy machine; a second or two each is usual.
PATIENCE = 300


@contextlib.contextmanager
def running(words: list[str], said: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The program in a process that ends with the test, what it says in a file: nobody reads on the
    way, and a full pipe would stop it."""
    with open(said, "wb") as file:
        process = subprocess.Popen(words, env=environment(), stdout=file, stderr=subprocess.STDOUT)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def control(run: Path, *requests: str) -> Result:
    return CliRunner().invoke(cli, ["control", str(run), *requests])


def wait_until(what: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not what():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.slow
def test_asked_from_another_process(tmp_path: Path) -> None:
    data, run = small_dataset(tmp_path / "data", images=2), tmp_path / "out" / "run"
    settings = {"train__epochs": "5000", "save__every_epochs": "0", "sample__steps": "1"}
    said = tmp_path / "said.txt"
    with running(command(data, tmp_path / "out", "run", **settings), said) as process:
        ask_for_everything(run, process)
        assert process.wait(PATIENCE) == 130, said.read_text()
    assert "dance" in said.read_text()

    changes = json.loads((run / "run.json").read_text())["interventions"]
    assert [change["lr"] for change in changes] == [0.5, 0.5]
    assert len({change["step"] for change in changes}) == 1
    status = control(run)
    assert "stopped" in status.output
    assert status.output.count("learning rate x 0.5 (by request)") == 2
    late = control(run, "samples")
    assert late.exit_code == 2
    assert "no training runs" in late.output
    assert "--resume" in late.output


def snapshots(run: Path) -> list[Path]:
    """Named by their step, or by their epoch where that is the end of one."""
    return list(run.glob("run-*.safetensors"))


def ask_for_everything(run: Path, process: subprocess.Popen[bytes]) -> None:
    wait_until(lambda: "running" in control(run).output and "loss" in control(run).output, process)
    refused = control(run, "snapshoot", "lr=zero", "samples")
    assert refused.exit_code == 2
    assert "did you mean snapshot" in refused.output
    assert "lr=zero" in refused.output
    assert not list(run.glob("control/*"))

    done = control(run, "--wait", str(PATIENCE), "snapshot", "samples", "lr=0.5", "lr=0.5")
    assert done.exit_code == 0, done.output
    assert len(snapshots(run)) == 1
    assert list(run.glob("samples/*.png"))
    (run / "control" / "by-hand").write_text("dance\n")
    wait_until(lambda: not list(run.glob("control/*")), process)

    if hasattr(signal, "SIGUSR1"):
        process.send_signal(signal.SIGUSR1)
        wait_until(lambda: len(snapshots(run)) == 2, process)
    assert control(run, "--wait", str(PATIENCE), "stop").exit_code == 0


class Asking(Controls):
    """Asks when a step is done, as somebody who watches would."""

    def __init__(self, lr_after: int, stop_after: int | None = None) -> None:
        super().__init__()
        self.lr_after, self.stop_after = lr_after, stop_after

    def __call__(self, event: Event) -> None:
        if isinstance(event, StepDone) and event.step == self.lr_after:
            self.ask(Request("lr", 0.25))
        if isinstance(event, StepDone) and event.step == self.stop_after:
            self.stop()


@pytest.mark.slow
def test_a_resumed_run_repeats_what_was_asked(tmp_path: Path) -> None:
    def asking(name: str, asks: Asking) -> Path:
        settings = {"train.steps": "7", "save.name": name}
        return run_with(tmp_path, settings, observer=asks, controls=asks)

    whole = asking("whole", Asking(3))
    rates = [
        json.loads(line)["lr"]["unet"]
        for line in (whole / "metrics.jsonl").read_text().splitlines()
    ]
    assert rates[2] / rates[3] > 4  # The step after the third has a quarter, and the cosine.
    with pytest.raises(Stopped):
        asking("broken", Asking(3, stop_after=5))
    broken = tmp_path / "out" / "broken"
    runs.resume(broken, [])
    assert losses(broken) == losses(whole)
    one, other = load_file(whole / "whole.safetensors"), load_file(broken / "broken.safetensors")
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.slow
def test_killed_after_the_request_it_is_still_repeated(tmp_path: Path) -> None:
    """A change is saved in a state at its own step, so no resume can come before it."""
    asks, settings = Asking(3), {"train.steps": "4", "save.every_epochs": "0"}
    run = run_with(tmp_path, settings, observer=asks, controls=asks)
    assert (run / "state" / "step-00000003.state").exists()


@pytest.mark.slow
def test_what_was_asked_of_a_dead_run_is_forgotten(tmp_path: Path) -> None:
    folder = tmp_path / "out" / "run" / "control"
    folder.mkdir(parents=True)
    (folder / "old").write_text("stop")
    run = run_with(tmp_path, {"train.steps": "2"})
    assert len(losses(run)) == 2
    assert not list(folder.glob("*"))


def test_asking_imports_no_torch() -> None:
    """So it answers at once."""
    code = "import sys, lorasmith.cli.control; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.slow
def test_the_speed_is_that_of_steps_alone(tmp_path: Path) -> None:
    """The seconds that the logged speeds amount to are those of the steps, not of the images that
    are drawn between them."""
    drawing = {"sample.every_steps": "1", "sample.steps": "10", "log.every_steps": "1"}
    run = run_with(tmp_path, {**drawing, "train.steps": "6", "train.batch": "1"})
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    told = sum(1 / record["samples_per_second"] for record in records)
    last = json.loads((run / "events.jsonl").read_text().splitlines()[-1])
    seconds = last["seconds"]
    assert seconds["sampling"] > 0
    assert told < seconds["steps"] + seconds["sampling"] / 2
