"""``lorasmith dataset audit``: what it prints, and what it mends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from lorasmith.cli.dataset_changes import carry_out
from lorasmith.cli.main import USER_ERROR
from lorasmith.cli.options import command_for, run_shown
from lorasmith.core.errors import SettingsError
from lorasmith.core.events import Controls, Observer
from lorasmith.core.terminal import echo, echo_json
from lorasmith.jobs.dataset.audit import AuditRequest

if TYPE_CHECKING:
    from lorasmith.curation.changes.plan import Plan


@command_for(AuditRequest)
@click.option("--yes", "-y", is_flag=True, help="Of --fix: do it without asking.")
@click.option("--all", "show_all", is_flag=True, help="Show every finding, and what is ignored.")
@click.option("--json", "as_json", is_flag=True, help="Print all of it, as JSON.")
def audit(request: AuditRequest, yes: bool, show_all: bool, as_json: bool) -> None:
    if request.fix:
        _mend(request, yes=yes, show_all=show_all, as_json=as_json)
        return
    report = run_shown(request, to_stderr=True)
    if as_json:
        echo_json(report.to_json())
    else:
        from lorasmith.advice.audit.view import render
        from lorasmith.cli.console import console

        console.print(render(report, show_all=show_all))
        if request.page is not None:
            echo(f"Written: {request.page}")
    if report.counts()["error"]:
        raise SystemExit(USER_ERROR)


def _mend(request: AuditRequest, *, yes: bool, show_all: bool, as_json: bool) -> None:
    """Round after round, where one fix is for a file that another changes."""
    for name in ("page", "ignore", "unignore"):
        if request.given(name):
            raise SettingsError.of(name, "does not go with --fix", "mend first, then look again")
    mending = _Round(request)
    rounds = 0
    while mending.later:
        applied = carry_out(mending, yes=yes, as_json=as_json, show_all=show_all)
        if applied is None or not applied.counts:
            break
        rounds += 1
    if rounds > 1 and not as_json:
        echo(f"This took {rounds} changes, one after the other; each undo takes back one.")


@dataclass
class _Round:
    """One plan after the other, each for the files as they are then.

    Args:
        later: changes that wait for those of the plan.
    """

    request: AuditRequest
    later: int = 1

    @property
    def dry_run(self) -> bool:
        return self.request.dry_run

    def plan(self, observer: Observer, controls: Controls) -> Plan:
        mending = self.request.mending(observer, controls)
        self.later = mending.later
        return mending.plan
