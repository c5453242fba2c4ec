"""LoRAs from one picture: bootstraps that lie in the workspace, their rounds, and what is chosen.

``POST /api/bootstraps`` begins one as a job; it ends when a round is drawn, and ``/go-on`` queues
the next piece with what is kept. What there is of one is read off its folder, whoever began it; the
topic ``bootstraps`` of the stream of changes says that something of them has changed. The pictures
to begin with are those of a project, or any that the studio may open.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import BaseModel, Field

from lorasmith.advice.bootstrap.image_set import set_caption
from lorasmith.advice.bootstrap.state import Bootstrap
from lorasmith.config.load import load_settings, parse_overrides
from lorasmith.core.errors import UserError
from lorasmith.importers.named_files import opening_by
from lorasmith.jobs.bootstrap import BootstrapRequest
from lorasmith.jobs.bootstraps.begin import (
    ALL_NAMES,
    BeginAnswer,
    BootstrapField,
    bootstrap_form,
    folder_for,
    go_on_request,
    jobs_of,
    require_free,
    values_named,
)
from lorasmith.jobs.bootstraps.finding import find_bootstraps
from lorasmith.jobs.bootstraps.reader import (
    BootstrapDetail,
    BootstrapSummary,
    OfferedPictures,
    detail,
    offered_pictures,
    summary,
)
from lorasmith.jobs.file_tools.forms import placed
from lorasmith.jobs.queue.ledger import AUTO, Job
from lorasmith.jobs.queue.records import JobRecord
from lorasmith.jobs.request import command_line, named_fields, words_of
from lorasmith.jobs.runs.records import problem_records
from lorasmith.studio.api.jobs import LedgerDep, queue_command
from lorasmith.studio.api.train import EngineDep, outside
from lorasmith.studio.context import Studio, StudioDep
from lorasmith.studio.paths import OutsideError

router = APIRouter(prefix="/api/bootstraps", tags=["bootstraps"])

MOST_CAPTION = 4000
"""Characters."""


class BootstrapListed(BootstrapSummary):
    """``job``: the number of the one that works on it, waits to, or was the last; none without."""

    job: int | None = None


class BootstrapShown(BootstrapDetail):
    """As :class:`BootstrapListed`."""

    job: int | None = None


class NewBootstrap(BaseModel):
    """
    Args:
        project: where it goes; the workspace by itself.
        images: paths.
        values: options by field, as texts or JSON values; ``None`` leaves one as it is by itself.
    """

    project: str = ""
    images: list[str] = []
    values: dict[str, Any] = {}


class GoOn(BaseModel):
    """
    Args:
        keep: numbers of the newest round's drawings; none where nothing is to be chosen.
        finish: no more rounds.
        values: options that are to be others from now on.
    """

    path: str
    keep: list[int] | None = None
    finish: bool = False
    values: dict[str, Any] = {}


class DrawingCaption(BaseModel):
    """Of the newest round's drawing of this number."""

    path: str
    number: int
    caption: Annotated[str, Field(max_length=MOST_CAPTION)]


class CaptionWritten(BaseModel):
    """With the trigger, where it was missing."""

    caption: str


@router.get("")
def bootstraps(studio: StudioDep, ledger: LedgerDep, project: str = "") -> list[BootstrapListed]:
    """Those of a project, or of all folders that the studio may open, the newest first."""
    folders = [studio.roots.resolve(project)] if project else studio.roots.folders
    paths = dict.fromkeys(path for folder in folders for path in find_bootstraps(folder))
    jobs, inside = jobs_of(ledger), studio.roots.leads_inside
    listed = [
        BootstrapListed(**summary(path, inside).model_dump(), job=_number(jobs.get(path)))
        for path in paths
    ]
    listed.sort(key=lambda one: (-one.changed, one.path))
    return listed


@router.get("/form")
def form() -> list[BootstrapField]:
    """The options, those that most people set first."""
    return bootstrap_form()


@router.get("/pictures")
def pictures(studio: StudioDep, project: str) -> OfferedPictures:
    """What a project has to begin with."""
    return offered_pictures(studio.roots.resolve(project), studio.roots.leads_inside)


@router.get("/one")
def one(studio: StudioDep, ledger: LedgerDep, path: str) -> BootstrapShown:
    """Everything about one."""
    folder = studio.roots.resolve(path)
    told = detail(Bootstrap.load(folder), studio.roots.leads_inside)
    return BootstrapShown(**told.model_dump(), job=_number(jobs_of(ledger).get(folder)))


@router.post("/check")
def check(studio: StudioDep, engine: EngineDep, body: NewBootstrap) -> BeginAnswer:
    """What a new one would do, or what is in its way; nothing is written."""
    line = out = ""
    try:
        request = _new_request(studio, body)
        line, out = command_line(request), str(request.out)
        plan = engine.bootstrap(request.model_dump(mode="json", exclude_unset=True))
        return BeginAnswer(command_line=line, out=out, plan=plan)
    except OutsideError:
        raise
    except UserError as error:
        problems = problem_records(named_fields(BootstrapRequest, error.problems))
        return BeginAnswer(command_line=line, out=out, problems=problems)


@router.post("")
def begin(studio: StudioDep, engine: EngineDep, ledger: LedgerDep, body: NewBootstrap) -> JobRecord:
    """Begin one as a job; all is checked first."""
    request = _new_request(studio, body)
    try:
        engine.bootstrap(request.model_dump(mode="json", exclude_unset=True))
    except UserError as error:
        raise UserError(named_fields(BootstrapRequest, error.problems)) from error
    assert request.out is not None
    require_free(ledger, request.out)
    title = f"bootstrap {request.trigger}"
    device = request.device or AUTO
    return queue_command(studio, ledger, words_of(request), title, device, engine)


@router.post("/go-on")
def go_on(studio: StudioDep, engine: EngineDep, ledger: LedgerDep, body: GoOn) -> JobRecord:
    """Go on with one as a job: with a choice, after it was stopped, or for more rounds."""
    folder = studio.roots.resolve(body.path)
    studio.roots.refuse_state(folder)
    boot = Bootstrap.load(folder)
    require_free(ledger, folder)
    _guard(studio, boot)
    changes = placed(body.values, ALL_NAMES, studio.place)
    request = go_on_request(boot, body.keep, body.finish, changes)
    title = f"bootstrap {boot.options.trigger}, gone on with"
    device = request.device or boot.options.device
    return queue_command(studio, ledger, words_of(request), title, device, engine)


@router.put("/caption")
def put_caption(studio: StudioDep, body: DrawingCaption) -> CaptionWritten:
    """What a drawing shows, before it is kept."""
    folder = studio.roots.resolve(body.path)
    studio.roots.refuse_state(folder)
    boot = Bootstrap.load(folder)
    studio.roots.resolve(str(boot.round_folder(boot.now) / "drawings" if boot.rounds else folder))
    return CaptionWritten(caption=set_caption(boot, body.number, body.caption))


def _number(job: Job | None) -> int | None:
    return job.id if job is not None else None


def _new_request(studio: Studio, body: NewBootstrap) -> BootstrapRequest:
    """
    Raises:
        OutsideError: it names what the studio may not open.
        SettingsError: with everything that is wrong, each under its field's name.
    """
    base = studio.roots.resolve(body.project) if body.project else studio.workspace
    studio.roots.refuse_state(base)
    values = placed({**body.values, "images": body.images}, ALL_NAMES, studio.place)
    out = folder_for(base, str(values.get("trigger") or ""))
    studio.roots.resolve(str(out))
    # A job that waits for somebody would keep its device from all others.
    request = BootstrapRequest.read({**values, "out": out, "wait": False})
    _require_settings_inside(studio, request.settings, request.preset)
    return request


def _guard(studio: Studio, boot: Bootstrap) -> None:
    """
    Raises:
        UserError: what was asked for at its beginning names what the studio may not open, or its
            folders lead out.
    """
    placed(values_named(boot.options), ALL_NAMES, studio.place)
    _require_settings_inside(studio, boot.options.settings, boot.options.preset)
    for folder in (
        boot.dataset,
        boot.given_folder,
        boot.drawn_folder,
        boot.runs,
        boot.folder / "rounds",
    ):
        studio.roots.resolve(str(folder))


def _require_settings_inside(studio: Studio, settings: Iterable[str], preset: str | None) -> None:
    """What else may be wrong with the settings, the bootstrap itself says.

    Raises:
        OutsideError: they name what the studio may not open.
    """
    overrides, _ = parse_overrides(list(settings))
    try:
        with opening_by(studio.roots.resolve):
            loaded = load_settings(None, overrides, preset)
    except OutsideError:
        raise
    except UserError:
        return
    if problems := list(outside(studio.roots, loaded)):
        raise OutsideError(problems)
