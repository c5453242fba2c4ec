"""Grids: found, opened, voted on, taken away as one file; and new ones, planned and queued.

``GET /api/grids`` lists those of a project; ``GET /api/grids/grid`` has every cell of one with the
path and version of its image, which ``/api/image`` sends. While a grid is drawn it is there
already, and its images come one after the other.

``GET /api/grids/votes`` says which two drawings come next for a blind vote, and what the votes have
told so far; ``POST`` casts one, or takes it back. The order and the sides are fixed by the seed.

``POST /api/grids/plan`` says what a new grid would draw, or what is wrong at which field, and the
command line, which ``/command-line`` says at once; ``/queue`` makes a job of it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from fastapi.responses import FileResponse
from pydantic import BaseModel, Field

from lorasmith.core.errors import UserError
from lorasmith.grids.record import (
    CELLS,
    PAGE,
    RECORD,
    SHEET,
    SMALL_SHEET,
    THUMBNAILS,
    DrawnGrid,
    read_grid,
)
from lorasmith.grids.votes import VOTES, Answer, axes_asked, cast
from lorasmith.jobs.grid import GridRequest
from lorasmith.jobs.grids.forms import GridForm, GridPlan, at_fields, grid_form, grid_request
from lorasmith.jobs.grids.opening import find_grids
from lorasmith.jobs.grids.records import (
    Candidate,
    GridDetail,
    GridSummary,
    VotesRecord,
    chosen_pair,
    grid_detail,
    grid_summary,
    votes_record,
)
from lorasmith.jobs.queue.ledger import Ledger
from lorasmith.jobs.queue.records import JobRecord
from lorasmith.jobs.request import command_line, words_of
from lorasmith.jobs.runs.records import ProblemRecord
from lorasmith.studio.api.jobs import LedgerDep, queue_command
from lorasmith.studio.api.runs import ReaderDep
from lorasmith.studio.api.train import EngineDep
from lorasmith.studio.context import Studio, StudioDep
from lorasmith.studio.paths import OutsideError

router = APIRouter(prefix="/api/grids", tags=["grids"])

LARGEST_SEED = 2**31 - 1
_KINDS = {"sheet": (SHEET, "image/png"), "page": (PAGE, "text/html")}
Seed = Annotated[int, Query(ge=0, le=LARGEST_SEED)]


class NewGrid(BaseModel):
    """``values`` of `lorasmith grid`'s options by their names, as texts or JSON values; ``None``
    leaves one as it is by itself."""

    project: str = ""
    values: dict[str, Any] = {}


class GridAnswer(BaseModel):
    """
    Args:
        command_line: what draws it in a shell; "" where the form cannot be read.
        plan: none where problems are in its way, each at a field's name or "".
    """

    command_line: str = ""
    plan: GridPlan | None = None
    problems: list[ProblemRecord] = []


class NewVote(BaseModel):
    """
    Args:
        by: titles of the axes that are asked about.
        seed: of the order in which pairs are shown.
        answer: which is better; ``None`` takes the vote on this pair back.
    """

    path: str
    by: list[str] = Field(default=[], max_length=3)
    seed: int = Field(default=0, ge=0, le=LARGEST_SEED)
    left: Candidate
    right: Candidate
    answer: Answer | None


@router.get("")
def grids(studio: StudioDep, project: str = "") -> list[GridSummary]:
    """Those in and below a project, or all folders that the studio may open; the newest first."""
    folders = [studio.roots.resolve(project)] if project else studio.roots.folders
    found = []
    for path in dict.fromkeys(path for folder in folders for path in find_grids(folder)):
        try:
            found.append(grid_summary(_opened(studio, path), studio.roots.leads_inside))
        except UserError:  # Damaged, half written, or leading out: opened by its path it says so.
            continue
    return sorted(found, key=lambda grid: (-grid.changed, grid.path))


@router.get("/grid")
def grid(studio: StudioDep, path: str) -> GridDetail:
    """One grid with all its cells."""
    return grid_detail(_opened(studio, studio.roots.resolve(path)), studio.roots.leads_inside)


@router.get("/votes")
def votes(
    studio: StudioDep, reader: ReaderDep, path: str, by: str = "", seed: Seed = 0
) -> VotesRecord:
    """What was voted, and the pairs that come next. ``by``: titles of axes, one a line."""
    drawn = _opened(studio, studio.roots.resolve(path))
    return votes_record(drawn, by.splitlines(), seed, studio.roots.leads_inside, reader)


@router.post("/votes")
def vote(studio: StudioDep, reader: ReaderDep, body: NewVote) -> VotesRecord:
    """Cast a vote, or take one back."""
    drawn = _opened(studio, studio.roots.resolve(body.path))
    axes_asked(drawn, body.by)  # What is wrong with it is said before anything is written.
    cast(drawn, body.seed, chosen_pair(drawn, body.left, body.right), body.answer)
    return votes_record(drawn, body.by, body.seed, studio.roots.leads_inside, reader)


@router.get("/file", response_class=FileResponse)
def file(studio: StudioDep, path: str, kind: Literal["sheet", "page"]) -> FileResponse:
    """A grid as one file: a PNG, or the page that needs nothing else. It is saved, not shown: a
    page from the disk may be anybody's."""
    name, media_type = _KINDS[kind]
    folder = studio.roots.resolve(path)
    place = studio.roots.resolve(str(folder / name))
    if not place.is_file():
        raise UserError.of(path, f"has no {name} yet", "it is written when the drawing ends")
    of = folder.parent.name if folder.name == "grid" else folder.name
    return FileResponse(place, media_type=media_type, filename=f"{of}-{name}")


@router.get("/form")
def form() -> GridForm:
    """What can vary in a new grid."""
    return grid_form()


@router.post("/command-line")
def post_command_line(studio: StudioDep, ledger: LedgerDep, body: NewGrid) -> GridAnswer:
    """What draws it in a shell, or what is wrong and can be told at once; without a plan."""
    try:
        return GridAnswer(command_line=command_line(_request(studio, ledger, body)))
    except OutsideError:
        raise
    except UserError as error:
        return GridAnswer(problems=at_fields(None, error))


@router.post("/plan")
def plan(studio: StudioDep, engine: EngineDep, ledger: LedgerDep, body: NewGrid) -> GridAnswer:
    """What a new grid would draw; nothing is written."""
    request, line = None, ""
    try:
        request = _request(studio, ledger, body)
        line = command_line(request)
        values = request.model_dump(mode="json", exclude_unset=True)
        return GridAnswer(command_line=line, plan=engine.grid(values))
    except OutsideError:
        raise
    except UserError as error:
        return GridAnswer(command_line=line, problems=at_fields(request, error))


@router.post("/queue")
def queue(studio: StudioDep, engine: EngineDep, ledger: LedgerDep, body: NewGrid) -> JobRecord:
    """Draw a new grid as a job."""
    request = _request(studio, ledger, body)
    of = Path(request.epochs).name if request.epochs else (request.prompt or "pictures")[:60]
    return queue_command(studio, ledger, words_of(request), f"grid of {of}", request.device, engine)


def _opened(studio: Studio, folder: Path) -> DrawnGrid:
    """
    Raises:
        OutsideError: what belongs to it leads out, by a link.
        RunError: there is none, or its record is damaged.
    """
    for name in (RECORD, VOTES, CELLS, SMALL_SHEET, THUMBNAILS):
        studio.roots.resolve(str(folder / name))
    return read_grid(folder)


def _request(studio: Studio, ledger: Ledger, body: NewGrid) -> GridRequest:
    """
    Raises:
        UserError: with everything that can be told without torch; OutsideError where it names what
            the studio may not open.
    """

    base = studio.roots.resolve(body.project) if body.project else studio.workspace
    studio.roots.refuse_state(base)
    return grid_request(body.values, base, ledger, studio.place)
