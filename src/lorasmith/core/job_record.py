"""What a job of the queue tells whoever runs it, and hears from it: files in a folder of its own.

::

    process.json   the process that it is: number, and when that was started
    events.jsonl   each event, one a line, progress at most five times a second
    result.json    how it ended: exit status, and the problems that it told
    stop           once this file is there, the job is asked to stop with everything saved

Files and not signals, which Windows does not have: they work as well from another session, and are
still there when whoever started the job is not. The environment variable :data:`VARIABLE` names the
folder.
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lorasmith.core.errors import Problem, WriteError
from lorasmith.core.events import Controls, Event, Observer, Progress, StepDone
from lorasmith.core.files import parse_json, write_json

VARIABLE = "LORASMITH_JOB"
PROCESS, EVENTS, RESULT, STOP = "process.json", "events.jsonl", "result.json", "stop"

_OFTEN = 0.2
"""Seconds between two events of progress, and between two looks for the file that asks to stop."""


@functools.cache
def current() -> JobRecord | None:
    """This process's, if it is a job of the queue."""
    # Taken out, so that processes that it starts do not take themselves for the job.
    folder = os.environ.pop(VARIABLE, "")
    return JobRecord(Path(folder)) if folder else None


class JobRecord:
    """The job's side of the folder.

    What goes wrong with it, such as a full disk, ends no job.
    """

    def __init__(self, folder: Path) -> None:
        import psutil

        self._folder = folder
        self._last = 0.0
        created = psutil.Process().create_time()
        with contextlib.suppress(OSError, WriteError):
            write_json(folder / PROCESS, {"pid": os.getpid(), "created": created})

    @staticmethod
    def print_what_can_be() -> None:
        """Let what is printed from now on vanish where the log's disk is full."""
        for name in ("stdout", "stderr"):
            stream = getattr(sys, name)
            if isinstance(stream, io.TextIOWrapper):
                stream.flush()
                try:
                    number = stream.fileno()
                except io.UnsupportedOperation:  # It stands for a file, in memory.
                    continue
                buffer = io.BufferedWriter(_LossyFile(number))
                printed = io.TextIOWrapper(
                    buffer, stream.encoding, stream.errors, line_buffering=True
                )
                setattr(sys, name, printed)

    def watching(self, observer: Observer) -> Observer:
        """An observer that also writes each event down."""

        def observe(event: Event) -> None:
            observer(event)
            frequent = isinstance(event, Progress | StepDone)
            now = time.monotonic()
            if frequent and now - self._last < _OFTEN and not _is_last(event):
                return
            if frequent:
                self._last = now
            line = json.dumps({**event.record(), "time": time.time()}, default=str)
            with (
                contextlib.suppress(OSError),
                open(self._folder / EVENTS, "a", encoding="utf-8") as file,
            ):
                file.write(line + "\n")

        return observe

    @contextlib.contextmanager
    def heeding(self, controls: Controls) -> Iterator[None]:
        """While the block runs, the file that asks to stop asks ``controls``."""
        done = threading.Event()

        def look() -> None:
            while not done.wait(_OFTEN):
                if (self._folder / STOP).exists():
                    controls.stop()
                    return

        thread = threading.Thread(target=look, name="job's controls", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def end(self, status: int, problems: Sequence[Problem]) -> None:
        """Write down how the job ended."""
        with contextlib.suppress(OSError, WriteError):
            told = [asdict(problem) for problem in problems]
            write_json(self._folder / RESULT, {"status": status, "problems": told})


class _LossyFile(io.RawIOBase):
    """A file of the system's number; what it does not take is lost."""

    def __init__(self, number: int) -> None:
        self._number = number

    def fileno(self) -> int:
        return self._number

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        try:
            return os.write(self._number, data)
        except OSError:
            return len(data)


def _is_last(event: Event) -> bool:
    if isinstance(event, Progress):
        return event.done >= event.total
    return isinstance(event, StepDone) and event.step >= event.steps


def read_record(path: Path) -> dict[str, Any] | None:
    """One of the folder's JSON files; ``None`` where it is not there, or is no such thing."""
    try:
        values = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return values if isinstance(values, dict) else None
