"""``lorasmith doctor``: what it prints."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import TYPE_CHECKING

import click

from lorasmith.cli.main import USER_ERROR
from lorasmith.cli.options import command_for, run_shown
from lorasmith.core.terminal import clean, echo_json, echo_styled
from lorasmith.jobs.training import DoctorRequest

if TYPE_CHECKING:
    from lorasmith.advice.doctor.finding import DoctorReport, Finding

COLOURS = {"ok": "green", "slow": "yellow", "broken": "red"}
_STATUS, _NAME = 10, 18  # widths


@command_for(DoctorRequest)
@click.option("--json", "as_json", is_flag=True, help="Print all of it, as JSON.")
def doctor(request: DoctorRequest, as_json: bool) -> None:
    report = run_shown(request, to_stderr=True)
    if as_json:
        echo_json(report.to_json())
    else:
        echo_styled("\n".join(report_lines(report)))
    if report.broken:
        raise SystemExit(USER_ERROR)


def report_lines(report: DoctorReport) -> Iterator[str]:
    """The report as it is printed, with colours."""
    computer = report.computer
    yield clean(f"lorasmith {report.version}  {computer.system}, {computer.machine}", lines=False)
    for area, findings in groupby(report.findings, lambda finding: finding.area):
        yield ""
        yield click.style(area, bold=True)
        for finding in findings:
            yield from _finding(finding)
    yield ""
    yield _verdict(report)


def _finding(finding: Finding) -> Iterator[str]:
    status = click.style(f"{finding.status:{_STATUS}}", fg=COLOURS.get(finding.status))
    yield f"  {status} {finding.check:{_NAME}} {clean(finding.evidence, lines=False)}"
    for line in finding.mend.splitlines():
        # Whole, so that it can be copied.
        yield f"  {'':{_STATUS}} {click.style(f'-> {clean(line)}', fg='cyan')}"


def _verdict(report: DoctorReport) -> str:
    counts = report.counts()
    told = [f"{counts[status]} {status}" for status in ("broken", "slow") if counts[status]]
    if report.broken:
        return click.style(f"{', '.join(told)}: the lines behind -> mend it", bold=True)
    ready = "Nothing is broken" + (f" ({told[0]})" if told else "")
    tried = "; without --quick a training step is tried, too" if report.quick else ""
    return click.style(f"{ready}{tried}", bold=True)
