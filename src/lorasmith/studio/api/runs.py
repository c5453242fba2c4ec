"""Runs: lists, curves, samples, what is said of them, and what is asked of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel

from lorasmith.jobs.runs.asking import ask_run
from lorasmith.jobs.runs.folders import ledger_of, remove_run, rename_run, restore_run
from lorasmith.jobs.runs.reader import RunReader, opened_run
from lorasmith.jobs.runs.records import (
    Difference,
    RunDetail,
    RunEvents,
    RunMetrics,
    RunSummary,
    SampleImage,
)
from lorasmith.jobs.runs.settings import compare_runs
from lorasmith.studio.context import StudioDep

router = APIRouter(prefix="/api", tags=["runs"])

MOST_POINTS = 20_000


def _reader_of(request: Request) -> RunReader:
    state = request.app.state
    if not hasattr(state, "run_reader"):
        state.run_reader = RunReader()
    reader: RunReader = state.run_reader
    return reader


def _run_of(studio: StudioDep, path: Annotated[str, Query()]) -> Path:
    return studio.roots.resolve(path)


ReaderDep = Annotated[RunReader, Depends(_reader_of)]
RunDep = Annotated[Path, Depends(_run_of)]


class Control(BaseModel):
    """``requests``: each ``samples``, ``snapshot``, ``state``, ``stop`` or ``lr=FACTOR``."""

    path: str
    requests: list[str]


class Asked(BaseModel):
    """``waiting``: how many requests the training has not met yet, these among them."""

    waiting: int


class NewName(BaseModel):
    path: str
    name: str


class Place(BaseModel):
    """A run's folder, or what :class:`Removed` says was kept of it."""

    path: str


class Removed(BaseModel):
    """``kept``: what brings it back, given to ``/api/run/restore``."""

    kept: str


@router.get("/runs")
def runs(studio: StudioDep, reader: ReaderDep, project: str = "") -> list[RunSummary]:
    """The runs in and below a project, or of all folders that the studio may open."""
    folders = [studio.roots.resolve(project)] if project else studio.roots.folders
    by_path = {run.path: run for folder in folders for run in reader.runs(folder)}
    return sorted(by_path.values(), key=lambda run: (-(run.started or 0), run.path))


@router.get("/run")
def run(path: RunDep, reader: ReaderDep) -> RunDetail:
    """Everything about one run but its curves and images."""
    return reader.run(path)


@router.get("/run/metrics")
def metrics(
    path: RunDep,
    reader: ReaderDep,
    after: Annotated[int, Query(alias="from", ge=-1)] = -1,
    points: Annotated[int, Query(ge=2, le=MOST_POINTS)] = 1000,
) -> RunMetrics:
    """The curves from the step after ``from`` on, at most about ``points`` rows of them."""
    return reader.metrics(path, after, points)


@router.get("/run/samples")
def samples(path: RunDep, reader: ReaderDep) -> list[SampleImage]:
    """The images that the run drew, by step and prompt."""
    return reader.samples(path)


@router.get("/run/events")
def events(
    path: RunDep, reader: ReaderDep, after: Annotated[int, Query(alias="from", ge=0)] = 0
) -> RunEvents:
    """Events from number ``from`` on."""
    return reader.events(path, after)


@router.get("/run/dataset")
def dataset(path: RunDep, reader: ReaderDep) -> dict[str, Any]:
    """What was found in the dataset when the run began."""
    return reader.dataset(path)


@router.get("/run/compare")
def compare(studio: StudioDep, path: RunDep, other: str) -> list[Difference]:
    """The settings that differ between two runs."""
    paths = [opened_run(one).path for one in (path, studio.roots.resolve(other))]
    return compare_runs(*paths)


@router.post("/run/control")
def control(studio: StudioDep, reader: ReaderDep, body: Control) -> Asked:
    """Ask a running training for something; it is done after the step in progress."""
    folder = opened_run(studio.roots.resolve(body.path))
    studio.roots.resolve(str(folder.control))
    ask_run(folder.path, body.requests)
    return Asked(waiting=reader.run(folder.path).waiting)


@router.post("/run/rename")
def rename(studio: StudioDep, body: NewName) -> Place:
    """Another name for a run and its files."""
    folder = _changed(studio, body.path)
    return Place(path=str(rename_run(folder, body.name, ledger_of(studio.workspace))))


@router.post("/run/remove")
def remove(studio: StudioDep, body: Place) -> Removed:
    """A run into the trash beside it."""
    folder = _changed(studio, body.path)
    kept = remove_run(folder, ledger_of(studio.workspace))
    return Removed(kept=str(kept))


@router.post("/run/restore")
def restore(studio: StudioDep, body: Place) -> Place:
    """A run from the trash to where it was."""
    return Place(path=str(restore_run(studio.roots.resolve(body.path))))


def _changed(studio: StudioDep, path: str) -> Path:
    """A run all of whose files lie where the studio may change them."""
    folder = opened_run(studio.roots.resolve(path))
    # What lies beside a flat run's folder is of it as well.
    studio.roots.resolve(str(folder.path.parent))
    return folder.path
