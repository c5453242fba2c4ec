"""Numbers as people write them: one reader, and one message for what is no number.

Half of Europe writes a decimal comma, and its programs print one. A comma is never taken for a
point, since it also stands between numbers and between thousands: what was likely meant is said.
"""

from __future__ import annotations

import contextlib
import math
import re
from typing import Any

_COMMA = re.compile(r"\s*([-+]?\d+),(\d+)((?:e[-+]?\d+)?)\s*", re.IGNORECASE | re.ASCII)
_THOUSANDS = 3


def parse_number(value: Any, *, whole: bool = False) -> float:
    """A finite number from a text or a number; whole ones are integers if ``whole``.

    Raises:
        ValueError: it is none; says what to write where that can be told.
    """
    if whole and isinstance(value, int | str) and not isinstance(value, bool):
        with contextlib.suppress(ValueError):
            return int(value)  # A float would round what is above 2**53, such as a seed.
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if math.isinf(number) or (math.isnan(number) and str(value).strip().lower() == "nan"):
        raise ValueError(f"{value!r} is not a finite number")
    if math.isnan(number) or (whole and not number.is_integer()):
        shown = str(value).lower() if isinstance(value, bool) else repr(value)
        hint = number_hint(value, whole=whole)
        kind = "a whole number" if whole else "a number"
        raise ValueError(f"{shown} is not {kind}" + (f"; {hint}" if hint else ""))
    return int(number) if whole else number


def number_hint(value: Any, *, whole: bool = False) -> str:
    """What to write in place of ``16,0`` or ``0,000025``; empty where no comma is the cause."""
    match = _COMMA.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        return ""
    before, after, exponent = match.groups()
    if not whole:
        return f"write {before}.{after}{exponent}, with a point"
    if len(after) == _THOUSANDS and not exponent:
        return f"write {before}{after}, without a comma"
    return f"write {before}" if not after.strip("0") and not exponent else ""
