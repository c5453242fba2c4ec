"""Drawings: asked for, watched, cancelled; the pictures that there are, and what draws them.

``POST /api/draw`` asks for one: the options of `lorasmith generate` by their names, with LoRAs by
name, strength and block weights. It answers a :class:`.DrawingRecord` at once, with the command
line that draws the same; one process, which keeps the model loaded, draws one after the other.
A record goes ``waiting`` → ``drawing`` → ``done``, ``failed`` (with ``problems``) or ``cancelled``.
It waits for those before it, and while a job of the queue has the device; then ``why`` says for
which job, and it begins by itself when that ends or is paused.

The stream of changes (``/api/events``) tells of it: an event ``drawing`` has a whole record each
time that it changes (steps, previews, pictures), and the topic ``drawings`` says that the list or
the folder has changed. Pictures and previews are got by their paths from ``/api/image``; those of a
project lie in its folder ``drawings/DAY``, and ``/api/draw/history`` lists them, whoever drew them.
A picture to begin with and a mask are files: put there by ``PUT /api/files``.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel

from lorasmith.core.errors import DatasetError, Problem, UserError
from lorasmith.core.files import version_of
from lorasmith.jobs.curating.words import WordRecord, complete_word
from lorasmith.jobs.drawings.history import DrawnPictures, drawn_pictures
from lorasmith.jobs.drawings.loras import LoraCards, lora_cards, set_preview
from lorasmith.jobs.drawings.prompt_words import PromptTokens, count_prompts, wildcard_names
from lorasmith.jobs.drawings.queue import folder_of_today, folder_of_trials
from lorasmith.jobs.drawings.records import (
    DrawingOptions,
    DrawingRecord,
    NewDrawing,
    PictureSettings,
    drawing_line,
    drawing_options,
)
from lorasmith.jobs.engine.process import BusyError
from lorasmith.jobs.generate import GenerateRequest
from lorasmith.jobs.projects import WILDCARDS
from lorasmith.studio.api.dataset import at_work
from lorasmith.studio.api.train import EngineDep
from lorasmith.studio.context import Studio, StudioDep
from lorasmith.studio.paths import OutsideError

router = APIRouter(prefix="/api/draw", tags=["draw"])

MOST_WAITING = 500
_FILES = ("lora_dir", "embedding_dir", "wildcard_dir", "init", "mask")
_MODELS = ("model", "vae")


class NewPreview(BaseModel):
    """``picture`` becomes what stands for the file ``lora``."""

    lora: str
    picture: str


class PreviewFile(BaseModel):
    path: str
    version: str


class CommandLine(BaseModel):
    line: str


class Warming(BaseModel):
    """``job``: the number of one that has the device, so that nothing is loaded."""

    job: int | None


@router.get("/options")
def options() -> DrawingOptions:
    """What a form offers: samplers, sizes' limits, blocks."""
    return drawing_options()


@router.get("/loras")
def loras(studio: StudioDep, folder: str = "") -> LoraCards:
    """The LoRA files of a folder and those in it, by the names that prompts have for them; those
    of the workspace where none is given."""
    return lora_cards(_base(studio, folder))


@router.put("/lora-preview")
def put_preview(studio: StudioDep, body: NewPreview) -> PreviewFile:
    """Make a drawing the preview of a LoRA: ``NAME.png`` beside it, as web UIs read it."""
    lora, picture = studio.roots.resolve(body.lora), studio.roots.resolve(body.picture)
    studio.roots.refuse_state(lora)
    place = studio.roots.resolve_new(str(lora.parent), f"{lora.stem}.png")
    set_preview(lora, picture)
    return PreviewFile(path=str(place), version=version_of(place))


@router.post("/command-line")
def post_command_line(studio: StudioDep, body: NewDrawing) -> CommandLine:
    """What draws this in a shell, before it is asked for; or what is wrong with it."""
    return CommandLine(line=drawing_line(_request(studio, body)))


@router.get("/words")
def words(
    studio: StudioDep,
    prefix: str,
    project: str = "",
    words: str = "",
    most: Annotated[int, Query(ge=1, le=100)] = 20,
) -> list[WordRecord]:
    """What a tag of a prompt may become: tags of the project's dataset, if it has one, those of
    the list ``words`` (in the form of the web UI's tag completion), those that the base knows."""
    found = studio.roots.resolve(words) if words else None
    with contextlib.ExitStack() as stack:
        dataset = None
        if project:
            with contextlib.suppress(DatasetError):
                dataset = stack.enter_context(at_work(studio, project))
        return complete_word(dataset, prefix, words=found, most=most)


class TokenCounts(BaseModel):
    prompt: PromptTokens
    negative: PromptTokens


@router.post("/tokens")
def tokens(studio: StudioDep, body: NewDrawing) -> TokenCounts:
    """The CLIP tokens of a drawing's prompts; an embedding's name takes one for each vector."""
    base = _base(studio, body.project)
    loras = studio.roots.resolve(body.lora_dir) if body.lora_dir else base
    embeddings = studio.roots.resolve(body.embedding_dir) if body.embedding_dir else None
    uses = [lora.name for lora in body.loras]
    prompt, negative = count_prompts((body.prompt, body.negative or ""), loras, embeddings, uses)
    return TokenCounts(prompt=prompt, negative=negative)


@router.get("/wildcards")
def wildcards(studio: StudioDep, prefix: str = "", folder: str = "") -> list[str]:
    """Names that ``__NAME__`` may have; of the workspace's own folder where none is given."""
    place = studio.roots.resolve(folder) if folder else _wildcards(studio)
    return wildcard_names(place, prefix) if place is not None else []


@router.post("/warm-up")
def warm_up(studio: StudioDep, body: NewDrawing) -> Warming:
    """Begin what draws and load the model of a drawing, for a page that will ask for one."""
    request = _request(studio, body)
    job = studio.guard.job_on(request.device)
    if job is None:
        studio.drawings.warm_up(request)
    return Warming(job=job.id if job is not None else None)


@router.get("/history")
def history(
    studio: StudioDep,
    project: str = "",
    before: Annotated[str, Query(max_length=300)] = "",
    limit: Annotated[int, Query(ge=1, le=500)] = 60,
) -> DrawnPictures:
    """Pictures that were drawn, the newest first."""
    return drawn_pictures(_base(studio, project), before=before, limit=limit)


@router.get("/settings")
def settings(studio: StudioDep, engine: EngineDep, path: str, project: str = "") -> PictureSettings:
    """What a picture says made it: of a web UI's, or drawn here."""
    picture, folder = studio.roots.resolve(path), _base(studio, project)
    try:
        told = studio.guard.engine.settings(picture, folder, wait=0)
    except BusyError:  # It draws; the other one has torch, too.
        told = engine.settings(picture, folder)
    found = PictureSettings.model_validate(told)
    found.drawing.project = project
    return found


@router.get("")
def drawings(studio: StudioDep) -> list[DrawingRecord]:
    """What is being drawn, what waits, and what has ended since the studio began, but trials."""
    return [record for record in studio.drawings.all() if not record.drawing.trial]


@router.post("")
def draw(studio: StudioDep, body: NewDrawing) -> DrawingRecord:
    """Draw it, after those that were asked for before."""
    waiting = [record for record in studio.drawings.all() if record.state == "waiting"]
    if len(waiting) >= MOST_WAITING:
        raise UserError.of("", f"{len(waiting)} drawings wait already", "cancel some of them")
    return studio.drawings.add(body, _request(studio, body))


@router.get("/{number}")
def drawing(studio: StudioDep, number: str) -> DrawingRecord:
    return studio.drawings.get(number)


@router.post("/{number}/cancel")
def cancel(studio: StudioDep, number: str) -> DrawingRecord:
    """Forget one that waits, or stop one between two of its steps; finished pictures stay."""
    return studio.drawings.cancel(number)


def _base(studio: Studio, project: str) -> Path:
    """A project's folder, or the workspace.

    Raises:
        UserError: there is none.
    """
    folder = studio.roots.resolve(project) if project else studio.workspace
    studio.roots.refuse_state(folder)
    if not folder.is_dir():
        raise UserError.of(project, "is no folder", "choose one that is there")
    return folder


def _wildcards(studio: Studio) -> Path | None:
    """The workspace's own, where it has some: what drawings take that name no other."""
    with contextlib.suppress(OutsideError):
        place = studio.roots.resolve(WILDCARDS)
        return place if place.is_dir() else None
    return None


def _request(studio: Studio, body: NewDrawing) -> GenerateRequest:
    """
    Raises:
        UserError: with everything that is wrong and can be told without torch; OutsideError where
            it names what the studio may not open.
    """
    base = _base(studio, body.project)
    values, problems = body.values(), []
    for name in (*_FILES, *_MODELS):
        if name not in values:
            continue
        try:
            resolve = (
                studio.model if name in _MODELS else lambda text: str(studio.roots.resolve(text))
            )
            values[name] = resolve(values[name])
        except OutsideError as error:
            problems += [Problem(name, f"{p.where}: {p.what}", p.hint) for p in error.problems]
    if problems:
        raise OutsideError(problems)
    values.setdefault("lora_dir", str(base))
    if (own := _wildcards(studio)) is not None:
        values.setdefault("wildcard_dir", str(own))
    out = folder_of_trials(studio.workspace) if body.trial else folder_of_today(base)
    return GenerateRequest.read({**values, "out": str(out)})
