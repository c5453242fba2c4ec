"""Lists and ranges as the web UI's X/Y/Z plot documents them.

=================  =====================================================
``1-5``            1, 2, 3, 4, 5
``1-5 (+2)``       1, 3, 5; ``10-5 (-3)`` is 10, 7
``1-3 (+0.5)``     1, 1.5, 2, 2.5, 3
``1-10 [5]``       1, 3, 5, 7, 10: five numbers, evenly spread
``a,"b, c",d``     a; b, c; d: as a line of a CSV file
=================  =====================================================
"""

from __future__ import annotations

import csv
import re
from decimal import Decimal

from lorasmith.core.text import quantity

MOST_VALUES = 1000

_NUMBER = r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)"
_RANGE = re.compile(
    rf"({_NUMBER})\s*-\s*({_NUMBER})\s*"
    rf"(?:\(\s*(?P<step>{_NUMBER})\s*\)|\[\s*(?P<count>\d+)\s*\])?",
    re.ASCII,
)


def split_list(text: str) -> list[str]:
    """The items of a comma separated list, without the spaces around them; ``""`` is one quote.

    A quoted item may follow a space; there the web UI takes the quotes for text.

    Raises:
        ValueError: a quote is not closed, or there is nothing between two commas.
    """
    try:
        rows = list(csv.reader([text], skipinitialspace=True, strict=True))
    except csv.Error as error:
        raise ValueError(f"{text!r} is not a comma separated list: {error}") from None
    items = [item.strip() for row in rows for item in row]
    if not items or not all(items):
        raise ValueError("there is nothing between two commas" if items else "there is no value")
    return items


def numbers(text: str, *, whole: bool) -> list[Decimal]:
    """The numbers of one item: itself, or those of a range, in its order.

    Args:
        whole: whole numbers alone; those of an even spread are cut to them.

    Raises:
        ValueError: it is neither, or the range holds nothing; says what was expected.
    """
    match = _RANGE.fullmatch(text.strip())
    if match is None:
        return [_number(text.strip(), whole)]
    first, last = _number(match[1], whole), _number(match[2], whole)
    if match["count"] is not None:
        return _spread(first, last, int(match["count"]), whole)
    if match["step"] is not None:
        return _steps(first, last, _number(match["step"], whole), text)
    if (last - first) % 1:
        raise ValueError(f"{text!r} does not say its steps: write them as in {text} (+0.2)")
    return _steps(first, last, Decimal(1 if last >= first else -1), text)


def _number(text: str, whole: bool) -> Decimal:
    kind = r"[+-]?\d{1,19}" if whole else rf"(?!.{{20}}){_NUMBER}"
    if len(text) > 19 and re.fullmatch(_NUMBER, text, re.ASCII):
        raise ValueError(f"{text[:40]} has too many digits")
    if not re.fullmatch(kind, text, re.ASCII):
        expected = "a whole number" if whole else "a number"
        raise ValueError(f"{text!r} is not {expected}; ranges are 1-5, 1-5 (+2) and 1-10 [5]")
    return Decimal(text)


def _steps(first: Decimal, last: Decimal, step: Decimal, text: str) -> list[Decimal]:
    if not step or (last - first) / step < 0:
        raise ValueError(f"{text!r} never gets from {first} to {last}")
    count = int((last - first) / step) + 1
    _check_count(count)
    return [first + step * number for number in range(count)]


def _spread(first: Decimal, last: Decimal, count: int, whole: bool) -> list[Decimal]:
    _check_count(count)
    if count == 1:
        return [first]
    values = [first + (last - first) * number / (count - 1) for number in range(count)]
    return [Decimal(int(value)) for value in values] if whole else values


def _check_count(count: int) -> None:
    if not 1 <= count <= MOST_VALUES:
        raise ValueError(f"{quantity(count, 'value')}; an axis has 1 to {MOST_VALUES}")
