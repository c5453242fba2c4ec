"""Numbers, sizes and lists as people write and read them."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

_COMMA = re.compile(r"\s*([-+]?\d+),(\d+)((?:e[-+]?\d+)?)\s*", re.IGNORECASE | re.ASCII)
_THOUSANDS = 3
_SIZE = re.compile(r"\s*(\d{1,6})\s*[xX×*]\s*(\d{1,6})\s*", re.ASCII)
_SHORT = 60
_UNITS = {1e3: "kB", 1e6: "MB", 1e9: "GB"}


def parse_number(value: Any, *, whole: bool = False) -> float:
    """A finite number from a text or a number; whole ones are integers if ``whole``.

    Half of Europe writes a decimal comma, and its programs print one. A comma is never taken for
    a point, since it also stands between numbers and between thousands: what was likely meant is
    said.

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


def parse_size(text: str) -> tuple[int, int]:
    """Width and height of ``512x768``.

    Raises:
        ValueError: it is no size.
    """
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError(f'"{text}" is not a size')
    return int(match[1]), int(match[2])


def quantity(number: int, noun: str, verb: str = "") -> str:
    """A count in words: "1 image", "3 batches"; with "is" or "has", "1 image is", "3 images are".

    Args:
        noun: in the singular; of several words the last is counted.
    """
    if number != 1:
        if noun.endswith(("s", "x", "sh", "ch")) and not noun.endswith("epoch"):
            noun += "es"
        elif noun.endswith("y") and noun[-2] not in "aeiou":
            noun = noun[:-1] + "ies"
        else:
            noun += "s"
        verb = {"is": "are", "has": "have", "was": "were", "does": "do"}.get(verb, verb)
    return f"{number} {noun} {verb}".rstrip()


def bytes_text(count: float) -> str:
    """ "740 bytes", "37.4 MB", "152 MB", "1.5 GB"; of 1000, as file managers and disks count."""
    if count < 1000:
        return f"{count:.0f} bytes"
    unit, name = next(
        ((unit, name) for unit, name in _UNITS.items() if count < 999.5 * unit), (1e9, "GB")
    )
    return f"{count / unit:.{1 if count < 99.95 * unit else 0}f} {name}"


def duration_text(seconds: float) -> str:
    """``0:07``, ``12:05``, ``3:00:00``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def word_list(words: Iterable[str], last: str = "and") -> str:
    """ "a", "a and b", "a, b and c"."""
    *others, end = words
    return f"{', '.join(others)} {last} {end}" if others else end


def shortlist(names: Sequence[str], most: int = 3) -> str:
    """The first of many names: "a, b, c, …"."""
    return ", ".join(names[:most]) + (", …" if len(names) > most else "")


def quoted(text: str) -> str:
    """In quotes, and cut where it is long."""
    return f'"{text}"' if len(text) <= _SHORT else f'"{text[: _SHORT - 3]}..."'


def did_you_mean(
    name: str,
    known: Iterable[str] | Mapping[str, str],
    otherwise: str = "",
    *,
    most: int = 1,
    cutoff: float = 0.6,
    form: str = "{}",
) -> str:
    """A hint for a mistyped name: "did you mean adamw?", or ``otherwise``.

    Args:
        known: names; or, by a name as it is compared, the one to write.
        most: so many of the nearest are named.
        cutoff: how alike they must be, 0 to 1.
        form: how one is written, such as ``--{}``.
    """
    spellings = known if isinstance(known, Mapping) else {each: each for each in known}
    close = get_close_matches(name, spellings, n=most, cutoff=cutoff)
    names = " or ".join(form.format(spellings[each]) for each in close)
    return f"did you mean {names}?" if names else otherwise
