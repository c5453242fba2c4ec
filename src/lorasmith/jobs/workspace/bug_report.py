"""What a report of a bug needs, as one zip: settings, versions, machine, queue, logs and metrics.

Files are taken by their names, as text alone: no picture, no LoRA and no caption gets in. Home
folders, the user's and the computer's name, and what looks like a password, a token or bytes
written as letters are taken out of every line.
"""

from __future__ import annotations

import contextlib
import getpass
import io
import json
import os
import platform
import re
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from lorasmith.advice.doctor.finding import shorten
from lorasmith.config.values import UserPath
from lorasmith.core.errors import RunError
from lorasmith.core.events import Controls, Observer
from lorasmith.core.files import atomic_path
from lorasmith.jobs.queue.ledger import Ledger
from lorasmith.jobs.queue.records import JobRecord
from lorasmith.jobs.queue.watch import LOG
from lorasmith.jobs.request import JobRequest, option
from lorasmith.jobs.runs.folders import ledger_of
from lorasmith.jobs.runs.reader import RunReader
from lorasmith.training.runs.folder import existing_run_folder

MOST_BYTES = 400_000
"""Of one file; of longer ones the end."""
MOST_JOBS, MOST_RUNS = 10, 3
_OF_RUNS = ("settings.toml", "run.json", "metrics.jsonl", "events.jsonl")
_WITH_CAPTIONS = ("dataset.json", "dataset.txt")
# An event that lists the pictures with their captions.
_LISTING = re.compile(r'"event": ?"DatasetChecked"')

_SECRETS = re.compile(
    r"""\b(?:hf_|sk-|xox[a-z]-|gh[opsur]_|github_pat_|glpat-|AKIA|eyJ)[\w.\-]{8,}"""
)
_NAMED = re.compile(
    r"""((?:token|api[_-]?key|password|passwd|secret|authorization|cookie)["']?\s*[:=]\s*["']?"""
    r"""|--[\w-]*(?:token|key|password|secret)\s+)"""
    r"""((?:bearer\s+|basic\s+)?[^\s"'&,;]+)""",
    re.IGNORECASE,
)
_IN_ADDRESS = re.compile(r"(?<=://)[^\s/@]+@")
_BYTES = re.compile(r"[A-Za-z0-9+/=_\-]{120,}")
# Of bytes one letter in 64 is a slash; those of a long path stand closer together, and apart.
_NO_PATH = re.compile(r"[^/]{40}|//")
_CONTROL = re.compile("[\x00-\x08\x0e-\x1a\x1c-\x1f]")
_GONE = "[removed]"
_NOBODY = {"", "root", "user", "runner", "ubuntu", "admin", "lorasmith", "python", "home",
           "localhost"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class ReportFile:
    """
    Args:
        name: in the zip.
        text: as it is there, with nothing of the user's in it.
        is_cut: the beginning was left out.
        lines_changed: lines that something was taken out of, or that were left out.
    """

    name: str
    text: str
    is_cut: bool = False
    lines_changed: int = 0


@dataclass(frozen=True, slots=True)
class BugReport:
    """
    Args:
        path: of the zip; ``None`` where none was written.
        left_out: files that are no text, by name.
    """

    path: Path | None
    files: tuple[ReportFile, ...]
    left_out: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "path": str(self.path) if self.path is not None else None,
            "files": [
                {
                    "name": file.name,
                    "bytes": len(file.text.encode()),
                    "cut": file.is_cut,
                    "lines_changed": file.lines_changed,
                }
                for file in self.files
            ],
            "left_out": list(self.left_out),
        }


class ReportBugRequest(JobRequest):
    """Put what a report of a bug needs into a zip: settings, versions, machine, logs.

    In it are what `lorasmith doctor --quick` says, the jobs of the workspace's queue with the ends
    of their logs, and of the newest runs, or those of --run, settings, metrics and events. There
    are no pictures, no LoRAs and no captions in it, and so no logs of what changes captions; home
    folders, names of users and computers, and what looks like a token are taken out. --dry-run says
    what would be in it.
    """

    verb: ClassVar = "report-bug"

    workspace: UserPath = option(
        Path(), "The folder whose queue and runs it is about", positional=True, metavar="[DIR]"
    )
    run_folders: list[UserPath] = option(
        [], "A run that it is about; can be given several times", metavar="RUN", flag="run"
    )
    captions: bool = option(
        False, "Add what the runs found in their pictures, and logs of dataset commands: captions"
    )
    out: UserPath = option(Path("lorasmith-report.zip"), "File to write", metavar="FILE")
    dry_run: bool = option(False, "Write nothing, and say what would be in it")

    def run(self, observer: Observer, controls: Controls) -> BugReport:
        """
        Raises:
            RunError: the file is there already, the workspace is not, or what is named is no run.
            WriteError: it cannot be written.
        """
        if not self.dry_run and self.out.exists():
            raise RunError.of(self.out, "is there already", "choose another with --out")
        if not self.workspace.is_dir():
            raise RunError.of(self.workspace, "is no folder", "name the one with the queue or runs")
        report = gather_report(self.workspace, self.run_folders, captions=self.captions)
        if self.dry_run:
            return report
        with atomic_path(self.out) as temporary:
            temporary.write_bytes(zip_of(report))
        return BugReport(self.out, report.files, report.left_out)


def zip_of(report: BugReport) -> bytes:
    """The files of a report, as a zip."""
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in report.files:
            archive.writestr(file.name, file.text)
    return sink.getvalue()


def gather_report(
    workspace: Path, runs: Sequence[Path] = (), *, captions: bool = False
) -> BugReport:
    """What would be in a report; nothing is written.

    Args:
        runs: that it is about; without any the newest of the workspace.
        captions: add what has captions in it.

    Raises:
        RunError: one is no run.
    """
    from lorasmith.advice.doctor.doctor import doctor

    folders = [existing_run_folder(run).path for run in runs] or [
        Path(run.path) for run in RunReader().runs(workspace)[:MOST_RUNS]
    ]
    about = json.dumps(doctor(quick=True).to_json(), indent=2, ensure_ascii=False)
    files = [_report_file("doctor.json", about)]
    left_out: list[str] = []
    sources = [*_of_queue(workspace, files, captions), *_of_runs(folders, captions)]
    for name, path in sources:
        text, is_cut = _end_of(path)
        if text is None:
            left_out.append(without_names(name))
            continue
        files.append(_report_file(name, text, is_cut, captions))
    return BugReport(None, tuple(files), tuple(left_out))


def _report_file(name: str, text: str, is_cut: bool = False, captions: bool = False) -> ReportFile:
    lines = text.splitlines(True)
    kept = lines if captions else [line for line in lines if not _LISTING.search(line)]
    told = without_names("".join(kept))
    changed = sum(one != other for one, other in zip(kept, told.splitlines(True), strict=False))
    return ReportFile(without_names(name), told, is_cut, len(lines) - len(kept) + changed)


def without_names(text: str) -> str:
    """A text without what tells who the user is, and without secrets and bytes."""
    users = {_quietly(getpass.getuser), _quietly(platform.node)}
    for user in users:
        text = shorten(text, Path.home(), user)
        if user.lower() not in _NOBODY and len(user) > 2:
            text = re.sub(rf"(?<!\w){re.escape(user)}(?!\w)", "…", text, flags=re.IGNORECASE)
    text = _IN_ADDRESS.sub(f"{_GONE}@", text)
    text = _SECRETS.sub(_GONE, text)
    text = _NAMED.sub(rf"\1{_GONE}", text)
    return _BYTES.sub(lambda found: _GONE if _NO_PATH.search(found[0]) else found[0], text)


def _quietly(ask: Any) -> str:
    with contextlib.suppress(OSError, KeyError, ImportError):  # Nobody, as in some containers.
        return str(ask())
    return ""


def _of_queue(
    workspace: Path, files: list[ReportFile], captions: bool
) -> Iterator[tuple[str, Path]]:
    """Logs and settings of the last jobs; ``files`` gets the rows of the ledger."""
    ledger: Ledger | None = ledger_of(workspace)
    if ledger is None:
        return
    jobs = sorted(ledger.jobs(), key=lambda job: -job.id)
    # Its command line has the words of the command beside each other, where secrets are known.
    rows = [JobRecord.of(ledger, job).model_dump(exclude={"command"}) for job in jobs[:100]]
    text = json.dumps(rows, indent=2, ensure_ascii=False)
    files.append(_report_file("queue/jobs.json", text))
    for job in jobs[:MOST_JOBS]:
        settings, log = ledger.job_folder(job.id) / "settings.toml", ledger.try_folder(job) / LOG
        # Commands that change a dataset print the captions before and after.
        has_captions = job.command[:1] == ("dataset",)
        for path in (settings, *(() if has_captions and not captions else (log,))):
            if path.is_file():
                yield f"queue/{job.id}/{path.name}", path


def _of_runs(folders: Sequence[Path], captions: bool) -> Iterator[tuple[str, Path]]:
    for number, folder in enumerate(folders, 1):
        for name in (*_OF_RUNS, *(_WITH_CAPTIONS if captions else ())):
            if (folder / name).is_file():
                yield f"runs/{number}-{folder.name}/{name}", folder / name


def _end_of(path: Path) -> tuple[str | None, bool]:
    """The end of a text from a whole line on; ``None`` of what is no text, or a link."""
    try:
        if path.is_symlink():
            return None, False
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - MOST_BYTES))
            data = file.read(MOST_BYTES)
        is_cut = size > MOST_BYTES
        if is_cut:
            data = data.partition(b"\n")[2]
        text = data.decode("utf-8")
    except (OSError, UnicodeDecodeError):
        return None, False
    return (None if _CONTROL.search(text) else text), is_cut
