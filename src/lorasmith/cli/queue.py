"""``lorasmith queue``"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from lorasmith.cli.train import request_of
from lorasmith.core.errors import collect_each
from lorasmith.core.terminal import echo, echo_json
from lorasmith.core.text import duration_text, quantity
from lorasmith.jobs.queue.ledger import AUTO, Job, Ledger
from lorasmith.jobs.queue.records import JobRecord, command_line
from lorasmith.jobs.queue.runner import ensure_runners
from lorasmith.jobs.queue.submit import submit, submit_training
from lorasmith.jobs.queue.watch import LOG, last_progress, log_end
from lorasmith.jobs.training import TrainRequest

NOT_QUEUED = ("queue", "control", "report-bug", "runs", "status", "studio", "tensorboard")
"""Commands about other processes: they have no work of their own that could wait."""


@click.group("queue")
def queue() -> None:
    """Let trainings and other work wait their turn, one after the other on each device.

    Jobs run in the background: terminal and studio may be closed. What is queued stands in
    .lorasmith/queue of the workspace, by itself the folder in which this is run.
    """


def _common(command: Callable[..., None]) -> Callable[..., None]:
    workspace = click.option(
        "--workspace",
        type=click.Path(path_type=Path, file_okay=False, exists=True),
        default=Path(),
        metavar="DIR",
        help="The folder whose queue it is.  [default: this one]",
    )
    as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
    return workspace(as_json(command))


@queue.command(
    "add", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False}
)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="COMMAND…")
@click.option("--title", default="", help="What lists call it.  [default: the command]")
@click.option("--device", default=AUTO, metavar="auto|cpu|cuda:N", help="Whose queue to stand in.")
@click.option("--after", type=int, metavar="JOB", help="Wait until this job is done.")
@click.option("--hold", is_flag=True, help="Wait until it is released.")
@click.option(
    "--sweep",
    multiple=True,
    metavar="section.key=value,…",
    help="Of a training: one for each value; may be repeated, for each combination.",
)
@_common
@click.pass_context
def add(
    context: click.Context,
    /,
    command: tuple[str, ...],
    sweep: tuple[str, ...],
    workspace: Path,
    as_json: bool,
    **options: Any,
) -> None:
    """Put a command at the end of the queue, as in lorasmith queue add train pictures.

    Options of the queue stand before the command. A training's settings are read and checked now,
    and what their files say later changes nothing. In a command that follows a training by --after,
    {run} stands for that training's folder: lorasmith queue add --after 1 pick {run}.
    """
    request = _training(context, command)
    if sweep and request is None:
        raise click.UsageError("--sweep is of trainings, which begin with train.")
    ledger, here = Ledger(workspace), Path.cwd()
    if request is not None:
        jobs = submit_training(ledger, request, here, sweep=sweep, **options)
    else:
        jobs = [submit(ledger, command, here, **options)]
    ensure_runners(ledger)
    if as_json:
        echo_json([_record(ledger, job) for job in jobs])
        return
    for job in jobs:
        echo(f"queued as job {job.id}: {job.title}")


def _training(context: click.Context, command: Sequence[str]) -> TrainRequest | None:
    """The request of a new training; ``None`` for any other command, of which it is only looked
    whether there is such a thing.

    Raises:
        UsageError: there is no such command, or its options are wrong.
    """
    if command[0] in NOT_QUEUED:
        raise click.UsageError(f"{command[0]} has no work that could wait; run it by itself.")
    parent = context.find_root()
    assert isinstance(parent.command, click.Group)
    name, entry, rest = parent.command.resolve_command(parent, list(command))
    assert entry is not None
    if any("{run}" in word for word in command):
        return None  # It is not known yet what stands there.
    while isinstance(entry, click.Group) and rest and not rest[0].startswith("-"):
        parent = click.Context(entry, parent, name)
        name, entry, rest = entry.resolve_command(parent, rest)
        assert entry is not None
    parsed = entry.make_context(name, rest, parent=parent)
    if command[0] != "train":
        return None
    options = {key: value for key, value in parsed.params.items() if key != "as_json"}
    request = request_of(**options)
    return request if type(request) is TrainRequest else None


@queue.command("list")
@_common
def list_(workspace: Path, as_json: bool) -> None:
    """Show what runs, what waits, and what has ended."""
    ledger = Ledger(workspace)
    jobs = ledger.jobs()
    if as_json:
        echo_json([_record(ledger, job) for job in jobs])
        return
    if not jobs:
        echo("Nothing is queued: lorasmith queue add train PICTURES begins.")
        return
    from lorasmith.cli.console import console

    table = Table(box=None, pad_edge=False)
    for heading in ("job", "state", "what", "how it stands"):
        table.add_column(heading, no_wrap=heading in ("job", "state"), overflow="fold")
    for job in jobs:
        table.add_row(str(job.id), job.state, job.title, _standing(ledger, job))
    console.print(table)


@queue.command("show")
@click.argument("job", type=int)
@click.option("--lines", type=click.IntRange(0, 10_000), default=10, help="Of its log's end.")
@_common
def show(job: int, lines: int, workspace: Path, as_json: bool) -> None:
    """Show one job, and the end of its log."""
    ledger = Ledger(workspace)
    one = ledger.job(job)
    record, log = _record(ledger, one), log_end(ledger.try_folder(one), lines)
    if as_json:
        echo_json({**record, "log_end": log})
        return
    facts = {
        "job": f"{one.id}: {one.title}",
        "state": f"{one.state}  {_standing(ledger, one)}".strip(),
        "command": command_line(one),
        "in": one.folder,
        "device": one.device,
        "after": f"job {one.after}" if one.after is not None else "",
        "run": one.run,
        "log": ledger.try_folder(one) / LOG if one.tries else "",
    }
    for name, value in facts.items():
        if value:
            echo(f"{name:9} {value}")
    if log:
        echo("\n" + "\n".join(log))


def _cancelled(job: Job) -> str:
    if job.state == "cancelled":
        return "is cancelled"
    return "is ended at once" if job.wish == "kill" else "stops soon; cancel it again to end it now"


def _ask(name: str, told: str, doc: str) -> None:
    """A verb that asks the same of each job: as :class:`Ledger`'s method of its name."""

    @click.argument("jobs", nargs=-1, required=True, type=int)
    @_common
    def verb(jobs: tuple[int, ...], workspace: Path, as_json: bool) -> None:
        ledger = Ledger(workspace)
        jobs = tuple(dict.fromkeys(jobs))  # Twice on one line is once: it would end a job at once.
        changed = collect_each(getattr(ledger, name), jobs)
        ensure_runners(ledger)
        if as_json:
            there = {job.id: job for job in ledger.jobs()}
            echo_json([_record(ledger, there[job]) for job in jobs if job in there])
            return
        for number, job in zip(jobs, changed, strict=True):
            echo(f"job {number}: {_cancelled(job) if name == 'cancel' else told}")

    verb.__doc__ = doc
    queue.command(name)(verb)


_ask("hold", "waits until it is released", "Let others go first, until they are released.")
_ask("release", "is in the queue again", "Put jobs that were held into the queue again.")
_ask("pause", "stops after this step", "Stop trainings with everything saved, to go on later.")
_ask(
    "finish",
    "ends after this step, with a LoRA",
    "End trainings early, with a LoRA of what they have learned; what waits for them goes on.",
)
_ask("resume", "goes on next", "Let paused trainings go on, before all others.")
_ask(
    "cancel",
    "",
    "Take jobs out, or stop them with everything saved; a second time ends them at once.",
)
_ask(
    "retry",
    "is in the queue again",
    "Run failed or cancelled jobs again; a training goes on from its last state.",
)
_ask("remove", "is forgotten", "Forget jobs that do not run; their results stay.")


@queue.command("move")
@click.argument("job", type=int)
@click.option("--before", type=int, metavar="JOB", help="Put it before this one.")
@click.option("--first", is_flag=True, help="Put it before all others.")
@_common
def move(job: int, before: int | None, first: bool, workspace: Path, as_json: bool) -> None:
    """Change the place of a waiting job; without an option, to the end."""
    if first and before is not None:
        raise click.UsageError("--first and --before contradict each other; leave one out.")
    ledger = Ledger(workspace)
    if first:
        before = next((each.id for each in ledger.jobs() if each.is_waiting), None)
    moved = ledger.move(job, before)
    if as_json:
        echo_json([_record(ledger, each) for each in ledger.jobs() if each.is_waiting])
        return
    echo(f"job {moved.id}: moved")


@queue.command("clear")
@_common
def clear(workspace: Path, as_json: bool) -> None:
    """Forget all jobs that have ended; their results stay.

    A failed or cancelled job for which another one waits stays as well.
    """
    ledger = Ledger(workspace)
    jobs = ledger.jobs()
    needed = {job.after for job in jobs if job.is_waiting}
    ended = [
        job.id for job in jobs if job.state == "done" or (job.has_ended and job.id not in needed)
    ]
    collect_each(ledger.remove, ended)
    if as_json:
        echo_json({"removed": ended})
        return
    echo(f"forgot {quantity(len(ended), 'job')}")


@queue.command("start")
@_common
def start(workspace: Path, as_json: bool) -> None:
    """See to it that what waits is run, as after a restart of the computer.

    Whatever changes the queue does so by itself.
    """
    ledger = Ledger(workspace)
    devices = ledger.devices_with_work()
    ensure_runners(ledger)
    if as_json:
        echo_json({"devices": devices})
        return
    echo(f"runs jobs of {', '.join(devices)}" if devices else "nothing waits that could be started")


def _record(ledger: Ledger, job: Job) -> dict[str, Any]:
    return JobRecord.of(ledger, job).model_dump()


def _standing(ledger: Ledger, job: Job) -> str:
    """How far it is, what it waits for, or why it ended."""
    parts = []
    if job.state == "running":
        progress = last_progress(ledger.try_folder(job))
        parts += [str(progress)] if progress else []
        parts += [_took(job)]
        if job.wish:
            parts.append(f"asked to {job.wish}")
    elif job.state == "queued" and job.after is not None:
        before = next((each for each in ledger.jobs() if each.id == job.after), None)
        if before is not None and before.state != "done":
            parts.append(f"waits for job {before.id}, which is {before.state}")
    elif job.state == "done":
        parts += [_took(job), job.run]
    return ", ".join(filter(None, [*parts, job.message]))


def _took(job: Job) -> str:
    if job.started is None:
        return ""
    return duration_text(max(0, (job.ended or time.time()) - job.started))
