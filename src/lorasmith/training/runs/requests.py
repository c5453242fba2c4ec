"""Requests to a running training, as small files in its folder's ``control/``.

Requests are lines of a text file under any name; whoever can write into the run folder can ask:
another terminal, a script, the studio. The training looks there about twice a second, does what is
asked after the step in progress, and removes the file. What stands in one file is done at one step.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from lorasmith.core.errors import UserError
from lorasmith.core.events import Controls, Observer, Request, RequestRefused
from lorasmith.core.files import write_text

POLL_SECONDS = 0.5
# Longer is no request, whatever it is.
MOST_BYTES = 1000


def write_requests(folder: Path, *requests: Request) -> Path:
    """Put them into the ``control`` folder; the returned file vanishes when they are done."""
    # Named by time, so that requests are met in the order in which they were made.
    path = folder / f"{time.time_ns():020d}-{os.getpid()}.txt"
    write_text(path, "".join(f"{request}\n" for request in requests))
    return path


def forget_requests(folder: Path) -> None:
    """Remove what was asked of a run that is no more."""
    for path in _waiting(folder):
        path.unlink(missing_ok=True)


def _waiting(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            # Dots begin the names of files that are still being written.
            found = [entry for entry in entries if not entry.name.startswith(".")]
            files = [(entry.stat().st_mtime_ns, entry.name) for entry in found if entry.is_file()]
    except FileNotFoundError:  # The usual case: nothing was ever asked.
        return []
    return [folder / name for _, name in sorted(files)]


class Inbox:
    """The training's side: passes what is asked in the folder on to ``controls``.

    Args:
        folder: the ``control`` folder, which need not be there; ``None`` never asks anything.
    """

    def __init__(self, folder: Path | None, controls: Controls, observe: Observer) -> None:
        self._folder, self._controls, self._observe = folder, controls, observe
        self._taken: list[Path] = []
        self._looked = 0.0

    def poll(self, step: int) -> None:
        """Look for new files, if it is time."""
        now = time.monotonic()
        if self._folder is None or now - self._looked < POLL_SECONDS:
            return
        self._looked = now
        for path in _waiting(self._folder):
            if path not in self._taken:
                self._take(path, step)

    def _take(self, path: Path, step: int) -> None:
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                text = file.read(MOST_BYTES).strip()
                lines = text.splitlines() if not file.read(1) else [text]
        except FileNotFoundError:  # Its writer thought better of it.
            return
        if not text:  # Its writer is not done yet.
            return
        accepted = [request for line in lines if (request := self._read(line, step))]
        if not accepted:
            path.unlink(missing_ok=True)
            return
        for request in accepted:
            self._controls.ask(request)
        self._taken.append(path)

    def _read(self, line: str, step: int) -> Request | None:
        try:
            return Request.parse(line) if line.strip() else None
        except UserError as error:
            self._observe(RequestRefused(step, line, str(error)))
            return None

    def done(self) -> None:
        """What was passed on has been done: remove its files."""
        for path in self._taken:
            path.unlink(missing_ok=True)
        self._taken.clear()

    def put_back(self) -> None:
        """What was passed on could not be done yet: it will be passed on again."""
        self._taken.clear()
