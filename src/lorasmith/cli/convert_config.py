"""``lorasmith convert-config``: settings of other trainers as a settings file."""

from __future__ import annotations

import click

from lorasmith.cli.options import command_for
from lorasmith.core.terminal import echo
from lorasmith.importers.conversion import remark_lines
from lorasmith.importers.sd_scripts.table import arguments_page
from lorasmith.jobs.request import run
from lorasmith.jobs.settings import ImportRequest


def _show_arguments(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        echo(arguments_page(), end="")
        ctx.exit()


@command_for(ImportRequest)
@click.option(
    "--arguments",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_arguments,
    help="Show what becomes of each of sd-scripts' arguments, and stop.",
)
def convert_config(request: ImportRequest) -> None:
    report = run(request)
    if request.out is None:
        echo(report.text, end="")
        return
    count = len(report.conversion.settings)
    echo(f"{request.out}: {count} settings; lorasmith train {request.out}")
    for problem in report.conversion.problems:
        echo(f"left out: {problem}")
    for line in remark_lines(report.conversion):
        echo(line)
