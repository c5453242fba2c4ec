"""What readers of shell scripts share: variables, and what cannot be known without running."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

Value = str | list[str]
"""A variable's text, or the members of an array."""

UNKNOWN = "\x00"
"""Stands in texts for what only running the script would tell."""


def unknown(name: str) -> str:
    """The mark for a variable that may or may not have its value."""
    return f"{UNKNOWN}{name}{UNKNOWN}"


@dataclass(slots=True)
class Variables:
    """
    Args:
        values: by name.
        uncertain: those last set in a condition or a loop, each with the line.
        depth: how many conditions and loops the present line lies in.
    """

    values: dict[str, Value] = field(default_factory=dict)
    uncertain: dict[str, int] = field(default_factory=dict)
    depth: int = 0

    def set(self, name: str, value: Value, line: int) -> None:
        if self.depth:
            self.uncertain[name] = line
        else:
            self.uncertain.pop(name, None)
        self.values[name] = value

    def add(self, name: str, value: Value, line: int) -> None:
        """``+=``: more text, or more members."""
        if self.depth:
            self.uncertain[name] = line
        before = self.values.get(name, [] if isinstance(value, list) else "")
        if isinstance(before, list):
            self.values[name] = [*before, *(value if isinstance(value, list) else [value])]
        else:
            self.values[name] = before + (" ".join(value) if isinstance(value, list) else value)

    def text(self, name: str) -> str:
        """The variable's text; empty where it was never set, as in a shell."""
        value = self.values.get(name, "")
        return " ".join(value) if isinstance(value, list) else value


def number_text(value: float) -> str:
    """A number as a shell would write it: ``1``, not ``1.0``."""
    if abs(value) < 1e15 and value == int(value):
        return str(int(value))
    return re.sub(r"e([+-])0(\d)", r"e\1\2", repr(value))
