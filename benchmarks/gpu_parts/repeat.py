"""Whether a run, the same run again, and a run that was stopped and resumed end alike."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from benchmarks.gpu_parts.bench import Bench
from benchmarks.random_models import random_model
from PIL import Image
from safetensors.torch import load_file

from lorasmith.config.load import Override, load_settings
from lorasmith.models.export import save_ldm
from lorasmith.models.families.table import Architecture
from lorasmith.training.run import resume, train

IMAGES = 4


def as_it_comes(bench: Bench) -> None:
    _measure(bench, "as it comes", {})


def exact(bench: Bench) -> None:
    """In a process of its own: some of it is decided when CUDA is first used."""
    _measure(bench, "deterministic", {"performance.deterministic": "true"})


def _measure(bench: Bench, label: str, settings: Mapping[str, str]) -> None:
    checkpoint, data = bench.scratch / "random.safetensors", bench.scratch / "pictures"
    begin = time.perf_counter()
    write_checkpoint(checkpoint, bench.architecture("sd15"), bench.device)
    write_images(data, bench.pixels("sd15"), IMAGES)
    bench.note(f"SD1.5 with random weights written in {time.perf_counter() - begin:.1f} s")
    bench.free()
    usual = {
        "model.path": str(checkpoint), "data.path": str(data), "adapter.rank": "4" if bench.tiny
        else "32", "train.batch": "2", "optimizer.lr": "1e-3", "schedule.name": "constant",
        "log.every_steps": "1", "log.tensorboard": "false", "sample.at_start": "false",
        "sample.every_epochs": "0", "performance.device": bench.device_name,
        "train.precision": "bf16", "adapter.text_encoder": "false", "validation.every_epochs": "0",
        "save.output": str(bench.scratch / "runs"),
    }  # fmt: skip
    rows(bench, label, {**usual, **settings})


def write_checkpoint(path: Path, architecture: Architecture, device: torch.device) -> None:
    torch.manual_seed(0)
    parts = architecture.family.parts
    model = random_model(architecture, torch.float16, device, parts=parts)
    save_ldm(
        path,
        unet=model.denoiser,
        vae=model.vae,
        text_encoders=model.text_encoders,
        family=architecture.family_name,
        prediction=architecture.prediction,
    )


def write_images(folder: Path, pixels: int, count: int) -> None:
    """Smooth noise: images that are neither flat nor nothing but grain."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8))
        image = coarse.resize((pixels, pixels), Image.Resampling.BICUBIC)
        image.save(folder / f"{number:04d}.png", compress_level=1)
        (folder / f"{number:04d}.txt").write_text(f"picture {number}", encoding="utf-8")


def rows(bench: Bench, label: str, settings: Mapping[str, str]) -> None:
    steps = 4 if bench.tiny else 12

    def run(name: str, steps: int) -> Path:
        chosen = load_settings(None, {**settings, "save.name": name, "train.steps": str(steps)})
        return train(chosen)

    def row(name: str, other: Path) -> None:
        bench.row(
            f"{steps} steps of SD1.5, batch 2, beside the first run's",
            {"": name, "kernels": label, **compare(first, other), "s of a run": seconds},
        )

    begin = time.perf_counter()
    first = run("first", steps)
    seconds = time.perf_counter() - begin
    row("the same run again", run("again", steps))
    resumed = run("resumed", steps // 2)
    longer = [Override("train.steps", str(steps))]
    resume(resumed, longer)
    row("stopped half way, resumed", resumed)


def compare(first: Path, other: Path) -> dict[str, str | float | bool | None]:
    """How far two runs' results and losses are apart."""
    one, two = (load_file(run / f"{run.name}.safetensors") for run in (first, other))
    assert one.keys() == two.keys()
    equal = all(torch.equal(one[key], two[key]) for key in one)
    change = sum(float((one[key] - two[key]).double().square().sum()) for key in one)
    size = sum(float(one[key].double().square().sum()) for key in one)
    ours, theirs = losses(first), losses(other)
    differing = [step for step in ours if ours[step] != theirs.get(step)]
    return {
        "equal bytes": equal,
        "weights apart": (change / size) ** 0.5,
        "first loss that differs at step": differing[0] if differing else None,
        "losses apart": max(abs(ours[step] - theirs[step]) / ours[step] for step in ours),
    }


def losses(run: Path) -> dict[int, float]:
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return {record["step"]: record["loss"] for record in map(json.loads, lines)}
