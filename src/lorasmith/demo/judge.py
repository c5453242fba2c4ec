"""Reads attributes and extra parts off 64x64 images, to measure what a model drew.

    python -m lorasmith.demo.judge train --minutes 8

A small convolutional network, trained on drawings in which every extra part comes in any colour,
on any body, alone or with others, so that it looks for the part and not for the character.
"""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from random import Random

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from lorasmith.demo.character import ZORP
from lorasmith.demo.world import (
    COLOURS,
    VALUES,
    Creature,
    Extras,
    draw,
    random_creature,
)
from lorasmith.demo.world_parts import Colour
from lorasmith.tensors.files import save_tensors

WEIGHTS = Path(__file__).with_name("judge.safetensors")
PARTS = ("two_tone", "antennae", "wings")
HEADS: dict[str, tuple[str, ...]] = {**VALUES, **dict.fromkeys(PARTS, ("no", "yes"))}
WIDTHS = (24, 48, 96, 128)
HIDDEN = 192
BATCH = 64
LR = 2e-3

log = logging.getLogger(__name__)

Reading = dict[str, str | bool]  # attribute -> its value, part -> whether it is there


class Judge(nn.Module):
    """Pixels (B, 3, 64, 64) in -1 to 1 -> logits (B, values) by attribute or part."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for width in WIDTHS:
            layers += [nn.Conv2d(channels, width, 3, padding=1, bias=False)]
            layers += [nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2)]
            channels = width
        self.features = nn.Sequential(
            *layers, nn.Flatten(), nn.Linear(channels * 16, HIDDEN), nn.ReLU()
        )
        self.heads = nn.ModuleDict(
            {name: nn.Linear(HIDDEN, len(values)) for name, values in HEADS.items()}
        )

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        features = self.features(pixels)
        return {name: head(features) for name, head in self.heads.items()}


@cache
def load_judge(path: Path = WEIGHTS) -> Judge:
    """The trained judge, ready to read."""
    judge = Judge()
    judge.load_state_dict({name: t.float() for name, t in load_file(path).items()})
    return judge.eval().requires_grad_(False)


def to_pixels(images: Sequence[np.ndarray]) -> Tensor:
    """uint8 (64, 64, 3) images -> float (B, 3, 64, 64) in -1 to 1."""
    return torch.from_numpy(np.stack(list(images))).permute(0, 3, 1, 2).float() / 127.5 - 1


@torch.no_grad()
def read(images: Sequence[np.ndarray], judge: Judge | None = None) -> list[Reading]:
    """What each image, uint8 (64, 64, 3), shows: a value per attribute, a bool per part."""
    judge = judge or load_judge()
    readings: list[Reading] = []
    for start in range(0, len(images), 64):
        logits = judge(to_pixels(images[start : start + 64]))
        best = {name: values.argmax(1).tolist() for name, values in logits.items()}
        for row in range(len(best["shape"])):
            values = {name: HEADS[name][index[row]] for name, index in best.items()}
            readings.append({k: v == "yes" if k in PARTS else v for k, v in values.items()})
    return readings


def tag_accuracy(
    readings: Sequence[Reading],
    creatures: Sequence[Creature],
    attributes: Sequence[str] = tuple(VALUES),
) -> dict[str, float]:
    """Share of images, 0 to 1, that show what was asked for, by attribute and "all" together."""
    right = {
        name: [r[name] == getattr(c, name) for r, c in zip(readings, creatures, strict=True)]
        for name in attributes
    }
    shares = {name: sum(hits) / len(hits) for name, hits in right.items()}
    every = [all(hits) for hits in zip(*right.values(), strict=True)]
    return {**shares, "all": sum(every) / len(every)}


def part_rates(readings: Sequence[Reading]) -> dict[str, float]:
    """Share of images, 0 to 1, that show each part of the character."""
    return {part: sum(bool(r[part]) for r in readings) / len(readings) for part in PARTS}


def character_rate(readings: Sequence[Reading]) -> float:
    """Share of images, 0 to 1, that show all the character's parts."""
    return sum(all(r[part] for part in PARTS) for r in readings) / len(readings)


def leak_rate(readings: Sequence[Reading]) -> float:
    """Share of images, 0 to 1, that show any of the character's parts; for prompts without the
    trigger."""
    return sum(any(r[part] for part in PARTS) for r in readings) / len(readings)


def _distance(one: Colour, other: Colour) -> int:
    return max(abs(a - b) for a, b in zip(one, other, strict=True))


def _part_colour(rng: Random, character: Colour | None) -> Colour:
    if character is not None and rng.random() < 0.5:
        return character
    return rng.randrange(20, 250), rng.randrange(20, 250), rng.randrange(20, 250)


def judged_image(rng: Random) -> tuple[np.ndarray, list[int]]:
    """An image uint8 (64, 64, 3) and the index of its value in each of `HEADS`."""
    creature, extras = random_creature(rng), Extras()
    if rng.random() < 0.5:
        lower = _part_colour(rng, ZORP.lower) if rng.random() < 0.5 else None
        if lower is not None and _distance(lower, COLOURS[creature.colour]) < 80:
            lower = None  # nobody could tell
        extras = Extras(
            lower=lower,
            antennae=_part_colour(rng, ZORP.antennae) if rng.random() < 0.5 else None,
            wings=_part_colour(rng, ZORP.wings) if rng.random() < 0.5 else None,
            scarf=_part_colour(rng, None) if rng.random() < 0.1 else None,
            arms=rng.random() < 0.5,
        )
    parts = (extras.lower, extras.antennae, extras.wings)
    indices = [VALUES[name].index(getattr(creature, name)) for name in VALUES]
    return draw(creature, rng, extras), indices + [int(part is not None) for part in parts]


def _soften(pixels: Tensor, rng: Random) -> Tensor:
    """Shift, blur, shrink or add noise, as models and autoencoders do to their images."""
    pixels = torch.roll(pixels, (rng.randint(-2, 2), rng.randint(-2, 2)), (2, 3))
    kind = rng.random()
    if kind < 0.35:
        blurred = F.avg_pool2d(F.pad(pixels, (1, 1, 1, 1), mode="replicate"), 3, 1)
        pixels = torch.lerp(pixels, blurred, rng.uniform(0.2, 0.9))
    elif kind < 0.55:
        size = rng.choice((32, 40, 48))
        small = F.interpolate(pixels, size=size, mode="bilinear", antialias=True)
        back = F.interpolate(small, size=64, mode="bilinear")
        pixels = torch.lerp(pixels, back, rng.uniform(0.5, 1))
    if rng.random() < 0.6:
        pixels = pixels + torch.randn_like(pixels) * rng.uniform(0, 0.12)
    if rng.random() < 0.3:
        # Noise that is even over patches, like the smudges of a sampled image.
        coarse = torch.randn(len(pixels), 3, 16, 16) * rng.uniform(0, 0.15)
        pixels = pixels + F.interpolate(coarse, size=64, mode="bilinear")
    return pixels


def train(minutes: float, seed: int = 0, path: Path = WEIGHTS) -> dict[str, float]:
    """Train a judge, write it to `path` (fp16) and return its held-out accuracies, 0 to 1."""
    torch.manual_seed(seed)
    rng, step = Random(f"judge {seed}"), 0
    # In this layout, bfloat16 convolutions are three times as fast on a CPU as float32 ones.
    judge = Judge()
    judge.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(judge.parameters(), LR, weight_decay=1e-2)
    begin = time.monotonic()
    while (progress := (time.monotonic() - begin) / (60 * minutes)) < 1:
        optimizer.param_groups[0]["lr"] = LR * min(1.0, 1.3 * (1 - progress))
        images, indices = zip(*(judged_image(rng) for _ in range(BATCH)), strict=True)
        pixels, targets = _soften(to_pixels(images), rng), torch.tensor(indices)
        with torch.autocast("cpu", torch.bfloat16):
            logits = judge(pixels.contiguous(memory_format=torch.channels_last))
        losses = [
            F.cross_entropy(logits[name].float(), targets[:, k], label_smoothing=0.02)
            for k, name in enumerate(HEADS)
        ]
        loss = torch.stack(losses).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        step += 1
        if step % 100 == 0:
            log.info("judge %.0fs step %d loss %.3f", 60 * minutes * progress, step, loss.item())
    _write(judge, path)
    return held_out_accuracy(path=path)


def _write(judge: Judge, path: Path) -> None:
    state = {
        name: (tensor.half() if tensor.is_floating_point() else tensor).contiguous()
        for name, tensor in judge.state_dict().items()
    }
    save_tensors(path, state, {})


@torch.no_grad()
def held_out_accuracy(count: int = 2000, path: Path = WEIGHTS) -> dict[str, float]:
    """Accuracy of each head, 0 to 1, on drawings that no training drew."""
    load_judge.cache_clear()
    rng = Random("held out")
    images, indices = zip(*(judged_image(rng) for _ in range(count)), strict=True)
    readings = read(images, load_judge(path))
    targets = dict(zip(HEADS, zip(*indices, strict=True), strict=True))

    def share(name: str) -> float:
        truth = [bool(k) if name in PARTS else HEADS[name][k] for k in targets[name]]
        return sum(r[name] == value for r, value in zip(readings, truth, strict=True)) / count

    return {name: share(name) for name in HEADS}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=("train", "test"))
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    shares = train(args.minutes, args.seed) if args.part == "train" else held_out_accuracy()
    for name, share in shares.items():
        log.info("%s: %.1f%%", name, 100 * share)


if __name__ == "__main__":
    main()
