"""Killed at any moment and resumed as often as you like: the same file, byte for byte."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from tests import warm
from tests.recipes.runs import command, environment, losses, run_here, small_dataset

from lorasmith.cli.main import cli
from lorasmith.training.step import TrainStep

SETTINGS = {
    "train__epochs": "3",
    "train__accumulation": "2",
    "captions__shuffle": "true",
    "captions__tag_dropout": "0.2",
    "adapter__rank_dropout": "0.2",
    "loss__timestep_strata": "both",
    "loss__antithetic_noise": "true",
    "save__state_every_steps": "3",
    "save__every_epochs": "1",
}


def steps_done(folder: Path) -> int:
    metrics = folder / "metrics.jsonl"
    return metrics.read_text(encoding="utf-8").count("\n") if metrics.exists() else 0


def kill_at(arguments: list[str], folder: Path, step: int) -> None:
    """Start the command and send SIGKILL once ``step`` steps are in its log."""
    process = warm.popen(
        arguments, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 300
    while steps_done(folder) < step:
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline, "it did not get so far"
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()


@pytest.mark.slow
def test_killed_twice_gives_the_same_file(tmp_path: Path) -> None:
    data = small_dataset(tmp_path / "data")
    run_here(command(data, tmp_path / "whole", "run", **SETTINGS))
    whole = tmp_path / "whole" / "run"
    total = len(losses(whole))
    assert total > 12

    folder = tmp_path / "broken" / "run"
    chance = random.Random(7)
    stops = sorted(chance.sample(range(2, total - 1), 2))
    start = command(data, tmp_path / "broken", "run", **SETTINGS)
    again = [sys.executable, "-m", "lorasmith", "train", "--resume", str(folder)]
    for number, step in enumerate(stops):
        kill_at(start if number == 0 else again, folder, step)
    run_here(again)

    assert (folder / "run.safetensors").read_bytes() == (whole / "run.safetensors").read_bytes()
    for snapshot in whole.glob("run-*.safetensors"):
        assert (folder / snapshot.name).read_bytes() == snapshot.read_bytes()
    assert losses(folder) == losses(whole)


@pytest.mark.slow
def test_stopped_by_ctrl_c_says_how_to_go_on(tmp_path: Path) -> None:
    data = small_dataset(tmp_path / "data")
    folder = tmp_path / "out" / "run"
    process = subprocess.Popen(
        command(data, tmp_path / "out", "run", **{**SETTINGS, "train__epochs": "200"}),
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    while steps_done(folder) < 3:
        assert process.poll() is None, process.stdout.read() if process.stdout else ""
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert "--resume" in output
    assert "Traceback" not in output
    assert list((folder / "state").glob("step-*.state"))


@pytest.mark.slow
def test_resume_of_a_finished_run_says_so_and_changes_nothing(tmp_path: Path) -> None:
    data = small_dataset(tmp_path / "data", images=2)
    run_here(command(data, tmp_path / "out", "run", train__epochs="1"))
    result = tmp_path / "out" / "run" / "run.safetensors"
    before = result.read_bytes()
    assert "finished" in resumed(result.parent).output
    assert result.read_bytes() == before

    result.unlink()
    assert resumed(result.parent).exit_code == 0
    assert result.read_bytes() == before
    shorter = resumed(result.parent, "--train.steps", "1")
    assert shorter.exit_code == 2
    assert "has done 4 steps already, and 1 are asked for" in shorter.output
    again = [json.loads(line)["step"] for line in (result.parent / "metrics.jsonl").open()]
    assert again == sorted(set(again))

    info = result.parent / "run.json"
    info.write_bytes(b"")
    assert "run.json: is damaged" in resumed(result.parent).output
    info.unlink()
    assert "run.json: is missing" in resumed(result.parent).output


def resumed(folder: Path, *arguments: str) -> Result:
    result = CliRunner().invoke(cli, ["train", "--resume", str(folder), *arguments])
    assert "Traceback" not in result.output, result.output
    return result


LONGER = {"train__epochs": "2", "schedule__name": "constant"}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.safetensors"))


@pytest.mark.slow
def test_a_finished_run_that_goes_on_keeps_its_result_as_a_longer_run_has_it(
    tmp_path: Path,
) -> None:
    data = small_dataset(tmp_path / "data", images=2)
    run_here(command(data, tmp_path / "whole", "r", **{**LONGER, "train__epochs": "4"}))
    run_here(command(data, tmp_path / "out", "r", **LONGER))
    whole, folder = tmp_path / "whole" / "r", tmp_path / "out" / "r"
    assert names(folder) == ["r-000001.safetensors", "r.safetensors"]

    shutil.copytree(folder, tmp_path / "lost" / "r")
    done = resumed(folder, "--train.epochs", "4")
    assert done.exit_code == 0, done.output
    assert "is kept as r-000002.safetensors" in done.output
    assert names(folder) == names(whole)
    for name in ("r-000002", "r-000003", "r"):
        one, other = folder / f"{name}.safetensors", whole / f"{name}.safetensors"
        assert one.read_bytes() == other.read_bytes(), name

    # The finished file was moved away before: a longer run still has all that a straight one has.
    lost = tmp_path / "lost" / "r"
    (lost / "r.safetensors").unlink()
    assert resumed(lost, "--train.epochs", "4").exit_code == 0
    assert names(lost) == names(whole)
    kept = lost / "r-000002.safetensors"
    assert kept.read_bytes() == (whole / "r-000002.safetensors").read_bytes()

    # Without its states a run begins again, and must not write a shorter result over a longer.
    shutil.rmtree(folder / "state")
    before = (folder / "r.safetensors").read_bytes()
    assert resumed(folder, "--train.epochs", "1").exit_code == 2
    assert (folder / "r.safetensors").read_bytes() == before


@pytest.mark.slow
def test_a_schedule_of_another_length_is_told_and_the_file_keeps_what_it_says_of_itself(
    tmp_path: Path,
) -> None:
    data = small_dataset(tmp_path / "data", images=2)
    settings = {"train__steps": "3", "schedule__name": "linear", "save__every_epochs": "0"}
    run_here(command(data, tmp_path / "out", "r", **settings))
    folder = tmp_path / "out" / "r"
    before = (folder / "r.safetensors").read_bytes()

    done = resumed(folder, "--train.steps", "6")
    assert done.exit_code == 0, done.output
    said = " ".join(done.output.split())
    assert "was laid out over 3 steps and is now over 6" in said
    # Linear: the last of 3 steps had a third of the rate, the fourth of 6 has a half.
    assert "goes on at 0.5 of its full value, after 0.333 at the last step" in said
    assert names(folder) == ["r-step00000003.safetensors", "r.safetensors"]
    kept = folder / "r-step00000003.safetensors"
    assert kept.read_bytes() == before
    assert (folder / "r.safetensors").read_bytes() != before

    # A process that was killed before it wrote down the new length finds both.
    shutil.copy(kept, folder / "r.safetensors")
    assert resumed(folder, "--train.steps", "7").exit_code == 0
    assert kept.read_bytes() == before


@pytest.mark.slow
def test_what_a_killed_process_left_half_written_is_gone_after_resume(tmp_path: Path) -> None:
    data = small_dataset(tmp_path / "data", images=2)
    run_here(command(data, tmp_path / "out", "r", train__epochs="1"))
    folder = tmp_path / "out" / "r"
    (folder / "r.safetensors").unlink()
    (folder / "samples").mkdir(exist_ok=True)
    halves = [
        folder / "state" / ".step-00000002.pt.a1b2c3d4.tmp",
        folder / "state" / ".step-00000002.pt.a1b2c3d4.lorasmith.tmp",
        folder / ".r-000001.safetensors.zzzzzzz_.lorasmith.tmp",
        folder / "samples" / ".00000002-00-0.png.01234567.lorasmith.tmp",
    ]
    for path in halves:
        path.write_bytes(b"half")
    assert resumed(folder).exit_code == 0
    assert not [path for path in folder.rglob(".*") if path.is_file()]


@pytest.mark.slow
def test_a_state_under_its_earlier_ending_is_gone_on_from(tmp_path: Path) -> None:
    data = small_dataset(tmp_path / "data", images=2)
    run_here(command(data, tmp_path / "out", "run", train__epochs="1"))
    result = tmp_path / "out" / "run" / "run.safetensors"
    before = result.read_bytes()
    result.unlink()
    states = list((result.parent / "state").iterdir())
    # Web UIs list .pt, .ckpt and .safetensors in every folder below theirs.
    assert {path.suffix for path in states} == {".state"}
    for path in states:
        path.rename(path.with_suffix(".pt"))
    assert "going on after step" in resumed(result.parent).output
    assert result.read_bytes() == before


@pytest.mark.slow
def test_the_same_bits_each_time_hold_through_a_run_and_its_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = small_dataset(tmp_path / "data", images=2)
    asked: list[bool] = []
    step = TrainStep.__call__

    def watched(self: TrainStep, *arguments: Any) -> Any:
        asked.append(torch.are_deterministic_algorithms_enabled())
        return step(self, *arguments)

    monkeypatch.setattr(TrainStep, "__call__", watched)
    settings = {"train__steps": "4", "save__every_steps": "2", "log__every_steps": "1"}
    run_here(command(data, tmp_path / "out", "plain", **settings))
    assert asked == [False] * 4
    repeats = {**settings, "performance__deterministic": "true"}
    run_here(command(data, tmp_path / "out", "r", **repeats))
    assert asked == [False] * 4 + [True] * 4
    folder = tmp_path / "out" / "r"
    # On a CPU it changes no number.
    assert losses(folder) == losses(tmp_path / "out" / "plain")
    assert json.loads((folder / "run.json").read_text())["deterministic"] is True

    whole = (folder / "r.safetensors").read_bytes()
    for arguments, kept in ((), True), (("--performance.deterministic", "false"), False):
        (folder / "r.safetensors").unlink()
        (folder / "state" / "step-00000004.state").unlink()
        asked.clear()
        # Its file of settings may have been edited since.
        text = (folder / "settings.toml").read_text()
        assert "deterministic = true" in text
        (folder / "settings.toml").write_text(text.replace("deterministic = true", ""))
        again = resumed(folder, *arguments)
        assert again.exit_code == 0, again.output
        assert asked == [kept] * 2
        said = "is false, and was true until now" in " ".join(again.output.split())
        assert said is not kept
        assert (folder / "r.safetensors").read_bytes() == whole
    assert not torch.are_deterministic_algorithms_enabled()


def test_the_same_bits_each_time_are_not_had_of_compiled_code(tmp_path: Path) -> None:
    both = {"performance__deterministic": "true", "performance__compile": "true"}
    arguments = command(tmp_path, tmp_path / "out", "r", **both)
    result = CliRunner().invoke(cli, arguments[3:])
    assert result.exit_code == 2, result.output
    assert "does not go with performance.compile" in " ".join(result.output.split())
