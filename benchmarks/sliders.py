"""Concept sliders on the embedded base: does the attribute rise with the strength?

    python -m benchmarks.sliders --out /tmp/sliders [--only hat …]

Trains each slider from its prompts, draws the same pictures at strengths -2 to 2 by the finished
file, and measures them: by the world's classifier (hat), or by pixels (brightness, size). Results
are printed and kept in ``OUT/NAME.json``; ``OUT/NAME.png`` has the first pictures.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from random import Random

import numpy as np

from lorasmith.config.load import load_settings
from lorasmith.demo.judge import read
from lorasmith.demo.world import random_creature, tags
from lorasmith.models.load import load_model
from lorasmith.sampling.contact_sheet import contact_sheet
from lorasmith.sampling.generate import generate
from lorasmith.sampling.lora_library import LoraLibrary
from lorasmith.sampling.request import ImageRequest
from lorasmith.training.kinds.slider import STRENGTHS
from lorasmith.training.run import train

STEPS = 60
PICTURES = 10
SHOWN = 4
PIXELS = 40.0


def hats(images: Sequence[np.ndarray]) -> list[float]:
    return [float(one["hat"] != "no hat") for one in read(images)]


def brightness(images: Sequence[np.ndarray]) -> list[float]:
    return [float(image.mean()) / 255 for image in images]


def area(images: Sequence[np.ndarray]) -> list[float]:
    """Share of the pixels that are not of the corner's colour."""
    return [
        float((np.abs(image.astype(float) - image[2, 2]).max(-1) > PIXELS).mean())
        for image in images
    ]


@dataclass(frozen=True)
class Slider:
    """
    Args:
        attribute: of the world's creatures; pictures are drawn for prompts that do not name it.
        words: that they have in its place.
        settings: that are not as by default.
    """

    positive: str
    negative: str
    attribute: str
    measure: Callable[[Sequence[np.ndarray]], list[float]]
    words: str = ""
    settings: tuple[str, ...] = ()


SLIDERS = {
    "hat": Slider("top hat", "no hat", "hat", hats),
    "brightness": Slider("white background", "starry background", "background", brightness),
    "size": Slider("square body", "star body", "shape", area, "white background"),
    "hat-plain-noise": Slider(
        "top hat", "no hat", "hat", hats, settings=("slider.latent_steps=0",)
    ),
}


def prompts_of(slider: Slider) -> list[str]:
    prompts = []
    for number in range(PICTURES):
        creature = random_creature(Random(f"slider {number}"))
        left_out = {
            getattr(creature, slider.attribute),
            creature.background if slider.words else "",
        }
        kept = [tag for tag in tags(creature) if tag not in left_out]
        prompts.append(", ".join([*kept, *([slider.words] if slider.words else [])]))
    return prompts


def measured(name: str, slider: Slider, out: Path) -> dict[str, object]:
    begin, cpu = time.perf_counter(), time.process_time()
    settings = load_settings(
        None,
        [
            *("model.path=demo", "train.kind=slider", f"train.steps={STEPS}", f"save.name={name}"),
            *(f"slider.positive={slider.positive}", f"slider.negative={slider.negative}"),
            *(f"save.output={out}", "save.every_steps=0", "sample.every_steps=0"),
            *("sample.every_epochs=0", "sample.at_start=false", "log.tensorboard=false"),
            *slider.settings,
        ],
        for_training=True,
    )
    folder = train(settings)
    trained, cpu_trained = time.perf_counter() - begin, time.process_time() - cpu
    model, library, prompts = load_model("demo"), LoraLibrary(folder), prompts_of(slider)
    rows: list[list[np.ndarray]] = []
    pictures = []
    for strength in STRENGTHS:
        requests = [
            ImageRequest(f"{prompt} <lora:{folder.name}:{strength:g}>", "", number, 12, 3.0)
            for number, prompt in enumerate(prompts)
        ]
        drawn = {one.index: one.image for one in generate(model, requests, loras=library)}
        pictures.append([drawn[number] for number in range(PICTURES)])
        rows.append([np.asarray(image) for image in pictures[-1]])
    values = [slider.measure(row) for row in rows]
    means = [float(np.mean(row)) for row in values]
    losses = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    result: dict[str, object] = {
        "name": name,
        "means": [round(mean, 3) for mean in means],
        "rises": all(low <= high for low, high in pairwise(means)) and means[0] < means[-1],
        "loss": [round(losses[at]["loss"], 4) for at in (0, -1)],
        "bytes": (folder / f"{folder.name}.safetensors").stat().st_size,
        "seconds": round(trained),
        "cpu_seconds": round(cpu_trained),
    }
    sheet = [[column[number] for column in pictures] for number in range(SHOWN)]
    labels = [f"{strength:g}" for strength in STRENGTHS]
    contact_sheet(sheet, column_labels=labels, title=name).save(out / f"{name}.png")
    (out / f"{name}.json").write_text(json.dumps(result, indent=1))
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", nargs="*", default=list(SLIDERS))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    for name in given.only:
        print(measured(name, SLIDERS[name], given.out), flush=True)


if __name__ == "__main__":
    main()
