"""``lorasmith votes``"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from lorasmith.cli.options import command_for, run_shown
from lorasmith.core.terminal import echo_json
from lorasmith.core.text import quantity
from lorasmith.grids.votes import Standing
from lorasmith.jobs.grids.votes import VotesReport, VotesRequest

if TYPE_CHECKING:
    from rich.table import Table

WIDTH = 20


@command_for(VotesRequest)
@click.option("--json", "as_json", is_flag=True, help="Print all of it, as JSON.")
def votes(request: VotesRequest, as_json: bool) -> None:
    from lorasmith.cli.console import console

    report = run_shown(request, to_stderr=as_json)
    if as_json:
        echo_json(report.to_json())
        return
    lines = [report.tally.summary]
    if report.ballot.lost:
        gone = quantity(report.ballot.lost, "vote", "is")
        lines.append(f"{gone} of pictures that the grid no longer has, and not counted")
    if report.pick is not None and report.pick.summary:
        lines.append(f"pick: {report.pick.summary}")
    if not report.tally.votes:
        lines.append("vote in the studio: lorasmith studio, page Compare")
    console.print(_table(report))
    console.print("\n".join(lines), soft_wrap=True, markup=False, highlight=False)


def _table(report: VotesReport) -> Table:
    from rich.table import Table
    from rich.text import Text

    from lorasmith.measures.verdict import WORDS

    view = Table(box=None, pad_edge=False, header_style="bold")
    titles = [report.grid.axes[number].title for number in report.tally.axes]
    for title in titles:
        view.add_column(Text(title))
    for title in ("won", "equal", "lost"):
        view.add_column(title, justify="right")
    view.add_column("share, and where it lies for 95 %")
    view.add_column("pick")
    for one in report.tally.standings:
        share = f"{one.share:4.0%}  {_bar(one)}" if one.share is not None else ""
        says = next((word for state, word in WORDS.items() if state == report.judged(one.item)), "")
        mark = " ◀ keep" if report.picked(one.item) else ""
        counts = [str(count) for count in (one.wins, one.ties, one.losses)]
        view.add_row(*map(Text, one.item), *counts, share, says + mark)
    return view


def _bar(one: Standing) -> str:
    """``····────●───····``"""
    assert one.share is not None
    first, last, at = (min(WIDTH - 1, int(x * WIDTH)) for x in (one.low, one.high, one.share))
    signs = ["─" if first <= place <= last else "·" for place in range(WIDTH)]
    signs[at] = "●"
    return "".join(signs)
