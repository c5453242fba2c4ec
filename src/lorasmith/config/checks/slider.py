"""Checks of sliders: the prompts that there must be, and what they have no use for."""

from __future__ import annotations

from collections.abc import Iterator

from lorasmith.config.checks.base import Check, is_given
from lorasmith.config.kinds import kind_facts
from lorasmith.config.schema import TrainSettings
from lorasmith.core.errors import Problem

OF_PROMPTS = ("preserve", "guidance", "latent_steps")
"""Settings of the section, besides the prompts, that pairs of images have no use for."""


def missing_prompts(s: TrainSettings) -> Iterator[Problem]:
    """Of a run; settings that are only looked at may lack them."""
    slider = s.slider
    if not (slider.positive.strip() or slider.negative.strip()):
        what = "no prompts are given: a slider learns the difference between positive and negative"
        hint = 'write one, such as "a creature in a hat"; or give pairs of pictures with --data'
        yield Problem("slider.positive", what, hint)
    elif slider.positive.strip() == slider.negative.strip():
        what = f"is the same as slider.negative ({slider.positive!r}): there is nothing to move"
        yield Problem("slider.positive", what, "write more of the attribute into one of them")


def _one_of_both(s: TrainSettings) -> Iterator[Problem]:
    if is_given(s, "slider", "positive", "negative") and s.data.path is not None:
        what = "is given, and so are prompts: a slider is trained from one of both"
        hint = "leave it out, or slider.positive and slider.negative"
        yield Problem("data.path", what, hint)


def _unet_is_trained(s: TrainSettings) -> Iterator[Problem]:
    if s.adapter.unet and not s.adapter.parts["unet"]:
        what = "leave nothing of the UNet, and a slider trains it alone: words keep their meaning"
        yield Problem("adapter", f"targets and blocks {what}", "choose other layers")
    elif not s.adapter.unet:
        what = "is false, and a slider trains the UNet alone: words keep their meaning"
        yield Problem("adapter.unet", what, "set it to true")


def _keeps_no_output(s: TrainSettings) -> Iterator[Problem]:
    if s.preservation.enabled is True:
        what = "is true, and a slider has no captions to keep the base model's output for"
        hint = "name what is to stay in slider.preserve"
        if s.data.path is not None:
            hint = "leave it out; what both pictures of a pair have in common stays"
        yield Problem("preservation.enabled", what, hint)


def _for_prompts(s: TrainSettings) -> Iterator[Problem]:
    if kind_facts(s).contrast(s) != "pairs":
        return
    for name in OF_PROMPTS:
        if is_given(s, "slider", name):
            what = "has no effect: pairs of pictures say what changes, how far, and what stays"
            yield Problem(f"slider.{name}", what, "remove it")


def _empty_words(s: TrainSettings) -> Iterator[Problem]:
    if any(not word.strip() for word in s.slider.preserve):
        what = "an empty text stands for the prompts as they are"
        yield Problem("slider.preserve", what, "remove it unless that is meant")
    if len(set(s.slider.preserve)) < len(s.slider.preserve):
        yield Problem("slider.preserve", "the same words stand there twice", "remove one")


CONTRADICTIONS: tuple[Check, ...] = (_one_of_both, _unet_is_trained, _keeps_no_output)

ODDITIES: tuple[Check, ...] = (_for_prompts, _empty_words)
