"""One argument of sd-scripts: its form there, and what becomes of it here."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from lorasmith.core.text import did_you_mean, parse_number

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


# Values as people and files write them. Each reader raises ValueError with a phrase that says what
# was expected.

_LARGEST = 2**63 - 1  # What a TOML integer holds.
_WORDS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def read_value(argument: Argument, raw: Any) -> Any:
    """``raw`` in the argument's form; ``None`` for an empty text, which means "not given"."""
    if argument.kind == "separator" and isinstance(raw, str):
        return raw or None
    if isinstance(raw, str):
        raw = unglued(raw)
    if raw is None or (isinstance(raw, str) and not raw.strip() and argument.kind != "texts"):
        return None
    value = _READERS[argument.kind](raw)
    if argument.choices and value is not None and value not in argument.choices:
        hint = did_you_mean(str(value).lower(), argument.choices)
        hint = f"{hint} there is {', '.join(argument.choices)}".lstrip()
        raise ValueError(f"{value!r} is not known; {hint}")
    return value


def unglued(text: str) -> str:
    """Without the mark of a continued line that stuck to it: "`" of PowerShell, "\\" of bash."""
    text = text.strip()
    return text[:-1].rstrip() if text.endswith("`") or re.search(r"=?\s\\\Z", text) else text


def flag(raw: Any) -> bool:
    if isinstance(raw, bool | int | float) and raw in (0, 1):
        return bool(raw)
    word = str(raw).strip().lower()
    if word not in _WORDS:
        raise ValueError(f"{raw!r} is neither true nor false")
    return _WORDS[word]


def number(raw: Any) -> float:
    return parse_number(_single(raw))


def whole(raw: Any) -> int:
    value = parse_number(_single(raw), whole=True)
    if abs(value) > _LARGEST:
        raise ValueError(f"{raw!r} is too large; {_LARGEST} is the largest number")
    return int(value)


def _single(raw: Any) -> Any:
    return raw[0] if isinstance(raw, list | tuple) and len(raw) == 1 else raw


def text(raw: Any) -> str:
    if isinstance(raw, list | tuple):
        return ",".join(str(item) for item in raw)
    if isinstance(raw, dict):
        raise ValueError("is a table; a text was expected")
    return str(raw).strip()


def texts(raw: Any) -> list[str]:
    """``key=value`` texts from a list, a table, or one text with spaces between them."""
    if isinstance(raw, dict):
        return [f"{key}={text(value)}" for key, value in raw.items()]
    items = list(raw) if isinstance(raw, list | tuple) else [raw]
    if len(items) == 1 and isinstance(items[0], str):
        try:
            items = shlex.split(items[0], posix=True)
        except ValueError:
            raise ValueError(f"{items[0]!r} has a quote without its partner") from None
    found = [unglued(str(item)).strip("\"'") for item in items]
    return [item for item in found if item]


def numbers(raw: Any) -> list[float]:
    items = raw if isinstance(raw, list | tuple) else str(raw).split()
    return [number(item) for item in items]


def share(raw: Any) -> int | float:
    """Steps, or a share of the run: ``100``, ``0.1``, ``10%``."""
    percent = isinstance(raw, str) and raw.strip().endswith("%")
    value = number(str(raw).strip().rstrip("% ") if percent else raw)
    value = value / 100 if percent else value
    if value < 0:
        raise ValueError(f"{raw!r} is negative")
    if percent or 0 < value < 1:
        return value if value else 0
    if value != int(value):
        raise ValueError(f"{raw!r} is neither whole steps nor a share below 1")
    return int(value)


_READERS: dict[Kind, Callable[[Any], Any]] = {
    "flag": flag, "whole": whole, "number": number, "text": text, "separator": text,
    "texts": texts, "numbers": numbers, "share": share,
}  # fmt: skip
