"""The training loop, top to bottom."""

from __future__ import annotations

import math
import time

from lorasmith.errors import RunError, Stopped
from lorasmith.events import (
    Controls,
    EpochDone,
    Observer,
    RunFinished,
    RunStarted,
    StateSaved,
    StepDone,
)
from lorasmith.training.device import peak_memory
from lorasmith.training.optim import adaptive_rates
from lorasmith.training.setup import Run
from lorasmith.training.snapshots import draw_samples, save_snapshot, should
from lorasmith.training.state import Position, save_state
from lorasmith.training.step import StepResult


def train(run: Run, observe: Observer, controls: Controls) -> None:
    """Train from ``run.position`` to the last step; the result is ``run.folder.result``.

    Raises:
        Stopped: the user asked; the state is saved and ``--resume`` continues exactly.
        RunError: the loss is no number any more, or a file cannot be written.
    """
    batches, trainer, settings = run.batches, run.trainer, run.settings
    meter = Meter(run)
    observe(RunStarted(run.folder.path, run.steps, run.position.step, run.epochs))
    if run.position.step == 0 and settings.sample.at_start:
        draw_samples(run, 0, observe, controls)

    for step in range(run.position.step, run.steps):
        with run.stopwatch.phase("steps"):
            total = batches.size(step)
            result = trainer(step, batches.micro_batches(step), total)
            done, epoch = step + 1, batches.epoch_of(step)
            last = done == run.steps
            observe(meter.measure(done, epoch, total, result, last=last))

        ends_epoch = batches.ends_epoch(step)
        if ends_epoch:
            observe(EpochDone(epoch, run.epochs))
        # What this step produces first, its state last: a run that is killed in between does the
        # step again instead of going on without its files.
        snapshot = last or should(settings.save, done, epoch, ends_epoch)
        if snapshot:
            save_snapshot(run, done, epoch if ends_epoch else None, observe)
        if should(settings.sample, done, epoch, ends_epoch, last=last):
            draw_samples(run, done, observe, controls)
        stopping = not last and run.processes.any(controls.stopping)
        every = settings.save.state_every_steps
        if snapshot or stopping or (every and done % every == 0):
            keep_state(run, meter, done, observe)
        if stopping:
            raise stopped(run, done, observe)

    observe(RunFinished("done", run.steps, run.stopwatch.rounded()))


def stopped(run: Run, step: int, observe: Observer) -> Stopped:
    observe(RunFinished("stopped", step, run.stopwatch.rounded()))
    return Stopped(
        f"stopped after step {step} of {run.steps}; everything is saved. "
        f"Continue with: lorasmith train --resume {run.folder.path}"
    )


def keep_state(run: Run, meter: Meter, step: int, observe: Observer) -> None:
    """Save the training state, once a step at most."""
    if not run.processes.main:
        return
    with run.stopwatch.phase("saving"):
        # The state must hold the loss average of exactly this step, so read it now.
        path = save_state(run.folder.state, run.trainer, Position(step, meter.catch_up()))
    observe(StateSaved(path, step))


class Meter:
    """Turns step results into numbers, reading the device only at logging intervals.

    The smoothed loss is an exponential average over every step (bias-corrected at the start), so
    losses wait on the device until they are read.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._every = run.log_every
        self._decay = run.settings.log.smoothing
        self._waiting: list[StepResult] = []
        self._first = run.position.step + 1
        self._read = run.position.step
        self._smoothed = run.position.smoothed_loss
        self._samples = 0
        self._since = time.perf_counter()

    def measure(
        self, done: int, epoch: int, total: int, result: StepResult, *, last: bool
    ) -> StepDone:
        self._waiting.append(result)
        self._samples += total
        run = self._run
        if done % self._every and not last:
            return StepDone(done, run.steps, epoch)
        grad_norm = float(result.grad_norm)
        smoothed = self.catch_up()
        now = time.perf_counter()
        rate = self._samples / max(now - self._since, 1e-9)
        seconds_left = (now - self._since) / max(done - self._first + 1, 1) * (run.steps - done)
        self._since, self._samples, self._first = now, 0, done + 1
        optimizer = run.trainer.optimizer
        return StepDone(
            done,
            run.steps,
            epoch,
            loss=float(result.loss),
            smoothed_loss=smoothed,
            lr={group["name"]: float(group["lr"]) for group in optimizer.param_groups},
            d_lr=adaptive_rates(optimizer),
            grad_norm=grad_norm,
            samples_per_second=rate,
            seconds_left=seconds_left,
            memory_bytes=peak_memory(run.model.device),
        )

    def catch_up(self) -> float:
        """Read the losses that are waiting; returns the average up to the newest.

        Raises:
            RunError: one of them is NaN or infinite. What was saved before is intact.
        """
        for result in self._waiting:
            self._read += 1
            loss = float(result.loss)
            if not math.isfinite(loss):
                raise RunError.of(
                    self._run.folder.path,
                    f"the loss became {loss} at step {self._read}; what was saved before is kept",
                    "lower the learning rate, or train in bf16 or fp32 (train.precision)",
                )
            # Early on the average is over the steps so far, later over 1 / (1 - decay) of them.
            decay = min(self._decay, 1 - 1 / self._read)
            self._smoothed = (
                loss if self._smoothed is None else (decay * self._smoothed + (1 - decay) * loss)
            )
        self._waiting.clear()
        assert self._smoothed is not None
        return self._smoothed
