"""LoRA files: what one is, and the tools that make others of them, their figures beforehand.

``GET /api/lora-files/tools`` describes the tools as forms, made from what the command line takes.
``POST /api/lora-files/figures`` says what one would do (ranks, sizes, error, by block) and the
command line that does it; ``/write`` does it and answers when it is done, ``/queue`` puts it into
the queue. The files that there are come from ``/api/draw/loras``, one's bytes from ``/api/lora``.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel

from lorasmith.core.errors import UserError
from lorasmith.jobs.file_tools.details import FileDetails
from lorasmith.jobs.file_tools.figures import Figures, ToolRequest
from lorasmith.jobs.file_tools.forms import TOOLS, ToolForm, Verb, tool_forms, tool_request
from lorasmith.jobs.queue.records import JobRecord
from lorasmith.jobs.request import command_line, named_fields, words_of
from lorasmith.jobs.runs.folders import rename_lora
from lorasmith.jobs.runs.records import ProblemRecord, problem_records
from lorasmith.studio.api.jobs import LedgerDep, queue_command
from lorasmith.studio.api.train import EngineDep
from lorasmith.studio.context import Studio, StudioDep
from lorasmith.studio.paths import OutsideError

router = APIRouter(prefix="/api/lora-files", tags=["lora files"])


class ToolQuestion(BaseModel):
    """``values`` by field, as texts or JSON values; ``None`` leaves one as it is by itself."""

    verb: Verb
    values: dict[str, Any] = {}


class NewName(BaseModel):
    """``name``: without the ending."""

    path: str
    name: str


class LoraPath(BaseModel):
    path: str


class ToolAnswer(BaseModel):
    """
    Args:
        command_line: what does it in a shell; "" where the form cannot be read.
        figures: of what it would do, or has done; none where problems are in its way.
        problems: each at a field's name, a file, or "".
    """

    command_line: str = ""
    figures: Figures | None = None
    problems: list[ProblemRecord] = []


@router.get("/tools")
def tools() -> list[ToolForm]:
    """Every tool that writes a file, as a form."""
    return tool_forms()


@router.get("/file")
def file(studio: StudioDep, engine: EngineDep, path: str) -> FileDetails:
    """What a LoRA file or checkpoint is: family, ranks, blocks, words, training, who reads it."""
    place = studio.roots.resolve(path)
    if not place.exists():
        raise UserError.of(path, "is not there", "choose another file")
    return engine.file(place)


@router.post("/rename")
def rename(studio: StudioDep, ledger: LedgerDep, body: NewName) -> LoraPath:
    """Give a LoRA file and what lies beside it another name."""
    lora = studio.roots.resolve(body.path)
    studio.roots.refuse_state(lora)
    studio.roots.resolve_new(str(lora.parent), f"{body.name}{lora.suffix}")
    return LoraPath(path=str(rename_lora(lora, body.name, ledger)))


@router.post("/figures")
def figures(studio: StudioDep, engine: EngineDep, body: ToolQuestion) -> ToolAnswer:
    """What a tool would do; nothing is written."""
    return _answer(studio, engine, body, dry_run=True)


@router.post("/write")
def write(studio: StudioDep, engine: EngineDep, body: ToolQuestion) -> ToolAnswer:
    """Do it, and answer when the file is there."""
    return _answer(studio, engine, body, dry_run=False)


@router.post("/queue")
def queue(studio: StudioDep, ledger: LedgerDep, body: ToolQuestion) -> JobRecord:
    """Do it as a job."""
    request = _request(studio, body, dry_run=False)
    title = f"{body.verb} {request.out.name}"
    return queue_command(studio, ledger, words_of(request), title)


def _answer(studio: Studio, engine: EngineDep, body: ToolQuestion, *, dry_run: bool) -> ToolAnswer:
    line = ""
    try:
        request = _request(studio, body, dry_run=dry_run)
        line = command_line(request)
        values = request.model_dump(mode="json", exclude_unset=True, exclude={"dry_run"})
        return ToolAnswer(
            command_line=line, figures=engine.tool(body.verb, values, dry_run=dry_run)
        )
    except OutsideError:
        raise
    except UserError as error:
        problems = problem_records(named_fields(TOOLS[body.verb], error.problems))
        return ToolAnswer(command_line=line, problems=problems)


def _request(studio: Studio, body: ToolQuestion, *, dry_run: bool) -> ToolRequest:
    """
    Raises:
        OutsideError: it names what the studio may not open.
        SettingsError: with everything that is wrong, each under its field's name.
    """
    return tool_request(body.verb, body.values, dry_run=dry_run, place=studio.place)
