"""A running training and those outside of it: what they ask, and how it stands.

Requests are lines of a text file in the run folder's ``control/``, under any name; whoever can
write there can ask: another terminal, a script, the studio. The training looks there about twice a
second, does what is asked after the step in progress, and removes the file. What stands in one file
is done at one step. No torch is imported, so that asking costs nothing.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorasmith.core.disk import discard
from lorasmith.core.errors import UserError
from lorasmith.core.events import Controls, Observer, Request, RequestDone, RequestRefused
from lorasmith.core.files import parse_json, write_text
from lorasmith.training.interventions import Intervention
from lorasmith.training.runs.folder import RunFolder, read_info, sample_pattern, write_info

if TYPE_CHECKING:
    from lorasmith.training.setup.build import Run

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
        discard(path)


def _waiting(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            # Dots begin the names of files that are still being written.
            visible = [entry for entry in entries if not entry.name.startswith(".")]
            files = [(entry.stat().st_mtime_ns, entry.name) for entry in visible if entry.is_file()]
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
        self._pending_files: list[Path] = []
        self._looked = 0.0

    def poll(self, step: int) -> None:
        """Look for new files, if it is time."""
        now = time.monotonic()
        if self._folder is None or now - self._looked < POLL_SECONDS:
            return
        self._looked = now
        for path in _waiting(self._folder):
            if path not in self._pending_files:
                self._take(path, step)

    def _take(self, path: Path, step: int) -> None:
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                text = file.read(MOST_BYTES).strip()
                lines = text.splitlines() if not file.read(1) else [text]
        except OSError:  # Its writer thought better of it, or another program looks at it.
            return
        if not text:  # Its writer is not done yet.
            return
        accepted = [request for line in lines if (request := self._read(line, step))]
        self._pending_files.append(path)
        for request in accepted:
            self._controls.ask(request)
        if not accepted:
            self._remove([path])

    def _read(self, line: str, step: int) -> Request | None:
        try:
            return Request.parse(line) if line.strip() else None
        except UserError as error:
            self._observe(RequestRefused(step, line, str(error)))
            return None

    def done(self) -> None:
        """What was passed on has been done: remove its files."""
        self._remove(self._pending_files)

    def _remove(self, paths: Sequence[Path]) -> None:
        for path in paths:
            discard(path)
        # What others hold is no request any more, and is removed the next time.
        gone = [path for path in paths if not path.exists()]
        self._pending_files = [path for path in self._pending_files if path not in gone]

    def put_back(self) -> None:
        """What was passed on could not be done yet: it will be passed on again."""
        self._pending_files.clear()


# The training's side


@dataclass(frozen=True, slots=True)
class PendingRequests:
    """What is wanted after a step; the same in all processes."""

    stop: bool = False
    requests: Sequence[Request] = ()

    def __contains__(self, what: str) -> bool:
        return any(request.what == what for request in self.requests)


def poll(run: Run, inbox: Inbox, done: int) -> PendingRequests:
    """What was asked by the end of step ``done``. Requests count in the main process, a signal
    to stop in any."""
    inbox.poll(done)
    controls, processes = run.controls, run.processes
    if not processes.any(controls.stopping or controls.asked):
        return PendingRequests()
    return PendingRequests(processes.any(controls.stopping), processes.agree(controls.take()))


def apply_lr_requests(run: Run, done: int, pending: PendingRequests) -> None:
    """Multiply the learning rates of the steps after ``done`` as asked, and keep that."""
    factors = [request.factor for request in pending.requests if request.what == "lr"]
    if not factors:
        return
    interventions = run.trainer.interventions
    for factor in factors:
        interventions.add(Intervention(done, "request", lr=factor, why=f"asked for lr={factor:g}"))
    if run.processes.main:
        write_info(run.folder, interventions=interventions.records())
    run.inform(
        f"learning rate x {interventions.lr_factor(done):g} after step {done}; settings.toml alone "
        "no longer repeats this run: run.json lists what was changed"
    )


def report_done(run: Run, done: int, pending: PendingRequests) -> None:
    """Say what was done."""
    for request in pending.requests:
        if request.what == "samples" and not run.samples:
            run.observer(RequestRefused(done, str(request), "there are no prompts to draw"))
        else:
            run.observer(RequestDone(done, str(request)))


# How it stands


@dataclass(frozen=True)
class Status:
    """
    Args:
        state: "running", "preparing" (no step yet), "done", "stopped", "trouble" or "killed".
        numbers: of the last logged step, as in ``metrics.jsonl``; empty before the first.
        interventions: what was changed on the way, as in ``run.json``.
    """

    state: str
    steps: int | None
    numbers: dict[str, Any] = field(default_factory=dict)
    last_samples: Path | None = None
    last_snapshot: Path | None = None
    last_state_step: int | None = None
    trouble: str = ""
    interventions: list[dict[str, Any]] = field(default_factory=list)
    waiting: int = 0


def read_status(folder: RunFolder) -> Status:
    """The status of a run, running or not."""
    info = read_info(folder)
    numbers: dict[str, Any] = {}
    for record in _records(folder.metrics):
        if _is_number(record.get("loss")) and _is_number(record.get("epoch")):
            numbers = {key: value for key, value in record.items() if _is_plain(value)}
    last: dict[str, dict[str, Any]] = {}
    for record in _records(folder.events):
        last[str(record.get("event"))] = record
    state = state_of(folder, info, begun="RunStarted" in last)
    samples, trouble = _path(last.get("SampleSaved")), last.get("TroubleFound", {})
    return Status(
        state,
        _int_or_none(info.get("steps")),
        numbers,
        sample_pattern(samples) if samples else None,
        _path(last.get("SnapshotSaved")),
        _int_or_none(last.get("StateSaved", {}).get("step")),
        str(trouble.get("found", "")),
        [each for each in _listed(info.get("interventions")) if isinstance(each, dict)],
        len([p for p in folder.control.glob("*") if not p.name.startswith(".")]),
    )


def state_of(folder: RunFolder, info: Mapping[str, Any], *, begun: bool) -> str:
    """A run's state, as in :class:`Status`.

    Args:
        info: of ``run.json``.
        begun: whether its first step was come to.
    """
    if folder.busy:
        return "running" if begun else "preparing"
    state = str(info.get("status", "started"))
    return "killed" if state == "started" else state


def _path(record: dict[str, Any] | None) -> Path | None:
    path = record.get("path") if record else None
    return Path(path) if isinstance(path, str) else None


# The files are text that anything may have written to: what has another type is left out.


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_plain(value: Any) -> bool:
    """A number, or numbers by the name of their group."""
    if isinstance(value, dict):
        return all(map(_is_number, value.values()))
    return _is_number(value) or value is None or isinstance(value, str)


def _int_or_none(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _records(path: Path) -> Iterator[dict[str, Any]]:
    if not path.exists():
        return
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            record = parse_json(line)
        except ValueError:  # The line that is being written.
            continue
        if isinstance(record, dict):
            yield record
