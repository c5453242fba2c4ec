"""Projects of the workspace, and the folders that a chooser walks through."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel

from lorasmith.core.errors import UserError
from lorasmith.data.images import MASK_SUFFIXES, SUFFIXES
from lorasmith.data.layout import natural_key
from lorasmith.jobs.projects import Project, create_project
from lorasmith.jobs.runs.folders import ledger_of
from lorasmith.jobs.workspace.status import ProjectReader, ProjectStatus
from lorasmith.studio.api.runs import ReaderDep
from lorasmith.studio.context import StudioDep

router = APIRouter(prefix="/api", tags=["projects"])

Kind = Literal["folder", "image", "settings", "lora", "text", "archive", "other"]

_KINDS: dict[str, Kind] = {
    **dict.fromkeys(MASK_SUFFIXES, "image"),
    **dict.fromkeys((".toml", ".json", ".sh", ".bat", ".ps1", ".cmd"), "settings"),
    ".safetensors": "lora",
    ".txt": "text",
    ".caption": "text",
    ".zip": "archive",
    ".cbz": "archive",
}
_MOST_ENTRIES = 20_000


def _projects_of(request: Request, runs: ReaderDep) -> ProjectReader:
    state = request.app.state
    if not hasattr(state, "projects"):
        state.projects = ProjectReader(runs)
    reader: ProjectReader = state.projects
    return reader


ProjectsDep = Annotated[ProjectReader, Depends(_projects_of)]


class ProjectOut(BaseModel):
    """``images``, ``runs`` and ``loras`` are numbers; ``cover`` is an image's path or none;
    ``showcase`` is that of the image that the demo ended with."""

    name: str
    path: str
    images: int
    runs: int
    loras: int
    cover: str | None
    showcase: str | None

    @classmethod
    def of(cls, project: Project) -> ProjectOut:
        return cls(
            name=project.name,
            path=str(project.path),
            images=project.images,
            runs=len(project.runs),
            loras=len(project.loras),
            cover=_text(project.cover),
            showcase=_text(project.showcase),
        )


def _text(path: Path | None) -> str | None:
    return str(path) if path is not None else None


class ProjectDetail(ProjectOut):
    """``dataset`` is the folder of its images; the newest run is the first."""

    dataset: str
    run_paths: list[str]
    lora_paths: list[str]


class NewProject(BaseModel):
    name: str


class Entry(BaseModel):
    """``images``: of a folder, those right in it."""

    name: str
    path: str
    kind: Kind
    images: int


class Folder(BaseModel):
    """``parent`` is none at a root."""

    path: str
    parent: str | None
    entries: list[Entry]


@router.get("/projects")
def get_projects(studio: StudioDep, projects: ProjectsDep) -> list[ProjectOut]:
    return [
        ProjectOut.of(project)
        for project in projects.projects(studio.workspace)
        if studio.roots.leads_inside(project.path)
    ]


@router.post("/projects")
def post_project(new: NewProject, studio: StudioDep) -> ProjectOut:
    return ProjectOut.of(create_project(studio.workspace, new.name))


@router.get("/project")
def get_project(path: str, studio: StudioDep, projects: ProjectsDep) -> ProjectDetail:
    project = projects.project(studio.roots.resolve(path))
    return ProjectDetail(
        **ProjectOut.of(project).model_dump(),
        dataset=str(project.dataset),
        run_paths=[str(run) for run in project.runs],
        lora_paths=[str(lora) for lora in project.loras],
    )


@router.get("/project/status")
def get_status(path: str, studio: StudioDep, projects: ProjectsDep) -> ProjectStatus:
    """How far a project is, step by step, and what comes next."""
    return projects.status(studio.roots.resolve(path), ledger_of(studio.workspace))


@router.get("/folders")
def get_folder(studio: StudioDep, path: str = ".") -> Folder:
    """A folder's files and folders, without hidden ones and without links that lead out."""
    folder = studio.roots.resolve(path)
    try:
        with os.scandir(folder) as listing:
            found = [one for one in listing if not one.name.startswith(".")]
    except OSError as error:
        raise UserError.of(path, f"cannot be opened: {error.strerror}", "choose another") from error
    found = sorted(found, key=lambda one: natural_key(one.name))[:_MOST_ENTRIES]
    entries = [
        _entry(one)
        for one in found
        if not one.is_symlink() or studio.roots.leads_inside(Path(one.path))
    ]
    entries.sort(key=lambda entry: entry.kind != "folder")
    parent = None if folder in studio.roots.folders else str(folder.parent)
    return Folder(path=str(folder), parent=parent, entries=entries)


def _entry(one: os.DirEntry[str]) -> Entry:
    # Linux has names of any bytes; what is no UTF-8 cannot be sent as it is.
    path = os.fsencode(one.path).decode("utf-8", "replace")
    name = os.path.basename(path)
    if one.is_dir():
        return Entry(name=name, path=path, kind="folder", images=_images_in(one.path))
    kind = _KINDS.get(Path(name).suffix.lower(), "other")
    return Entry(name=name, path=path, kind=kind, images=0)


def _images_in(folder: str) -> int:
    try:
        return sum(Path(name).suffix.lower() in SUFFIXES for name in os.listdir(folder))
    except OSError:
        return 0
