"""Runs of the demo's character, each made wrong in one way: what is wrong with them, and how they
are made. For benchmarks/diagnose.py."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random

import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from lorasmith.config.load import load_settings
from lorasmith.core.files import write_text
from lorasmith.demo.character import (
    TRIGGER,
    draw_zorp,
    varied_zorps,
    zorp_caption,
)
from lorasmith.demo.world import Creature
from lorasmith.models.open import DEMO, open_checkpoint
from lorasmith.training.run import train
from lorasmith.training.setup.base_defaults import suit
from lorasmith.training.setup.length import updates_for

IMAGES, REPEATS = 12, 25
Captions = Callable[[Creature, int], str]


@dataclass(frozen=True)
class Split:
    """Pictures and seeds of one half.

    Args:
        worn: what all pictures of the case with the accessory show.
    """

    name: str
    data_seed: int
    train_seed: int
    worn: str


SPLITS = {
    "choose": Split("choose", 101, 31, "crown"),
    "report": Split("report", 202, 62, "beanie"),
}


@dataclass(frozen=True)
class Mistake:
    """
    Args:
        cause: the id that is to be named first; "" for a run with nothing wrong.
        settings: on top of the preset ``demo``.
        caption: of a creature and its number; the right one where it is ``None``.
        worn: all pictures show the split's accessory.
        copies: how many more files show the first picture.
        base: trained on a base whose weights are others.
        stops: what a run says of the cause that ends by itself, before there is a LoRA to diagnose.
    """

    cause: str
    settings: Mapping[str, str] = field(default_factory=dict)
    caption: Captions | None = None
    worn: bool = False
    copies: int = 0
    base: bool = False
    stops: str = ""


def contradictory(creature: Creature, number: int) -> str:
    """Three captions of four have a second answer that the first excludes."""
    caption = zorp_caption(creature)
    if number % 4 == 3:
        return caption
    mouth = {"smile": "frown", "frown": "smile"}.get(creature.mouth, "smile, frown")
    eyes = {"open eyes": "closed eyes", "closed eyes": "open eyes"}
    return f"{caption}, {mouth}, {eyes.get(creature.eyes, 'open eyes, closed eyes')}"


# As the demo model says of itself.
USUAL = suit(load_settings(None, ["model.path=demo"]), open_checkpoint(DEMO)).settings
RATE = USUAL.optimizer.lr
LENGTH, _ = updates_for([IMAGES], USUAL.train.batch, USUAL.train)

MISTAKES: dict[str, Mistake] = {
    "right": Mistake(""),
    "rate-8x": Mistake(
        "rate-high", {"optimizer.lr": f"{8 * RATE}"}, stops="a lower learning rate (optimizer.lr)"
    ),
    "rate-8th": Mistake("rate-low", {"optimizer.lr": f"{RATE / 8}"}),
    "text-encoder-10x": Mistake(
        "text-encoder-rate-high",
        {"optimizer.unet_lr": f"{RATE}", "optimizer.text_encoder_lr": f"{10 * RATE}"},
    ),
    "three-times-too-long": Mistake("too-long", {"train.steps": f"{3 * LENGTH:.0f}"}),
    "tags-missing": Mistake("tags-missing", caption=lambda creature, number: TRIGGER),
    "accessory-untagged": Mistake("untagged-accessory", worn=True),
    "one-image-repeated": Mistake("repeated-image", copies=11),
    "wrong-clip-skip": Mistake("clip-skip", {"model.clip_skip": "2"}),
    "alpha-2x-rank": Mistake("alpha-high", {"adapter.rank": "16", "adapter.alpha": "32"}),
    "wrong-base": Mistake("other-base", base=True),
    "contradicting-tags": Mistake("contradicting-tags", caption=contradictory),
    "no-trigger": Mistake(
        "no-trigger",
        {"captions.trigger": "none"},
        caption=lambda creature, number: zorp_caption(creature).partition(", ")[2],
    ),
}


def write_pictures(folder: Path, split: Split, mistake: Mistake) -> Path:
    """The folder of training pictures, with what is wrong with them."""
    place = folder / "img" / f"{REPEATS}_{TRIGGER}"
    if place.exists():
        shutil.rmtree(folder)
    place.mkdir(parents=True)
    rng = Random(f"diagnose {split.data_seed}")
    for number, creature in enumerate(varied_zorps(IMAGES, rng)):
        if mistake.worn:
            creature = replace(creature, hat=split.worn)
        caption = (mistake.caption or (lambda one, _: zorp_caption(one)))(creature, number)
        image = Image.fromarray(draw_zorp(creature, rng))
        files = [f"zorp_{number:03d}"]
        if number == 0:
            files += [f"zorp_copy_{copy:02d}" for copy in range(mistake.copies)]
        for name in files:
            image.save(place / f"{name}.png")
            write_text(place / f"{name}.txt", caption + "\n")
    return folder


def write_other_base(path: Path) -> None:
    """The demo model with the channels of every attention in another order: it draws the same to
    the last bit but for rounding, and differences from its weights fit no other model."""
    tensors = load_file(DEMO)
    generator = torch.Generator().manual_seed(7)
    heads = 2
    for name in [one for one in tensors if one.endswith(".to_q.weight")]:
        stem = name.removesuffix("to_q.weight")
        width = tensors[name].shape[0] // heads
        orders = [
            head * width + torch.randperm(width, generator=generator) for head in range(heads)
        ]
        inner = torch.cat(orders)
        values = torch.cat(
            [head * width + torch.randperm(width, generator=generator) for head in range(heads)]
        )
        for part in ("to_q.weight", "to_k.weight"):
            tensors[stem + part] = tensors[stem + part][inner].contiguous()
        tensors[stem + "to_v.weight"] = tensors[stem + "to_v.weight"][values].contiguous()
        out = stem + "to_out.0.weight"
        tensors[out] = tensors[out][:, values].contiguous()
    with safe_open(DEMO, "pt") as file:
        metadata = file.metadata()
    save_file(tensors, path, metadata)


def train_run(name: str, data: Path, settings: Mapping[str, str], split: Split, work: Path) -> Path:
    run = work / "runs" / name
    if (run / f"{name}.safetensors").exists():
        return run
    chosen = {
        "data.path": str(data),
        "save.output": str(run.parent),
        "save.name": name,
        "save.every_epochs": "0",
        "sample.every_epochs": "0",
        "sample.at_start": "false",
        "log.tensorboard": "false",
        "train.seed": str(split.train_seed),
        **settings,
    }
    return train(load_settings(None, chosen, "demo"))


def settings_of(name: str, work: Path) -> dict[str, str]:
    settings = dict(MISTAKES[name].settings)
    if MISTAKES[name].base:
        base = work / "other-base.safetensors"
        if not base.exists():
            write_other_base(base)
        settings["model.path"] = str(base)
    return settings
