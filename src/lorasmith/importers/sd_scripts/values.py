"""Values as people and files write them, to the form that an argument has.

Each function raises ``ValueError`` with a phrase that says what was expected.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Sequence
from typing import Any, Literal

from lorasmith.core.text import did_you_mean, parse_number

Kind = Literal["flag", "whole", "number", "text", "separator", "texts", "numbers", "share"]
"""``share`` is sd-scripts' ``int_or_float``: steps, or a part of the run as 0.1 or 10%; of a
``separator`` the blanks count, which may be all that it is."""

_LARGEST = 2**63 - 1  # What a TOML integer holds.
_WORDS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def read_value(kind: Kind, raw: Any, choices: Sequence[str] = ()) -> Any:
    """``raw`` in the form of an argument; ``None`` for an empty text, which means "not given"."""
    if kind == "separator" and isinstance(raw, str):
        return raw or None
    if isinstance(raw, str):
        raw = unglued(raw)
    if raw is None or (isinstance(raw, str) and not raw.strip() and kind != "texts"):
        return None
    value = _READERS[kind](raw)
    if choices and value is not None and value not in choices:
        hint = did_you_mean(str(value).lower(), choices)
        hint = f"{hint} there is {', '.join(choices)}".lstrip()
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
    pairs = [unglued(str(item)).strip("\"'") for item in items]
    return [item for item in pairs if item]


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
