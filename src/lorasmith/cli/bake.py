"""``lorasmith bake``"""

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


@click.command("bake")
@click.option(
    "--model", metavar="demo|PATH|HUB_ID", required=True, help="Checkpoint or diffusers folder."
)
@click.option(
    "--lora",
    "loras",
    metavar="FILE[:UNET[:TE]]",
    multiple=True,
    required=True,
    help="LoRA of any type and its strengths; :lbw=OUTALL weighs blocks. May be repeated.",
)
@click.option(
    "--out",
    metavar="PATH",
    type=click.Path(path_type=Path),
    required=True,
    help="New .safetensors file, or new folder if the model is one.",
)
@click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    help="Round all weights to this.  [default: each as it is]",
)
@click.option(
    "--hash",
    "hashes",
    is_flag=True,
    help="Name the model by its SHA-256 in the metadata, which takes as long again.",
)
@click.option("--dry-run", is_flag=True, help="Check everything and say sizes; write nothing.")
def command(
    model: str,
    loras: tuple[str, ...],
    out: Path,
    precision: Any,
    hashes: bool,
    dry_run: bool,
) -> None:
    """Write a checkpoint with LoRAs in it.

    The result has the model's own format, names and types. FILE:0.8 gives UNet and text encoders
    the strength 0.8, FILE:0.8:0.5 each its own. Nothing that exists is overwritten.
    """
    from lorasmith.cli.console import console
    from lorasmith.core.terminal_view import Terminal
    from lorasmith.lora_tools.bake.bake import bake

    controls = Controls()
    with contextlib.closing(Terminal(console)) as terminal, stop_on_interrupt(controls):
        report = bake(
            model,
            loras,
            out,
            precision=precision,
            hash=hashes,
            dry_run=dry_run,
            observer=terminal,
            controls=controls,
        )
    for lora in report.loras:
        parts = ", ".join(f"{count} of the {part}" for part, count in lora.modules.items())
        silent = f" ({lora.silent} at strength 0)" if lora.silent else ""
        echo(f"{lora.source.text}: layers: {parts}{silent}")
    what = "would be" if dry_run else "is"
    size = bytes_text(report.size)
    echo(f"{out} {what} {size}; {quantity(report.tensors, 'tensor')} changed")
