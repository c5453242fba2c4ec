"""``lorasmith merge``"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lorasmith.cli.precision import PRECISIONS
from lorasmith.cli.signals import stop_on_interrupt
from lorasmith.core.events import Controls
from lorasmith.core.terminal import echo

if TYPE_CHECKING:
    from lorasmith.lora_tools.merge import MergeReport


@click.command("merge")
@click.argument("loras", metavar="A[:WEIGHT] B[:WEIGHT]…", nargs=-1, required=True)
@click.option(
    "--out", required=True, metavar="OUT", type=click.Path(path_type=Path), help="File to write."
)
@click.option(
    "--rank",
    type=int,
    metavar="N",
    help="The most that a module has.  [default: all; for svd, ties and dare the files' largest]",
)
@click.option(
    "--method",
    type=click.Choice(["concat", "svd", "average", "ties", "dare"]),
    help="How to put them together.  [default: concat, or svd with --rank]",
)
@click.option(
    "--density",
    type=float,
    metavar="X",
    help="Of ties and dare: the share of each file's numbers that stays.  [default: 0.5]",
)
@click.option("--seed", type=int, metavar="N", help="Of dare's random choice.  [default: 0]")
@click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    help="Of the new file.  [default: the files', or fp32 if they differ]",
)
@click.option("--modules", is_flag=True, help="List every module, not the blocks alone.")
@click.option("--dry-run", is_flag=True, help="Say ranks, size and error; write nothing.")
def command(
    loras: tuple[str, ...],
    out: Path,
    rank: int | None,
    method: Any,
    density: float | None,
    seed: int | None,
    precision: Any,
    modules: bool,
    dry_run: bool,
) -> None:
    """Merge LoRAs, each at its weight, into one file.

    A weight is written after the file: a.safetensors:0.8, a.safetensors:unet=0.8:te=0.5 by part,
    a.safetensors:0.8:lbw=OUTALL by block, in all forms that `train` and prompts take.

    concat adds exactly, and ranks add up. svd gives the best sum of --rank. average divides the
    weights by their sum. ties keeps each file's largest numbers and averages those that agree in
    sign; dare drops numbers at random and scales up the rest. OUT must not exist yet.
    """
    from lorasmith.cli.console import console
    from lorasmith.core.terminal_view import Terminal
    from lorasmith.lora_tools.merge import merge

    controls = Controls()
    with stop_on_interrupt(controls), contextlib.closing(Terminal(console)) as terminal:
        report = merge(
            loras,
            out,
            method=method,
            rank=rank,
            density=density,
            seed=seed,
            precision=precision,
            dry_run=dry_run,
            observer=terminal,
            controls=controls,
        )
    _show(report, out, modules)


def _show(report: MergeReport, out: Path, modules: bool) -> None:
    from lorasmith.cli.console import console
    from lorasmith.cli.rank_table import block_table, dropped, megabytes, module_table, range_of

    console.print(module_table(report.modules) if modules else block_table(report.modules))
    lines = [
        f"of         {', '.join(source.text for source in report.sources)}",
        f"rank       {range_of([module.rank for module in report.modules])}",
        f"size       {megabytes(report.new_bytes)}",
        f"error      {report.error:.3g} of the norm, {1 - report.error**2:.2%} of the energy kept",
    ]
    for source, unmatched in zip(report.sources, report.unmatched, strict=True):
        if unmatched:
            lines.append(dropped(unmatched, f" in {source.path.name}"))
    if report.vectors:
        lines.append(f"beside     {report.vectors} changes of norms and biases, added as they are")
    lines.append(
        f"result     {report.written}" if report.written else f"dry run    {out} not written"
    )
    echo("\n".join(lines))
