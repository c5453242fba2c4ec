"""How far a project is, from images to a LoRA file: each step, what is there and what is missing.

Quick to ask again: folders are looked through only after they changed, no image or caption is
opened, and nothing imports torch.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict

from lorasmith.advice.audit.ignored import ignored_in
from lorasmith.advice.audit.last import NAME, LastAudit, last_audit
from lorasmith.config.values import UserPath
from lorasmith.core.errors import UserError
from lorasmith.core.events import Controls, Observer
from lorasmith.core.file_names import shell_word
from lorasmith.core.files import parse_toml, user_path
from lorasmith.core.text import quantity, shortlist
from lorasmith.curation.changes.trash import STORE
from lorasmith.jobs.drawings.loras import preview_of
from lorasmith.jobs.projects import (
    RUNS,
    DatasetFiles,
    Project,
    dataset_of,
    loras_of,
    project_folders,
    read_files,
    read_project,
)
from lorasmith.jobs.queue.ledger import Job, Ledger
from lorasmith.jobs.request import JobRequest, option
from lorasmith.jobs.runs.folders import ledger_of
from lorasmith.jobs.runs.reader import RunReader
from lorasmith.jobs.runs.records import RunSummary
from lorasmith.training.runs.folder import RunFolder

StepName = Literal["images", "captions", "audit", "settings", "run", "pick", "files"]
StepState = Literal["done", "open", "busy", "trouble"]

_WORK: dict[tuple[str, ...], StepName] = {
    ("dataset", "import"): "images",
    ("dataset", "tag"): "captions",
    ("dataset", "caption"): "captions",
    ("dataset", "audit"): "audit",
    ("dataset", "check"): "audit",
    ("train",): "run",
    ("demo",): "run",
    ("bootstrap",): "run",
    ("pick",): "pick",
    ("resize",): "files",
    ("merge",): "files",
    ("convert",): "files",
}
"""What jobs of the queue are about, by how their commands begin."""
_MOST_SETTINGS = 1 << 20


class Step(BaseModel):
    """
    Args:
        state: "open" where something is missing, "busy" while a job is at it, "trouble" where it
            cannot go on like this.
        text: what is there, or missing, in few words.
        path: what it is about: the dataset's folder, a run, a LoRA file; "" for nothing.
        command: what does it in a shell; "" where only a person can.
    """

    model_config = ConfigDict(frozen=True)

    name: StepName
    state: StepState
    text: str
    path: str = ""
    command: str = ""


class ProjectStatus(BaseModel):
    """
    Args:
        dataset: the folder of its images.
        steps: from images to files.
        next: the first step that is not done, of those after the training once that is; "" where
            nothing is missing.
    """

    model_config = ConfigDict(frozen=True)

    path: str
    name: str
    dataset: str
    steps: list[Step]
    next: StepName | Literal[""]


class StatusRequest(JobRequest):
    """Say how far a project is, from images to a LoRA file, and what comes next.

    PROJECT is a folder with pictures, or with dataset, runs and loras in it. Nothing is opened but
    lists of files and what earlier commands wrote down: it answers at once.
    """

    verb: ClassVar = "status"

    project: UserPath = option(
        Path(), "The project's folder", positional=True, metavar="[PROJECT]", default_text="this"
    )

    def run(self, observer: Observer, controls: Controls) -> ProjectStatus:
        """
        Raises:
            UserError: there is no such folder.
        """
        # A project is a workspace of its own, or lies in one.
        place = Path(os.path.abspath(self.project))
        ledger = ledger_of(place) or ledger_of(place.parent)
        return ProjectReader().status(place, ledger)


class ProjectReader:
    """Reads the projects of a workspace for as long as it lives, and keeps what it read; safe to
    use from any thread.

    Args:
        runs: what reads their runs.
    """

    def __init__(self, runs: RunReader | None = None) -> None:
        self._runs = runs or RunReader()
        self._lock = threading.Lock()
        self._files: dict[Path, DatasetFiles] = {}
        self._audits: dict[Path, tuple[Any, LastAudit | None]] = {}

    def projects(self, workspace: Path) -> list[Project]:
        """Of all that there are, by name."""
        return [self.project(place) for place in project_folders(workspace)]

    def project(self, path: Path) -> Project:
        """As :func:`.projects.read_project`."""
        return read_project(path, self._files_of(path))

    def status(self, path: Path, ledger: Ledger | None = None) -> ProjectStatus:
        """
        Args:
            ledger: of the workspace, whose jobs may be at work on it.

        Raises:
            UserError: there is no such folder.
        """
        if not path.is_dir():
            raise UserError.of(path, "is no folder", "choose one that is there")
        files, dataset = self._files_of(path), dataset_of(path)
        runs = self._runs.runs(path / RUNS)  # Its images may be many to walk through.
        busy = {step: job for job, step in _work_on(path, ledger)}
        steps = [
            _images(files, dataset),
            _captions(files, dataset),
            self._audit(files, path),
            _settings(files, path, runs),
            _run(dataset, runs),
            _pick(runs),
            _files(loras_of(path), runs),
        ]
        steps = [_with_job(step, busy[step.name]) if step.name in busy else step for step in steps]
        return ProjectStatus(
            path=str(path),
            name=path.name,
            dataset=str(dataset),
            steps=steps,
            next=next_step(steps),
        )

    def _files_of(self, path: Path) -> DatasetFiles:
        with self._lock:
            known = self._files.get(path)
        if known is None or not known.is_as_it_was():
            known = read_files(path)
            with self._lock:
                self._files[path] = known
        return known

    def _audit(self, files: DatasetFiles, path: Path) -> Step:
        roots = dict.fromkeys((dataset_of(path), path))
        audits = [audit for root in roots if (audit := self._last_audit(root)) is not None]
        audit = max(audits, key=lambda audit: audit.time, default=None)
        place = str(dataset_of(path))
        command = f"lorasmith dataset audit {shell_word(place)}"
        if audit is None:
            text = "not looked yet" if files.images else ""
            return Step(name="audit", state="open", text=text, path=place, command=command)
        told, _ = audit.parted(_ignored(audit.folder))
        errors = sum(one["severity"] == "error" for one in told)
        warnings = sum(one["severity"] == "warning" for one in told)
        changed = files.changed_since(audit.time)
        state: StepState = "done"
        if changed == "images":
            state, text = "open", "other images since"
        elif changed:  # As every mending does: it is worth a look, and no step that is left to do.
            text = "captions changed since"
        elif errors:
            state, text = "trouble", f"{errors} in the way"
        elif warnings:
            text = quantity(warnings, "warning")
        else:
            text = quantity(len(told), "note") if told else "nothing wrong"
        return Step(name="audit", state=state, text=text, path=place, command=command)

    def _last_audit(self, root: Path) -> LastAudit | None:
        """Read anew only when its file is another one."""
        try:
            found = os.stat(root / STORE / NAME)
        except OSError:
            return last_audit(root)  # There is none, or it is kept for this user.
        stamp = (found.st_mtime_ns, found.st_size)
        with self._lock:
            known = self._audits.get(root)
        if known is None or known[0] != stamp:
            known = (stamp, last_audit(root))
            with self._lock:
                self._audits[root] = known
        return known[1]


def _images(files: DatasetFiles, dataset: Path) -> Step:
    count, place = files.images, str(dataset)
    state: StepState = "done" if count else "open"
    text = str(count) if count else "none yet"
    return Step(name="images", state=state, text=text, path=place)


def _captions(files: DatasetFiles, dataset: Path) -> Step:
    place = str(dataset)
    command = f"lorasmith dataset tag {shell_word(place)}"
    missing = files.images - files.captioned
    state: StepState = "open"
    if not files.images:
        text = ""
    elif not missing:
        state, text = "done", "all"
    elif files.tables:
        state, text = "done", f"in {shortlist([table.name for table in files.tables], 1)}"
    else:
        text = f"{missing} missing" if files.captioned else "none yet"
    return Step(name="captions", state=state, text=text, path=place, command=command)


def _settings(files: DatasetFiles, project: Path, runs: Sequence[RunSummary]) -> Step:
    command = f"lorasmith advise {shell_word(dataset_of(project))}"
    if runs:  # Frozen into it; the newest is what one goes on from.
        return Step(
            name="settings",
            state="done",
            text=f"of {runs[0].name}",
            path=str(RunFolder(Path(runs[0].path)).settings),
            command=command,
        )
    file = next(_settings_files(project), None)
    if file is not None:
        return Step(name="settings", state="done", text=file.name, path=str(file), command=command)
    return Step(
        name="settings", state="open", text="to choose" if files.images else "", command=command
    )


def _run(dataset: Path, runs: Sequence[RunSummary]) -> Step:
    if not runs:
        command = f"lorasmith train {shell_word(dataset)}"
        return Step(name="run", state="open", text="none yet", command=command)
    newest = runs[0]
    command = f"lorasmith train --resume {shell_word(newest.path)}"
    of = f" of {newest.steps}" if newest.steps else ""
    at = f"step {newest.step}{of}"
    state: StepState = "done"
    if newest.state in ("running", "preparing"):
        state, text = "busy", at if newest.state == "running" else "preparing"
    elif newest.state in ("killed", "trouble") and not newest.lora:
        state, text = "trouble", f"{newest.state} at {at}"
    elif newest.state == "done":
        text = f"{len(runs)} done" if len(runs) > 1 else "done"
    else:
        text = f"{newest.state} at {at}"
    return Step(name="run", state=state, text=text, path=newest.path, command=command)


def _pick(runs: Sequence[RunSummary]) -> Step:
    ready = [run for run in runs if run.lora]
    picked = next((run for run in ready if run.picked), None)
    if picked is not None:
        return Step(name="pick", state="done", text=picked.picked, path=picked.path)
    if not ready:
        return Step(name="pick", state="open", text="")
    command = f"lorasmith pick {shell_word(ready[0].path)}"
    return Step(name="pick", state="open", text="not asked", path=ready[0].path, command=command)


def _files(loras: Sequence[Path], runs: Sequence[RunSummary]) -> Step:
    results = [RunFolder(Path(run.path)).result for run in runs if run.lora]
    files = [*loras, *(path for path in results if path.is_file())]
    if not files:
        return Step(name="files", state="open", text="none yet" if runs else "")
    shown = next((file for file in files if preview_of(file) is not None), None)
    if shown is None:
        command = f"lorasmith runs preview {shell_word(files[0])} PICTURE"
        text = "no preview"
        return Step(name="files", state="open", text=text, path=str(files[0]), command=command)
    return Step(name="files", state="done", text=str(len(files)), path=str(shown))


def _with_job(step: Step, job: Job) -> Step:
    if job.state != "running":
        if step.state == "busy":
            return step
        return step.model_copy(update={"state": "busy", "text": f"job {job.id} waits"})
    text = step.text if step.state == "busy" else f"job {job.id} runs"
    return step.model_copy(update={"state": "busy", "text": text})


def next_step(steps: Sequence[Step]) -> StepName | Literal[""]:
    """What was left out before a training that is done is no longer what comes next."""
    done = [number for number, step in enumerate(steps) if step.name == "run" and _is_done(step)]
    rest = steps[done[0] :] if done else steps
    return next((step.name for step in rest if not _is_done(step)), "")


def _is_done(step: Step) -> bool:
    return step.state == "done"


def _settings_files(folder: Path) -> Iterator[Path]:
    """Those right in a project, by name."""
    for path in sorted(folder.glob("*.toml")):
        if "data" in _table_of(path) or "optimizer" in _table_of(path):
            yield path


def _table_of(path: Path) -> Mapping[str, Any]:
    """A settings file as it is; empty of what is none."""
    try:
        if path.stat().st_size > _MOST_SETTINGS:
            return {}
        return parse_toml(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # It is gone, or somebody's.
        return {}


def _ignored(root: Path) -> set[str]:
    try:
        return set(ignored_in([root]))
    except UserError:  # A damaged file is said where it is mended.
        return set()


def _work_on(project: Path, ledger: Ledger | None) -> Iterator[tuple[Job, StepName]]:
    """Jobs that run or wait and name something in the project, those that run last."""
    jobs = ledger.jobs() if ledger is not None else []
    for job in reversed(jobs):
        words = job.command
        step = _WORK.get(words[:2]) or _WORK.get(words[:1])
        if step is None or job.has_ended:
            continue
        # What follows a training is about its run, which has no name yet.
        before = [one for one in jobs if one.id == job.after]
        if any(_concerns(one, project) for one in (job, *before)):
            yield job, step


def _concerns(job: Job, project: Path) -> bool:
    named = [*job.command[1:], job.run]
    for file in job.command[1:]:
        if file.endswith(".toml"):  # The settings that a training's job was given.
            data = _table_of(job.folder / user_path(file)).get("data")
            table = data if isinstance(data, Mapping) else {}
            folders = table.get("folders")
            named += [str(table.get("path") or "")]
            named += [str(one.get("path") or "") for one in folders or () if isinstance(one, dict)]
    root = os.path.realpath(project)
    return any(_is_in(job.folder / user_path(word), root) for word in named if word)


def _is_in(path: Path, root: str) -> bool:
    try:
        place = os.path.realpath(path)
    except (OSError, ValueError):  # It has signs that no path has.
        return False
    return place == root or place.startswith(root + os.sep)
