"""``lorasmith demo``"""

from __future__ import annotations

import contextlib
from pathlib import Path

import click

from lorasmith.jobs.demo import FOLDER, DemoRequest


@click.command("demo")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(FOLDER),
    show_default=True,
    help="Folder for everything that the demo makes.",
)
def demo(out: Path) -> None:
    """Train a LoRA on the small model inside the package and see what it learned.

    Draws a training set of a character that the base model has never seen, checks it, trains on it
    with sample pictures at every epoch, and ends with one picture that compares them.
    """
    from lorasmith.cli.console import console
    from lorasmith.cli.signals import stop_on_interrupt
    from lorasmith.core.events import Controls
    from lorasmith.jobs.request import run
    from lorasmith.training.monitoring.observers import TrainingTerminal

    controls = Controls()
    with stop_on_interrupt(controls), contextlib.closing(TrainingTerminal(console)) as terminal:
        image = run(DemoRequest(out), terminal, controls)
    console.print("\nWhat it learned, in one picture: ", end=" ")
    console.print(str(image), style="bold", soft_wrap=True)
