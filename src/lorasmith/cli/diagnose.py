"""``lorasmith diagnose``"""

from __future__ import annotations

import click

from lorasmith.cli.options import command_for, run_shown
from lorasmith.core.terminal import echo, echo_json
from lorasmith.jobs.diagnose import DiagnoseRequest


@command_for(DiagnoseRequest)
@click.option("--json", "as_json", is_flag=True, help="Print everything that was found as JSON.")
def diagnose(request: DiagnoseRequest, as_json: bool) -> None:
    diagnoses = run_shown(request, to_stderr=True)
    if as_json:
        echo_json([one.to_json() for one in diagnoses])
        return
    from lorasmith.advice.diagnose.view import render
    from lorasmith.cli.console import console

    for one in diagnoses:
        console.print(render(one))
    if request.page is not None:
        echo(f"Written: {request.page}")
