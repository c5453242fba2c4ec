"""Verbs that change a dataset: the plan is shown, then asked about, then applied; and
``lorasmith dataset undo``, ``redo`` and ``history``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import click
from rich.table import Table
from rich.text import Text

from lorasmith.cli.main import USER_ERROR
from lorasmith.cli.options import command_for, run_shown
from lorasmith.core.errors import DatasetError, Problem
from lorasmith.core.events import Controls, Observer
from lorasmith.core.file_names import relative_path, shell_word
from lorasmith.core.terminal import clean, echo, echo_json, echo_styled, problem_lines
from lorasmith.core.text import bytes_text, quantity
from lorasmith.jobs.dataset.changes import (
    History,
    HistoryRequest,
    RedoRequest,
    UndoRequest,
)

if TYPE_CHECKING:
    from lorasmith.curation.changes.journal import Entry, Outcome
    from lorasmith.curation.changes.plan import Applied, Plan

_DONE = {
    "write": "changed", "new": "new", "move": "moved", "remove": "in the trash", "folder": "new",
}  # fmt: skip


def change_options(view: Callable[..., None]) -> Callable[..., None]:
    """The options that every verb with a plan has besides its request's."""
    view = click.option("--json", "as_json", is_flag=True, help="Print all of it, as JSON.")(view)
    view = click.option("--all", "show_all", is_flag=True, help="Show every file.")(view)
    return click.option("--yes", "-y", is_flag=True, help="Do it without asking.")(view)


class Changing(Protocol):
    """A request that changes a dataset by a plan."""

    @property
    def dry_run(self) -> bool: ...
    def plan(self, observer: Observer, controls: Controls) -> Plan: ...


@dataclass(frozen=True)
class _Planning:
    request: Changing

    def run(self, observer: Observer, controls: Controls) -> Plan:
        plan = self.request.plan(observer, controls)
        plan.leave_out_infeasible()
        return plan


@dataclass(frozen=True)
class _Applying:
    plan: Plan

    def run(self, observer: Observer, controls: Controls) -> Applied:
        try:
            return self.plan.apply(observer, controls)
        except DatasetError as error:
            raise DatasetError(map(self.plan.shown, error.problems)) from error


def carry_out(
    request: Changing, *, yes: bool = False, as_json: bool = False, show_all: bool = False
) -> Applied | None:
    """Plan, show, ask, apply and say what was done.

    Without a terminal and without ``yes`` nothing is changed: exit status 2.

    Returns:
        what was done; ``None`` of a dry run, or where there was nothing to do.
    """
    from lorasmith.cli.console import console
    from lorasmith.curation.changes.plan_view import render

    plan = run_shown(_Planning(request), to_stderr=as_json)
    if not as_json:
        console.print(render(plan, most=None if show_all else 20), soft_wrap=True)
    if plan.problems or request.dry_run or not plan.changes:
        if as_json:
            echo_json({**plan.to_json(), "applied": None})
        if plan.problems:
            raise DatasetError(dict.fromkeys(map(plan.shown, plan.problems)))
        _end_with_skipped(plan)
        return None
    if not yes and not _is_agreed(as_json):
        if as_json:
            echo_json({**plan.to_json(), "applied": None})
        echo("nothing was changed: there is no terminal to ask on; add --yes to do it", err=True)
        raise SystemExit(USER_ERROR)
    told = len(plan.skipped)
    applied = run_shown(_Applying(plan), to_stderr=as_json)
    if as_json:
        counts = {str(kind): count for kind, count in applied.counts.items()}
        conflicts = [str(problem) for problem in applied.conflicts]
        echo_json({**plan.to_json(), "applied": {"counts": counts, "conflicts": conflicts}})
    else:
        _say_applied(plan, applied)
    # What became impossible, or was changed by somebody else, since the plan was shown.
    late = [*plan.skipped[told:], *applied.conflicts]
    if late:
        echo_styled(problem_lines([*map(plan.shown, late)]), err=True)
    if applied.conflicts:
        raise SystemExit(USER_ERROR)
    _end_with_skipped(plan)
    return applied


def has_terminal() -> bool:
    """Whether there is somebody to ask."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def _end_with_skipped(plan: Plan) -> None:
    """
    Raises:
        SystemExit: not all that was asked could be done.
    """
    if plan.skipped:
        count = quantity(len(plan.skipped), "file", "is")
        rest = "; all else is as asked" if plan.changes else ""
        echo(f"{count} left out{rest}", err=True)
        raise SystemExit(USER_ERROR)


def _is_agreed(as_json: bool) -> bool:
    """The user's answer; no without a terminal.

    Raises:
        SystemExit: the user said no.
    """
    if as_json or not has_terminal():
        return False
    if click.confirm("Do it?", default=False):
        return True
    echo("nothing was changed")
    raise SystemExit(0)


def _say_applied(plan: Plan, applied: Applied) -> None:
    if applied.recovered:
        echo(applied.recovered)
    from lorasmith.curation.changes.plan_view import noun_of

    parts = [
        f"{quantity(count, noun_of(kind))} {_DONE[kind]}" for kind, count in applied.counts.items()
    ]
    if sum(applied.counts.values()) <= len(applied.conflicts):
        return
    if applied.conflicts:
        parts.append(f"but for {len(applied.conflicts)}")
    changing = {plan.root_of(change.path) for change in plan.changes}
    echo(f"{', '.join(parts)}; {undo_hint([root for root in plan.roots if root in changing])}")


def undo_hint(roots: Sequence[Path]) -> str:
    """How to take back what was done in datasets."""
    return f"take it back with: lorasmith dataset undo {' '.join(map(_shown, roots))}"


def _shown(path: Path) -> str:
    """A folder as it is shortest to write, quoted for the shell."""
    near, whole = relative_path(path), str(path)
    return clean(shell_word(near if len(near) < len(whole) else whole), lines=False)


class _NumberLast(click.Command):
    """``undo DIR DIR 2``: a number behind the folders is how many verbs."""

    def make_parser(self, ctx: click.Context) -> click.parser._OptionParser:
        parser = super().make_parser(ctx)
        parse = parser.parse_args

        def parse_args(args: list[str]) -> tuple[dict[str, Any], list[str], list[click.Parameter]]:
            values, rest, order = parse(args)
            # click gives the last word to the last argument, whatever it is.
            last = values.pop("count", None)
            before = values.get("folders")
            folders = before if isinstance(before, tuple) else ()
            if folders and isinstance(last, str) and last.isdecimal():
                values["count"] = last
            elif isinstance(last, str):
                values["folders"] = (*folders, last)
            return values, rest, order

        parser.parse_args = parse_args  # type: ignore[method-assign]
        return parser


@command_for(UndoRequest, _NumberLast)
@click.option("--json", "as_json", is_flag=True, help="Print all of it, as JSON.")
def undo(request: UndoRequest, as_json: bool) -> None:
    outcomes = run_shown(request, to_stderr=as_json)
    _say_turned(request, outcomes, "undone", "nothing to undo", as_json)


@command_for(RedoRequest, _NumberLast)
@click.option("--json", "as_json", is_flag=True, help="Print all of it, as JSON.")
def redo(request: RedoRequest, as_json: bool) -> None:
    outcomes = run_shown(request, to_stderr=as_json)
    _say_turned(request, outcomes, "done again", "nothing to redo", as_json)


def _say_turned(
    request: UndoRequest | RedoRequest,
    by_root: Mapping[Path, Sequence[Outcome]],
    done: str,
    nothing: str,
    as_json: bool,
) -> None:
    from lorasmith.curation.changes.plan import within

    conflicts: list[Problem] = []
    values = []
    for root, outcomes in by_root.items():
        own = [problem for outcome in outcomes for problem in outcome.conflicts]
        entries = [_entry_json(outcome.entry) for outcome in outcomes]
        values.append(
            {"root": str(root), "entries": entries, "conflicts": [str(problem) for problem in own]}
        )
        conflicts += own
        place = f" in {_shown(root)}" if len(by_root) > 1 else ""
        for outcome in outcomes if not as_json else ():
            files = quantity(outcome.entry.files - len(outcome.conflicts), "file")
            command = clean(outcome.entry.command, lines=False)
            echo(f"{done}: {command} ({files}){place}")
        if not outcomes and not as_json:
            echo(f"{nothing}{place}")
    if as_json:
        _echo_datasets(request.folders, values)
    if conflicts:
        told = [within(list(by_root), problem) for problem in conflicts]
        echo_styled(problem_lines(told), err=True)
        raise SystemExit(USER_ERROR)


def _echo_datasets(folders: Sequence[Path], values: Sequence[dict[str, Any]]) -> None:
    """What there is to say of a dataset; of several folders a list, though they be of one."""
    echo_json(values[0] if len(folders) == 1 else {"datasets": list(values)})


def _entry_json(entry: Entry) -> dict[str, Any]:
    return {
        "number": entry.number, "time": entry.time, "command": entry.command,
        "state": entry.state, "files": entry.files,
    }  # fmt: skip


@command_for(HistoryRequest)
@click.option("--yes", "-y", is_flag=True, help="Prune without asking.")
@click.option("--json", "as_json", is_flag=True, help="Print all of it, as JSON.")
def history(request: HistoryRequest, yes: bool, as_json: bool) -> None:
    if request.prune and not yes and not _is_agreed(as_json):
        echo("nothing was freed: there is no terminal to ask on; add --yes to do it", err=True)
        raise SystemExit(USER_ERROR)
    reports = run_shown(request, to_stderr=as_json)
    if as_json:
        _echo_datasets(
            request.folders, [_history_json(report, prune=request.prune) for report in reports]
        )
        return
    for number, report in enumerate(reports):
        if len(reports) > 1:
            echo(f"{chr(10) if number else ''}{_shown(report.root)}")
        _say_history(report, prune=request.prune)


def _history_json(report: History, *, prune: bool) -> dict[str, Any]:
    return {
        "root": str(report.root),
        "entries": [_entry_json(entry) for entry in report.entries],
        "bytes_kept": report.bytes_kept,
        **({"bytes_freed": report.bytes_freed} if prune else {}),
    }


def _say_history(report: History, *, prune: bool) -> None:
    from lorasmith.cli.console import console

    if prune:
        echo(f"freed      {bytes_text(report.bytes_freed)}")
    if not report.entries:
        root = clean(str(report.root), lines=False)
        echo(f"{root}: nothing was changed by lorasmith, or it is forgotten")
        return
    table = Table(box=None, pad_edge=False)
    for heading, side in (("", "right"), ("when", "left"), ("files", "right")):
        table.add_column(heading, justify=side, no_wrap=True)  # type: ignore[arg-type]
    table.add_column("what", overflow="fold")
    for e in report.entries:
        state = {"undone": " (undone)", "dropped": " (undone for good)"}.get(e.state, "")
        table.add_row(
            str(e.number), e.time, str(e.files), Text(clean(e.command, lines=False) + state)
        )
    console.print(table)
    echo(f"earlier contents take {bytes_text(report.bytes_kept)}")
