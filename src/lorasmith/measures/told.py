"""What the base model makes of words beside images: how much a caption, or a tag, helps it to
predict them.

A diffusion model tells what an image shows: of two captions the true one gives the lower error on
the same noise (Li et al. 2023, "Your Diffusion Model is Secretly a Zero-Shot Classifier", arXiv
2303.16203). So no other model is needed, and what is read is what this base understands.

Shapes: I images, W texts.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from lorasmith.data.captions import split_tags
from lorasmith.diffusion.loss import per_sample_mse
from lorasmith.diffusion.schedule import NoiseSchedule
from lorasmith.diffusion.timesteps import even_timesteps
from lorasmith.measures.noise_probe import Row
from lorasmith.measures.records import finite
from lorasmith.models.diffusion_model import Conditioning
from lorasmith.tensors.rng import normal_per_sample

if TYPE_CHECKING:
    from lorasmith.models.diffusion_model import DiffusionModel

TIMESTEPS = 4
SEED = 0


@torch.inference_mode()
def errors_of(
    model: DiffusionModel,
    schedule: NoiseSchedule,
    rows: Sequence[Row],
    texts: Sequence[str],
    timesteps: int = TIMESTEPS,
    image_done: Callable[[], object] = lambda: None,
) -> list[list[float]]:
    """(I, W) mean squared errors of the predictions on the same noise, told each text; with
    whatever is attached to the model now."""
    levels = even_timesteps(timesteps, schedule.num_timesteps)
    errors = []
    conditions = [model.encode_text([text]) for text in texts]
    for row in rows:
        noise = normal_per_sample(
            row.latents.shape, SEED, f"told/{row.number}", 0, range(timesteps)
        )
        latents = row.latents.expand_as(noise)
        noisy = schedule.add_noise(latents, noise, levels)
        target = schedule.target(latents, noise, levels)
        own = []
        for condition in conditions:
            repeated = Conditioning.cat([condition.with_size_ids(row.sizes)] * timesteps)
            predicted = model.denoise(noisy, levels, repeated).cpu()
            own.append(finite(per_sample_mse(predicted, target).mean()))
        errors.append(own)
        image_done()
    return errors


@dataclass(frozen=True, slots=True)
class CaptionFit:
    """How well the base alone predicts images, told their captions, at each CLIP skip.

    Args:
        skips: 1 is the last layer.
        errors: (skips, I) mean squared errors.
    """

    skips: list[int]
    errors: list[list[float]]


def measure_caption_fit(
    model: DiffusionModel,
    schedule: NoiseSchedule,
    rows: Sequence[Row],
    skips: Sequence[int],
    image_done: Callable[[], object] = lambda: None,
) -> CaptionFit:
    """
    Args:
        rows: with captions without what the base does not know.
    """
    errors: list[list[float]] = []
    for skip in skips:
        own = []
        with clip_skip(model, skip):
            for row in rows:
                own += errors_of(model, schedule, [row], [row.caption], 2 * TIMESTEPS)[0]
                image_done()
        errors.append(own)
    return CaptionFit(list(skips), errors)


@contextlib.contextmanager
def clip_skip(model: DiffusionModel, skip: int) -> Iterator[None]:
    """The model at another CLIP skip within the block."""
    before = model.clip_skip
    model.clip_skip = skip
    try:
        yield
    finally:
        model.clip_skip = before


def beside(trigger: str, tag: str) -> str:
    """The prompt of both, either of which may be ""."""
    return ", ".join(filter(None, (trigger, tag)))


@dataclass(frozen=True, slots=True)
class TagReadings:
    """What the base model sees in images.

    Args:
        images: names, or places within their dataset.
        captions: what is said of each, or what was asked for.
        groups: tags of which an image shows one, by what they are about.
        errors: by group (I, tags of the group), in shares of the error without any caption.
        separator: of the captions' tags.
    """

    images: list[str]
    captions: list[str]
    groups: dict[str, list[str]]
    errors: dict[str, list[list[float]]]
    separator: str = ","

    @property
    def tags(self) -> list[list[str]]:
        """Of each caption."""
        return [split_tags(caption, self.separator) for caption in self.captions]


def read_tags(
    model: DiffusionModel,
    schedule: NoiseSchedule,
    rows: Sequence[Row],
    names: Sequence[str],
    groups: dict[str, list[str]],
    image_done: Callable[[], object] = lambda: None,
    *,
    trigger: str = "",
    separator: str = ",",
) -> TagReadings:
    """With whatever is attached to the model now: the base alone is the better witness of training
    images, and the LoRA, told its trigger, of its own drawings, which the base has never seen the
    like of.

    Args:
        names: of the images.
        groups: at least two tags each.
        trigger: stands before each tag.
        separator: of the captions' tags.
    """
    texts = [beside(trigger, tag) for tags in ([""], *groups.values()) for tag in tags]
    errors = errors_of(model, schedule, rows, texts, image_done=image_done)
    by_group: dict[str, list[list[float]]] = {}
    first = 1
    for name, tags in groups.items():
        by_group[name] = [
            [value / own[0] for value in own[first : first + len(tags)]] for own in errors
        ]
        first += len(tags)
    captions = [row.caption for row in rows]
    return TagReadings(list(names), captions, dict(groups), by_group, separator)
