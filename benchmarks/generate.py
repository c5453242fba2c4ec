"""Images in a second, against diffusers' own pipeline.

    python benchmarks/generate.py                  # the demo model, 64 px, 16 at once
    python benchmarks/generate.py --full           # an SD1.5 of random weights, 128 px, fp32

Both sides use one model in one process, with the same prompts, seeds, sampler, steps and guidance,
from text to Pillow images; whether the images are the same is looked at first. They take turns
A B B A, on the CPU clock, since other programs may run beside. "One LoRA" draws all images with
it, "two LoRAs, by turns" changes it with every image: diffusers by ``set_adapters``, with the
LoRAs loaded once before the clock starts, ours by the prompts.
Results: benchmarks/generate.md.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
import transformers

from lorasmith.adapters.file import save_lora
from lorasmith.adapters.network import AdapterNetwork
from lorasmith.models.diffusion_model import DiffusionModel
from lorasmith.models.load import load_model
from lorasmith.sampling.generate import generate
from lorasmith.sampling.lora_library import LoraLibrary
from lorasmith.sampling.request import ImageRequest

sys.path.insert(0, str(Path(__file__).parents[1]))  # where the tests' helpers are
from benchmarks.random_models import random_model
from tests.pipelines import pipeline_of
from tests.published import PUBLISHED

BASE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
SCHEDULERS: dict[str, Callable[[], Any]] = {
    "ddim": lambda: diffusers.DDIMScheduler(
        **BASE, steps_offset=1, clip_sample=False, set_alpha_to_one=False
    ),
    "euler_a": lambda: diffusers.EulerAncestralDiscreteScheduler(**BASE),
    "dpmpp_2m": lambda: diffusers.DPMSolverMultistepScheduler(**BASE, use_karras_sigmas=True),
}
PROMPT, NEGATIVE = "red body, star, crown, grass", "blue body"
RANK = 8


@dataclass(frozen=True)
class Case:
    """One line of the table; ``loras`` take turns from image to image."""

    sampler: str
    pixels: int
    steps: int
    batch: int
    images: int
    loras: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        return ("no LoRA", "one LoRA", "two LoRAs, by turns")[len(self.loras)]


class Ours:
    def __init__(self, model: DiffusionModel, folder: Path) -> None:
        self.model, self.library = model, LoraLibrary(folder)

    def draw(self, case: Case) -> list[np.ndarray]:
        base = ImageRequest(
            PROMPT, NEGATIVE, 0, case.steps, 5.0, case.sampler, case.pixels, case.pixels
        )
        tags = [f" <lora:{name}:1>" for name in case.loras] or [""]
        requests = [
            replace(base, prompt=PROMPT + tags[i % len(tags)], seed=i) for i in range(case.images)
        ]
        if len(tags) > 1:  # One call for each, as diffusers must: else all of a kind go together.
            made = [next(iter(generate(self.model, [r], loras=self.library))) for r in requests]
        else:
            made = sorted(
                generate(self.model, requests, loras=self.library, batch=case.batch),
                key=lambda image: image.index,
            )
        return [np.asarray(image.image).astype(int) for image in made]


class Theirs:
    def __init__(self, model: DiffusionModel, loras: Sequence[AdapterNetwork]) -> None:
        self.pipeline = pipeline_of(model)
        self._loras = loras

    def load(self, names: Sequence[str]) -> None:
        """LoRAs of the UNet, by diffusers' own keys."""
        for name, network in zip(names, self._loras, strict=True):
            state = {}
            for key, target in network.targets.items():
                tensors = network.adapters[key].state_dict()
                path = f"unet.{target.path}"
                state[f"{path}.lora_A.weight"] = tensors["lora_down.weight"]
                state[f"{path}.lora_B.weight"] = tensors["lora_up.weight"]
            self.pipeline.load_lora_weights(state, adapter_name=name)

    def draw(self, case: Case) -> list[np.ndarray]:
        self.pipeline.scheduler = SCHEDULERS[case.sampler]()
        at_once = 1 if len(case.loras) > 1 else case.batch
        images: list[np.ndarray] = []
        for start in range(0, case.images, at_once):
            seeds = range(start, min(start + at_once, case.images))
            if len(case.loras) > 1:
                self.pipeline.set_adapters([case.loras[start % len(case.loras)]])
            made = self.pipeline(
                [PROMPT] * len(seeds),
                negative_prompt=[NEGATIVE] * len(seeds),
                num_inference_steps=case.steps,
                guidance_scale=5.0,
                width=case.pixels,
                height=case.pixels,
                generator=[torch.Generator().manual_seed(seed) for seed in seeds],
            ).images
            images += [np.asarray(image).astype(int) for image in made]
        return images


def random_lora(model: DiffusionModel, seed: int) -> AdapterNetwork:
    """Of the UNet alone, large enough to be seen."""
    roots = [root for root in model.adapter_roots() if root.part == "unet"]
    network = AdapterNetwork.create(roots, rank=RANK, alpha=RANK, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    for adapter in network.adapters.values():
        up = dict(adapter.named_parameters())["lora_up.weight"]
        up.data.normal_(0, 0.05, generator=generator)
    return network


def compare(ours: Ours, theirs: Theirs, case: Case, rounds: int) -> str:
    """A line of the table."""
    pairs = zip(ours.draw(case), theirs.draw(case), strict=True)
    difference = max(int(np.abs(a - b).max()) for a, b in pairs)
    seconds: dict[str, list[float]] = {"ours": [], "theirs": []}
    sides: list[tuple[str, Any]] = [("ours", ours), ("theirs", theirs)]
    for turn in range(rounds):
        for name, side in sides if turn % 2 == 0 else reversed(sides):
            begin = time.process_time()
            side.draw(case)
            seconds[name].append(time.process_time() - begin)
    rates = {name: case.images / statistics.median(found) for name, found in seconds.items()}
    ratio = statistics.median(
        b / a for a, b in zip(seconds["ours"], seconds["theirs"], strict=True)
    )
    line = (
        f"| {case.sampler} | {case.pixels} | {case.steps} | "
        f"{1 if len(case.loras) > 1 else case.batch} | {case.label} | {rates['ours']:.3g} | "
        f"{rates['theirs']:.3g} | {ratio:.2f} | {difference} |"
    )
    print(line, flush=True)
    return line


def cases(full: bool) -> list[Case]:
    if full:
        one = Case("ddim", 128, 3, 1, 1)
        return [one, replace(one, loras=("a",)), replace(one, pictures=2, loras=("a", "b"))]
    many = Case("ddim", 64, 20, 16, 16)
    few = replace(many, batch=1, pictures=4)
    return [
        *(replace(many, sampler=sampler) for sampler in SCHEDULERS),
        few,
        replace(many, loras=("a",)),
        replace(few, loras=("a", "b")),
    ]


def measure(full: bool, rounds: int) -> list[str]:
    sd15 = PUBLISHED["sd15"]
    model = (
        random_model(sd15, torch.float32, "cpu", parts=sd15.family.parts)
        if full
        else load_model("demo")
    )
    networks = [random_lora(model, seed) for seed in (1, 2)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for letter, network in zip("ab", networks, strict=True):
            save_lora(folder / f"{letter}.safetensors", network.state_dict(), {})
        ours, theirs = Ours(model, folder), Theirs(model, networks)
        lines = [compare(ours, theirs, c, rounds) for c in cases(full) if not c.loras]
        # diffusers wraps layers when it loads LoRAs, so they come last and on a model of their own.
        theirs = Theirs(copy.deepcopy(model), networks)
        theirs.load("ab")
        theirs.pipeline.set_adapters(["a"])
        return lines + [compare(ours, theirs, c, rounds) for c in cases(full) if c.loras]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    # Of the other LoRA's keys, which are missing in each file.
    diffusers.logging.set_verbosity_error()
    warnings.filterwarnings("ignore", module="peft")
    print(f"torch {torch.__version__}, diffusers {diffusers.__version__}, "
          f"transformers {transformers.__version__}")  # fmt: skip
    print("| sampler | px | steps | batch | | ours /s | diffusers /s | ratio | levels apart |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    measure(args.full, args.rounds)


if __name__ == "__main__":
    main()
