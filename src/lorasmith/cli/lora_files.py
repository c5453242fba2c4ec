"""``lorasmith resize``, ``merge``, ``extract``, ``bake`` and ``convert``: what they print of what
they did."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from lorasmith.cli.options import command_for, run_shown
from lorasmith.core.terminal import echo, echo_json
from lorasmith.jobs.file_tools.figures import (
    ModuleFigures,
    block_figures,
    range_of,
    report_lines,
)
from lorasmith.jobs.lora_files import (
    BakeRequest,
    ConvertRequest,
    ExtractRequest,
    MergeRequest,
    ResizeRequest,
)

if TYPE_CHECKING:
    from rich.table import Table

_modules = click.option("--modules", is_flag=True, help="List every module, not the blocks alone.")


# What sd-scripts' extract_lora_from_models.py calls the options of `extract`.
_OF_SD_SCRIPTS = {
    "model_org": "base",
    "model_tuned": "tuned",
    "save_to": "out",
    "dim": "rank",
    "conv_dim": "conv-rank",
    "save_precision": "precision",
    "load_precision": "load-precision",
    "min_diff": "min-diff",
    "clamp_quantile": "clamp-quantile",
}


class _ExtractCommand(click.Command):
    """Says what an option of sd-scripts is called here."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            here = _OF_SD_SCRIPTS.get(error.option_name.lstrip("-"))
            if here is None:
                raise
            what = f"No such option {error.option_name!r}: it is called --{here} here."
            raise click.UsageError(what, ctx) from None


@command_for(ResizeRequest)
@_modules
def resize(request: ResizeRequest, modules: bool) -> None:
    report = run_shown(request)
    _print_table(report.modules, modules)
    echo("\n".join(report_lines(request, report)))


@command_for(MergeRequest)
@_modules
def merge(request: MergeRequest, modules: bool) -> None:
    report = run_shown(request)
    _print_table(report.modules, modules)
    echo("\n".join(report_lines(request, report)))


@command_for(ExtractRequest, _ExtractCommand)
@click.option("--json", "as_json", is_flag=True, help="Print the error of every layer as JSON.")
def extract(request: ExtractRequest, as_json: bool) -> None:
    report = run_shown(request, to_stderr=as_json)
    if as_json:
        values = asdict(report) | {"written": report.written and str(report.written)}
        echo_json({"relative_error": report.error, **values})
        return
    echo("\n".join(report_lines(request, report)))


@command_for(BakeRequest)
def bake(request: BakeRequest) -> None:
    echo("\n".join(report_lines(request, run_shown(request))))


@command_for(ConvertRequest)
def convert(request: ConvertRequest) -> None:
    echo("\n".join(report_lines(request, run_shown(request))))


def _print_table(modules: Sequence[ModuleFigures], each: bool) -> None:
    from lorasmith.cli.console import console

    console.print(_module_table(modules) if each else _block_table(modules))


def _block_table(modules: Iterable[ModuleFigures]) -> Table:
    """Ranks and retained energy of each block, in the model's order."""
    from rich.table import Table

    table = Table("block", box=None, pad_edge=False)
    for heading in ("modules", "rank", "norm", "energy kept", "least"):
        table.add_column(heading, justify="right")
    for each in block_figures(modules):
        ranks = range_of([each.least_rank, each.most_rank])
        kept, least = f"{each.kept:.2%}", f"{each.least:.2%}"
        table.add_row(each.block, str(each.modules), ranks, f"{each.norm:.3g}", kept, least)
    return table


def _module_table(modules: Iterable[ModuleFigures]) -> Table:
    """Rank and retained energy of each module."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("module", overflow="fold")
    for heading in ("rank", "norm", "energy kept"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in modules:
        table.add_row(row.key, str(row.rank), f"{row.norm:.3g}", f"{row.retained:.2%}")
    return table
