"""A report of a bug: what would be in it, and the zip that a browser saves."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response
from pydantic import BaseModel

from lorasmith.jobs.request import command_line
from lorasmith.jobs.workspace.bug_report import ReportBugRequest, gather_report, zip_of
from lorasmith.studio.context import StudioDep

router = APIRouter(prefix="/api/bug-report", tags=["bug report"])

ZIP_KIND = "application/zip"
ZIP_NAME = "lorasmith-report.zip"
_MOST_RUNS = 20


class FileInReport(BaseModel):
    """
    Args:
        cut: the beginning was left out.
        lines_changed: lines that something was taken out of, or that were left out.
    """

    name: str
    bytes: int
    cut: bool
    lines_changed: int


class ReportContents(BaseModel):
    """
    Args:
        left_out: files that are no text, by name.
        bytes: of the zip.
        command_line: what writes it in a shell.
    """

    files: list[FileInReport]
    left_out: list[str]
    bytes: int
    command_line: str


def _runs_of(
    studio: StudioDep, run: Annotated[list[str] | None, Query(max_length=_MOST_RUNS)] = None
) -> list[Path]:
    return [studio.roots.resolve(one) for one in run or ()]


RunsDep = Annotated[list[Path], Depends(_runs_of)]


@router.get("")
def contents(studio: StudioDep, runs: RunsDep, captions: bool = False) -> ReportContents:
    """What would be in a report of the workspace's newest runs, or of each ``run``."""
    report = gather_report(studio.workspace, runs, captions=captions)
    listed = report.to_json()
    return ReportContents(
        files=[FileInReport(**file) for file in listed["files"]],
        left_out=listed["left_out"],
        bytes=len(zip_of(report)),
        command_line=command_line(
            ReportBugRequest(workspace=studio.workspace, run_folders=runs, captions=captions)
        ),
    )


@router.get(
    "/zip",
    response_class=Response,
    responses={200: {"content": {ZIP_KIND: {"schema": {"type": "string", "format": "binary"}}}}},
)
def as_zip(studio: StudioDep, runs: RunsDep, captions: bool = False) -> Response:
    """The report itself, as it is now; nothing is written here."""
    report = gather_report(studio.workspace, runs, captions=captions)
    headers = {
        "content-disposition": f'attachment; filename="{ZIP_NAME}"',
        "cache-control": "no-store",
    }
    return Response(zip_of(report), media_type=ZIP_KIND, headers=headers)
