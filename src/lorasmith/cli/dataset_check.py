"""``lorasmith dataset check`` and ``preview``: what they print."""

from __future__ import annotations

import click

from lorasmith.cli.main import USER_ERROR
from lorasmith.cli.options import command_for, run_shown
from lorasmith.core.terminal import echo_json
from lorasmith.jobs.dataset.check import CheckRequest, PreviewRequest


@command_for(CheckRequest)
@click.option("--json", "as_json", is_flag=True, help="Print everything, as JSON.")
def check(request: CheckRequest, as_json: bool) -> None:
    report = run_shown(request, to_stderr=True)
    if as_json:
        echo_json(report.to_json())
    else:
        from lorasmith.cli.console import console
        from lorasmith.curation.check.report import render

        console.print(render(report))
    if report.errors:
        raise SystemExit(USER_ERROR)


@command_for(PreviewRequest)
@click.option("--json", "as_json", is_flag=True, help="Print where it is, as JSON.")
def preview(request: PreviewRequest, as_json: bool) -> None:
    from lorasmith.cli.console import console

    report = run_shown(request, to_stderr=True)
    if as_json:
        echo_json({"path": str(report.path), "augmentation": report.augmentation})
        return
    if report.augmentation:
        console.print(f"Augmentation: {report.augmentation}")
    console.print(f"Written: {report.path}")
