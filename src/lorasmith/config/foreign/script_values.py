"""What readers of shell scripts share: variables, and what cannot be known without running."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

Value = str | list[str]
"""A variable's text, or the members of an array."""

UNKNOWN = "\x00"
"""Stands in texts for what only running the script would tell."""


MARK = re.compile(f"{UNKNOWN}(?:(\\w+){UNKNOWN})?")
"""What stands for something unknown, with the variable's name where it is one."""


def unknown(name: str) -> str:
    """The mark for a variable whose value is not certain."""
    return f"{UNKNOWN}{name}{UNKNOWN}"


@dataclass(slots=True)
class Variables:
    """
    Args:
        values: by name.
        uncertain: those last set in a condition or a loop, each with the line.
        depth: how many conditions and loops the present line lies in.
        mistakes: lines that are not as they were meant, each with what is wrong.
    """

    values: dict[str, Value] = field(default_factory=dict)
    uncertain: dict[str, int] = field(default_factory=dict)
    depth: int = 0
    mistakes: list[tuple[int, str]] = field(default_factory=list)

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

    def vary(self, name: str, line: int) -> None:
        """The variable has another value each time, as that of a loop."""
        self.values[name] = ""
        self.uncertain[name] = line

    def known(self, name: str) -> bool:
        """Whether it is certain what it holds; what was never set may come from outside."""
        return name in self.values and name not in self.uncertain

    def text(self, name: str) -> str:
        value = self.values.get(name, "")
        return " ".join(value) if isinstance(value, list) else value


def number_text(value: float) -> str:
    """A number as a shell would write it: ``1``, not ``1.0``."""
    if abs(value) < 1e15 and value == int(value):
        return str(int(value))
    return re.sub(r"e([+-])0(\d)", r"e\1\2", repr(value))
