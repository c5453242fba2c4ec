"""From step results to the numbers that people watch."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from lorasmith.core.events import StepDone
from lorasmith.tensors.device import peak_memory
from lorasmith.training.optim import Group, adaptive_rates
from lorasmith.training.runs.state import Position
from lorasmith.training.setup.build import Run
from lorasmith.training.step import StepResult


@dataclass(frozen=True, slots=True)
class Reading:
    """Numbers of the steps since the last reading.

    Args:
        first: the first of these steps, from 1.
        losses, grad_norms: one of each a step.
        preservation: of those that keep the base model's output.
        weight_norm: of everything that is trained, after the last of them.
        loss_scale: of float16 training, after the last of them.
    """

    first: int
    losses: Sequence[float]
    grad_norms: Sequence[float]
    weight_norm: float
    loss_scale: float | None
    preservation: Sequence[float] = ()

    @property
    def last(self) -> int:
        return self.first + len(self.losses) - 1


class Judge(Protocol):
    """The watchdog, as the meter knows it."""

    def check(self, reading: Reading) -> None:
        """Raises when the reading is not good."""

    def verified(self, position: Position) -> None:
        """The run is at ``position``, and all is well."""


class Meter:
    """Reads the device at logging intervals alone, since reading waits for it.

    The smoothed loss is an exponential average over every step (bias-corrected at the start), so
    losses wait on the device until they are read.

    Args:
        start: where the steps begin.
        judge: is shown each reading.
    """

    def __init__(self, run: Run, start: Position, judge: Judge) -> None:
        self._run, self._judge = run, judge
        self._every = run.log_every
        self._decay = run.settings.log.smoothing
        self._waiting: list[StepResult] = []
        self._distances: list[float] = []
        self._logged = start.step
        self._smoothed = start.smoothed_loss
        self._last: Reading | None = None
        self._read_step = start.step
        self._samples = 0
        self._since = self._time_of_steps()

    def measure(
        self, done: int, epoch: int, total: int, result: StepResult, *, last: bool
    ) -> StepDone:
        """The event of step ``done`` (from 1) with ``total`` samples."""
        self._waiting.append(result)
        self._samples += total
        run = self._run
        if done % self._every and not last:
            return StepDone(done, run.steps, epoch)
        smoothed = self.catch_up()
        reading = self._last
        assert reading is not None
        now = self._time_of_steps()
        seconds, steps = max(now - self._since, 1e-9), max(done - self._logged, 1)
        rate = self._samples / seconds
        self._since, self._samples, self._logged = now, 0, done
        optimizer = run.trainer.optimizer
        return StepDone(
            done,
            run.steps,
            epoch,
            loss=reading.losses[-1],
            smoothed_loss=smoothed,
            preservation_loss=self._preservation(),
            lr={
                group["name"]: float(group["lr"]) * group.get("ratio", 1.0)
                for group in optimizer.param_groups
            },
            d_lr=adaptive_rates(optimizer),
            # float16 training skips steps whose gradients overflow; JSON has no infinity.
            grad_norm=reading.grad_norms[-1] if math.isfinite(reading.grad_norms[-1]) else None,
            weight_norm=reading.weight_norm,
            loss_scale=reading.loss_scale,
            samples_per_second=rate,
            seconds_left=seconds / steps * (run.steps - done),
            memory_bytes=peak_memory(run.model.device),
        )

    def _preservation(self) -> float | None:
        """The mean of what was read since the last event."""
        distances, self._distances = self._distances, []
        return sum(distances) / len(distances) if distances else None

    def _time_of_steps(self) -> float:
        """Seconds, not counting those in which samples are drawn or files are written."""
        others = (s for phase, s in self._run.stopwatch.seconds.items() if phase != "steps")
        return time.perf_counter() - sum(others)

    def catch_up(self) -> float:
        """Read what is waiting; returns the average loss up to the newest step."""
        if self._waiting:
            reading = self._last = self._read_device()
            self._distances += reading.preservation
            self._judge.check(reading)
            for number, loss in enumerate(reading.losses, reading.first):
                self._smoothed = self._average(number, loss)
            self._judge.verified(Position(reading.last, self._smoothed))
        assert self._smoothed is not None
        return self._smoothed

    def _average(self, step: int, loss: float) -> float:
        # Early on the average is over the steps so far, later over 1 / (1 - decay) of them.
        decay = min(self._decay, 1 - 1 / step)
        before = self._smoothed
        return loss if before is None else decay * before + (1 - decay) * loss

    def _read_device(self) -> Reading:
        """Everything at once: one wait for the device, however many steps."""
        run, count = self._run, len(self._waiting)
        losses = [result.loss.float() for result in self._waiting]
        norms = [result.grad_norm.float() for result in self._waiting]
        kept = [r.preservation.float() for r in self._waiting if r.preservation is not None]
        numbers = torch.stack([*losses, *norms, *kept, weight_norm(run.trainer.groups)]).tolist()
        scaler = run.trainer.scaler
        self._waiting.clear()
        first, self._read_step = self._read_step + 1, self._read_step + count
        return Reading(
            first,
            numbers[:count],
            numbers[count : 2 * count],
            numbers[-1],
            float(scaler.get_scale()) if scaler is not None else None,
            numbers[2 * count : -1],
        )


@torch.no_grad()
def weight_norm(groups: Sequence[Group]) -> Tensor:
    """L2 norm of all that is trained, a float32 scalar on the device, unread."""
    tensors = [tensor for group in groups for tensor in group.tensors]
    norms = torch._foreach_norm(tensors, dtype=torch.float32)
    return torch.linalg.vector_norm(torch.stack(list(norms)))
