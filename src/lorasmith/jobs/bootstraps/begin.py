"""Beginning a bootstrap, and going on with one, as commands for the queue. No torch."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from lorasmith.advice.bootstrap.state import OUT, Bootstrap, Options, stem_of
from lorasmith.config.fields import settings_of
from lorasmith.core.errors import Problem, RunError, UserError
from lorasmith.jobs.bootstrap import BootstrapRequest
from lorasmith.jobs.file_tools.forms import Names, ToolField, option_field
from lorasmith.jobs.queue.ledger import Job, Ledger
from lorasmith.jobs.request import option_name
from lorasmith.jobs.runs.records import ProblemRecord

_NAMES: dict[str, Names] = {
    "prompts": "file", "wildcard_dir": "file", "model": "model", "style_lora": "loras",
}  # fmt: skip
_FIRST = ("trigger", "caption", "model", "drawings", "rounds")
_NOT_OF_FORMS = ("images", "out", "go_on", "keep", "finish", "wait", "dry_run")
"""What pages have a place of their own for."""
_FIXED = ("trigger", "model", "caption", "weight", "size", "preset", "settings", "seed")
"""What cannot be changed once one is begun."""

ALL_NAMES: dict[str, Names] = {**_NAMES, "images": "file", "models": "model", "go_on": "file"}
"""What options name, also those that no form has, and those of which one is chosen for a list."""


class BootstrapField(ToolField):
    """An option; ``fixed`` once one is begun."""

    fixed: bool


class GivenRecord(BaseModel):
    """``bare``: nothing is said of it but the trigger."""

    file: str
    caption: str
    bare: bool


class PlannedBootstrap(BaseModel):
    """What one would do, as :class:`lorasmith.advice.bootstrap.bootstrap.BootstrapPlan`."""

    given: list[GivenRecord]
    round_steps: int
    steps: int
    captions: list[str]
    source: str
    warnings: list[str]


class BeginAnswer(BaseModel):
    """
    Args:
        command_line: what begins it in a shell; "" where it cannot be said yet.
        out: the folder for everything.
        plan: none where problems are in its way.
        problems: each at an option's field, a file, or "".
    """

    command_line: str = ""
    out: str = ""
    plan: PlannedBootstrap | None = None
    problems: list[ProblemRecord] = []


def bootstrap_form() -> list[BootstrapField]:
    """The options of a bootstrap; ``simple`` are those that most people set."""
    fields = [
        option_field(BootstrapRequest, item, _NAMES.get(item.name, ""), item.name in _FIRST)
        for item in settings_of(BootstrapRequest)
        if item.name not in _NOT_OF_FORMS
    ]
    fields.sort(key=lambda field: _FIRST.index(field.name) if field.simple else len(_FIRST))
    return [
        BootstrapField(
            **each.model_dump() | {"required": each.name == "trigger"}, fixed=each.name in _FIXED
        )
        for each in fields
    ]


def folder_for(base: Path, trigger: str) -> Path:
    """Where a new one goes in a project or workspace: ``bootstrap/TRIGGER``, or with the first
    number behind it that is free."""
    first = base / OUT / stem_of(trigger)
    numbered = (first.with_name(f"{first.name}-{number}") for number in itertools.count(2))
    return next(path for path in itertools.chain([first], numbered) if not path.exists())


def values_named(options: Options) -> dict[str, Any]:
    """What one that is begun names of files and models, as a form's values."""
    return {
        "model": options.model,
        "models": list(options.models),
        "style_lora": list(options.style_loras),
        "prompts": options.prompts,
        "wildcard_dir": options.wildcards,
    }


def go_on_request(
    boot: Bootstrap, keep: Sequence[int] | None, finish: bool, changes: Mapping[str, Any]
) -> BootstrapRequest:
    """
    Args:
        keep: numbers of drawings; ``None`` where nothing is to be chosen.
        changes: options that may be changed, by field.

    Raises:
        UserError: with what is wrong.
    """
    problems = [
        Problem(name, "cannot be changed: what was done goes by it", "begin a new one")
        for name in changes
        if name in (*_FIXED, *_NOT_OF_FORMS)
    ]
    if boot.stage == "choose" and keep is None and boot.options.choose == "ask":
        problems.append(Problem("keep", "nothing is chosen", "choose drawings, or none"))
    if keep is not None and boot.stage != "choose":
        problems.append(Problem("keep", "there is nothing to choose any more", "reload the page"))
    elif keep and (problem := boot.choice_problem(list(keep))):
        problems.append(problem)
    if problems:
        raise UserError(problems)
    values: dict[str, Any] = {"go_on": boot.folder, **changes}
    if keep is not None:
        values["keep"] = ",".join(map(str, sorted(set(keep)))) or "none"
    if finish:
        values["finish"] = True
    return BootstrapRequest.read(values)


def jobs_of(ledger: Ledger) -> dict[Path, Job]:
    """By a bootstrap's folder the job that works on it, or waits to; else the last that did."""
    jobs: dict[Path, Job] = {}
    for job in ledger.jobs():  # Those that run or wait come first.
        if (folder := folder_of(job)) is not None:
            jobs.setdefault(folder, job)
    return jobs


def require_free(ledger: Ledger, folder: Path) -> None:
    """
    Raises:
        RunError: a job works on this bootstrap, or waits to.
    """
    job = jobs_of(ledger).get(folder)
    if job is not None and not job.has_ended:
        what = f"job {job.id} is at work on it, or waits to"
        raise RunError.of(folder, what, "wait for it, or cancel it")


def folder_of(job: Job) -> Path | None:
    """The folder of the bootstrap that a job is about; ``None`` of other jobs."""
    if job.command[:1] != ("bootstrap",):
        return None
    named = {name: _value(job.command, name) for name in ("go_on", "out", "trigger")}
    text = named["go_on"] or named["out"]
    if not text:
        text = str(Path(OUT) / stem_of(named["trigger"]))
    return Path(os.path.realpath(job.folder / text))


def _value(command: Sequence[str], field: str) -> str:
    flag = option_name(BootstrapRequest, field)
    for word, following in itertools.zip_longest(command, command[1:], fillvalue=""):
        if word == flag:
            return following
        if word.startswith(f"{flag}="):
            return word.partition("=")[2]
    return ""
