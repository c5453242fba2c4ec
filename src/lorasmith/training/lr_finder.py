"""A learning rate for a run, from its own images, before its first step.

A ramp of rates (Smith 2017, "Cyclical Learning Rates for Training Neural Networks") does not suit
adapters: they start from no change, so that low rates show nothing, and an optimizer's memory of
about ten steps makes what a short run at a rate comes to depend on how short it is. What a few
steps do tell is how far the weights may go: :data:`PATH` steps are taken at a rate so low that they
all see the start; then the loss is measured with the way that they went made 4, 16, 64 … times as
long, on other noise, always the same. Where it is lowest, the loss begins to curve upwards: a
scale that goes with rank, alpha, type of adapter, batch and model, as the best rate of a run does.
That is a share of it, :data:`SHARES`. Several steps, not one, since half of an adapter's factors
have no gradient in the first.

The adapter is as it was afterwards, to the last bit, and every draw is of steps that the run does
not have; so a run goes on as if the rate had been written in its settings.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lorasmith.config.sections.optimizer import OptimizerSettings, ScheduleSettings
from lorasmith.core.errors import Problem, RunError, Stopped
from lorasmith.core.events import Controls, Observer, Progress
from lorasmith.diffusion.global_batch import GlobalBatch
from lorasmith.training.lr_schedules import LearningRate
from lorasmith.training.lr_search import (
    FORWARD,
    LENGTHS,
    PATH,
    SHARES,
    RateSearch,
    SearchSize,
    Trial,
    optimizer_kind,
)

if TYPE_CHECKING:
    from lorasmith.training.batches import Batches
    from lorasmith.training.objective import MicroBatch
    from lorasmith.training.step import TrainStep

LOW = 1 / 16  # The path's rate, as a share of the usual one.
WIDE, NARROW = 4.0, 2.0  # Ratios of lengths that are measured one after the other.
HIGHEST_RATE = 100.0  # Of optimizer.lr.
SCALER_TRIES = 12  # A loss scale for float16 begins high, and halves at each overflow.


@dataclass(frozen=True, slots=True)
class FixedStep:
    """The inputs of a step: this process's, noised, and how many samples all processes have."""

    step: int
    batches: list[MicroBatch]
    samples: int


class RateFinder:
    """Looks for a rate with a trainer that has the run's parts and is not its own.

    Args:
        steps: of the run.
        optimizer: the run's; its rates tell the ratio of the parts.
        trainer: at the start; it has taken no step.
        usual: rate of the fastest part to look from; ``None`` for the optimizer's own.
    """

    def __init__(
        self,
        steps: int,
        optimizer: OptimizerSettings,
        trainer: TrainStep,
        batches: Batches,
        size: SearchSize,
        *,
        usual: float | None = None,
        observer: Observer,
        controls: Controls,
    ) -> None:
        self._optimizer, self._trainer, self._batches = optimizer, trainer, batches
        self._observer, self._controls = observer, controls
        self._start = self._weights()
        self._nominal = max(group.lr for group in trainer.groups)
        self._usual = self._nominal if usual is None else usual
        trainer.ema = trainer.preservation = None
        for group in trainer.groups:
            group.lr *= LOW * (self._usual / self._nominal)
        trainer.rate = LearningRate(ScheduleSettings(name="constant"), steps)
        # Their draws are of steps that the run does not have.
        path = range(steps, steps + PATH)
        self._path = self._evenly_noised(path)
        self._probe = self._evenly_noised(range(path.stop, path.stop + size.batches))
        self._measured = 0

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
            curve = Curve(base, partial(self._loss, self._walk()))
            curve.look_from(self._usual)
        best = curve.lowest()
        if best is None:
            raise _failed("no learning rate makes the loss fall")
        share = SHARES[optimizer_kind(self._optimizer.name)]
        factor = min(share * best, HIGHEST_RATE) / self._nominal
        return RateSearch(
            factor,
            self._optimizer.times(factor).lrs,
            base,
            tuple(Trial(rate, curve.losses[rate]) for rate in sorted(curve.losses)),
            best,
            share,
            len(self._path) + FORWARD * len(self._probe) * self._measured,
        )

    def _evenly_noised(self, steps: Sequence[int]) -> list[FixedStep]:
        """The inputs of ``steps``, with noise levels that are spread evenly over all of them."""
        batches, objective = self._batches, self._trainer.objective
        even = replace(objective, timesteps=replace(objective.timesteps, strata="batch"))
        whole = GlobalBatch.of_strangers(
            list(
                {one.id: None for step in steps for group in batches.samples(step) for one in group}
            )
        )
        return [
            FixedStep(
                step,
                [
                    replace(batch, noisy=even.add_noise(replace(batch, whole=whole), steps[0]))
                    for batch in batches.micro_batches(step)
                ],
                batches.size(step),
            )
            for step in steps
        ]

    @contextlib.contextmanager
    def _restored(self) -> Iterator[None]:
        """What is trained is afterwards what it was before."""
        try:
            yield
        finally:
            self._move(None, 0.0)

    @torch.no_grad()
    def _move(self, way: Sequence[Tensor] | None, rate: float) -> None:
        """Put the weights at the start, or ``rate`` times as far along ``way``."""
        values = iter(self._start)
        if way is not None:
            pairs = zip(self._start, way, strict=True)
            values = (start + rate * along for start, along in pairs)
        for group in self._trainer.groups:
            group.take(islice(values, len(group.tensors)))

    def _weights(self) -> list[Tensor]:
        """Copies of all that is trained: of a base's own weights in main memory."""
        return [
            tensor.to(group.spare, copy=True)
            for group in self._trainer.groups
            for tensor in group.tensors
        ]

    def _walk(self) -> list[Tensor]:
        """The mean change of the weights in a step of the path, for a rate of 1."""
        trainer, steps = self._trainer, 0
        self._move(None, 0.0)
        scaler_tries = SCALER_TRIES if trainer.scaler is not None else 0
        while steps < len(self._path):
            before = self._weights() if scaler_tries else []
            self._check_stop()
            fixed = self._path[steps]
            trainer(fixed.step, fixed.batches, fixed.samples)
            if scaler_tries and all(map(torch.equal, self._weights(), before)):
                scaler_tries -= 1  # The loss scale was too high, and is lower now.
                continue
            steps += 1
        pairs = zip(self._weights(), self._start, strict=True)
        way = [now.sub_(old).div_(steps * LOW * self._usual) for now, old in pairs]
        if not all(bool(one.isfinite().all()) for one in way):
            raise _failed("the gradient is no number")
        return way

    @torch.no_grad()
    def _loss(self, way: Sequence[Tensor] | None = None, rate: float = 0.0) -> float | None:
        """Mean over the probe's samples; ``None`` where it is no number."""
        self._check_stop()
        trainer = self._trainer
        self._move(way, rate)
        trainer.trained.end_step()  # No dropout of the step before.
        total = torch.zeros((), device=trainer.model.device)
        for fixed in self._probe:
            for batch in fixed.batches:
                disabled = trainer.trained.disabled
                total += trainer.objective.loss_sum(trainer.model, batch, fixed.step, disabled)
        trainer.processes.sum_(total)
        loss = trainer.processes.agree(float(total)) / sum(one.samples for one in self._probe)
        self._measured += 1
        self._observer(Progress("looking for the learning rate", self._measured, LENGTHS))
        return loss if math.isfinite(loss) else None

    def _check_stop(self) -> None:
        if self._trainer.processes.any(self._controls.stopping):
            raise Stopped("stopped while looking for a learning rate; nothing was trained")


class Curve:
    """The loss by the rate.

    Args:
        base: the loss at rate 0.
        loss_at: ``None`` where it is no number.
    """

    def __init__(self, base: float, loss_at: Callable[[float], float | None]) -> None:
        self._base, self._loss_at = base, loss_at
        self.losses: dict[float, float | None] = {}

    def look_from(self, first: float) -> None:
        """Up by fours until the loss is above the base model's, whatever it does before; down
        where the first is the best; then on both sides of the lowest."""
        tries = LENGTHS - 3  # Two beside the lowest, and the base model's.
        rate = first
        while len(self.losses) < tries and self._at(rate) < self._base:
            rate *= WIDE
        while len(self.losses) < tries and self._lowest_rate() in (None, min(self.losses)):
            self._at(min(self.losses) / WIDE)
        if (lowest := self._lowest_rate()) is not None:
            self._at(lowest * NARROW)
            self._at(lowest / NARROW)

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
        return math.exp(_vertex(points)) if all(math.isfinite(y) for _, y in points) else rate

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
    # In the middles of both sides the slopes are -left and right.
    first, second = (x0 + x1) / 2, (x1 + x2) / 2
    return first + (second - first) * left / (left + right)


def _failed(what: str) -> RunError:
    what = f"could not be found: {what}"
    return RunError([Problem("optimizer.lr", what, "give it a number")])
