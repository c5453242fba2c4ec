"""One argument of sd-scripts: its form there, and what becomes of it here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["flag", "whole", "number", "text", "separator", "texts", "numbers", "share"]
"""``share`` is sd-scripts' ``int_or_float``: steps, or a part of the run as 0.1 or 10%; of a
``separator`` the blanks count, which may be all that it is."""

Fate = Literal["setting", "always", "dropped", "refused", "read"]
"""
setting
    becomes one or more settings.
always
    asks for what is done here in any case.
dropped
    says how sd-scripts is to compute, and changes nothing of what is learned.
refused
    cannot be honoured; a run that asks for it does not start.
read
    names a file that further arguments come from.
"""


@dataclass(frozen=True, slots=True)
class Argument:
    """
    Args:
        name: without the hyphens.
        default: sd-scripts' own; ``None`` where it has none, ``False`` of a flag.
        paths: the settings that it becomes.
        why: for all but settings: the reason, as a phrase.
        hint: what to do in place of what is refused.
        choices: the texts that it may be, where it is limited to some.
        plain: the one setting takes its value as it is.
    """

    name: str
    kind: Kind
    default: Any
    fate: Fate
    paths: tuple[str, ...] = ()
    why: str = ""
    hint: str = ""
    choices: tuple[str, ...] = ()
    plain: bool = False

    def asks_for_nothing(self, value: Any) -> bool:
        """Whether ``value`` is what sd-scripts does anyhow."""
        return value is None or value is False or value in ("", [], self.default)


def same(name: str, kind: Kind, default: Any, path: str, *choices: str) -> Argument:
    """An argument that is one setting under another name."""
    return Argument(name, kind, default, "setting", (path,), choices=choices, plain=True)


def made(name: str, kind: Kind, default: Any, *paths: str) -> Argument:
    """An argument that becomes settings by a rule of its own."""
    return Argument(name, kind, default, "setting", paths)


def always(name: str, kind: Kind, default: Any, why: str) -> Argument:
    return Argument(name, kind, default, "always", why=why)


def dropped(name: str, kind: Kind, default: Any, why: str) -> Argument:
    return Argument(name, kind, default, "dropped", why=why)


def refused(name: str, kind: Kind, default: Any, why: str, hint: str = "leave it out") -> Argument:
    return Argument(name, kind, default, "refused", why=why, hint=hint)
