"""Runs the jobs of one device, one after the other: ``python -m lorasmith.jobs.queue.runner``.

A process of its own, in a session of its own: the studio may be closed, and the terminal from which
a job was queued. It ends when nothing is left to start, and whoever queues something sees to it
that there is one (:func:`ensure_runners`). A job is in turn a process of its own, so that a runner
that is killed ends no job: the next runner finds it by what it wrote down of itself, and sees it
through. What is between a runner and its job is files (:mod:`lorasmith.core.job_record`).
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import psutil

from lorasmith.core.disk import is_full
from lorasmith.core.errors import Problem, RunError, WriteError
from lorasmith.core.events import Request
from lorasmith.core.files import write_text
from lorasmith.core.growing_log import GrowingLog
from lorasmith.core.job_record import EVENTS, PROCESS, RESULT, STOP, VARIABLE, read_record
from lorasmith.core.locks import lock_file
from lorasmith.core.terminal import echo
from lorasmith.jobs.queue.ledger import Job, Ledger, State
from lorasmith.jobs.queue.watch import LOG, log_end
from lorasmith.training.runs.control import write_requests
from lorasmith.training.runs.folder import RunFolder

_LOOKS = 0.25
"""Seconds between two looks at a job and at what is asked of it."""
_START = 5.0
"""Seconds within which a job that was started has written down which process it is."""
_SAME = 1.0
"""Seconds by which two readings of the time at which one process was started may differ."""

_FULL = 5.0
"""Seconds between two tries to write down what happened, on a disk that is full."""

T = TypeVar("T")
Start = Callable[[Sequence[str], Path, Path], "subprocess.Popen[bytes]"]


def start_job(command: Sequence[str], folder: Path, record: Path) -> subprocess.Popen[bytes]:
    """``lorasmith COMMAND`` in ``folder``, which tells what it does in ``record``."""
    with open(record / LOG, "ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "lorasmith", *command],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, VARIABLE: str(record)},
            **_apart(),
        )


def _apart() -> dict[str, Any]:
    """Options for a process that outlives its parent, and hears no Ctrl-C of its terminal."""
    if sys.platform == "win32":
        flags = subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW
        return {"creationflags": flags}
    return {"start_new_session": True}


def ensure_runners(ledger: Ledger) -> None:
    """Start a runner for each device that has work and none."""
    for device in ledger.devices_with_work():
        with _only_runner(ledger, device, asks=True) as is_free:
            pass
        if not is_free:
            continue
        with open(_runner_file(ledger, device, "log"), "ab") as log:
            subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "lorasmith.jobs.queue.runner",
                    str(ledger.workspace),
                    device,
                ],
                cwd=ledger.workspace,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                **_apart(),
            )


def run_queue(ledger: Ledger, device: str, start: Start = start_job) -> None:
    """Run a device's jobs until none can be started; at once where another process does."""
    while True:
        with _only_runner(ledger, device) as is_only:
            if not is_only:
                return
            while job := _written(lambda: ledger.running(device)):  # An earlier runner's.
                _see_through(ledger, job, None)
            while job := _written(lambda: ledger.claim(device)):
                _see_through(ledger, job, start)
        # Who queued a job between the last look and here found a runner at work, and started none.
        if device not in _written(ledger.devices_with_work):
            return


def _written(change: Callable[[], T]) -> T:
    """What a change of the ledger gives, once the disk takes it: one that is full does not stay so,
    and until then nothing is lost but time."""
    while True:
        try:
            return change()
        except WriteError as error:
            if not is_full(error):
                raise
            with contextlib.suppress(OSError):  # Its log may be on the same disk.
                echo(f"{error}; tried again")
            time.sleep(_FULL)


@contextlib.contextmanager
def _only_runner(ledger: Ledger, device: str, *, asks: bool = False) -> Iterator[bool]:
    """Whether no other runner works for a device.

    Args:
        asks: it is only asked, and keeps no runner from beginning.
    """
    with open(_runner_file(ledger, device, "lock"), "a", encoding="utf-8") as file:
        yield lock_file(file, shared=asks)


def _runner_file(ledger: Ledger, device: str, ending: str) -> Path:
    return ledger.folder / f"runner-{re.sub(r'[^A-Za-z0-9]', '-', device)}.{ending}"


class _JobProcess:
    """The process of a job: this runner's child, or one that an earlier runner started."""

    def __init__(self, child: subprocess.Popen[bytes] | None, process: psutil.Process | None):
        self._child, self._process = child, process

    @property
    def is_alive(self) -> bool:
        if self._child is not None:
            return self._child.poll() is None
        try:
            return self._process is not None and self._process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return False

    @property
    def exit_status(self) -> int | None:
        return None if self._child is None else self._child.poll()

    def kill(self) -> None:
        """End it and what it started."""
        with contextlib.suppress(psutil.Error):
            process = self._process or psutil.Process(self._child.pid if self._child else -1)
            for each in [*process.children(recursive=True), process]:
                with contextlib.suppress(psutil.Error):
                    each.kill()


def _see_through(ledger: Ledger, job: Job, start: Start | None) -> None:
    """Start a job, or without ``start`` find the one that runs, and wait for its end."""
    record = ledger.try_folder(job)
    if start is None:
        found = _found(record)
        process = _JobProcess(None, found)
        if found is None and not record.exists():
            what = "its folder was deleted, so nobody can say how it ended; what it made is still"
            what = f"{what} there, and retrying runs it again"
            state: State = "cancelled" if job.wish in ("cancel", "kill") else "failed"
            _written(lambda: ledger.end(job.id, state, None, what))
            return
        if found is None and not _was_started(record):
            _written(lambda: ledger.unclaim(job.id))  # Its runner ended before it had started it.
            return
    else:
        try:
            command = _command(ledger, job)
            words = "\n".join(command).encode("utf-8", "replace").decode("utf-8")
            _written(partial(write_text, record / "command.txt", words + "\n"))
            child = start(command, job.folder, record)
            process = _JobProcess(child, None)
        except (OSError, ValueError, RunError) as error:
            what = f"could not be started: {error}"
            _written(lambda: ledger.end(job.id, "failed", None, what))
            return
    events, version, finishing = GrowingLog(record / EVENTS), -1, False
    while process.is_alive:
        _note_run(ledger, job, events)
        now = _written(ledger.version)
        if now != version:
            version = now
            wish = _written(lambda: ledger.job(job.id)).wish
            if wish == "finish":
                finishing = finishing or _asked_to_finish(_written(lambda: ledger.job(job.id)))
            if wish and not (wish == "finish" and finishing):
                # Whoever deletes the folder of a job that runs can still end it.
                with contextlib.suppress(OSError):
                    record.mkdir(parents=True, exist_ok=True)
                    (record / STOP).touch()
            if wish == "kill":
                process.kill()
        time.sleep(_LOOKS)
    _note_run(ledger, job, events)
    ending = _ending(_written(lambda: ledger.job(job.id)), record, process.exit_status)
    _written(lambda: ledger.end(job.id, *ending))


def _asked_to_finish(job: Job) -> bool:
    """Ask a training for a LoRA, and to stop; whether there is one that can be asked."""
    folder = RunFolder(Path(job.run)) if job.run else None
    try:
        if folder is None or not folder.busy:
            return False
        write_requests(folder.control, Request("snapshot"), Request("stop"))
    except OSError:
        return False
    return True


def _found(record: Path) -> psutil.Process | None:
    """The living process of a job that an earlier runner started."""
    # First by its environment, which it has from its first moment on, and which no change of the
    # clock alters.
    if process := _bearer(record):
        return process
    if not _was_started(record):
        return None
    deadline = time.monotonic() + _START
    while (values := read_record(record / PROCESS)) is None:
        if time.monotonic() > deadline:
            return None
        time.sleep(_LOOKS)
    try:
        process = psutil.Process(int(values["pid"]))
        # The system gives numbers of processes that have ended to others.
        same = abs(process.create_time() - float(values["created"])) < _SAME
    except (psutil.Error, LookupError, TypeError, ValueError):
        return None
    return process if same else None


def _was_started(record: Path) -> bool:
    """Whether a runner came so far with a job; its log is the first that there is of it."""
    return any((record / name).exists() for name in (LOG, PROCESS, RESULT))


def _bearer(record: Path) -> psutil.Process | None:
    """The process that was started for a folder; of several, as it may have forked, the first."""
    bearers = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            told = process.environ().get(VARIABLE)
            if told and Path(told).resolve() == record.resolve():
                bearers.append((process.create_time(), process.pid, process))
    return min(bearers)[-1] if bearers else None


def _command(ledger: Ledger, job: Job) -> list[str]:
    """The words after ``lorasmith``: what was queued, or to go on with the run that it began."""
    if job.is_training and job.run and any(RunFolder(Path(job.run)).state.glob("step-*")):
        return ["train", "--resume", job.run]
    if not any("{run}" in word for word in job.command):
        return list(job.command)
    run = ledger.job(job.after).run if job.after is not None else ""
    if not run:
        hint = "queue it with --after and the number of a training"
        raise RunError.of(
            f"job {job.id}", "follows no job with a run, which {run} stands for", hint
        )
    return [word.replace("{run}", run) for word in job.command]


def _note_run(ledger: Ledger, job: Job, events: GrowingLog) -> None:
    """The folder of the training run, as soon as the job tells it."""
    for event in events.read()[1]:
        folder = event.get("folder")
        if event.get("event") == "RunStarted" and isinstance(folder, str):
            run = str((job.folder / folder).absolute())
            _written(partial(ledger.set_run, job.id, run))


def _ending(job: Job, record: Path, status: int | None) -> tuple[State, int | None, str]:
    """What became of a job: its state, its exit status, and why in a sentence."""
    result = read_record(record / RESULT)
    if result is None and status in (0, 130):  # There was no room for more words.
        result = {"status": status}
    if result is None:
        if job.wish == "kill":
            return "cancelled", status, "ended at once, as asked"
        how = f" (exit status {status})" if status is not None else ""
        what = f"ended without a word{how}: it was killed, for lack of memory or by someone, or"
        what = f"{what} the system was shut down"
        return "failed", status, f"{what}; what it printed is in {record / LOG}"
    status = int(result.get("status", 1))
    problems = result.get("problems", ())
    told = "; ".join(str(Problem(each["where"], each["what"])) for each in problems)
    told = told or " ".join(log_end(record, 1))
    if status == 0 or (status == 2 and job.is_look and not problems):
        return "done", status, ""
    if status != 130:
        return "failed", status, told or f"exit status {status}"
    if job.wish in ("cancel", "kill"):
        return "cancelled", status, told
    if job.wish == "finish":
        return "done", status, "ended early, as asked"
    if job.wish == "pause" or (job.is_training and job.run):
        message = f"everything is saved; `lorasmith queue resume {job.id}` goes on"
        return "paused", status, message
    return "cancelled", status, told or "stopped from outside"


if __name__ == "__main__":
    run_queue(Ledger(Path(sys.argv[1])), sys.argv[2])
