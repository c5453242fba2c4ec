"""What a training is set up with: the settings' form, presets, the plan, other trainers' files."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Request
from pydantic import Base64Bytes, BaseModel

from lorasmith.config.load import load_settings
from lorasmith.config.schema import TrainSettings
from lorasmith.core.errors import Problem, UserError
from lorasmith.core.file_names import safe_stem
from lorasmith.importers.named_files import opening_by
from lorasmith.jobs.advice import AdviceAnswer
from lorasmith.jobs.engine.planning import PlanningEngine
from lorasmith.jobs.forms import (
    ImportedSettings,
    PresetRecord,
    SectionRecord,
    SettingRecord,
    import_settings,
    presets,
    settings_form,
)
from lorasmith.jobs.plan import (
    PlanAnswer,
    checked,
    named_paths,
    overrides_of,
    plan_request,
)
from lorasmith.jobs.queue.ledger import AUTO
from lorasmith.jobs.runs.records import problem_records
from lorasmith.studio.context import StudioDep
from lorasmith.studio.paths import OutsideError, Roots

router = APIRouter(prefix="/api", tags=["train"])

_making = threading.Lock()


def engine_of(app: FastAPI) -> PlanningEngine:
    """The app's one process with torch; whoever starts a job lets it ``release()`` the device."""
    with _making:
        if not hasattr(app.state, "engine"):
            app.state.engine = PlanningEngine(app.state.studio.workspace)
    engine: PlanningEngine = app.state.engine
    return engine


def _engine(request: Request) -> PlanningEngine:
    return engine_of(request.app)


EngineDep = Annotated[PlanningEngine, Depends(_engine)]


class PlanQuestion(BaseModel):
    """
    Args:
        config: a settings file, or what other trainers' settings stand in.
        data: the folder of images.
        values: settings by path, JSON values; ``None`` is "none".
    """

    config: str | None = None
    data: str | None = None
    preset: str | None = None
    values: dict[str, Any] = {}


class AdviceQuestions(BaseModel):
    """
    Args:
        data: the folder of images.
        model: as ``model.path``.
        answers: to what the pictures leave open, by name.
    """

    data: str
    model: str = "demo"
    answers: dict[str, str] = {}


class WarmUp(BaseModel):
    running: bool


class ImportQuestion(BaseModel):
    """
    Args:
        path: a file here; or else
        name, content: of one that is not: what it is called, and its bytes in base 64.
    """

    path: str = ""
    name: str = ""
    content: Base64Bytes | None = None


@router.get("/settings")
def settings() -> list[SettingRecord]:
    """Every setting of a training, in the order of its sections."""
    return [one for section in settings_form().sections for one in section.settings]


@router.get("/settings/sections")
def sections() -> list[SectionRecord]:
    """The same by section, with what each is."""
    return settings_form().sections


@router.get("/settings/folder")
def folder_settings() -> list[SettingRecord]:
    """What each of ``data.folders`` may have."""
    return settings_form().folder


@router.get("/presets")
def all_presets() -> list[PresetRecord]:
    """Settings for kinds of subjects."""
    return presets()


@router.post("/plan")
def plan(studio: StudioDep, engine: EngineDep, body: PlanQuestion) -> PlanAnswer:
    """What training with these settings would do, or what is in its way; and the command line."""
    values = dict(body.values)
    config = studio.roots.resolve(body.config) if body.config else None
    if body.data:
        values["data.path"] = str(studio.roots.resolve(body.data))
    request = plan_request(values, config, body.preset or None)
    with opening_by(studio.roots.resolve):
        loaded = checked(request)
        if isinstance(loaded, PlanAnswer):
            return loaded
        if problems := list(outside(studio.roots, loaded.settings)):
            return PlanAnswer.to(request, problems)
    is_taken = studio.guard.job_on(AUTO) is not None
    return engine.plan(values, config=config, preset=body.preset or None, is_taken=is_taken)


@router.post("/advice")
def advice(studio: StudioDep, engine: EngineDep, body: AdviceQuestions) -> AdviceAnswer:
    """What suits these pictures on a base model and this computer, setting by setting."""
    model = body.model
    if model != "demo":
        settings = load_settings(None, overrides_of({"model.path": model}))
        if problems := list(outside(studio.roots, settings)):
            return AdviceAnswer(ok=False, problems=problem_records(problems))
        model = str(settings.model.path)
    return engine.advice(studio.roots.resolve(body.data), model, body.answers)


@router.post("/warm-up")
def warm_up(engine: EngineDep) -> WarmUp:
    """Begin what answers about plans, for a page that will ask; a job that starts ends it."""
    engine.warm_up()
    return WarmUp(running=engine.running)


@router.post("/import-settings")
def import_file(studio: StudioDep, body: ImportQuestion) -> ImportedSettings:
    """The settings that a file asks for: ours, or another trainer's."""
    with opening_by(studio.roots.resolve):
        if body.content is not None:
            return import_settings(studio.workspace / _plain_name(body.name), body.content)
        path = studio.roots.resolve(body.path)
        if not path.is_file():
            hint = "choose a settings file, a script or a LoRA"
            raise UserError.of(body.path, "is not a file", hint)
        return import_settings(path)


def _plain_name(name: str) -> str:
    """Without folders, and as any system would take it."""
    stem, dot, suffix = re.split(r"[/\\]", name)[-1].rpartition(".")
    return f"{safe_stem(stem or suffix)}{dot}{safe_stem(suffix)}" if dot else safe_stem(suffix)


def outside(roots: Roots, settings: TrainSettings) -> Iterator[Problem]:
    """What settings name and the studio may not open, each under its setting's path."""
    for where, path in named_paths(settings):
        try:
            roots.resolve(str(path))
        except OutsideError as error:
            yield from (Problem(where, f"{p.where}: {p.what}", p.hint) for p in error.problems)
