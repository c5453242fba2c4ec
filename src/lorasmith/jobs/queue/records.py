"""A job as values for programs: what ``lorasmith queue --json`` and the studio's API answer."""

from __future__ import annotations

from dataclasses import asdict

from pydantic import BaseModel

from lorasmith.core.errors import RunError
from lorasmith.core.file_names import shell_word
from lorasmith.jobs.queue.ledger import Job, Ledger, State, Wish
from lorasmith.jobs.queue.watch import last_progress


class ProgressRecord(BaseModel):
    """How far a job is, as :class:`.watch.JobProgress`."""

    what: str
    done: int
    total: int
    loss: float | None
    seconds_left: float | None


class JobRecord(BaseModel):
    """A job as :class:`.ledger.Job`; ``command_line`` is what a shell takes."""

    id: int
    title: str
    command: list[str]
    command_line: str
    folder: str
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
    progress: ProgressRecord | None

    @classmethod
    def of(cls, ledger: Ledger, job: Job) -> JobRecord:
        progress = last_progress(ledger.try_folder(job)) if job.tries else None
        return cls(
            **{**asdict(job), "command": list(job.command), "folder": str(job.folder)},
            command_line=command_line(job, _run_before(ledger, job)),
            progress=ProgressRecord(**asdict(progress)) if progress else None,
        )


def command_line(job: Job, run: str = "") -> str:
    """
    Args:
        run: what ``{run}`` stands for, where that is known.
    """
    words = [word.replace("{run}", run or "{run}") for word in job.command]
    return " ".join(["lorasmith", *map(shell_word, words)])


def _run_before(ledger: Ledger, job: Job) -> str:
    """The run of the job that this one is about; "" where it has none yet, or needs none."""
    if job.after is None or not any("{run}" in word for word in job.command):
        return ""
    try:
        return ledger.job(job.after).run
    except RunError:
        return ""
