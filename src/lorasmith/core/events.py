"""What a long job tells those who watch it, and what they may ask of it.

A job calls ``observer(event)`` for each of these; terminal, ``events.jsonl``, TensorBoard and the
studio are observers and nothing more. Requests go the other way through :class:`Controls`.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from lorasmith.core.errors import Stopped, UserError
from lorasmith.core.text import did_you_mean

T = TypeVar("T")


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
class PictureDrawn(Event):
    """A picture that was asked for is there, whole."""

    path: Path


@dataclass(frozen=True, slots=True)
class SettingsConverted(Event):
    """What became of each of another trainer's settings: lines of text."""

    lines: list[str]


@dataclass(frozen=True, slots=True)
class NextSteps(Event):
    """What to do with the result: lines of text, commands among them."""

    lines: list[str]


@dataclass(frozen=True, slots=True)
class RateFound(Event):
    """The learning rate that was looked for: of each part, and what was seen, as lines of text."""

    rates: dict[str, float]
    lines: list[str]


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
        preservation_loss: squared distance from the base model's output where it is to be kept:
            the mean of the steps since the last logged one that keep it, ``None`` where none does.
        lr: learning rate per group as set by the schedule.
        d_lr: ``d * lr`` per group for adaptive optimizers, empty for others.
        grad_norm: before clipping.
        weight_norm: L2 norm of everything that is trained, after the step.
        loss_scale: what float16 training multiplies the loss by, ``None`` for other formats.
        samples_per_second: of the steps since the last logged one, all processes together.
        seconds_left: of steps at that rate, without drawing and saving.
        memory_bytes: peak memory of the device (CUDA) or the process (CPU).
    """

    step: int
    steps: int
    epoch: int
    loss: float | None = None
    smoothed_loss: float | None = None
    preservation_loss: float | None = None
    lr: dict[str, float] = field(default_factory=dict)
    d_lr: dict[str, float] = field(default_factory=dict)
    grad_norm: float | None = None
    weight_norm: float | None = None
    loss_scale: float | None = None
    samples_per_second: float | None = None
    seconds_left: float | None = None
    memory_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class EpochDone(Event):
    epoch: int
    epochs: int


@dataclass(frozen=True, slots=True)
class ValidationDone(Event):
    """Mean squared errors on fixed images, noise and timesteps, after step ``step``.

    Args:
        held_out: of images that are not trained on.
        training: of as many that are.
        held_out_change, training_change: since the base model; negative is better.
        gap: ``held_out - training``.
        gap_growth: by how much the gap is wider than the base model's.
        errors: standard errors over the images, by the names above; none for a single image.
        quarters: ``held_out`` by quarter of the timesteps, from little noise to much; fewer where
            fewer timesteps are measured.
        pictures: how many held-out images were measured.
        by_picture: the loss of each held-out image by its folder and name, so that two steps or
            two runs can be compared image by image.
    """

    step: int
    held_out: float
    training: float
    held_out_change: float
    training_change: float
    gap: float
    gap_growth: float
    errors: dict[str, float]
    quarters: list[float]
    pictures: int
    by_picture: dict[str, float] = field(default_factory=dict)


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
class SnapshotJudged(Event):
    """What ``train.stop = "best"`` says of a snapshot.

    Args:
        verdict: "undertrained", "well trained" or "overtrained".
        reasons: a sentence for each sign.
    """

    path: Path
    step: int
    verdict: str
    reasons: list[str]


@dataclass(frozen=True, slots=True)
class BestKept(Event):
    """``train.stop = "best"`` has made a snapshot the result.

    Args:
        path: the result.
        step: that it is of.
        after: steps that were done.
        why: in a few sentences.
    """

    path: Path
    step: int
    after: int
    why: str


@dataclass(frozen=True, slots=True)
class StateSaved(Event):
    path: Path
    step: int


@dataclass(frozen=True, slots=True)
class TroubleFound(Event):
    """The watchdog found that numbers went wrong.

    Args:
        step: the first step (1-based) that shows it.
        what: what went wrong ("the loss is nan").
        samples: files of the images that it came from, as far as that can be said.
        module: where it was seen first: an adapter's key, or a layer of the model.
        found: the whole finding in a sentence.
    """

    step: int
    what: str
    samples: list[str]
    module: str
    found: str


@dataclass(frozen=True, slots=True)
class RolledBack(Event):
    """The run went back to what it was after step ``step``, and goes on with ``change``.

    Everything that was said of later steps is void.
    """

    step: int
    change: str
    found: str


@dataclass(frozen=True, slots=True)
class RequestDone(Event):
    """What was asked was done after step ``step``."""

    step: int
    request: str


@dataclass(frozen=True, slots=True)
class RequestRefused(Event):
    """A request cannot be met; nothing was done."""

    step: int
    request: str
    reason: str


@dataclass(frozen=True, slots=True)
class RunFinished(Event):
    """``reason`` is "done", "stopped" or "trouble"; ``seconds`` by phase ("steps", "encoding")."""

    reason: str
    step: int
    seconds: dict[str, float] = field(default_factory=dict)


Observer = Callable[[Event], None]


def ignore(event: Event) -> None:
    """An observer for those who do not want to know."""


REQUESTS = {
    "samples": "draw the sample pictures",
    "snapshot": "write the LoRA as it is",
    "state": "write what --resume needs",
    "stop": "stop with everything saved",
    "lr": "multiply the learning rate, as in lr=0.5",
}
"""What may be asked of a running training, after the step in progress."""

# A larger change is a mistyped one.
LOWEST_FACTOR, HIGHEST_FACTOR = 1e-4, 10.0


@dataclass(frozen=True, slots=True)
class Request:
    """One of :data:`REQUESTS`; ``factor`` is that of "lr"."""

    what: str
    factor: float = 1.0

    def __str__(self) -> str:
        return f"lr={self.factor:g}" if self.what == "lr" else self.what

    @classmethod
    def parse(cls, text: str) -> Request:
        """``samples``, ``snapshot``, ``state``, ``stop`` or ``lr=FACTOR``.

        Raises:
            UserError: it is none of these; says which there are.
        """
        what, equals, value = (part.strip() for part in text.strip().partition("="))
        requests = ", ".join("lr=FACTOR" if name == "lr" else name for name in REQUESTS)
        if what not in REQUESTS or (equals and what != "lr"):
            hint = f"ask for {requests}"
            hint = hint if what in REQUESTS else did_you_mean(what, REQUESTS.keys(), hint)
            raise UserError.of(text, "is not a request that a run knows", hint)
        return cls(what, _factor(text, value)) if what == "lr" else cls(what)


def _factor(text: str, value: str) -> float:
    try:
        factor = float(value)
    except ValueError:
        factor = math.nan
    if LOWEST_FACTOR <= factor <= HIGHEST_FACTOR:
        return factor
    raise UserError.of(
        text,
        f"the learning rate is multiplied by a number from {LOWEST_FACTOR:g} to {HIGHEST_FACTOR:g}",
        "ask for lr=0.5 to halve it",
    )


class Controls:
    """Requests to a running job; safe to make from a signal handler or another thread."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        # A deque's ends are safe without a lock, which a signal handler could not wait for.
        self._requests: deque[Request] = deque()

    def stop(self) -> None:
        """Ask to stop after the step in progress, with everything saved."""
        self._stop.set()

    @property
    def stopping(self) -> bool:
        return self._stop.is_set()

    def check(self, message: str = "stopped; nothing was written") -> None:
        """
        Raises:
            Stopped: the job shall stop; with this message.
        """
        if self.stopping:
            raise Stopped(message)

    def ask(self, request: Request) -> None:
        """Ask a training for something; it is heeded after the step in progress."""
        if request.what == "stop":
            self.stop()
        else:
            self._requests.append(request)

    @property
    def asked(self) -> bool:
        """Whether requests wait."""
        return bool(self._requests)

    def take(self) -> list[Request]:
        """The requests that wait, oldest first; they wait no longer."""
        return [self._requests.popleft() for _ in range(len(self._requests))]


def with_progress(
    items: Collection[T], what: str, observer: Observer, controls: Controls
) -> Iterator[T]:
    """The items one by one, with a :class:`Progress` event after each.

    Raises:
        Stopped: it was asked for; nothing was written.
    """
    for number, item in enumerate(items, 1):
        controls.check()
        yield item
        observer(Progress(what, number, len(items)))
