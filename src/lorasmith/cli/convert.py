"""``lorasmith convert``"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import click

from lorasmith.cli.precision import PRECISIONS
from lorasmith.cli.signals import stop_on_interrupt
from lorasmith.core.events import Controls
from lorasmith.core.terminal import echo
from lorasmith.core.text import bytes_text, quantity

TARGETS = ("kohya", "kohya-diffusers", "diffusers", "comfy", "safetensors")


@click.command("convert")
@click.argument("source", metavar="IN", type=click.Path(path_type=Path))
@click.argument("out", metavar="OUT", type=click.Path(path_type=Path))
@click.option(
    "--to",
    type=click.Choice(TARGETS),
    help="Whose names the tensors get; safetensors keeps them.  [default: kohya, of a LoRA]",
)
@click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    help="Round the numbers.  [default: as they are]",
)
@click.option(
    "--preview",
    metavar="PNG",
    type=click.Path(path_type=Path),
    help="A picture to embed, which model managers show.",
)
@click.option("--dry-run", is_flag=True, help="Check everything and say the size; write nothing.")
def command(
    source: Path,
    out: Path,
    to: Any,
    precision: Any,
    preview: Path | None,
    dry_run: bool,
) -> None:
    """Write the LoRA or checkpoint IN as the .safetensors file OUT.

    A LoRA may have kohya's, LyCORIS', diffusers', peft's or ComfyUI's names, or be a list that
    cloneofsimo's program or sd_dreambooth_extension wrote; a checkpoint may be a .ckpt. Nothing in
    a pickle is ever run. Converting back gives the first file again, byte for byte, where no
    precision was lost.
    """
    from lorasmith.cli.console import console
    from lorasmith.core.terminal_view import Terminal
    from lorasmith.lora_tools.convert.convert import convert

    controls = Controls()
    with contextlib.closing(Terminal(console)) as terminal, stop_on_interrupt(controls):
        done = convert(
            source,
            out,
            to=to,
            precision=precision,
            preview=preview,
            dry_run=dry_run,
            observer=terminal,
            controls=controls,
        )
    size = bytes_text(done.size) + (", not written" if dry_run else "")
    echo(f"{done.out}: {quantity(done.tensors, 'tensor')}, {done.before} to {done.after}, {size}")
    if done.exact:
        echo("the file as it was before, byte for byte")
    for note in done.notes:
        echo(note)
