"""What a job says of itself: how far it is, and the end of its log."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorasmith.core.files import parse_json
from lorasmith.core.job_record import EVENTS

LOG = "log.txt"
"""What a job printed, in the folder of its try."""

_END = 16_384
"""Bytes from the end of a file of events within which the last ones lie."""


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
    for event in _last_events(record / EVENTS):
        with contextlib.suppress(LookupError, TypeError, ValueError):
            if event["event"] == "Progress":
                return JobProgress(str(event["what"]), int(event["done"]), int(event["total"]))
            if event["event"] == "StepDone":
                loss, left = event.get("smoothed_loss"), event.get("seconds_left")
                return JobProgress("training", int(event["step"]), int(event["steps"]), loss, left)
    return None


def _last_events(path: Path) -> Iterator[dict[str, Any]]:
    """The last events, the newest first; lines that are being written are left out."""
    for line in reversed(_end(path, _END).splitlines()):
        with contextlib.suppress(ValueError):
            event = parse_json(line)
            if isinstance(event, dict):
                yield event


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
