"""``lorasmith docs``: the pages that are made from the program itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from lorasmith.config.reference import settings_page
from lorasmith.core.errors import Problem, UserError
from lorasmith.core.files import atomic_path, write_text
from lorasmith.core.terminal import echo

INTRODUCTION = """\
# Commands

<!-- Made by `lorasmith docs commands` from each command's --help. -->

Exit statuses: 0 done, 2 something that you can mend (each problem is shown with what to do about
it), 130 stopped by you, 1 a bug of ours (with a traceback and where to report it).
"""

WIDTH = 100


def commands_page() -> str:
    """Every command's help, in Markdown."""
    parts = [INTRODUCTION]
    for path, text in command_helps():
        parts.append(f"## {path}\n\n```text\n{text}\n```\n")
    return "\n".join(parts)


def command_helps() -> Iterator[tuple[str, str]]:
    """(``lorasmith dataset check``, its help) for every command and subcommand."""
    from lorasmith.cli.main import cli

    yield from _helps(cli, None, "lorasmith")


def _helps(
    command: click.Command, parent: click.Context | None, name: str
) -> Iterator[tuple[str, str]]:
    settings = {**command.context_settings, "terminal_width": WIDTH, "max_content_width": WIDTH}
    context = click.Context(command, parent, info_name=name, **settings)
    yield context.command_path, command.get_help(context)
    if isinstance(command, click.Group):
        for child in command.list_commands(context):
            subcommand = command.get_command(context, child)
            assert subcommand is not None, child
            yield from _helps(subcommand, context, child)


PAGES = {Path("docs/settings.md"): settings_page, Path("docs/commands.md"): commands_page}


@click.group("docs", invoke_without_command=True)
@click.option("--check", is_flag=True, help="Write nothing; say whether docs/ is up to date.")
@click.pass_context
def docs(context: click.Context, check: bool) -> None:
    """Write the reference pages of the documentation."""
    if check and context.invoked_subcommand is not None:
        raise click.UsageError("--check is for all pages: leave the page's name out.")
    if check:
        check_pages()
    elif context.invoked_subcommand is None:
        echo(context.get_help())


def check_pages() -> None:
    """Raises UserError where a page is not what the program would write now."""
    problems = []
    for path, render in PAGES.items():
        page = path.read_text(encoding="utf-8") if path.exists() else None
        if page != render():
            what = "does not exist" if page is None else "is older than the program"
            problems.append(Problem(str(path), what, "run `make docs`"))
    if problems:
        raise UserError(problems)


@docs.command("settings")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("docs/settings.md"),
    show_default=True,
    help="File to write.",
)
def settings(out: Path) -> None:
    """Write the page of all settings, from their definitions."""
    write_text(out, settings_page())
    echo(out)


@docs.command("commands")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("docs/commands.md"),
    show_default=True,
    help="File to write.",
)
def commands(out: Path) -> None:
    """Write the page of all commands, from their --help."""
    write_text(out, commands_page())
    echo(out)


@docs.command("schedules")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("docs/images/schedules.png"),
    show_default=True,
    help="File to write.",
)
def schedules(out: Path) -> None:
    """Draw the learning rate over a run for every schedule, as training computes it."""
    from lorasmith.cli.schedule_graph import draw_schedules

    with atomic_path(out) as temporary:
        draw_schedules().save(temporary, format="PNG", optimize=True)
    echo(out)
