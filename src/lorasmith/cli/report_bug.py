"""``lorasmith report-bug``: what it prints."""

from __future__ import annotations

import click

from lorasmith.cli.options import command_for, run_shown
from lorasmith.core.terminal import echo, echo_json
from lorasmith.core.text import bytes_text, quantity
from lorasmith.jobs.workspace.bug_report import ReportBugRequest


@command_for(ReportBugRequest)
@click.option("--json", "as_json", is_flag=True, help="Print what is in it, as JSON.")
def report_bug(request: ReportBugRequest, as_json: bool) -> None:
    report = run_shown(request, to_stderr=True)
    if as_json:
        echo_json(report.to_json())
        return
    for file in report.files:
        notes = ["its end"] if file.is_cut else []
        if file.lines_changed:
            notes.append(f"taken out of {quantity(file.lines_changed, 'line')}")
        note = f" ({', '.join(notes)})" if notes else ""
        echo(f"  {bytes_text(len(file.text.encode())):>8}  {file.name}{note}")
    for name in report.left_out:
        echo(f"  left out  {name}: is no text")
    if report.path is None:
        echo("Nothing was written; without --dry-run it becomes a zip.")
    else:
        echo(f"{report.path} is written. Look into it before you send it to anybody.")
