"""Learning-rate schedules as pure functions of the step.

A schedule maps optimizer step ``step`` (0-based) of ``steps`` to a factor in [0, 1] that multiplies
every group's learning rate. There is no scheduler object and so no state to save: a resumed run
computes the same value for the same step.

Shapes follow ``transformers.optimization`` (whose names the field uses); "cosine" is a half period.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from lorasmith.config.schema import TrainSettings

Shape = Callable[[float, int], float]


def _constant(progress: float, cycles: int) -> float:
    return 1.0


def _linear(progress: float, cycles: int) -> float:
    return 1.0 - progress


def _cosine(progress: float, cycles: int) -> float:
    return 0.5 * (1.0 + math.cos(math.pi * progress))


def _cosine_with_restarts(progress: float, cycles: int) -> float:
    return _cosine(progress * cycles % 1.0 if progress < 1.0 else 1.0, cycles)


SHAPES: dict[str, Shape] = {
    "constant": _constant,
    "constant_with_warmup": _constant,
    "linear": _linear,
    "cosine": _cosine,
    "cosine_with_restarts": _cosine_with_restarts,
}


@dataclass(frozen=True, slots=True)
class LearningRate:
    """The factor at each step.

    Args:
        name: a key of :data:`SHAPES`.
        steps: optimizer steps of the whole run.
        warmup: steps of linear rise from ``1 / warmup`` to 1 before the shape begins.
        cycles: restarts of ``cosine_with_restarts``, counted over the steps after warm-up.
        min_ratio: the floor that the shape decays to, as a share of the full rate.
    """

    name: str
    steps: int
    warmup: int = 0
    cycles: int = 1
    min_ratio: float = 0.0

    def factor(self, step: int) -> float:
        if step < self.warmup:
            # Starts at 1/warmup, not 0: a step with no learning rate is a step wasted.
            return (step + 1) / self.warmup
        progress = (step - self.warmup) / max(1, self.steps - self.warmup)
        shape = SHAPES[self.name](min(progress, 1.0), self.cycles)
        return self.min_ratio + (1.0 - self.min_ratio) * shape


def warmup_steps(warmup: int | float | str, steps: int) -> int:
    """``100`` steps, ``0.05`` of the run or ``"5%"`` of it, as a number of steps.

    Source: sd-scripts' ``--lr_warmup_steps`` takes the same three forms.
    """
    if isinstance(warmup, str):
        text = warmup.strip()
        value = float(text[:-1]) / 100 if text.endswith("%") else float(text)
        return warmup_steps(value if text.endswith("%") or value < 1 else int(value), steps)
    return round(warmup * steps) if 0 < warmup < 1 else int(warmup)


def learning_rate(settings: TrainSettings, steps: int) -> LearningRate:
    schedule = settings.schedule
    warmup = warmup_steps(schedule.warmup, steps)
    return LearningRate(schedule.name, steps, warmup, schedule.cycles, schedule.min_ratio)
