"""What a job says of itself: how far it is, and the end of its log."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorasmith.core.growing_log import last_record, number_of
from lorasmith.core.job_record import EVENTS

LOG = "log.txt"
"""What a job printed, in the folder of its try."""


@dataclass(frozen=True, slots=True)
class JobProgress:
    """
    Args:
        what: "training", "caching latents" …
        loss: the mean of recent losses, of a training.
        seconds_left: where the job says so.
    """

    what: str
    done: int
    total: int
    loss: float | None = None
    seconds_left: float | None = None

    def __str__(self) -> str:
        return f"{self.what} {self.done}/{self.total}"


def last_progress(record: Path) -> JobProgress | None:
    """What a job said last of how far it is; ``None`` where it has said nothing.

    Args:
        record: the folder of its try, see :meth:`.ledger.Ledger.try_folder`.
    """
    event = last_record(record / EVENTS, _is_progress)
    match event.get("event"):
        case "Progress":
            return JobProgress(str(event.get("what")), int(event["done"]), int(event["total"]))
        case "StepDone":
            loss, left = number_of(event.get("smoothed_loss")), number_of(event.get("seconds_left"))
            return JobProgress("training", int(event["step"]), int(event["steps"]), loss, left)
    return None


def _is_progress(event: dict[str, Any]) -> bool:
    """Whether an event says how far the job is, as far as it can be read."""
    names = {"Progress": ("done", "total"), "StepDone": ("step", "steps")}
    counts = names.get(str(event.get("event")), ())
    return bool(counts) and all(number_of(event.get(name)) is not None for name in counts)


def log_end(record: Path, lines: int) -> list[str]:
    """The last lines of what a job printed."""
    text = _end(record / LOG, lines * 400).decode("utf-8", errors="replace")
    return text.splitlines()[-lines:] if lines else []


def _end(path: Path, most: int) -> bytes:
    try:
        with open(path, "rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - most))
            return file.read()
    except OSError:
        return b""
