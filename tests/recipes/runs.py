"""Small real runs for the recipe tests: images drawn on the spot, the embedded base model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from random import Random

from click.testing import CliRunner
from PIL import Image

from lorasmith.cli.main import cli
from lorasmith.demo.character import write_training_set
from lorasmith.demo.world import draw, random_creature

FAST = {
    "adapter.rank": "4",
    "train.batch": "2",
    "sample.every_epochs": "0",
    "sample.at_start": "false",
    "log.tensorboard": "false",
    "performance.threads": "1",
}


def small_dataset(folder: Path, images: int = 5) -> Path:
    """A training set of the demo's character: ``images`` of it, twice an epoch, and three others
    to regularise with, which are repeated to match."""
    write_training_set(folder, images=images, regularisation=3, repeats=2)
    return folder


def dark_and_bright(folder: Path, pairs: int = 3) -> Path:
    """Pairs of images of the demo's world: ``low`` has less than half of the light, ``high`` more
    than there was."""
    rng = Random("pairs")
    for number in range(pairs):
        levels = draw(random_creature(rng), rng).astype(float)
        for side, changed in (("low", levels * 0.45), ("high", 255 - (255 - levels) * 0.6)):
            path = folder / side / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(changed.astype("uint8")).save(path)
    return folder


def command(data: Path, output: Path, name: str, **settings: str) -> list[str]:
    """``python -m lorasmith train`` on ``data``; in ``settings``, ``__`` stands for a dot."""
    chosen = {**FAST, **{key.replace("__", "."): value for key, value in settings.items()}}
    arguments = [sys.executable, "-m", "lorasmith", "train", "--model", "demo"]
    arguments += ["--data", str(data), "--output", str(output), "--name", name]
    for key, value in chosen.items():
        arguments += ["--set", f"{key}={value}"]
    return arguments


def environment(**extra: str) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "120", **extra}


def run(arguments: list[str], **extra: str) -> subprocess.CompletedProcess[str]:
    """Run to the end and show its output if it fails."""
    done = subprocess.run(
        arguments, env=environment(**extra), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def run_here(arguments: list[str], status: int = 0) -> str:
    """As :func:`run`, in this process, which has imported everything already; what it printed."""
    done = CliRunner().invoke(cli, arguments[3:])
    assert done.exit_code == status, done.output
    return done.output


def losses(run_folder: Path) -> dict[int, float]:
    """Loss by step from ``metrics.jsonl``."""
    lines = (run_folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    return {record["step"]: record["loss"] for record in records}
