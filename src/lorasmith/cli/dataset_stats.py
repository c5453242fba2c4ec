"""``lorasmith dataset stats``: what it prints."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

import click

from lorasmith.cli.options import command_for, run_shown
from lorasmith.core.terminal import echo, echo_json
from lorasmith.core.text import quantity
from lorasmith.jobs.dataset.stats import StatsRequest

if TYPE_CHECKING:
    from lorasmith.curation.stats import Triggers


@command_for(StatsRequest)
@click.option("--all", "show_all", is_flag=True, help="Show every tag, pair and file.")
@click.option("--json", "as_json", is_flag=True, help="Print all of it, as JSON.")
@click.option("--csv", "as_csv", is_flag=True, help="Print the table as CSV.")
def stats(request: StatsRequest, show_all: bool, as_json: bool, as_csv: bool) -> None:
    if as_json and as_csv:
        raise click.UsageError("--json and --csv: choose one of them")
    report = run_shown(request, to_stderr=True)

    from lorasmith.cli.console import console
    from lorasmith.curation.stats import Triggers
    from lorasmith.curation.stats_view import render

    if as_json:
        echo_json(report.to_json())
    elif as_csv:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(report.rows())
        echo(text.getvalue(), end="")
    elif isinstance(report, Triggers):
        _say_triggers(report)
    else:
        console.print(render(report, show_all=show_all))


def _say_triggers(report: Triggers) -> None:
    """The list alone on the standard output, so that it can be piped."""
    if report.counts:
        echo(report.line)
    images = sum(report.counts.values())
    counts = f"{quantity(len(report.counts), 'trigger')} on {quantity(images, 'picture')}"
    missing = f"; {quantity(report.missing, 'picture', 'has')} none" if report.missing else ""
    echo(counts + missing, err=True)
