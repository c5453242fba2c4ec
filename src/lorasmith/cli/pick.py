"""``lorasmith pick``"""

from __future__ import annotations

import contextlib
from pathlib import Path

import click

from lorasmith.core.events import Controls
from lorasmith.core.terminal import echo_json


@click.command("pick")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print everything that was found as JSON.")
@click.option(
    "--pictures",
    type=click.IntRange(2, 64),
    default=6,
    show_default=True,
    metavar="N",
    help="Drawings of each kind for each snapshot; more are surer and take longer.",
)
@click.option(
    "--plain",
    multiple=True,
    metavar="PROMPT",
    help="A prompt that the LoRA should leave alone; may be repeated.  [default: captions without "
    "the trigger]",
)
@click.option(
    "--clip",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Compare drawings by the CLIP image encoder in this folder.  [default: by the model]",
)
@click.option(
    "--precision",
    type=click.Choice(["auto", "fp32", "fp16", "bf16"]),
    default="auto",
    show_default=True,
    help="Of the UNet and the text encoder; the VAE works in fp32.",
)
@click.option(
    "--device",
    default="auto",
    show_default=True,
    metavar="auto|cpu|cuda|…",
    help="Where to compute.",
)
def pick(
    run: Path,
    as_json: bool,
    pictures: int,
    plain: tuple[str, ...],
    clip: Path | None,
    precision: str,
    device: str,
) -> None:
    """Say which snapshot of the run in folder RUN to keep, and why.

    Measures each snapshot's loss on fixed noise at three strengths, whether its drawings are like
    the training pictures or copies of them, and whether prompts without the trigger change. What is
    measured is kept in RUN/pick, so that asking again costs nothing and new snapshots only add.
    """
    from lorasmith.advice.pick import pick, record, show
    from lorasmith.cli.console import console
    from lorasmith.cli.signals import stop_on_interrupt
    from lorasmith.core.progress import TextConsole
    from lorasmith.core.terminal_view import Terminal

    controls = Controls()
    # JSON has the standard output for itself.
    terminal = Terminal(TextConsole(stderr=True) if as_json else console)
    with stop_on_interrupt(controls), contextlib.closing(terminal):
        picked = pick(
            run,
            images=pictures,
            plain=plain,
            clip=clip,
            device=device,
            precision=precision,
            observer=terminal,
            controls=controls,
        )
    if as_json:
        echo_json(record(picked))
        return
    show(picked, console)
