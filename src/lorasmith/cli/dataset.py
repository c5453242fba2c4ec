"""``lorasmith dataset``: look after a folder of training pictures."""

from __future__ import annotations

import click

from lorasmith.cli.main import USER_ERROR
from lorasmith.cli.options import command_for, run_shown
from lorasmith.core.terminal import echo_json
from lorasmith.jobs.dataset import CheckRequest, PreviewRequest


@click.group("dataset")
def dataset() -> None:
    """Look after a folder of training pictures."""


@command_for(CheckRequest)
@click.option("--json", "as_json", is_flag=True, help="Print everything, as JSON.")
def check(request: CheckRequest, as_json: bool) -> None:
    report = run_shown(request, to_stderr=True)
    if as_json:
        echo_json(report.to_json())
    else:
        from lorasmith.cli.console import console
        from lorasmith.curation.report import render

        console.print(render(report))
    if report.errors:
        raise SystemExit(USER_ERROR)


@command_for(PreviewRequest)
def preview(request: PreviewRequest) -> None:
    from lorasmith.cli.console import console

    report = run_shown(request, to_stderr=True)
    if report.augmentation:
        console.print(f"Augmentation: {report.augmentation}")
    console.print(f"Written: {report.path}")


dataset.add_command(check)
dataset.add_command(preview)
