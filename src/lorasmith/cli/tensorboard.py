"""``lorasmith tensorboard``: where it is, and until when."""

from __future__ import annotations

import contextlib
from dataclasses import asdict

import click

from lorasmith.cli.console import console
from lorasmith.cli.options import command_for
from lorasmith.cli.signals import stop_on_interrupt
from lorasmith.core.events import Controls, Event
from lorasmith.core.progress import TextConsole
from lorasmith.core.terminal import echo, echo_json
from lorasmith.core.terminal_view import Terminal
from lorasmith.core.text import quantity
from lorasmith.jobs.request import run
from lorasmith.jobs.tensorboard import TensorBoardReady, TensorBoardRequest


@command_for(TensorBoardRequest)
@click.option("--json", "as_json", is_flag=True, help="Print address and runs as JSON.")
def tensorboard(request: TensorBoardRequest, as_json: bool) -> None:
    controls = Controls()
    terminal = Terminal(TextConsole(stderr=True) if as_json else console)

    def observer(event: Event) -> None:
        if not isinstance(event, TensorBoardReady):
            terminal(event)
        elif as_json:
            echo_json(asdict(event))
        else:
            echo(f"TensorBoard is at {event.address}, with {quantity(len(event.runs), 'run')}")
            echo("Ctrl-C ends it; trainings go on.")

    with contextlib.closing(terminal), stop_on_interrupt(controls, "ending TensorBoard"):
        run(request, observer, controls)
