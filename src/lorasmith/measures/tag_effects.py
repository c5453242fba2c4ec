"""Which tags an adapter draws unasked, and which it does not draw when asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lorasmith.measures.drawings import kind_of
from lorasmith.measures.noise_probe import Row
from lorasmith.measures.told import beside, errors_of

if TYPE_CHECKING:
    from PIL import Image

    from lorasmith.adapters.network import AdapterNetwork
    from lorasmith.diffusion.schedule import NoiseSchedule
    from lorasmith.measures.drawings import Drawings
    from lorasmith.models.diffusion_model import DiffusionModel

COUNT = 4
"""Drawings of each prompt, each of another seed."""


@dataclass(frozen=True, slots=True)
class TagEffect:
    """Shares of the drawings that show a tag rather than another answer to its question: in the
    LoRA's own as it sees them itself, told its trigger; in the base's as the base does.

    Args:
        question: that the tag answers.
        answers: how many there are to choose from.
        asked: of the LoRA's drawings, the tag asked for beside the trigger.
        unasked: of those with the trigger alone.
        base: of the base's, the tag alone asked for: what it cannot draw, no LoRA is to blame for.
    """

    tag: str
    question: str
    answers: int
    asked: float
    unasked: float
    base: float


@dataclass(frozen=True, slots=True)
class TagEffects:
    """
    Args:
        effects: records of :class:`TagEffect`.
        count: drawings that each share is of.
    """

    effects: list[TagEffect]
    count: int


def measure_tags(
    model: DiffusionModel,
    schedule: NoiseSchedule,
    network: AdapterNetwork,
    trigger: str,
    tags: Mapping[str, Sequence[str]],
    groups: Mapping[str, Sequence[str]],
    draw: Drawings,
    name: str,
    tag_done: Callable[[], object] = lambda: None,
) -> TagEffects:
    """
    Args:
        network: not attached.
        trigger: "" draws the tags alone.
        tags: by question, those to look at.
        groups: by question, all answers.
        draw: makes and keeps the drawings.
        name: of the LoRA's.
    """

    def drawn(prompt: str, by: str) -> list[Image.Image]:
        prompts = [prompt] * COUNT
        return draw(prompts, by, kind_of("tag", prompts))

    def seen(images: Sequence[Image.Image], question: str, called: str) -> list[str]:
        rows = [Row.of(model, image, "", number) for number, image in enumerate(images)]
        answers = list(groups[question])
        errors = errors_of(model, schedule, rows, [beside(called, one) for one in answers])
        return [answers[min(range(len(row)), key=row.__getitem__)] for row in errors]

    effects: list[TagEffect] = []
    with network.attached():
        free = drawn(trigger, name)
    for question, some in tags.items():
        with network.attached():
            unasked = seen(free, question, trigger)
        for tag in some:
            with network.attached():
                asked = seen(drawn(beside(trigger, tag), name), question, trigger)
            by_base = seen(drawn(tag, "base"), question, "")
            effects.append(
                TagEffect(
                    tag,
                    question,
                    len(groups[question]),
                    asked.count(tag) / COUNT,
                    unasked.count(tag) / COUNT,
                    by_base.count(tag) / COUNT,
                )
            )
            tag_done()
    return TagEffects(effects, COUNT)
