"""Notices when a run's numbers go wrong, says why, and takes the run back to where they were good.

It looks at what the meter reads anyway, at logging intervals, so a step has nothing to wait for.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

from lorasmith.core.errors import LorasmithError, RunError, UserError
from lorasmith.core.events import Observer, RolledBack, RunFinished, StateSaved, TroubleFound
from lorasmith.core.text import quantity
from lorasmith.training.interventions import Intervention
from lorasmith.training.monitoring.diagnosis import Finding, diagnose
from lorasmith.training.monitoring.metrics import Reading, weight_norm
from lorasmith.training.monitoring.rollback import RollbackBuffer
from lorasmith.training.runs.folder import write_info
from lorasmith.training.runs.snapshots import save_snapshot
from lorasmith.training.runs.state import Position, list_states, save_state, step_of
from lorasmith.training.setup.build import Run
from lorasmith.training.setup.upcast import compute_in_fp32, find_module

# How far back the weights' norm is compared.
GROWTH_STEPS = 100
# Below this root mean square, growth says nothing: some adapters start at nought. On the demo model
# in 60 steps, (IA)^3 at 1e-2 comes to 0.08, LoRA from 0.043 to 0.048 at a good rate, to 0.07 at the
# highest that learns, and to 0.3 and more where the images turn into noise.
SMALL_WEIGHT = 0.05


class Trouble(LorasmithError):
    """Numbers went wrong; caught by the loop.

    Args:
        step: the first step, from 1, that shows it.
        exploded: the weights are numbers still, but far too large.
    """

    def __init__(self, step: int, what: str, *, exploded: bool = False) -> None:
        super().__init__(f"{what} at step {step}")
        self.step, self.what, self.exploded = step, what, exploded


@dataclass(frozen=True, slots=True)
class Limits:
    """What still counts as good.

    Args:
        growth: of the weights' norm within :data:`GROWTH_STEPS` steps; ``None`` for any.
        loss_scale: the lowest.
        small: a norm below which growth says nothing.
    """

    growth: float | None
    loss_scale: float
    small: float = 0.0


class Vitals:
    """Judges one reading after another."""

    def __init__(self, limits: Limits, step: int, norm: float) -> None:
        self._limits = limits
        self._norms = deque([(step, norm)])

    def check(self, reading: Reading) -> None:
        """Raises Trouble at the first step that is not good."""
        for step, (loss, grad) in enumerate(
            zip(reading.losses, reading.grad_norms, strict=True), reading.first
        ):
            if not math.isfinite(loss):
                raise Trouble(step, f"the loss became {loss}")
            # With loss scaling, gradients that overflow are found and their step skipped.
            if reading.loss_scale is None and not math.isfinite(grad):
                raise Trouble(step, f"the norm of the gradient became {grad}")
        if not math.isfinite(reading.weight_norm):
            raise Trouble(reading.last, f"the norm of the weights became {reading.weight_norm}")
        if reading.loss_scale is not None and reading.loss_scale < self._limits.loss_scale:
            overflown = [not math.isfinite(grad) for grad in reading.grad_norms]
            step = reading.first + overflown.index(True) if any(overflown) else reading.last
            raise Trouble(step, f"the loss scale fell to {reading.loss_scale:g}")
        self._check_growth(reading.last, reading.weight_norm)

    def _check_growth(self, step: int, norm: float) -> None:
        if self._limits.growth is None:
            return
        while len(self._norms) > 1 and self._norms[0][0] < step - GROWTH_STEPS:
            self._norms.popleft()
        lowest = max(min(before for _, before in self._norms), self._limits.small)
        if norm > self._limits.growth * lowest:
            steps = step - self._norms[0][0]
            within = quantity(steps, "step")
            what = f"the norm of the weights grew {norm / lowest:.3g} times within {within}"
            raise Trouble(step, what, exploded=True)
        self._norms.append((step, norm))


class Watchdog:
    """Watches one run.

    Args:
        run: where it begins; its numbers must be good.
    """

    def __init__(self, run: Run, observe: Observer) -> None:
        self._run, self._observe, self._settings = run, observe, run.settings.watchdog
        self._in_fp32: set[str] = set()
        self._convert()
        if self._settings.enabled:
            self._points = RollbackBuffer(run, self._settings.copy_every)
            self._vitals = self._new_vitals(run.position.step)

    def check(self, reading: Reading) -> None:
        """Raises Trouble when the reading is not good."""
        if self._settings.enabled:
            self._vitals.check(reading)
            return
        for step, loss in enumerate(reading.losses, reading.first):
            if not math.isfinite(loss):
                raise Trouble(step, f"the loss became {loss}")

    def verified(self, position: Position) -> None:
        """The numbers as they are now have been checked."""
        if self._settings.enabled:
            self._points.keep(position)

    def go_back(self, trouble: Trouble) -> Position:
        """Find the cause, then put good numbers back and change something.

        Raises:
            RunError: it is time to stop; everything up to the last good step is saved.
        """
        run = self._run
        if not self._settings.enabled:
            hint = "lower the learning rate, or train in bf16 or fp32 (train.precision)"
            raise RunError.of(run.folder.path, f"{trouble}; what was saved before is kept", hint)
        finding = diagnose(
            run, self._points.restore_latest, trouble.step, trouble.what, exploded=trouble.exploded
        )
        images = list(finding.images)
        self._observe(
            TroubleFound(finding.step, finding.what, images, finding.module, str(finding))
        )
        used = run.trainer.interventions.by_watchdog
        if self._settings.action == "stop" or used >= self._settings.attempts:
            raise self._stop(finding, used)
        position = self._points.restore_before(trouble.step)
        change = self._remedy(finding, position.step)
        run.trainer.interventions.add(change)
        self._convert()
        self._save(position)
        self._observe(RolledBack(position.step, str(change), str(finding)))
        self._vitals = self._new_vitals(position.step)
        return position

    def _convert(self) -> None:
        """Let the modules that interventions name compute in float32."""
        run = self._run
        for name in set(run.trainer.interventions.in_fp32) - self._in_fp32:
            compute_in_fp32(find_module(run.model, name), run.precision.dtype)
            self._in_fp32.add(name)

    def _new_vitals(self, step: int) -> Vitals:
        weights = sum(group.flat.numel() for group in self._run.trainer.groups)
        limits = Limits(
            self._settings.max_norm_growth,
            self._settings.min_loss_scale,
            SMALL_WEIGHT * weights**0.5,
        )
        return Vitals(limits, step, float(weight_norm(self._run.trainer.groups)))

    def _remedy(self, finding: Finding, step: int) -> Intervention:
        """What to change: no learning rate mends an image whose own numbers are bad."""
        why = str(finding)
        if finding.phase == "input" and finding.items:
            return Intervention(step, "watchdog", left_out=finding.items, why=why)
        if finding.in_fp32:
            return Intervention(step, "watchdog", in_fp32=finding.in_fp32, why=why)
        return Intervention(step, "watchdog", lr=self._settings.lr_factor, why=why)

    def _save(self, position: Position) -> None:
        """The state as it is now becomes the newest: later ones are of a course given up."""
        run = self._run
        if not run.processes.main:
            return
        for path in list_states(run.folder.state):
            if step_of(path) > position.step:
                path.unlink(missing_ok=True)
        path = save_state(run.folder.state, run.trainer, position)
        write_info(run.folder, interventions=run.trainer.interventions.records())
        self._observe(StateSaved(path, position.step))

    def _stop(self, finding: Finding, used: int) -> UserError:
        run, position = self._run, self._points.restore_before(finding.step)
        if position.step:
            epoch = position.step - 1
            ended = run.batches.epoch_of(epoch) if run.batches.ends_epoch(epoch) else None
            save_snapshot(run, position.step, ended, self._observe)
        self._save(position)
        self._observe(RunFinished("trouble", position.step, run.stopwatch.rounded()))
        if run.processes.main:
            write_info(run.folder, status="trouble")
        run.processes.wait()  # A launcher ends all processes when the first has ended.
        again = " again, after a change" if used else ""
        return RunError.of(
            run.folder.path,
            f"{finding}. Stopped{again}; everything up to step {position.step} is saved",
            self._advice(finding, used),
        )

    def _advice(self, finding: Finding, used: int) -> str:
        if finding.phase == "input":
            return "look at the pictures named, and remove the cache of their latents"
        return (
            "start again with a lower learning rate (optimizer.lr), or go on from there with one "
            f"times {self._settings.lr_factor:g}: lorasmith train --resume {self._run.folder.path} "
            f"--set watchdog.action=rollback --set watchdog.attempts={used + 1}"
        )
