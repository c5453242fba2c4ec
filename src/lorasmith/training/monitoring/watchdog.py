"""Notices when a run's numbers go wrong, says why, and takes the run back to where they were good.

It looks at what the meter reads anyway, at logging intervals, so a step has nothing to wait for.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from lorasmith.core.disk import remove_file
from lorasmith.core.errors import LorasmithError, RunError, UserError
from lorasmith.core.events import RolledBack, RunFinished, StateSaved, TroubleFound
from lorasmith.core.text import quantity
from lorasmith.tensors import transfer as tensor_transfer
from lorasmith.tensors.transfer import HostBuffer, waiting_for
from lorasmith.training.interventions import Intervention
from lorasmith.training.monitoring.diagnosis import Finding, diagnose
from lorasmith.training.monitoring.metrics import Reading, weight_norm
from lorasmith.training.runs.folder import write_info
from lorasmith.training.runs.snapshots import save_snapshot
from lorasmith.training.runs.state import (
    Position,
    content_of,
    list_states,
    put_back,
    read_state,
    save_state,
    step_of,
)
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

    def __init__(self, run: Run) -> None:
        self._run, self._settings = run, run.settings.watchdog
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
            hint = "lower the learning rate, or train in bf16 or fp32 (train.precision); "
            hint += "`lorasmith doctor` tries each precision"
            raise RunError.of(run.folder.path, f"{trouble}; what was saved before is kept", hint)
        finding = diagnose(
            run, self._points.restore_latest, trouble.step, trouble.what, exploded=trouble.exploded
        )
        images = list(finding.images)
        self._run.observer(
            TroubleFound(finding.step, finding.what, images, finding.module, str(finding))
        )
        attempts = run.trainer.interventions.by_watchdog
        if self._settings.action == "stop" or attempts >= self._settings.attempts:
            raise self._stop(finding, attempts)
        position = self._points.restore_before(trouble.step)
        change = self._remedy(finding, position.step)
        run.trainer.interventions.add(change)
        self._convert()
        self._save(position)
        self._run.observer(RolledBack(position.step, str(change), str(finding)))
        self._vitals = self._new_vitals(position.step)
        return position

    def _convert(self) -> None:
        """Let the modules that interventions name compute in float32."""
        run = self._run
        for name in set(run.trainer.interventions.in_fp32) - self._in_fp32:
            compute_in_fp32(find_module(run.model, name), run.precision.dtype)
            self._in_fp32.add(name)

    def _new_vitals(self, step: int) -> Vitals:
        weights = sum(group.size for group in self._run.trainer.groups)
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
                remove_file(path)
        path = save_state(run.folder.state, run.trainer, position)
        write_info(run.folder, interventions=run.trainer.interventions.records())
        self._run.observer(StateSaved(path, position.step))

    def _stop(self, finding: Finding, attempts: int) -> UserError:
        run, position = self._run, self._points.restore_before(finding.step)
        if position.step:
            epoch = position.step - 1
            ended = run.batches.epoch_of(epoch) if run.batches.ends_epoch(epoch) else None
            save_snapshot(run, position.step, ended)
        self._save(position)
        self._run.observer(RunFinished("trouble", position.step, run.stopwatch.rounded()))
        if run.processes.main:
            write_info(run.folder, status="trouble")
        run.processes.wait()  # A launcher ends all processes when the first has ended.
        again = " again, after a change" if attempts else ""
        return RunError.of(
            run.folder.path,
            f"{finding}. Stopped{again}; everything up to step {position.step} is saved",
            self._advice(finding, attempts),
        )

    def _advice(self, finding: Finding, attempts: int) -> str:
        if finding.phase == "input":
            return "look at the pictures named, and remove the cache of their latents"
        return (
            "start again with a lower learning rate (optimizer.lr), or go on from there with one "
            f"times {self._settings.lr_factor:g}: lorasmith train --resume {self._run.folder.path} "
            f"--set watchdog.action=rollback --set watchdog.attempts={attempts + 1}"
        )


# Copies of the numbers from when they were good

KEPT_COPIES = 2
# Beyond this the copies would crowd main memory, and the run's state files serve instead. It is
# enough for two of Stable Diffusion 1's LoRA of rank 128 with AdamW.
MOST_BYTES = 2 << 30


@dataclass(frozen=True, slots=True)
class _Point:
    step: int
    read: Callable[[], dict[str, Any]]


class RollbackBuffer:
    """The newest two copies, ``every`` steps apart, the first from where the process began.

    Copies are in main memory, whatever the device, as accelerators have none to spare. A GPU makes
    them by itself, between the steps before and after; nobody waits for them but who reads them.
    """

    def __init__(self, run: Run, every: int) -> None:
        self._run, self._every = run, every
        self._copies: list[_Point] = []
        self._contents: list[dict[str, Any]] = []
        size = sum(tensor.nbytes for group in run.trainer.groups for tensor in group.tensors)
        # Weights and two moments, as AdamW has them.
        self._in_memory = KEPT_COPIES * 3 * size <= MOST_BYTES
        if self._in_memory:
            self._copy(run.position)
        elif run.processes.main and not list_states(run.folder.state):
            save_state(run.folder.state, run.trainer, run.position)

    def keep(self, position: Position) -> None:
        """Copy the numbers as they are, if the last copy is old enough. They must be good."""
        if self._in_memory and position.step - self._copies[-1].step >= self._every:
            self._copy(position)

    def restore_latest(self) -> Position:
        """Put the newest numbers back."""
        return self._put_back(self._points()[-1])

    def restore_before(self, step: int) -> Position:
        """Put numbers back that were good well before ``step``, and forget later copies."""
        points = self._points()
        old = [point for point in points if step - point.step >= self._every]
        target = old[-1] if old else points[0]
        self._copies = [copy for copy in self._copies if copy.step <= target.step]
        del self._contents[len(self._copies) :]
        return self._put_back(target)

    def _points(self) -> list[_Point]:
        if self._in_memory:
            return self._copies
        self._run.processes.wait()
        return [
            _Point(step_of(path), lambda path=path: read_state(path))  # type: ignore[misc]
            for path in list_states(self._run.folder.state)
        ]

    def _copy(self, position: Position) -> None:
        # Into the memory of the copy that goes: fresh memory takes seven times as long.
        buffer = self._contents.pop(0) if len(self._contents) == KEPT_COPIES else None
        content = host_copy(content_of(self._run.trainer, position), buffer)
        groups = self._run.trainer.groups
        wait = waiting_for([tensor.device for group in groups for tensor in group.tensors])
        self._contents.append(content)

        def read() -> dict[str, Any]:
            wait()
            return dict(host_copy(content))

        self._copies.append(_Point(position.step, read))
        del self._copies[:-KEPT_COPIES]

    def _put_back(self, point: _Point) -> Position:
        return put_back(point.read(), self._run.trainer, self._run.folder.path)


def host_copy(value: Any, into: Any = None) -> Any:
    """``value`` with all tensors in it copied, on the CPU, into the memory of an earlier copy
    ``into`` where they fit.

    Of tensors of a device that copies alone it has a :class:`HostBuffer` each, to be read when the
    device has filled it; a copy of such a copy has their tensors.
    """
    if isinstance(value, HostBuffer):
        return value.tensor()
    if isinstance(value, Tensor) and tensor_transfer.copies_alone(value.device):
        same = isinstance(into, HostBuffer) and into.fits(value)
        buffer = into if same else HostBuffer(value)
        buffer.fill(value)
        return buffer
    if isinstance(value, Tensor):
        same = isinstance(into, Tensor) and (into.shape, into.dtype) == (value.shape, value.dtype)
        return into.copy_(value.detach()) if same else value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        old = into if isinstance(into, dict) else {}
        return {key: host_copy(inner, old.get(key)) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        fits = isinstance(into, list | tuple) and len(into) == len(value)
        olds = into if fits else [None] * len(value)
        return type(value)(host_copy(inner, old) for inner, old in zip(value, olds, strict=True))
    return value
