"""``lorasmith pick``"""

from __future__ import annotations

import click

from lorasmith.cli.options import command_for, run_shown
from lorasmith.core.terminal import echo_json
from lorasmith.jobs.training import PickRequest


@command_for(PickRequest)
@click.option("--json", "as_json", is_flag=True, help="Print everything that was found as JSON.")
def pick(request: PickRequest, as_json: bool) -> None:
    from lorasmith.advice.pick import record, show
    from lorasmith.cli.console import console

    picked = run_shown(request, to_stderr=as_json)
    if as_json:
        echo_json(record(picked))
        return
    show(picked, console)
