"""Killed at any moment and resumed as often as you like: the same file, byte for byte."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tests.recipes.runs import command, environment, losses, run, small_dataset

from lorasmith.cli.main import cli

SETTINGS = {
    "train__epochs": "6",
    "train__accumulation": "2",
    "captions__shuffle": "true",
    "captions__tag_dropout": "0.2",
    "adapter__rank_dropout": "0.2",
    "save__state_every_steps": "3",
    "save__every_epochs": "2",
}


def steps_done(folder: Path) -> int:
    metrics = folder / "metrics.jsonl"
    return metrics.read_text(encoding="utf-8").count("\n") if metrics.exists() else 0


def kill_at(arguments: list[str], folder: Path, step: int) -> None:
    """Start the command and send SIGKILL once ``step`` steps are in its log."""
    process = subprocess.Popen(
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
def test_killed_three_times_gives_the_same_file(tmp_path: Path) -> None:
    data = small_dataset(tmp_path / "data")
    run(command(data, tmp_path / "whole", "run", **SETTINGS))
    whole = tmp_path / "whole" / "run"
    total = len(losses(whole))
    assert total > 12

    folder = tmp_path / "broken" / "run"
    chance = random.Random(7)
    stops = sorted(chance.sample(range(2, total - 1), 3))
    start = command(data, tmp_path / "broken", "run", **SETTINGS)
    again = [sys.executable, "-m", "lorasmith", "train", "--resume", str(folder)]
    for number, step in enumerate(stops):
        kill_at(start if number == 0 else again, folder, step)
    run(again)

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
    assert list((folder / "state").glob("step-*.pt"))


@pytest.mark.slow
def test_resume_of_a_finished_run_says_so_and_changes_nothing(tmp_path: Path) -> None:
    data = small_dataset(tmp_path / "data", pictures=2)
    run(command(data, tmp_path / "out", "run", train__epochs="1"))
    result = tmp_path / "out" / "run" / "run.safetensors"
    before = result.read_bytes()
    done = run([sys.executable, "-m", "lorasmith", "train", "--resume", str(result.parent)])
    assert "finished" in done.stdout + done.stderr
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
