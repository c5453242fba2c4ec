"""Checks of sliders: the prompts that there must be, and what has no effect without pictures."""

from __future__ import annotations

from collections.abc import Iterator

from lorasmith.config.checks.base import Check, is_given
from lorasmith.config.schema import TrainSettings, sections
from lorasmith.core.errors import Problem

ABOUT_IMAGES = ("captions", "buckets", "augment", "validation")
"""Sections that say how images are read, shown and measured."""

SINGLE = (
    *("data.background", "loss.prior_weight", "loss.masked", "loss.mask_folder"),
    *("loss.outside_mask", "loss.noise_offset", "loss.adaptive_noise_scale"),
    *("loss.multires_iterations", "loss.input_perturbation"),
)
"""Settings of other sections that are about images, or about the noise that is put on them."""


def missing_prompts(s: TrainSettings) -> Iterator[Problem]:
    """Of a run; settings that are only looked at may lack them."""
    slider = s.slider
    if not (slider.positive.strip() or slider.negative.strip()):
        what = "no prompts are given: a slider learns the difference between positive and negative"
        yield Problem("slider.positive", what, 'write one, such as "a creature in a hat"')
    elif slider.positive.strip() == slider.negative.strip():
        what = f"is the same as slider.negative ({slider.positive!r}): there is nothing to move"
        yield Problem("slider.positive", what, "write more of the attribute into one of them")


def _no_pictures(s: TrainSettings) -> Iterator[Problem]:
    for name in ("path", "reg", "folders"):
        if is_given(s, "data", name):
            what = "is given, and a slider is trained from prompts alone: it looks at no pictures"
            yield Problem(f"data.{name}", what, "leave it out, or set train.kind to lora")


def _unet_is_trained(s: TrainSettings) -> Iterator[Problem]:
    if s.adapter.unet and not s.adapter.parts["unet"]:
        what = "leave nothing of the UNet, and a slider trains it alone: words keep their meaning"
        yield Problem("adapter", f"targets and blocks {what}", "choose other layers")
    elif not s.adapter.unet:
        what = "is false, and a slider trains the UNet alone: words keep their meaning"
        yield Problem("adapter.unet", what, "set it to true")


def _rate_is_a_number(s: TrainSettings) -> Iterator[Problem]:
    if s.optimizer.seeks_lr:
        what = "is find, which is measured on pictures, and a slider has none"
        yield Problem("optimizer.lr", what, "give a number, such as 2e-4")


def _is_not_judged(s: TrainSettings) -> Iterator[Problem]:
    if s.train.stop == "best":
        what = "is best, which judges by the training pictures, and a slider has none"
        yield Problem("train.stop", what, "set it to end")


def _keeps_no_output(s: TrainSettings) -> Iterator[Problem]:
    if s.preservation.enabled is True:
        what = "is true, and a slider has no captions to keep the base model's output for"
        yield Problem("preservation.enabled", what, "name what is to stay in slider.preserve")


def _about_images(s: TrainSettings) -> Iterator[Problem]:
    fields = [(name, key) for name in ABOUT_IMAGES for key in sections()[name].model_fields]
    fields += [(path.partition(".")[0], path.partition(".")[2]) for path in SINGLE]
    for section, name in fields:
        if is_given(s, section, name):
            what = "has no effect: a slider is trained from prompts, without pictures"
            yield Problem(f"{section}.{name}", what, "remove it")


def _empty_words(s: TrainSettings) -> Iterator[Problem]:
    if any(not word.strip() for word in s.slider.preserve):
        what = "an empty text stands for the prompts as they are"
        yield Problem("slider.preserve", what, "remove it unless that is meant")
    if len(set(s.slider.preserve)) < len(s.slider.preserve):
        yield Problem("slider.preserve", "the same words stand there twice", "remove one")


CONTRADICTIONS: tuple[Check, ...] = (
    *(_no_pictures, _unet_is_trained, _rate_is_a_number, _is_not_judged, _keeps_no_output),
)

ODDITIES: tuple[Check, ...] = (_about_images, _empty_words)
