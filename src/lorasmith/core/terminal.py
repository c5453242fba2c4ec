"""The way of text to the terminal: what files and names hold is shown, never obeyed.

A terminal acts on control characters: an escape sequence in a LoRA's metadata can change the
window's title, clear the screen, or hide and overwrite lines; bidirectional overrides show a name
as another. :func:`clean` puts a visible sign in the place of each. Commands print through
:func:`echo` and :func:`echo_json` or a :class:`~lorasmith.core.progress.TextConsole`, which
clean whatever they are given, so that no caller has to think of it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import click

from lorasmith.core.errors import Problem

# C0 but tab and newline, DEL, C1, line and paragraph separators, bidirectional embeddings,
# overrides and isolates, halves of characters (bytes of a file's name that are no UTF-8).
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def clean(text: str, *, lines: bool = True) -> str:
    """``text`` without what a terminal would act on.

    Control characters become their pictures ("␛" for escape), others "�".

    Args:
        lines: leave line breaks and tabs; a name or another thing of one line has none.
    """
    text = text.replace("\r\n", "\n")
    if not lines:
        text = text.replace("\n", "␊").replace("\t", "␉")
    return _UNSAFE.sub(_sign, text)


def _sign(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code < 0x20:
        return chr(0x2400 + code)
    return "␡" if code == 0x7F else "�"


def echo(text: object = "", *, end: str = "\n", err: bool = False) -> None:
    """Print plain text to standard output or standard error."""
    click.echo(clean(str(text)) + end, nl=False, err=err)


def echo_styled(text: str, *, err: bool = False) -> None:
    """Print text with ``click.style``'s colours, whose parts from outside were cleaned before."""
    click.echo(text, err=err)


def echo_json(value: Any) -> None:
    """Print as JSON, whose escapes keep what control characters were."""
    click.echo(escaped(json.dumps(value, indent=2, ensure_ascii=False)))


def escaped(text: str) -> str:
    """JSON or TOML with ``\\uXXXX`` for what a terminal would act on and is not escaped yet."""
    return _UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def problem_lines(problems: Sequence[Problem]) -> str:
    """Every problem with its place and what to do about it; in colours, never wrapped or cut."""
    heading = "Error" if len(problems) == 1 else f"{len(problems)} errors"
    return "\n".join([click.style(f"{heading}:", fg="red", bold=True), *map(_entry, problems)])


def _entry(problem: Problem) -> str:
    where = clean(problem.where, lines=False)
    place = f"{click.style(where, bold=True)}: " if where else ""
    hint = clean(problem.hint)
    advice = f"\n      {click.style(f'-> {hint}', fg='cyan')}" if hint else ""
    return f"  {place}{clean(problem.what)}{advice}"
