"""A slider on the demo's base: it is planned and trained without pictures, and goes on exactly."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from pathlib import Path

import pytest
from PIL import Image
from tests.docs.test_docs import ROOT, command_lines
from tests.recipes.runs import FAST, losses, run_here

from lorasmith.adapters.file import load_lora

HAT = ["--slider.positive", "top hat", "--slider.negative", "no hat"]


def command(output: Path, steps: int, **settings: str) -> list[str]:
    chosen = {**FAST, "train.steps": str(steps), **settings}
    arguments = [sys.executable, "-m", "lorasmith", "train", "--model", "demo"]
    arguments += ["--train.kind", "slider", *HAT, "--output", str(output)]
    for key, value in chosen.items():
        arguments += ["--set", f"{key}={value}"]
    return arguments


def test_a_plan_needs_no_pictures(tmp_path: Path) -> None:
    (line,) = command_lines((ROOT / "docs" / "sliders.md").read_text(encoding="utf-8"))
    arguments = [sys.executable, "-m", *shlex.split(line)]
    arguments += ["--output", str(tmp_path), "--set", "train.steps=7"]
    text = run_here(arguments)
    for words in ("without pictures", "'top hat'", "slider_strip.png", "7 steps as set"):
        assert words in " ".join(text.split())
    plan = json.loads(run_here([*arguments, "--json"]))
    plan = plan.get("plan", plan)
    assert plan["steps"] == 7
    assert plan["pictures"] == 0
    assert plan["seconds"] > 0
    assert plan["disk"]["latent cache"] == 0
    assert not list(tmp_path.rglob("*.safetensors"))


@pytest.mark.slow
def test_learns_and_goes_on_where_it_stopped(tmp_path: Path) -> None:
    settings = {"save.state_every_steps": "3", "sample.steps": "2", "slider.latent_steps": "2"}
    run_here(command(tmp_path / "out", 6, **settings))
    whole = tmp_path / "out" / "slider"
    by_step = losses(whole)
    assert sum(by_step[n] for n in (4, 5, 6)) < 0.9 * sum(by_step[n] for n in (1, 2, 3))
    file = whole / "slider.safetensors"
    assert all(name.startswith("lora_unet_") for name in load_lora(file).tensors)
    with Image.open(whole / "slider_strip.png") as strip:
        assert strip.width > 5 * 64
    broken = tmp_path / "broken" / "slider"
    shutil.copytree(whole, broken)
    (broken / "state" / "step-00000006.state").unlink()
    (broken / "slider.safetensors").unlink()
    run_here([sys.executable, "-m", "lorasmith", "train", "--resume", str(broken)])
    assert (broken / "slider.safetensors").read_bytes() == file.read_bytes()
    assert losses(broken) == by_step
