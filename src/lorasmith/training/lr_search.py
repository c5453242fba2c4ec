"""How much a search for the learning rate may take, and what it finds; see
:mod:`lorasmith.training.lr_finder`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from lorasmith.config.optimizers import OPTIMIZERS
from lorasmith.config.schema import TrainSettings
from lorasmith.core.errors import Problem, SettingsError

# Of the run's time. A forward pass takes half of what a step takes, as frozen weights have no
# gradient.
SHARE_OF_RUN = 0.1
FORWARD = 0.5
PATH = 4  # Steps.
LENGTHS = 10  # Of the path that are measured, at most; the start is one.
# Samples that a length is measured on: at least, and at most.
FEWEST_SAMPLES, MOST_SAMPLES = 8, 64

SHARES = {"AdamW": 1.0, "Lion": 0.4}
"""The rate of a run, by optimizer, as a share of the length with the lowest loss. AdamW's by
benchmarks/find_lr.md; Lion's is as far below as its rate is in benchmarks/learning_choices.md,
since all its steps have full size, where AdamW's get shorter once gradients disagree."""


@dataclass(frozen=True, slots=True)
class SearchSize:
    """How much is tried.

    Args:
        batches: of as many samples as a step has, on which each length is measured.
    """

    batches: int

    @property
    def steps(self) -> float:
        """The most that it takes, in steps of the run."""
        return PATH + FORWARD * self.batches * LENGTHS


@dataclass(frozen=True, slots=True)
class Trial:
    """The path with its steps as long as a rate makes them.

    Args:
        rate: of the fastest part.
        loss: mean at its end; ``None`` where it is no number.
    """

    rate: float
    loss: float | None


@dataclass(frozen=True, slots=True)
class RateSearch:
    """What was seen, and what follows.

    Args:
        factor: what all learning rates are to be multiplied by.
        rates: then, of each part.
        loss: at the start, on the same noise.
        trials: by their rates.
        best: the rate of the lowest loss, between those that were tried.
        share: of ``best``, which is the rate.
        steps: that it took, in steps of the run.
    """

    factor: float
    rates: dict[str, float]
    loss: float
    trials: tuple[Trial, ...]
    best: float
    share: float
    steps: float

    def record(self) -> dict[str, Any]:
        """JSON-ready values."""
        return asdict(self)


def search_size(steps: int, samples: int) -> SearchSize | None:
    """What fits into :data:`SHARE_OF_RUN` of a run of ``steps`` steps of ``samples`` samples each;
    ``None`` where too little does."""
    fewest, most = (math.ceil(count / samples) for count in (FEWEST_SAMPLES, MOST_SAMPLES))
    sizes = map(SearchSize, range(most, fewest - 1, -1))
    return next((size for size in sizes if size.steps <= SHARE_OF_RUN * steps), None)


def size_for(settings: TrainSettings, steps: int, processes: int) -> SearchSize | None:
    """How a run of ``steps`` steps looks for its rate; ``None`` where the rate is given.

    Raises:
        SettingsError: the run is too short for it.
    """
    if not settings.optimizer.seeks_lr:
        return None
    samples = settings.train.batch * settings.train.accumulation * processes
    size = search_size(steps, samples)
    if size is None:
        least = SearchSize(math.ceil(FEWEST_SAMPLES / samples)).steps / SHARE_OF_RUN
        what = (
            f"is find, which takes a tenth of a run of {math.ceil(least)} steps at this batch size "
            f"and would take more of this one, which has {steps}"
        )
        raise SettingsError.of("optimizer.lr", what, "train longer, or give it a number")
    return size


def search_oddities(settings: TrainSettings) -> Iterator[Problem]:
    """What to know of a rate that is looked for."""
    optimizer = settings.optimizer
    name = optimizer.name
    if optimizer.seeks_lr and not (name in OPTIMIZERS and optimizer_kind(name) in name):
        what = f"is find, which was never measured with {name}: what it finds is as for AdamW"
        yield Problem("optimizer.lr", what, "look at the first samples, or give it a number")


def optimizer_kind(optimizer: str) -> str:
    """The one of :data:`SHARES` that an optimizer is like; AdamW where it is like none."""
    return next((kind for kind in SHARES if kind in optimizer), "AdamW")
