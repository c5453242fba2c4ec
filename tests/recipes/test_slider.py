"""Sliders on the demo's base: planned and trained from prompts or pairs, they go on exactly."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image
from tests.docs.test_docs import ROOT, command_lines
from tests.recipes.runs import FAST, dark_and_bright, losses, run_here

from lorasmith.adapters.file import load_lora
from lorasmith.core.files import read_safetensors_header

HAT = ["--slider.positive", "top hat", "--slider.negative", "no hat"]


def command(output: Path, steps: int, source: Sequence[str] = HAT, **settings: str) -> list[str]:
    chosen = {**FAST, "train.steps": str(steps), **settings}
    arguments = [sys.executable, "-m", "lorasmith", "train", "--model", "demo"]
    arguments += ["--train.kind", "slider", *source, "--output", str(output)]
    for key, value in chosen.items():
        arguments += ["--set", f"{key}={value}"]
    return arguments


def test_a_plan_needs_no_pictures(tmp_path: Path) -> None:
    line, *_ = command_lines((ROOT / "docs" / "sliders.md").read_text(encoding="utf-8"))
    arguments = [sys.executable, "-m", *shlex.split(line)]
    arguments += ["--output", str(tmp_path), "--set", "train.steps=7"]
    text = run_here(arguments)
    for words in ("without pictures", "'top hat'", "slider_strip.png", "7 steps, which is"):
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
    by_step = losses(tmp_path / "out" / "slider")
    assert sum(by_step[n] for n in (4, 5, 6)) < 0.9 * sum(by_step[n] for n in (1, 2, 3))
    metadata = read_safetensors_header(tmp_path / "out" / "slider" / "slider.safetensors").metadata
    assert metadata["ss_num_train_images"] == "0"
    assert metadata["ss_dataset_dirs"] == "{}"
    page = (tmp_path / "out" / "slider" / "slider.md").read_text(encoding="utf-8")
    assert "| strength | -2 to 2; at 0 nothing changes |" in page
    goes_on_exactly(tmp_path / "out" / "slider", 6)


def goes_on_exactly(whole: Path, steps: int) -> None:
    """A run that has lost its last state and its result gives the same once more."""
    file = whole / "slider.safetensors"
    assert all(name.startswith("lora_unet_") for name in load_lora(file).tensors)
    with Image.open(whole / "slider_strip.png") as strip:
        assert strip.width > 5 * 64
    broken = whole.parent / "broken" / "slider"
    shutil.copytree(whole, broken)
    (broken / "state" / f"step-{steps:08}.state").unlink()
    (broken / "slider.safetensors").unlink()
    run_here([sys.executable, "-m", "lorasmith", "train", "--resume", str(broken)])
    assert (broken / "slider.safetensors").read_bytes() == file.read_bytes()
    assert losses(broken) == losses(whole)


def test_a_plan_of_pairs(tmp_path: Path) -> None:
    pairs = dark_and_bright(tmp_path / "pairs")
    arguments = [*command(tmp_path / "out", 7, ["--data", str(pairs)]), "--plan"]
    text = run_here(arguments)
    for words in ("low", "high", "slider_strip.png", "7 steps, which is", "no captions to keep"):
        assert words in " ".join(text.split())
    plan = json.loads(run_here([*arguments, "--json"]))
    plan = plan.get("plan", plan)
    assert plan["pictures"] == 3
    latents = 6 * 4 * (64 // 4) ** 2 * 2 * 4  # Mean and deviation of both sides, float32.
    assert plan["disk"]["latent cache"] == latents
    (pairs / "low" / "1.png").unlink()
    assert "has no partner" in run_here(arguments, status=2)


@pytest.mark.slow
def test_learns_from_pairs_and_goes_on_where_it_stopped(tmp_path: Path) -> None:
    pairs = dark_and_bright(tmp_path / "pairs")
    settings = {"save.state_every_steps": "2", "sample.steps": "2", "augment.flip": "true"}
    run_here(command(tmp_path / "out", 4, ["--data", str(pairs)], **settings))
    goes_on_exactly(tmp_path / "out" / "slider", 4)
    with Image.open(pairs / "low" / "0.png") as image:
        image.transpose(Image.Transpose.FLIP_TOP_BOTTOM).save(pairs / "low" / "0.png")
    resume = ["--resume", str(tmp_path / "out" / "slider"), "--set", "train.steps=5"]
    text = run_here([sys.executable, "-m", "lorasmith", "train", *resume], status=2)
    assert "the pictures" in text
