"""The queue: what runs and waits, and what is asked of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel

from lorasmith.config.schema import TrainSettings
from lorasmith.core.errors import UserError
from lorasmith.importers.named_files import opening_by
from lorasmith.jobs.engine.planning import PlanningEngine
from lorasmith.jobs.plan import plan_request
from lorasmith.jobs.queue.ledger import AUTO, Job, Ledger
from lorasmith.jobs.queue.records import JobRecord
from lorasmith.jobs.queue.runner import ensure_runners
from lorasmith.jobs.queue.submit import submit, submit_training, sweep_option
from lorasmith.jobs.queue.watch import LOG
from lorasmith.jobs.runs.reader import opened_run
from lorasmith.jobs.training import TrainRequest
from lorasmith.studio.api.train import engine_of, outside
from lorasmith.studio.context import Studio, StudioDep

router = APIRouter(prefix="/api/jobs", tags=["jobs"])

LOG_BYTES = 200_000
"""The most of a log that one answer has."""


def _ledger_of(studio: StudioDep) -> Ledger:
    return Ledger(studio.workspace)


LedgerDep = Annotated[Ledger, Depends(_ledger_of)]


def queue_command(
    studio: Studio,
    ledger: Ledger,
    command: Sequence[str],
    title: str,
    device: str = AUTO,
    engine: PlanningEngine | None = None,
) -> JobRecord:
    """Put a command into the queue.

    Args:
        engine: gives the device back, which the job needs whole.
    """
    job = submit(ledger, command, studio.workspace, title=title, device=device)
    if engine is not None:
        engine.release()
    ensure_runners(ledger)
    return JobRecord.of(ledger, job)


class NewTraining(BaseModel):
    """
    Args:
        config: a settings file, or what other trainers' settings stand in.
        data: the folder of images.
        values: settings by path, as in a question about a plan.
        sweep: settings that have several values; one job for each combination.
    """

    verb: Literal["train"] = "train"
    config: str | None = None
    data: str | None = None
    preset: str | None = None
    values: dict[str, Any] = {}
    sweep: dict[str, list[str]] = {}
    title: str = ""
    device: str = AUTO
    after: int | None = None
    hold: bool = False


class NewPick(BaseModel):
    """``pick`` on a run, or on that of the job ``after``."""

    verb: Literal["pick"]
    run: str = ""
    device: str = AUTO
    after: int | None = None


class NewResume(BaseModel):
    """A training that was stopped or killed goes on."""

    verb: Literal["resume"]
    run: str
    device: str = AUTO


class NewDemo(BaseModel):
    """The demo, in the workspace's folder ``demo``."""

    verb: Literal["demo"]
    device: str = AUTO


New = NewTraining | NewResume | NewPick | NewDemo


class Move(BaseModel):
    """``before``: another job that waits; the end where it is null."""

    before: int | None = None


class LogPart(BaseModel):
    """``next``: where to read on, in bytes."""

    text: str
    next: int


Ask = Literal["hold", "release", "pause", "finish", "resume", "cancel", "retry"]


@router.get("")
def jobs(ledger: LedgerDep) -> list[JobRecord]:
    """What runs, then what waits in its order, then what has ended, the last first."""
    return [JobRecord.of(ledger, job) for job in ledger.jobs()]


@router.get("/{number}")
def job(ledger: LedgerDep, number: int) -> JobRecord:
    return JobRecord.of(ledger, ledger.job(number))


@router.post("")
def add(request: Request, studio: StudioDep, ledger: LedgerDep, body: New) -> list[JobRecord]:
    """Queue a training, or several of it, or what looks at one; all is checked first."""
    if isinstance(body, NewPick):
        run = str(opened_run(studio.roots.resolve(body.run)).path) if body.run else "{run}"
        title = _title_of_pick(ledger, body)
        command, place = ["pick", run], studio.workspace
        added = [submit(ledger, command, place, title=title, device=body.device, after=body.after)]
    elif isinstance(body, NewResume):
        run = str(opened_run(studio.roots.resolve(body.run)).path)
        title = f"{Path(run).name}, gone on with"
        command, place = ["train", "--resume", run], studio.workspace
        added = [submit(ledger, command, place, title=title, device=body.device)]
    elif isinstance(body, NewDemo):
        place = studio.workspace
        added = [submit(ledger, ["demo"], place, title="the demo", device=body.device)]
    else:
        added = _add_training(studio, ledger, body)
    # A training needs what the warm process holds.
    engine_of(request.app).release()
    ensure_runners(ledger)
    return [JobRecord.of(ledger, each) for each in added]


def _title_of_pick(ledger: Ledger, body: NewPick) -> str:
    if body.run or body.after is None:
        return f"pick {Path(body.run).name}"
    return f"pick {ledger.job(body.after).title.removeprefix('train ')}"


def _add_training(studio: Studio, ledger: Ledger, body: NewTraining) -> list[Job]:
    values = dict(body.values)
    config = studio.roots.resolve(body.config) if body.config else None
    if body.data:
        values["data.path"] = str(studio.roots.resolve(body.data))
    plan = plan_request(values, config, body.preset or None)
    with opening_by(studio.roots.resolve):
        return submit_training(
            ledger,
            TrainRequest(**plan.values()),
            studio.workspace,
            sweep=[sweep_option(path, several) for path, several in body.sweep.items()],
            title=body.title,
            device=body.device,
            after=body.after,
            hold=body.hold,
            check=lambda settings: _guard(studio, settings),
        )


@router.post("/{number}/move")
def move(ledger: LedgerDep, number: int, body: Move) -> list[JobRecord]:
    ledger.move(number, body.before)
    return jobs(ledger)


@router.post("/{number}/{what}")
def ask(request: Request, ledger: LedgerDep, number: int, what: Ask) -> JobRecord:
    """As `lorasmith queue` does; cancelled a second time, a job ends at once."""
    changed = getattr(ledger, what)(number)
    if what in ("release", "resume", "retry"):
        engine_of(request.app).release()
    ensure_runners(ledger)
    return JobRecord.of(ledger, changed)


@router.delete("/{number}")
def remove(ledger: LedgerDep, number: int) -> list[JobRecord]:
    """Forget a job that does not run; its results stay. The jobs that are left."""
    ledger.remove(number)
    return jobs(ledger)


@router.get("/{number}/log")
def log(
    ledger: LedgerDep, number: int, start: Annotated[int, Query(alias="from", ge=0)] = 0
) -> LogPart:
    """What a job printed, from a byte on; it is text, whatever it holds."""
    try:
        with open(ledger.try_folder(ledger.job(number)) / LOG, "rb") as file:
            file.seek(start)
            data = file.read(LOG_BYTES)
    except OSError:
        return LogPart(text="", next=start)
    return LogPart(text=data.decode("utf-8", errors="replace"), next=start + len(data))


def _guard(studio: Studio, settings: TrainSettings) -> None:
    """
    Raises:
        UserError: settings name what the studio may not open, each under its path.
    """
    if problems := list(outside(studio.roots, settings)):
        raise UserError(problems)
