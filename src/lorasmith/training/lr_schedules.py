"""Learning-rate schedules as pure functions of the step.

A schedule maps optimizer step ``step`` (0-based) of ``steps`` to a factor in [0, 1] that multiplies
every group's learning rate. There is no scheduler object and so no state to save: a resumed run
computes the same value for the same step.

Shapes follow ``transformers.optimization`` (whose names the field uses); "cosine" is a half period.
"rex" is the profile of Chen, Wolfe and Kyrillidis, "REX: Revisiting Budgeted Training with an
Improved Schedule" (2021).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from lorasmith.config.schema import TrainSettings
from lorasmith.config.sections.optimizer import ScheduleSettings
from lorasmith.core.errors import Problem

# Of transformers' inverse_sqrt where no warm-up gives it a scale.
DEFAULT_TIMESCALE = 10_000


@dataclass(frozen=True, slots=True)
class LearningRate:
    """The factor at each step.

    Args:
        steps: optimizer steps of the whole run.
    """

    schedule: ScheduleSettings
    steps: int

    @property
    def warmup(self) -> int:
        """Steps of linear rise from ``1 / warmup`` to 1 before the shape begins."""
        return warmup_steps(self.schedule.warmup, self.steps)

    def factor(self, step: int) -> float:
        warmup, floor = self.warmup, self.schedule.min_ratio
        if step < warmup:
            # Starts at 1/warmup, not 0: a step with no learning rate is a step wasted.
            return (step + 1) / warmup
        progress = (step - warmup) / max(1, self.steps - warmup)
        shape = SHAPES[self.schedule.name](self, min(progress, 1.0))
        return floor + (1.0 - floor) * shape


Shape = Callable[[LearningRate, float], float]
"""From the share of the steps after warm-up that is done, in [0, 1], to a factor in [0, 1]."""


def _constant(rate: LearningRate, progress: float) -> float:
    return 1.0


def _linear(rate: LearningRate, progress: float) -> float:
    return 1.0 - progress


def _cosine(rate: LearningRate, progress: float) -> float:
    return 0.5 * (1.0 + math.cos(math.pi * progress))


def _cosine_with_restarts(rate: LearningRate, progress: float) -> float:
    return _cosine(rate, progress * rate.schedule.cycles % 1.0 if progress < 1.0 else 1.0)


def _polynomial(rate: LearningRate, progress: float) -> float:
    return float((1.0 - progress) ** rate.schedule.power)


def _inverse_sqrt(rate: LearningRate, progress: float) -> float:
    timescale = rate.schedule.timescale or rate.warmup or DEFAULT_TIMESCALE
    return math.sqrt(timescale / (timescale + progress * max(1, rate.steps - rate.warmup)))


def _cosine_annealing(rate: LearningRate, progress: float) -> float:
    """As torch's ``CosineAnnealingLR``: down in ``timescale`` steps, up in as many, and so on."""
    done = progress * max(1, rate.steps - rate.warmup)
    return _cosine(rate, done / (rate.schedule.timescale or max(1, rate.steps - rate.warmup)))


def _rex(rate: LearningRate, progress: float) -> float:
    return (1.0 - progress) / (0.5 + 0.5 * (1.0 - progress))


SHAPES: dict[str, Shape] = {
    "constant": _constant,
    "constant_with_warmup": _constant,
    "linear": _linear,
    "cosine": _cosine,
    "cosine_with_restarts": _cosine_with_restarts,
    "cosine_annealing": _cosine_annealing,
    "polynomial": _polynomial,
    "inverse_sqrt": _inverse_sqrt,
    "rex": _rex,
}


def warmup_steps(warmup: int | float | str, steps: int) -> int:
    """``100`` steps, ``0.05`` of the run or ``"5%"`` of it, as a number of steps.

    Source: sd-scripts' ``--lr_warmup_steps`` takes the same three forms, and cuts a share to whole
    steps in floating point (``int(0.29 * 100)`` is 28), so that the same run comes out here.
    """
    if isinstance(warmup, str):
        text = warmup.strip()
        value = float(text[:-1]) / 100 if text.endswith("%") else float(text)
        return warmup_steps(value if text.endswith("%") or value < 1 else int(value), steps)
    return int(warmup * steps) if 0 < warmup < 1 else int(warmup)


def learning_rate(settings: TrainSettings, steps: int) -> LearningRate:
    return LearningRate(settings.schedule, steps)


def warmup_oddities(settings: TrainSettings, steps: int) -> Iterator[Problem]:
    """What cannot be said before the number of steps is known."""
    warmup = warmup_steps(settings.schedule.warmup, steps)
    if warmup >= steps:
        yield Problem(
            "schedule.warmup",
            f"{warmup} steps of warm-up do not end within the {steps} steps of the run",
            'make it shorter, for example "5%"',
        )
