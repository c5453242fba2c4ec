"""How the commands talk: the terminal, and what problems look like on it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import click
from rich.console import Console

from lorasmith.errors import Problem

# Paths and numbers stay as they are: coloured digits in a file name help nobody.
console = Console(highlight=False, emoji=False)


def problem_lines(problems: Sequence[Problem]) -> str:
    """Every problem with its place and what to do about it; plain text, never wrapped or cut."""
    heading = "Error" if len(problems) == 1 else f"{len(problems)} errors"
    return f"{click.style(f'{heading}:', fg='red', bold=True)}\n{_lines(problems)}"


def _lines(problems: Iterable[Problem]) -> str:
    return "\n".join(_entry(problem) for problem in problems)


def _entry(problem: Problem) -> str:
    where = f"{click.style(problem.where, bold=True)}: " if problem.where else ""
    todo = f"\n      {click.style(f'-> {problem.todo}', fg='cyan')}" if problem.todo else ""
    return f"  {where}{problem.what}{todo}"
