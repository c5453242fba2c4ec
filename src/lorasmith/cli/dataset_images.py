"""``lorasmith dataset`` verbs that change images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from lorasmith.cli.dataset_changes import carry_out, change_options, has_terminal
from lorasmith.cli.main import USER_ERROR
from lorasmith.cli.options import command_for, run_shown
from lorasmith.core.events import Controls, Observer
from lorasmith.core.terminal import clean, echo, echo_json, echo_styled, problem_lines
from lorasmith.core.text import quantity, shortlist
from lorasmith.jobs.dataset.export import ExportReport, ExportRequest
from lorasmith.jobs.dataset.images import (
    ConvertPicturesRequest,
    CropRequest,
    FlipRequest,
    MasksRequest,
    ResizePicturesRequest,
    SplitRequest,
)

if TYPE_CHECKING:
    from lorasmith.curation.images.export import ExportPlan

_SHOWN = 5


@command_for(CropRequest)
@change_options
def crop(request: CropRequest, **view: bool) -> None:
    carry_out(request, **view)


# The web UI's word.
preprocess = click.Command("preprocess", params=crop.params, callback=crop.callback, help=crop.help)


@command_for(ResizePicturesRequest)
@change_options
def resize(request: ResizePicturesRequest, **view: bool) -> None:
    carry_out(request, **view)


@command_for(SplitRequest)
@change_options
def split(request: SplitRequest, **view: bool) -> None:
    carry_out(request, **view)


@command_for(FlipRequest)
@change_options
def flip(request: FlipRequest, **view: bool) -> None:
    carry_out(request, **view)


@command_for(ConvertPicturesRequest)
@change_options
def convert(request: ConvertPicturesRequest, **view: bool) -> None:
    carry_out(request, **view)


@command_for(MasksRequest)
@change_options
def masks(request: MasksRequest, **view: bool) -> None:
    carry_out(request, **view)


@dataclass(frozen=True)
class _Planning:
    request: ExportRequest

    def run(self, observer: Observer, controls: Controls) -> ExportPlan:
        return self.request.plan(observer, controls)


@dataclass(frozen=True)
class _Exporting:
    request: ExportRequest
    plan: ExportPlan
    overwrite: bool

    def run(self, observer: Observer, controls: Controls) -> ExportReport:
        return self.request.carry_out(self.plan, observer, controls, overwrite=self.overwrite)


@command_for(ExportRequest)
@click.option("--json", "as_json", is_flag=True, help="Print all of it, as JSON.")
def export(request: ExportRequest, as_json: bool) -> None:
    plan = run_shown(_Planning(request), to_stderr=as_json)
    overwrite = request.overwrite or request.dry_run
    if plan.foreign and not overwrite and has_terminal() and not as_json:
        echo(f"{quantity(len(plan.foreign), 'file')} in {plan.folder} that no export wrote so:")
        echo("\n".join(f"  {clean(name, lines=False)}" for name in plan.foreign[:_SHOWN]))
        overwrite = click.confirm("Overwrite?", default=False)
    report = run_shown(_Exporting(request, plan, overwrite), to_stderr=as_json)
    if as_json:
        echo_json(report.to_json())
    else:
        verb = "would be written" if request.dry_run else "written"
        over = f" ({len(report.overwritten)} over others')" if report.overwritten else ""
        parts = [f"{quantity(report.written, 'file')} {verb}{over}"]
        parts += [f"{report.current} there already"] if report.current else []
        echo(f"{quantity(report.images, 'picture')} in {report.folder}: {', '.join(parts)}")
        if report.renamed:
            pairs = [f"{source.name} is {name}" for source, name in report.renamed]
            count = quantity(len(pairs), "picture", "has")
            shown = clean(shortlist(pairs, 3), lines=False)
            echo(f"{count} the name of another, and a number behind it there: {shown}")
        if report.stale:
            names = clean(shortlist(report.stale, 3), lines=False)
            echo(f"of earlier exports, and of no picture any more: {len(report.stale)} ({names})")
    if report.skipped:
        echo_styled(problem_lines(report.skipped), err=True)
        raise SystemExit(USER_ERROR)
