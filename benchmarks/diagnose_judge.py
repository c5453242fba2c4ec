"""What a run made wrong on purpose has spoiled, read off drawings by what `diagnose` never sees.

Each mistake has a figure, written down before anything was drawn, from what the cause itself says
that it spoils ("pictures are learned by heart, and drawings repeat them"); wrong and cured run are
asked with the same prompts and seeds. Beside it one figure is the same for all: how well a LoRA
predicts new pictures of the character, which nothing was trained on.

Every drawing counts for itself, 0 to 1, higher is better, and all are kept, so that differences are
taken drawing by drawing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from random import Random

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from lorasmith.adapters.file import load_lora
from lorasmith.adapters.network import AdapterNetwork
from lorasmith.core.files import write_json
from lorasmith.demo.character import (
    VARYING,
    Prompt,
    draw_zorp,
    plain_prompts,
    trigger_prompts,
    varied_zorps,
    zorp_caption,
)
from lorasmith.demo.judge import PARTS, Reading, read
from lorasmith.demo.world import VALUES, Creature
from lorasmith.diffusion.schedule import DDPMSchedule
from lorasmith.measures.noise_probe import Probe, Row
from lorasmith.models.diffusion_model import DiffusionModel
from lorasmith.models.load import load_model
from lorasmith.sampling.generate import generate
from lorasmith.sampling.request import ImageRequest

STEPS, CFG = 10, 3.0
KEPT = ("shape", "colour", "hat")
# Pictures that nothing was trained on, and noise levels of each.
NEW_PICTURES, LEVELS = 48, 4
# Other pictures of what a training picture shows, and the side that they are compared at, px.
OTHERS, SIDE = 32, 16
# Drawings of the caption of each training picture, and of the first one's.
OF_EACH, OF_FIRST = 8, 48


@dataclass(frozen=True)
class Picture:
    """A training picture of the character, and what it shows."""

    creature: Creature
    image: np.ndarray


@dataclass(frozen=True)
class Questions:
    """Prompts, the guidance that they are drawn with, and the seed of the first.

    Args:
        of: the training picture that each prompt is the caption of.
    """

    prompts: tuple[Prompt, ...]
    cfg: float
    seed: int
    of: tuple[Picture, ...] = ()


def contested_prompts(count: int, seed: int) -> list[Prompt]:
    """Eyes and mouths that captions contradict each other in."""
    prompts, rng = [], Random(f"contested {seed}")
    for number, one in enumerate(trigger_prompts(count, seed)):
        eyes, mouth = ("open eyes", "closed eyes")[number % 2], rng.choice(("smile", "frown"))
        creature = replace(one.creature, eyes=eyes, mouth=mouth)
        prompts.append(Prompt(zorp_caption(creature), creature))
    return prompts


def _of_pictures(pictures: Sequence[Picture], times: int, seed: int) -> Questions:
    shown = [picture for picture in pictures for _ in range(times)]
    prompts = tuple(Prompt(zorp_caption(one.creature), one.creature) for one in shown)
    return Questions(prompts, CFG, seed, tuple(shown))


SETS: Mapping[str, Callable[[Sequence[Picture]], Questions]] = {
    "usual": lambda _: Questions(tuple(trigger_prompts(64, seed=11)), CFG, 1000),
    "without the trigger": lambda _: Questions(tuple(plain_prompts(48, seed=12)), CFG, 2000),
    # Guidance makes up for words that say little: without it, they are on their own.
    "unguided": lambda _: Questions(tuple(trigger_prompts(96, seed=13)), 1.0, 3000),
    "contested": lambda _: Questions(tuple(contested_prompts(96, seed=14)), 1.0, 4000),
    "captions of the pictures": lambda pictures: _of_pictures(pictures, OF_EACH, 5000),
    "caption of the first": lambda pictures: _of_pictures(pictures[:1], OF_FIRST, 6000),
}


@dataclass(frozen=True)
class Drawn:
    """A drawing, what the classifier reads off it, and what was asked for."""

    image: np.ndarray
    reading: Reading
    creature: Creature
    of: Picture | None


def character(one: Drawn) -> float:
    """All parts of the character are there."""
    return float(all(one.reading[part] for part in PARTS))


def asked(one: Drawn) -> float:
    """Share of eyes, mouth and background that are as asked for."""
    return float(np.mean([one.reading[name] == getattr(one.creature, name) for name in VARYING]))


def nothing_worn(one: Drawn) -> float:
    return float(one.reading["hat"] == VALUES["hat"][0])


def no_leak(one: Drawn) -> float:
    """No part of the character."""
    return float(not any(one.reading[part] for part in PARTS))


def kept(one: Drawn) -> float:
    """Shape, colour and hat as asked for."""
    return float(all(one.reading[name] == getattr(one.creature, name) for name in KEPT))


def apart(one: Drawn) -> float:
    """How far the drawing is from the training picture of its caption, as a share of how far other
    pictures of that creature are from it: 0 for a copy, 1 for a picture of its own."""
    assert one.of is not None
    rng = Random(f"others of {one.of.creature}")
    target = _small(one.of.image)
    others = [_small(draw_zorp(one.of.creature, rng)) for _ in range(OTHERS)]
    usual = float(np.mean([np.linalg.norm(other - target) for other in others]))
    return min(1.0, float(np.linalg.norm(_small(one.image) - target)) / usual)


def _small(image: np.ndarray) -> np.ndarray:
    tall, wide = (size // SIDE for size in image.shape[:2])
    return image.astype(float).reshape(SIDE, tall, SIDE, wide, 3).mean((1, 3))


Read = Callable[[Drawn], float]
Part = tuple[str, Read]
"""A set of drawings, and what is read off each."""

COMMON: tuple[Part, ...] = (
    ("usual", character),
    ("usual", asked),
    ("usual", nothing_worn),
    ("without the trigger", no_leak),
    ("without the trigger", kept),
)


@dataclass(frozen=True)
class Figure:
    """What a mistake is said to spoil: the mean of its parts."""

    title: str
    parts: tuple[Part, ...]


CHARACTER = Figure("the whole character", (("usual", character),))
COPIES = Figure(
    "drawings by the pictures' captions are no copies", (("captions of the pictures", apart),)
)
SPOILED: Mapping[str, Figure] = {
    # "The subject comes with damage."
    "rate-8x": Figure("the character, as asked", (("usual", character), ("usual", asked))),
    # "It learns a fraction of what it could."
    "rate-8th": CHARACTER,
    # "Words lose what they meant, and prompts stop doing what they say."
    "text-encoder-10x": Figure(
        "as asked, with the trigger and without",
        (("usual", asked), ("without the trigger", kept)),
    ),
    # "Pictures are learned by heart, and drawings repeat them."
    "three-times-too-long": COPIES,
    # "What no caption says belongs to the trigger, and comes with it unasked."
    "tags-missing": Figure("as asked, without guidance", (("unguided", asked),)),
    # "Prompts can hardly take it off."
    "accessory-untagged": Figure("nothing worn", (("usual", nothing_worn),)),
    # "The LoRA learns that picture by heart before it learns the others."
    "one-image-repeated": Figure(
        "drawings by that picture's caption are no copies", (("caption of the first", apart),)
    ),
    # "Captions reach the UNet in a form that the base was not trained with."
    "wrong-clip-skip": Figure(
        "the character, as asked, with guidance and without",
        (("usual", character), ("usual", asked), ("unguided", character), ("unguided", asked)),
    ),
    # "Each step goes further than the rate says", which is how overfitting comes about.
    "alpha-2x-rank": COPIES,
    # "On others they mean less."
    "wrong-base": CHARACTER,
    # "Neither can be had when asked for."
    "contradicting-tags": Figure(
        "contested eyes and mouths as asked, without guidance", (("contested", asked),)
    ),
    # "It has no word to go to, so it goes everywhere."
    "no-trigger": Figure(
        "nothing of it without the trigger, the rest as asked",
        (("without the trigger", no_leak), ("without the trigger", kept)),
    ),
}

Judged = dict[str, list[float]]
"""Of each part, "set: what", the value of each drawing; of each new picture, by how much of the
base's mean error the LoRA predicts it better."""

NEW = "new pictures"


def key(part: Part) -> str:
    return f"{part[0]}: {part[1].__name__}"


def training_pictures(count: int, seed: int) -> list[Picture]:
    """Those of the right run, in the order in which they are written."""
    rng = Random(f"diagnose {seed}")
    return [Picture(one, draw_zorp(one, rng)) for one in varied_zorps(count, rng)]


def judge(
    lora: Path, pictures: Sequence[Picture], asked_of: Iterable[Part], folder: Path
) -> Judged:
    """What is not in ``folder`` yet is drawn with the LoRA, on the demo model, and kept there, by
    what the LoRA holds: runs that learned the same are drawn once.

    Args:
        pictures: that it was trained on.
    """
    tensors = load_lora(lora).tensors
    target = folder / f"{fingerprint(tensors)}.json"
    judged: Judged = json.loads(target.read_text(encoding="utf-8")) if target.exists() else {}
    missing = [part for part in dict.fromkeys(asked_of) if key(part) not in judged]
    if not missing and NEW in judged:
        return judged
    model = load_model("demo")
    probe = None if NEW in judged else new_pictures(model)
    merge(AdapterNetwork.load(tensors, model.adapter_roots()))
    if probe is not None:
        judged[NEW] = [-float(one) for one in probe.change(probe.predict())]
        write_json(target, judged)
    for name in dict.fromkeys(name for name, _ in missing):
        drawn = draw(model, SETS[name](pictures))
        for part in missing:
            if part[0] == name:
                judged[key(part)] = [part[1](one) for one in drawn]
        write_json(target, judged)
    return judged


def fingerprint(tensors: Mapping[str, Tensor]) -> str:
    digest = blake2b(digest_size=8)
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].float().numpy().tobytes())
    return digest.hexdigest()


@torch.no_grad()
def merge(network: AdapterNetwork) -> None:
    """Into the weights of the model that it belongs to: drawing takes a third less time so."""
    for name, adapter in network.adapters.items():
        layer = network.targets[name].layer
        layer.weight.copy_(adapter.merged_weight(layer))


def new_pictures(model: DiffusionModel) -> Probe:
    """How much better than the base pictures are predicted by their captions, that nothing was
    trained on."""
    rng = Random("pictures that nothing was trained on")
    rows = [
        Row.of(model, Image.fromarray(draw_zorp(one, rng)), zorp_caption(one), number)
        for number, one in enumerate(varied_zorps(NEW_PICTURES, rng))
    ]
    return Probe(model, DDPMSchedule(), rows, seed=0, timesteps=LEVELS)


def draw(model: DiffusionModel, questions: Questions) -> list[Drawn]:
    requests = [
        ImageRequest(
            prompt=one.text, seed=questions.seed + number, steps=STEPS, cfg=questions.cfg,
            sampler="ddim",
        )
        for number, one in enumerate(questions.prompts)
    ]  # fmt: skip
    found = sorted(generate(model, requests), key=lambda image: image.index)
    images = [np.asarray(image.image) for image in found]
    of = questions.of or (None,) * len(images)
    creatures = [one.creature for one in questions.prompts]
    return [Drawn(*row) for row in zip(images, read(images), creatures, of, strict=True)]


@dataclass(frozen=True)
class Gain:
    """A figure of the wrong run and of the cured one.

    Args:
        error: standard error of the difference, by drawings.
        seeds: the most by which right runs of other training seeds differ in it; 0 for one alone.
    """

    before: float
    after: float
    error: float
    seeds: float

    @property
    def difference(self) -> float:
        return self.after - self.before

    @property
    def helped(self) -> bool:
        return self.difference > max(2 * self.error, self.seeds)

    @property
    def harmed(self) -> bool:
        return -self.difference > max(2 * self.error, self.seeds)


def gain(names: Sequence[str], before: Judged, after: Judged, right: Sequence[Judged]) -> Gain:
    """Of the mean of some parts.

    Args:
        names: of the parts.
        right: right runs of several training seeds.
    """
    pairs = [(np.array(before[name]), np.array(after[name])) for name in names]
    squares = [np.var(b - a, ddof=1) / len(a) for a, b in pairs]
    # Two parts of one set share their drawings: as if they always went together.
    error = float(np.mean(np.sqrt(squares)))
    values = [mean_of(one, names) for one in right]
    return Gain(
        mean_of(before, names), mean_of(after, names), error,
        max(values, default=0.0) - min(values, default=0.0),
    )  # fmt: skip


def mean_of(one: Judged, names: Sequence[str]) -> float:
    return float(np.mean([np.mean(one[name]) for name in names]))


def gains(name: str, before: Judged, after: Judged, right: Sequence[Judged]) -> dict[str, Gain]:
    """What the mistake is said to spoil, and the prediction of new pictures."""
    parts = [key(part) for part in SPOILED[name].parts]
    return {
        "spoiled": gain(parts, before, after, right),
        NEW: gain([NEW], before, after, right),
    }
