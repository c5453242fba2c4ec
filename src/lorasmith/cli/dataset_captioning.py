"""``lorasmith dataset caption`` and ``regularize``."""

from __future__ import annotations

import click

from lorasmith.cli.dataset_changes import carry_out, change_options, undo_hint
from lorasmith.cli.options import command_for, run_shown
from lorasmith.core.terminal import echo, echo_json
from lorasmith.jobs.dataset.captioning import CaptionRequest
from lorasmith.jobs.dataset.regularize import RegularizeRequest


@command_for(CaptionRequest)
@change_options
def caption(request: CaptionRequest, **view: bool) -> None:
    carry_out(request, **view)


@command_for(RegularizeRequest)
@click.option("--json", "as_json", is_flag=True, help="Print all of it, as JSON.")
def regularize(request: RegularizeRequest, as_json: bool) -> None:
    from lorasmith.cli.console import console

    report = run_shown(request, to_stderr=as_json)
    if as_json:
        echo_json({"images": [str(path) for path in report.images], "pending": report.pending})
    else:
        console.print(report.summary, soft_wrap=True, markup=False)
        if report.roots:
            echo(undo_hint(report.roots))
