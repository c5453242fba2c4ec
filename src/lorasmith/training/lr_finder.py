"""A learning rate for a run, from its own images, before its first step.

A ramp of rates (Smith 2017, "Cyclical Learning Rates for Training Neural Networks") does not suit
adapters: they start from no change, so that low rates show nothing, and an optimizer's memory of
about ten steps makes what a short run at each rate comes to depend on how long it is. What can be
measured well in a few steps is the length of one: the optimizer takes its first step from the
start, and the loss is measured with that step made 2, 4, 8 … times as long, on other noise, always
the same. The length with the lowest loss is where the loss begins to curve upwards again, the
scale that everything which moves the weights has to keep to: it goes with rank, alpha, type of
adapter, precision and model. The rate of the run is a share of it, :data:`SHARES`.

The adapter is as it was afterwards, to the last bit, and every draw is of steps that the run does
not have; so a run goes on as if the rate had been written in its settings.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from lorasmith.config.optimizers import OPTIMIZERS
from lorasmith.config.sections.optimizer import ScheduleSettings
from lorasmith.core.errors import RunError, Stopped
from lorasmith.core.events import Progress
from lorasmith.training.batches import Batches
from lorasmith.training.lr_schedules import LearningRate
from lorasmith.training.setup.context import RunContext
from lorasmith.training.step import TrainStep

# Of the run's time. A forward pass takes half of what a step takes, as frozen weights have no
# gradient.
SHARE_OF_RUN = 0.1
FORWARD = 0.5
# Samples that a length is measured on: at least, and at most.
FEWEST_SAMPLES, MOST_SAMPLES = 8, 64
# First steps from the start, each on samples of its own; the mean of their lengths counts.
MOST_DIRECTIONS = 4
# Lengths tried for the first of them, and for each further one.
FIRST_LENGTHS, FURTHER_LENGTHS = 10, 4
WIDE, NARROW = 4.0, 2.0  # Ratio of lengths that are tried one after the other.
HIGHEST_RATE = 100.0  # Of optimizer.lr.
SCALER_TRIES = 12  # A loss scale for float16 begins high, and halves at each overflow.

SHARES = {"AdamW": 0.65, "Lion": 0.3, "SGDNesterov": 0.3}
"""Of the best length of the first step, by optimizer; measured in benchmarks/find_lr.md."""


@dataclass(frozen=True, slots=True)
class SearchSize:
    """How much is tried.

    Args:
        directions: first steps.
        batches: of as many samples as a step has, on which each length is measured.
    """

    directions: int
    batches: int

    @property
    def steps(self) -> float:
        """The most that it takes, in steps of the run."""
        lengths = FIRST_LENGTHS + FURTHER_LENGTHS * (self.directions - 1)
        return self.directions + FORWARD * self.batches * lengths


@dataclass(frozen=True, slots=True)
class Trial:
    """A first step at a rate.

    Args:
        rate: of the fastest part.
        loss: mean after it; ``None`` where it was no number.
    """

    rate: float
    loss: float | None


@dataclass(frozen=True, slots=True)
class RateSearch:
    """What was seen, and what follows.

    Args:
        factor: what all learning rates are to be multiplied by.
        rates: then, of each part that is trained.
        loss: of the base model on the same noise.
        trials: by their rates.
        best: the rate of the best first step, and of each direction by itself.
        share: of ``best``, which is the rate.
        steps: that it took, in steps of the run.
    """

    factor: float
    rates: dict[str, float]
    loss: float
    trials: tuple[Trial, ...]
    best: float
    directions: tuple[float, ...]
    share: float
    steps: float

    def record(self) -> dict[str, Any]:
        """JSON-ready values."""
        return asdict(self)


def search_size(steps: int, samples: int) -> SearchSize | None:
    """What fits into :data:`SHARE_OF_RUN` of a run of ``steps`` steps of ``samples`` samples each;
    ``None`` where too little does."""
    budget = SHARE_OF_RUN * steps
    sizes = [
        SearchSize(directions, batches)
        for directions in range(1, MOST_DIRECTIONS + 1)
        for batches in range(
            math.ceil(FEWEST_SAMPLES / samples), max(math.ceil(MOST_SAMPLES / samples), 1) + 1
        )
    ]
    fitting = [size for size in sizes if size.steps <= budget]
    # Two directions tell more than twice the samples, more of both are worth about the same.
    return max(fitting, key=lambda s: (min(s.directions, 2), s.directions * s.batches), default=None)


def fewest_steps(samples: int) -> int:
    """The steps of ``samples`` samples from which on a rate can be looked for."""
    least = SearchSize(1, math.ceil(FEWEST_SAMPLES / samples)).steps
    return math.ceil(least / SHARE_OF_RUN)


def share_of(optimizer: str) -> float:
    """Of :data:`SHARES`; AdamW's where an optimizer has none."""
    kinds = [kind for kind in SHARES if kind in optimizer]
    return SHARES[kinds[0] if kinds else "AdamW"]


def is_measured(optimizer: str) -> bool:
    """Whether :data:`SHARES` was measured for an optimizer of this kind."""
    return optimizer in OPTIMIZERS and any(kind in optimizer for kind in SHARES)


class RateFinder:
    """Tries lengths of first steps with a trainer that has the run's parts and is not its own.

    Args:
        trainer: at the start; the rates of its groups tell the ratio of the parts.
        fresh_optimizer: makes another one for the trainer's groups.
    """

    def __init__(
        self,
        context: RunContext,
        trainer: TrainStep,
        batches: Batches,
        size: SearchSize,
        fresh_optimizer: Callable[[], torch.optim.Optimizer],
    ) -> None:
        self._context, self._trainer, self._batches = context, trainer, batches
        self._size, self._fresh_optimizer = size, fresh_optimizer
        self._start = [group.flat.detach().clone() for group in trainer.groups]
        self._nominal = max(group.lr for group in trainer.groups)
        trainer.ema = None
        trainer.rate = LearningRate(ScheduleSettings(name="constant"), context.steps)
        # Their draws are of steps that the run does not have.
        self._first_step = context.steps
        begin = context.steps + MOST_DIRECTIONS
        self._probe = range(begin, begin + size.batches)
        self._losses_measured = 0

    def find(self) -> RateSearch:
        """
        Raises:
            RunError: the loss or its gradient is no number, or no rate makes the loss fall.
            Stopped: the user asked for it.
        """
        with self._restored():
            base = self._loss()
            if base is None:
                raise _failed("the loss of the base model is no number")
            seen: list[dict[float, float | None]] = []
            best: list[float] = []
            for number in range(self._size.directions):
                curve = Curve(base, partial(self._loss, self._change(number)))
                if best:
                    curve.look_around(_mean(best))
                else:
                    curve.look_from(self._nominal)
                seen.append(curve.losses)
                if (length := curve.lowest()) is not None:
                    best.append(length)
        if not best:
            raise _failed("no learning rate makes the loss fall")
        return self._result(base, seen, best)

    def _result(
        self, base: float, seen: Sequence[dict[float, float | None]], best: Sequence[float]
    ) -> RateSearch:
        optimizer = self._context.settings.optimizer
        share, length = share_of(optimizer.name), _mean(best)
        factor = min(share * length, HIGHEST_RATE) / self._nominal
        trials = [Trial(rate, loss) for losses in seen for rate, loss in losses.items()]
        return RateSearch(
            factor,
            optimizer.times(factor).lrs,
            base,
            tuple(sorted(trials, key=lambda trial: trial.rate)),
            length,
            tuple(best),
            share,
            self._size.directions + FORWARD * self._size.batches * self._losses_measured,
        )

    @contextlib.contextmanager
    def _restored(self) -> Iterator[None]:
        """What is trained is afterwards what it was before."""
        try:
            yield
        finally:
            self._move(None, 0.0)
            for group in self._trainer.groups:
                group.grad.zero_()

    @torch.no_grad()
    def _move(self, change: Sequence[Tensor] | None, rate: float) -> None:
        """Put the weights at the start, or away from it by what ``rate`` makes of ``change``."""
        for number, (group, start) in enumerate(
            zip(self._trainer.groups, self._start, strict=True)
        ):
            group.flat.copy_(start if change is None else start + rate * change[number])

    def _change(self, number: int) -> list[Tensor]:
        """Of the weights in a first step, for a rate of 1."""
        trainer, step = self._trainer, self._first_step + number
        self._move(None, 0.0)
        trainer.optimizer = self._fresh_optimizer()
        for _ in range(SCALER_TRIES if trainer.scaler is not None else 1):
            self._check_stop()
            trainer(step, self._batches.micro_batches(step), self._batches.size(step))
            pairs = list(zip(trainer.groups, self._start, strict=True))
            change = [(group.flat.detach() - start) / self._nominal for group, start in pairs]
            if any(bool(one.count_nonzero()) for one in change):
                break  # Else the loss scale was too high, and is lower now.
        if not all(bool(one.isfinite().all()) for one in change):
            raise _failed("the gradient is no number")
        return change

    @torch.no_grad()
    def _loss(self, change: Sequence[Tensor] | None = None, rate: float = 0.0) -> float | None:
        """Mean over the probe's samples; ``None`` where it is no number."""
        self._check_stop()
        trainer = self._trainer
        self._move(change, rate)
        trainer.trained.end_step()  # No dropout of the step before.
        total = torch.zeros((), device=trainer.model.device)
        for step in self._probe:
            for batch in self._batches.micro_batches(step):
                total += trainer.objective.loss_sum(trainer.model, batch, step)
        trainer.processes.sum_(total)
        samples = sum(map(self._batches.size, self._probe))
        loss = trainer.processes.agree(float(total)) / samples
        self._losses_measured += 1
        most = FIRST_LENGTHS + FURTHER_LENGTHS * (self._size.directions - 1)
        done = min(self._losses_measured, most)
        self._context.observer(Progress("looking for the learning rate", done, most))
        return loss if math.isfinite(loss) else None

    def _check_stop(self) -> None:
        if self._trainer.processes.any(self._context.controls.stopping):
            raise Stopped("stopped while looking for a learning rate; nothing was trained")


class Curve:
    """The loss by the rate of one first step.

    Args:
        base: the loss at rate 0.
        loss_at: ``None`` where it is no number.
    """

    def __init__(self, base: float, loss_at: Callable[[float], float | None]) -> None:
        self._base, self._loss_at = base, loss_at
        self.losses: dict[float, float | None] = {}

    def look_from(self, rate: float) -> None:
        """Up by fours until the loss is above the base model's, whatever it does before; down if it
        is there already; then between."""
        tries = FIRST_LENGTHS - 3  # Two between, and the base model's.
        first = rate
        while len(self.losses) < tries and rate <= HIGHEST_RATE and self._at(rate) < self._base:
            rate *= WIDE
        rate = first
        while len(self.losses) < tries and self._lowest_rate() is None:
            rate /= WIDE
            self._at(rate)
        if (lowest := self._lowest_rate()) is not None:
            self._at(lowest * NARROW)
            self._at(lowest / NARROW)

    def look_around(self, rate: float) -> None:
        """Near a rate that another first step was best at."""
        for one in (rate, rate * NARROW, rate / NARROW):
            self._at(one)
        lowest = self._lowest_rate()
        if lowest is not None and lowest != rate:
            self._at(lowest * lowest / rate)

    def lowest(self) -> float | None:
        """The rate with the lowest loss, between those that were tried; ``None`` where the loss
        never falls."""
        rate = self._lowest_rate()
        if rate is None:
            return None
        tried = sorted(self.losses)
        place = tried.index(rate)
        if not 0 < place < len(tried) - 1:
            return rate
        points = [(math.log(one), self._at(one)) for one in tried[place - 1 : place + 2]]
        return math.exp(_vertex(points)) if math.isfinite(points[2][1]) else rate

    def _at(self, rate: float) -> float:
        if rate not in self.losses:
            self.losses[rate] = self._loss_at(rate)
        loss = self.losses[rate]
        return math.inf if loss is None else loss

    def _lowest_rate(self) -> float | None:
        rate = min(self.losses, key=self._at)
        return rate if self._at(rate) < self._base else None


def _vertex(points: Sequence[tuple[float, float]]) -> float:
    """Where the parabola through three points, of which the middle one is lowest, is lowest."""
    (x0, y0), (x1, y1), (x2, y2) = points
    left, right = (y0 - y1) / (x1 - x0), (y2 - y1) / (x2 - x1)
    if left + right == 0:
        return x1
    # The slopes at the middles of both sides are -left and right; between them the slope is 0.
    middle, other = (x0 + x1) / 2, (x1 + x2) / 2
    return middle + (other - middle) * left / (left + right)


def _mean(rates: Sequence[float]) -> float:
    """Rates are told apart by their ratio, so it is the geometric mean."""
    return math.exp(fmean(math.log(rate) for rate in rates))


def _failed(what: str) -> RunError:
    return RunError.of("optimizer.lr", f"could not be found: {what}", "give it a number")
