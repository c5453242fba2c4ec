"""The ledger of a workspace: every job, its place in the queue, and what became of it.

A SQLite file, ``WORKSPACE/.lorasmith/queue/queue.sqlite``, beside a folder for each job. Programs,
the studio and the runners of several devices read and write it at the same time: each change is one
transaction, and each of them checks that the job is still in a state that allows it.

::

    queued -> running -> done
      |  ^       |----> failed     -> queued (retry)
      v  |       |----> cancelled  -> queued (retry)
     held        '----> paused     -> queued (resume)
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from lorasmith.core.disk import discard, write_error
from lorasmith.core.errors import RunError, UserError
from lorasmith.core.files import parse_json
from lorasmith.core.text import word_list
from lorasmith.formats.run_paths import loras_of
from lorasmith.jobs.queue.database import Database

State = Literal["queued", "held", "running", "paused", "done", "failed", "cancelled"]
Wish = Literal["", "pause", "finish", "cancel", "kill"]
STATES: tuple[State, ...] = get_args(State)
ENDED: tuple[State, ...] = ("done", "failed", "cancelled")
WAITING: tuple[State, ...] = ("queued", "held", "paused")

AUTO = "auto"
"""The device that each job takes by itself."""


@dataclass(frozen=True, slots=True)
class Job:
    """One command that waits, runs or has run.

    Args:
        command: the words after ``lorasmith``.
        folder: where it is run; paths in the command are relative to it.
        device: the queue that it stands in.
        wish: what is asked of it while it runs.
        position: its place among those that wait; lower ones are first.
        after: the job that must be done before it.
        created, started, ended: seconds since 1970; of the last try.
        run: the folder of the training run, once there is one.
        message: why it is where it is, in a sentence.
        status: the exit status.
        tries: how often it was started.
    """

    id: int
    title: str
    command: tuple[str, ...]
    folder: Path
    device: str
    state: State
    wish: Wish
    position: float
    after: int | None
    created: float
    started: float | None
    ended: float | None
    run: str
    message: str
    status: int | None
    tries: int

    @property
    def has_ended(self) -> bool:
        return self.state in ENDED

    @property
    def is_waiting(self) -> bool:
        return self.state in WAITING

    @property
    def is_training(self) -> bool:
        """Whether it can be paused, and gone on with later."""
        return self.command[:1] == ("train",)

    @property
    def is_look(self) -> bool:
        """Whether exit status 2 may say that it found what is wrong, and not that it failed."""
        return self.command[:2] in (("dataset", "audit"), ("dataset", "check"))


class Ledger:
    """The jobs of one workspace.

    Raises:
        RunError: nothing can be written in the workspace.
        WriteError: by any method: the disk is full, and nothing was changed.
    """

    def __init__(self, workspace: Path) -> None:
        self.workspace = Path(workspace).absolute()
        self.folder = self.workspace / ".lorasmith" / "queue"
        self._database = Database(self.folder / "queue.sqlite")

    # Reading

    def version(self) -> int:
        """A number that is another one after any change by any process."""
        with self._database.looked_at() as connection:
            return int(connection.execute("SELECT number FROM version").fetchone()[0])

    def jobs(self) -> list[Job]:
        """What runs, then what waits in its order, then what has ended, the last first."""
        with self._database.looked_at() as connection:
            jobs = [_job(row) for row in connection.execute("SELECT * FROM jobs")]
        return sorted(jobs, key=_order)

    def job(self, number: int) -> Job:
        """
        Raises:
            RunError: there is none of this number.
        """
        with self._database.looked_at() as connection:
            return _get(connection, number)

    def job_folder(self, number: int) -> Path:
        """Where a job's settings lie."""
        return self.folder / "jobs" / str(number)

    def try_folder(self, job: Job) -> Path:
        """Where the log of its last try lies, and what it tells
        (:mod:`lorasmith.core.job_record`)."""
        return self.job_folder(job.id) / str(job.tries)

    # What users ask

    def add(
        self,
        command: Sequence[str],
        title: str,
        folder: Path,
        *,
        device: str = AUTO,
        after: int | None = None,
        hold: bool = False,
    ) -> Job:
        """Put a command at the end of a device's queue.

        Raises:
            RunError: there is no job ``after``.
        """
        with self._database.changed() as connection:
            if after is not None:
                _get(connection, after)
            cursor = connection.execute(
                "INSERT INTO jobs"
                " (id, title, command, folder, device, state, position, after, created)"
                " VALUES (?, ?, ?, ?, ?, ?,"
                " (SELECT COALESCE(MAX(position), 0) + 1 FROM jobs), ?, ?)",
                (
                    self._first_number(connection),
                    _writable(title),
                    json.dumps(list(command)),
                    _writable(str(Path(folder).absolute())),
                    device,
                    "held" if hold else "queued",
                    after,
                    time.time(),
                ),
            )
            assert cursor.lastrowid is not None
            job = _get(connection, cursor.lastrowid)
            _make_folder(self.job_folder(job.id))
            return job

    def _first_number(self, connection: sqlite3.Connection) -> int | None:
        """Of the first job, one above all whose folders are left of a file that was put away, so
        that it is not taken for one of those; of others ``None``, for the next one."""
        if connection.execute("SELECT * FROM sqlite_sequence WHERE name = 'jobs'").fetchone():
            return None
        with contextlib.suppress(OSError):
            names = [folder.name for folder in (self.folder / "jobs").iterdir()]
            return max((int(name) for name in names if name.isdecimal()), default=0) + 1
        return None

    def set_command(self, number: int, command: Sequence[str]) -> Job:
        """Of a job that is held: what it is to run after all."""
        return self._change(number, "change", ("held",), command=json.dumps(list(command)))

    def hold(self, number: int) -> Job:
        """Let others go first until it is released."""
        return self._change(number, "hold", ("queued",), state="held")

    def release(self, number: int) -> Job:
        return self._change(number, "release", ("held",), state="queued")

    def move(self, number: int, before: int | None = None) -> Job:
        """Put a waiting job before another one, or at the end."""
        with self._database.changed() as connection:
            _allowed(_get(connection, number), "move", WAITING)
            waiting = sorted(
                (
                    job
                    for job in map(_job, connection.execute("SELECT * FROM jobs"))
                    if job.state in WAITING and job.id != number
                ),
                key=lambda job: job.position,
            )
            place = len(waiting)
            if before is not None and before != number:
                _allowed(_get(connection, before), "move before", WAITING)
                place = next(n for n, job in enumerate(waiting) if job.id == before)
            ids = [job.id for job in waiting]
            ids.insert(place, number)
            # Anew from 1: halving distances would run out of digits some day.
            connection.executemany(
                "UPDATE jobs SET position = ? WHERE id = ?",
                [(place, job) for place, job in enumerate(ids, 1)],
            )
            return _get(connection, number)

    def pause(self, number: int) -> Job:
        """Ask a training to stop with everything saved, to be gone on with later."""
        with self._database.changed() as connection:
            job = _get(connection, number)
            if job.state in ("queued", "held"):
                raise _refusal(job, "pause", "it has not begun; hold it")
            _allowed(job, "pause", ("running",))
            if job.wish in ("cancel", "kill"):
                raise _refusal(job, "pause", "it is being cancelled; retry it afterwards")
            if not job.is_training:
                raise _refusal(job, "pause", "only a training can go on later; cancel it")
            return _update(connection, number, wish="pause")

    def finish(self, number: int) -> Job:
        """Ask a training to end with what it has learned, as a LoRA; then it is done."""
        with self._database.changed() as connection:
            job = _get(connection, number)
            _allowed(job, "finish", ("running",))
            if job.wish in ("cancel", "kill"):
                raise _refusal(job, "finish", "it is being cancelled")
            if not job.is_training:
                raise _refusal(job, "finish", "only a training can end early; cancel it")
            return _update(connection, number, wish="finish")

    def cancel(self, number: int) -> Job:
        """Take a job out of the queue, or ask it to stop with everything saved; asked a second
        time, end it at once."""
        with self._database.changed() as connection:
            job = _get(connection, number)
            if job.state == "running":
                return _update(
                    connection, number, wish="kill" if job.wish == "cancel" else "cancel"
                )
            _allowed(job, "cancel", WAITING)
            message = "cancelled before it began" if not job.tries else "cancelled"
            return _update(
                connection, number, state="cancelled", message=message, ended=time.time()
            )

    def resume(self, number: int) -> Job:
        """Let a paused training go on, before all others."""
        return self._again(number, "resume", ("paused",))

    def retry(self, number: int) -> Job:
        """Run a job that failed or was cancelled again; a training goes on from its last state
        where it has one."""
        return self._again(number, "retry", ("failed", "cancelled"))

    def _again(self, number: int, what: str, states: tuple[State, ...]) -> Job:
        first = what == "resume"
        with self._database.changed() as connection:
            _allowed(_get(connection, number), what, states)
            column, step = ("MIN", -1) if first else ("MAX", 1)
            place = connection.execute(f"SELECT {column}(position) FROM jobs").fetchone()[0] + step
            return _update(
                connection,
                number,
                state="queued",
                wish="",
                position=place,
                message="",
                status=None,
                ended=None,
            )

    def remove(self, number: int) -> None:
        """Forget a job that does not run, with its folder; its results stay.

        Raises:
            RunError: it runs, or another one waits until it is done.
        """
        with self._database.changed() as connection:
            job = _get(connection, number)
            _allowed(job, "remove", (*WAITING, *ENDED))
            query = "SELECT * FROM jobs WHERE after = ?"
            for each in map(_job, connection.execute(query, (number,)).fetchall()):
                if job.state == "done":  # What it was waited for is there: nothing else is needed.
                    command = [word.replace("{run}", job.run or "{run}") for word in each.command]
                    _update(connection, each.id, command=json.dumps(command), after=None)
                elif each.state in WAITING:
                    why = f"job {each.id} waits until it is done; cancel or remove that first"
                    raise _refusal(job, "remove", why)
            connection.execute("DELETE FROM jobs WHERE id = ?", (number,))
        discard(self.job_folder(number))

    def _change(self, number: int, what: str, states: tuple[State, ...], **values: object) -> Job:
        with self._database.changed() as connection:
            _allowed(_get(connection, number), what, states)
            return _update(connection, number, **values)

    # What runners tell

    def devices_with_work(self) -> list[str]:
        """The devices for which a job runs, or may be started now."""
        jobs = self.jobs()
        return sorted({job.device for job in jobs if _may_start(job, jobs)} | {
            job.device for job in jobs if job.state == "running"
        })  # fmt: skip

    def running(self, device: str) -> Job | None:
        """The job that runs on a device, or did when its runner ended."""
        jobs = (job for job in self.jobs() if job.state == "running" and job.device == device)
        return next(jobs, None)

    def claim(self, device: str) -> Job | None:
        """The next job of a device, which is then said to run, and has a folder for this try;
        ``None`` where none may start."""
        with self._database.changed() as connection:
            jobs = sorted(map(_job, connection.execute("SELECT * FROM jobs")), key=_order)
            able = [job for job in jobs if job.device == device and _may_start(job, jobs)]
            if not able:
                return None
            job = _update(
                connection,
                able[0].id,
                state="running",
                wish="",
                started=time.time(),
                ended=None,
                status=None,
                message="",
                tries=able[0].tries + 1,
            )
            _make_folder(self.try_folder(job))
            return job

    def unclaim(self, number: int) -> Job:
        """Of a job whose runner ended before it had started it; it is cancelled if that was asked
        meanwhile."""
        with self._database.changed() as connection:
            job = _get(connection, number)
            _allowed(job, "put back", ("running",))
            if job.wish in ("cancel", "kill"):
                message, now = "cancelled before it began", time.time()
                return _update(
                    connection, number, state="cancelled", wish="", message=message, ended=now
                )
            return _update(connection, number, state="queued", wish="", started=None)

    def set_run(self, number: int, run: str) -> Job:
        """Say in which folder a job trains; it may have got another name than it was to have."""
        with self._database.changed() as connection:
            job = _get(connection, number)
            title = job.title
            name = loras_of(Path(run))[1]
            if job.is_training and name.startswith(f"{title.removeprefix('train ')}-"):
                title = f"train {name}"
            return _update(connection, number, run=_writable(run), title=_writable(title))

    def move_run(self, old: str, new: str) -> None:
        """Of all jobs of a run whose folder has another name now."""
        with self._database.changed() as connection:
            (former, name) = (loras_of(Path(path))[1] for path in (old, new))
            query = "SELECT * FROM jobs WHERE run = ?"
            for job in map(_job, connection.execute(query, (_writable(old),)).fetchall()):
                title = f"train {name}" if job.title == f"train {former}" else job.title
                _update(connection, job.id, run=_writable(new), title=_writable(title))

    def end(self, number: int, state: State, status: int | None, message: str) -> Job:
        """Say how a running job ended."""
        return self._change(
            number,
            "end",
            ("running",),
            state=state,
            wish="",
            status=status,
            message=_writable(message),
            ended=time.time(),
        )


def _make_folder(path: Path) -> None:
    """
    Raises:
        WriteError: it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(path, error) from error


def _job(row: sqlite3.Row) -> Job:
    values = dict(row)
    command, folder = tuple(parse_json(values.pop("command"))), Path(values.pop("folder"))
    return Job(command=command, folder=folder, **values)


def _writable(text: str) -> str:
    """Without what is no text, as in file names of another encoding."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _order(job: Job) -> tuple[int, float]:
    if job.state == "running":
        return 0, job.started or 0
    return (1, job.position) if job.state in WAITING else (2, -(job.ended or 0))


def _may_start(job: Job, jobs: Sequence[Job]) -> bool:
    if job.state != "queued":
        return False
    before = next((other for other in jobs if other.id == job.after), None)
    return job.after is None or before is None or before.state == "done"


def _get(connection: sqlite3.Connection, number: int) -> Job:
    row = connection.execute("SELECT * FROM jobs WHERE id = ?", (number,)).fetchone()
    if row is None:
        raise RunError.of(f"job {number}", "is not in the queue", "see `lorasmith queue list`")
    return _job(row)


def _update(connection: sqlite3.Connection, number: int, **values: object) -> Job:
    columns = ", ".join(f"{name} = ?" for name in values)  # Names of ours, never of users.
    connection.execute(f"UPDATE jobs SET {columns} WHERE id = ?", (*values.values(), number))
    return _get(connection, number)


def _allowed(job: Job, what: str, states: tuple[State, ...]) -> None:
    """
    Raises:
        RunError: the job is in none of these states.
    """
    if job.state not in states:
        raise _refusal(job, what, f"it is {job.state}, not {word_list(states, 'or')}")


def _refusal(job: Job, what: str, why: str) -> UserError:
    return RunError.of(f"job {job.id}", f"cannot {what} {job.title}: {why}", "")
