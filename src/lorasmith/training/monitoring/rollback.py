"""Copies of a run's numbers from when they were good, to go back to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from lorasmith.tensors import transfer as tensor_transfer
from lorasmith.tensors.transfer import HostBuffer, waiting_for
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
        size = sum(group.flat.numel() * group.flat.element_size() for group in run.trainer.groups)
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
        chosen = old[-1] if old else points[0]
        self._copies = [copy for copy in self._copies if copy.step <= chosen.step]
        del self._contents[len(self._copies) :]
        return self._put_back(chosen)

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
        gone = self._contents.pop(0) if len(self._contents) == KEPT_COPIES else None
        content = host_copy(content_of(self._run.trainer, position), gone)
        wait = waiting_for([group.flat.device for group in self._run.trainer.groups])
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
