"""A place in a script's text: what comes there, in which line it is, and steps past it."""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass, field

from lorasmith.importers.scripts.variables import ScriptError

UNPAIRED = "has a quote without its partner"


@dataclass(slots=True)
class Node:
    """A statement or an expression of PowerShell, or a command of cmd.exe.

    Args:
        text: a name, an operator or a text as it is, by the ``kind``; a simple command with its
            quotes and ``^``.
        items: what it is made of.
        words: of ``if`` and ``for`` of cmd.exe, as texts.
    """

    kind: str
    line: int
    text: str = ""
    items: list[Node] = field(default_factory=list)
    words: list[str] = field(default_factory=list)


class Scanner:
    """
    Args:
        first_line: the number of the text's first line, where it is part of a script.
    """

    def __init__(self, text: str, *, first_line: int = 1) -> None:
        self._text = text.replace("\r\n", "\n")
        self._place = 0
        self._first = first_line
        self._starts = [0, *(match.end() for match in re.finditer("\n", self._text))]

    def _line(self) -> int:
        return bisect_right(self._starts, self._place) - 1 + self._first

    @property
    def _done(self) -> bool:
        return self._place >= len(self._text)

    def _char(self, ahead: int = 0) -> str:
        """The sign that comes next, or so many places later; "" behind the end."""
        return self._text[self._place + ahead : self._place + ahead + 1]

    def _at(self, *texts: str) -> bool:
        return self._text.startswith(texts, self._place)

    def _skip(self, sign: str, *, past: bool = False) -> None:
        """Go on to the next of a sign, or ``past`` it; to the end where there is none."""
        end = self._text.find(sign, self._place)
        self._place = len(self._text) if end < 0 else end + len(sign) * past

    def _match(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        """Step past what the pattern fits, if it does here."""
        match = pattern.match(self._text, self._place)
        if match:
            self._place = match.end()
        return match

    def _needed(self, pattern: re.Pattern[str], line: int, otherwise: str) -> re.Match[str]:
        """
        Raises:
            ScriptError: the pattern does not fit here.
        """
        match = self._match(pattern)
        if match is None:
            raise ScriptError(line, otherwise)
        return match
