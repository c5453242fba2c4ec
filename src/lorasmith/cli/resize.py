"""``lorasmith resize``"""

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
    from lorasmith.lora_tools.resize import ResizeReport


@click.command("resize")
@click.argument("source", metavar="IN", type=click.Path(path_type=Path))
@click.argument("out", metavar="OUT", type=click.Path(path_type=Path))
@click.option("--rank", type=int, metavar="N", help="The same rank for every module.")
@click.option(
    "--ratio",
    type=float,
    metavar="X",
    help="Keep singular values above the module's largest divided by X.",
)
@click.option(
    "--retain",
    type=float,
    metavar="X",
    help="Keep as many as hold this share of the module's Frobenius norm, up to 1.",
)
@click.option(
    "--cumulative",
    type=float,
    metavar="X",
    help="Keep as many as add up to this share of the sum of all, up to 1.",
)
@click.option(
    "--size",
    type=float,
    metavar="MB",
    help="Make a file of this size, ranks going where they are worth most.",
)
@click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    help="Of the new file.  [default: as the old]",
)
@click.option("--modules", is_flag=True, help="List every module, not the blocks alone.")
@click.option("--dry-run", is_flag=True, help="Say ranks, size and error; write nothing.")
def command(
    source: Path,
    out: Path,
    rank: int | None,
    ratio: float | None,
    retain: float | None,
    cumulative: float | None,
    size: float | None,
    precision: Any,
    modules: bool,
    dry_run: bool,
) -> None:
    """Write the LoRA IN as OUT at lower ranks, at the least error that they allow.

    Say one of --rank, --ratio, --retain, --cumulative and --size. LoHa, LoKr and whole differences
    become LoRAs; DoRA keeps its magnitudes; a DyLoRA is cut to its first N ranks. A module whose
    rank is low enough stays as it is. OUT must not exist yet.
    """
    from lorasmith.cli.console import console
    from lorasmith.core.terminal_view import Terminal
    from lorasmith.lora_tools.resize import resize

    controls = Controls()
    with stop_on_interrupt(controls), contextlib.closing(Terminal(console)) as terminal:
        report = resize(
            source,
            out,
            rank=rank,
            retain=retain,
            ratio=ratio,
            cumulative=cumulative,
            size_mb=size,
            precision=precision,
            dry_run=dry_run,
            observer=terminal,
            controls=controls,
        )
    _show(report, out, modules)


def _show(report: ResizeReport, out: Path, modules: bool) -> None:
    from lorasmith.cli.console import console
    from lorasmith.cli.rank_table import block_table, dropped, megabytes, module_table, range_of

    console.print(module_table(report.modules) if modules else block_table(report.modules))
    old = range_of([module.old_rank for module in report.modules])
    new = range_of([module.rank for module in report.modules])
    lines = [
        f"rank       {old} -> {new}",
        f"size       {megabytes(report.old_bytes)} -> {megabytes(report.new_bytes)}",
        f"error      {report.error:.3g} of the norm, {1 - report.error**2:.2%} of the energy kept",
    ]
    rule = report.rule
    measures = [module.measure for module in report.modules if module.measure is not None]
    if measures:
        least, most = (f"{value:.4g}" for value in (min(measures), max(measures)))
        between = least if least == most else f"{least} to {most}"
        lines.insert(
            2, f"{rule.by:10} {rule.value:g} asked for; the modules have {between} {_OF[rule.by]}"
        )
    ways = {module.how for module in report.modules}
    for how, said in _WAYS.items():
        if how in ways:
            count = sum(module.how == how for module in report.modules)
            lines.append(f"{how:10} {count} modules {said}")
    if report.carried:
        lines.append(f"carried    {report.carried} changes of norms and biases, as they were")
    if report.unmatched:
        lines.append(dropped(report.unmatched))
    lines.append(
        f"result     {report.written}" if report.written else f"dry run    {out} not written"
    )
    echo("\n".join(lines))


_OF = {
    "retain": "of their norm",
    "cumulative": "of their singular values' sum",
    "ratio": "between the largest and the smallest that stays",
}
_WAYS = {
    "kept": "have this rank already, or less, and are as they were",
    "cut": "of a DyLoRA are cut to their first ranks",
    "left out": "are not worth their bytes",
}
