"""What a long job tells those who watch it, and what they may ask of it.

A job calls ``observer(event)`` for each of these; terminal, ``events.jsonl``, TensorBoard and the
studio are observers and nothing more. Requests go the other way through :class:`Controls`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Event:
    def record(self) -> dict[str, Any]:
        """The event as JSON-ready values, with its type under ``event``."""
        values = {k: str(v) if isinstance(v, Path) else v for k, v in asdict(self).items()}
        return {"event": type(self).__name__, **values}


@dataclass(frozen=True, slots=True)
class Progress(Event):
    """Preparatory work: ``done`` of ``total`` units of ``what`` ("caching latents")."""

    what: str
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Notice(Event):
    """Something the user should know; ``level`` is "info" or "warning"."""

    level: str
    text: str


@dataclass(frozen=True, slots=True)
class RunStarted(Event):
    folder: Path
    steps: int
    start_step: int
    epochs: int


@dataclass(frozen=True, slots=True)
class StepDone(Event):
    """After optimizer step ``step`` (1-based) of ``steps``.

    Args:
        loss: the step's own loss, ``None`` between logging intervals (reading it synchronises).
        smoothed_loss: mean of the recent losses.
        lr: learning rate per group as set by the schedule.
        d_lr: ``d * lr`` per group for adaptive optimizers, empty for others.
        grad_norm: before clipping.
        samples_per_second: since the last logged step, all processes together.
        seconds_left: at that rate.
        memory_bytes: peak memory of the device (CUDA) or the process (CPU).
    """

    step: int
    steps: int
    epoch: int
    loss: float | None = None
    smoothed_loss: float | None = None
    lr: dict[str, float] = field(default_factory=dict)
    d_lr: dict[str, float] = field(default_factory=dict)
    grad_norm: float | None = None
    samples_per_second: float | None = None
    seconds_left: float | None = None
    memory_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class EpochDone(Event):
    epoch: int
    epochs: int


@dataclass(frozen=True, slots=True)
class SampleSaved(Event):
    path: Path
    step: int
    prompt: str
    seed: int


@dataclass(frozen=True, slots=True)
class SnapshotSaved(Event):
    path: Path
    step: int
    final: bool


@dataclass(frozen=True, slots=True)
class StateSaved(Event):
    path: Path
    step: int


@dataclass(frozen=True, slots=True)
class RunFinished(Event):
    """``reason`` is "done" or "stopped"; ``seconds`` by phase ("steps", "encoding", …)."""

    reason: str
    step: int
    seconds: dict[str, float] = field(default_factory=dict)


Observer = Callable[[Event], None]


def ignore(event: Event) -> None:
    """An observer for those who do not want to know."""


class Controls:
    """Requests to a running job; safe to set from a signal handler or another thread."""

    def __init__(self) -> None:
        self._stop = threading.Event()

    def stop(self) -> None:
        """Ask to stop after the step in progress, with everything saved."""
        self._stop.set()

    @property
    def stopping(self) -> bool:
        return self._stop.is_set()
