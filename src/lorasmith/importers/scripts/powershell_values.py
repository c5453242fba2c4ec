"""Values of PowerShell: its texts of them, comparisons, conversions and methods.

A value is a text, a number, true or false, ``None`` for ``$null``, a list or a table. What is
unknown is a text that holds a mark of :mod:`.variables`.
"""

from __future__ import annotations

import math
import ntpath
import re
from collections.abc import Callable
from typing import Any

from lorasmith.importers.scripts.variables import (
    LONGEST_MATCH,
    LONGEST_VALUE,
    MARK,
    glob_pattern,
)

_NUMBER = re.compile(r"\s*[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?\s*")
_SIZES = {"kb": 1 << 10, "mb": 1 << 20, "gb": 1 << 30}


class ArrayList(list[Any]):
    """A list that grows, shared by all variables that name it; a plain list has a fixed size."""


class NotKnownError(Exception):
    """What an expression is worth is not worked out here, or PowerShell itself would refuse it."""


def text_of(value: Any) -> str:
    """As PowerShell writes a value into a text."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "True" if value else "False"
    if isinstance(value, int | float):
        return _number_text(value)
    if isinstance(value, list):
        return joined(" ", value)
    if isinstance(value, dict):
        raise NotKnownError
    return str(value)


def _number_text(value: float) -> str:
    """A number as .NET writes it: ``1``, not ``1.0``; ``5E-05``."""
    if abs(value) < 1e15 and value == int(value):
        return str(int(value))
    return repr(value).upper()


def joined(separator: str, values: list[Any]) -> str:
    """
    Raises:
        NotKnownError: that is a text longer than any of a script for people.
    """
    texts, signs = [], 0
    for value in values:
        texts.append(text_of(value))
        signs += len(texts[-1]) + len(separator)
        if signs > LONGEST_VALUE:
            raise NotKnownError
    return separator.join(texts)


def mark_in(value: Any) -> str | None:
    """The first mark in a value."""
    if isinstance(value, list):
        return next((mark for each in value if (mark := mark_in(each))), None)
    match = MARK.search(value) if isinstance(value, str) else None
    return match[0] if match else None


def truth_of(value: Any) -> bool | str:
    """Whether a value counts as true; a mark where that is unknown."""
    if isinstance(value, list):
        return len(value) > 1 or (bool(value) and truth_of(value[0]))
    if isinstance(value, str) and (mark := mark_in(value)):
        return True if MARK.sub("", value) else mark
    return bool(value) or isinstance(value, dict)


def number_literal(text: str) -> int | float:
    factor = _SIZES.get(text[-2:], 1)
    text = text[:-2] if factor > 1 else text
    if text.startswith("0x"):
        return int(text.rstrip("l"), 16) * factor
    if text[-1:] in "dl":
        return number_of(text[:-1]) * factor
    return number_of(text) * factor


def number_of(value: Any) -> int | float:
    """
    Raises:
        NotKnownError: it is no number.
    """
    if value is None:
        return 0
    if isinstance(value, bool | int):
        return int(value)
    if isinstance(value, float):
        return value
    if isinstance(value, str):
        if not value.strip():
            return 0
        if _NUMBER.fullmatch(value):
            return int(value) if re.fullmatch(r"\s*[-+]?\d+\s*", value) else float(value)
        if re.fullmatch(r"\s*0[xX][0-9a-fA-F]+\s*", value):
            return int(value, 16)
    raise NotKnownError


def calculated(operator: str, one: Any, other: Any) -> Any:
    """``+ - * / %`` of two values, the left of which decides what is meant."""
    if operator == "+":
        if one is None:
            return other
        if isinstance(one, list):
            return [*one, *(other if isinstance(other, list) else [other])]
        if isinstance(one, str):
            return one + text_of(other)
        if isinstance(one, dict):
            raise NotKnownError
    if operator == "*" and isinstance(one, str | list):
        if isinstance(one, list):
            return list(one) * int(number_of(other))
        return one * int(number_of(other))
    a, b = number_of(one), number_of(other)
    if operator in "/%" and not b:
        raise NotKnownError
    if operator == "/":
        exact = isinstance(a, int) and isinstance(b, int) and a % b == 0
        return a // b if exact else a / b
    if operator == "%":
        return (
            int(math.fmod(a, b)) if isinstance(a, int) and isinstance(b, int) else math.fmod(a, b)
        )
    result = {"+": a + b, "-": a - b, "*": a * b}[operator]
    return result if abs(result) < 1 << 63 else float(result)


def compared(operator: str, one: Any, other: Any, can_match: Callable[[str, str], bool]) -> Any:
    """A comparison such as ``-eq``; of a list, those of its members for which it holds.

    Args:
        can_match: says whether trying a pattern on a text ends soon.
    """
    name = operator.lstrip("-")
    exact = name[0] == "c" and name not in ("contains",)
    if name[0] in "ic" and name[1:] in _NAMES:
        name = name[1:]
    if name in ("contains", "notcontains"):
        members = one if isinstance(one, list) else [one]
        return any(_equal(each, other, exact) for each in members) is (name == "contains")
    if name in ("in", "notin"):
        members = other if isinstance(other, list) else [other]
        return any(_equal(one, each, exact) for each in members) is (name == "in")
    if name in ("replace", "split", "match", "notmatch"):
        regex = text_of(other[0] if isinstance(other, list) and other else other)
        if re.search(r"\)[*+?{]|\\\d", regex) or not can_match(regex, text_of(one)):
            raise NotKnownError  # Such patterns may take forever.
    if name == "replace":
        pattern, new = [*other, ""][:2] if isinstance(other, list) else (other, "")
        flags = 0 if exact else re.IGNORECASE
        template = re.sub(r"\$(\d)", r"\\\1", text_of(new).replace("\\", r"\\"))
        if len(template) > LONGEST_MATCH:
            raise NotKnownError
        return re.sub(text_of(pattern), template, text_of(one), flags=flags)
    if name == "split":
        pattern = other[0] if isinstance(other, list) else other
        if isinstance(other, list) and len(other) > 1:
            raise NotKnownError
        return re.split(text_of(pattern), text_of(one), flags=re.IGNORECASE)
    if name == "join":
        return joined(text_of(other), one if isinstance(one, list) else [one])
    if name not in _NAMES or name in ("is", "isnot", "as"):
        raise NotKnownError
    if isinstance(one, list):
        return [each for each in one if _holds(name, each, other, exact, can_match)]
    return _holds(name, one, other, exact, can_match)


_NAMES = (
    *("eq", "ne", "gt", "ge", "lt", "le", "like", "notlike", "match", "notmatch"),
    *("contains", "notcontains", "in", "notin", "replace", "split", "join"),
)


def _holds(
    name: str, one: Any, other: Any, exact: bool, can_match: Callable[[str, str], bool]
) -> bool:
    if name in ("eq", "ne"):
        return _equal(one, other, exact) is (name == "eq")
    if name.endswith(("like", "match")):
        text, pattern = text_of(one), text_of(other)
        flags = re.DOTALL if exact else re.DOTALL | re.IGNORECASE
        if name.endswith("like"):
            pattern = glob_pattern(pattern)
            if not can_match(pattern, text):
                raise NotKnownError
            matches = re.fullmatch(pattern, text, flags) is not None
        else:
            matches = re.search(pattern, text, flags) is not None
        return matches is not name.startswith("not")
    a: Any
    b: Any
    if isinstance(one, str):
        a, b = text_of(one), text_of(other)
        a, b = (a, b) if exact else (a.lower(), b.lower())
    else:
        a, b = number_of(one), number_of(other)
    return bool({"gt": a > b, "ge": a >= b, "lt": a < b, "le": a <= b}[name])


def _equal(one: Any, other: Any, exact: bool) -> bool:
    """The left side's kind decides: 0 -eq "0", but not $true -eq "0"."""
    if one is None or other is None:
        return one is None and other is None
    if isinstance(one, bool):
        return one is (truth_of(other) is True)
    if isinstance(one, int | float):
        try:
            return number_of(other) == one
        except NotKnownError:
            return False
    a, b = text_of(one), text_of(other)
    return a == b if exact else a.lower() == b.lower()


def cast(name: str, value: Any) -> Any:
    """``[name]value``."""
    name = name.removeprefix("system.")
    if name == "void":
        return None
    if name.endswith("[]") or name == "array":
        members = value if isinstance(value, list) else [] if value is None else [value]
        inner = name.removesuffix("[]") if name != "array" else "object"
        return [each if inner == "object" else cast(inner, each) for each in members]
    if name in ("ordered", "pscustomobject", "hashtable", "object"):
        return value
    if "arraylist" in name or "list[" in name:
        return ArrayList(value if isinstance(value, list) else [value])
    if mark_in(value):
        return value
    if name in ("int", "int32", "int64", "long", "uint32"):
        return round(number_of(value))
    if name in ("float", "double", "single", "decimal"):
        number = float(number_of(value))
        return int(number) if number.is_integer() and abs(number) < 1e15 else number
    if name == "string":
        return text_of(value)
    if name in ("bool", "boolean", "switch"):
        return truth_of(value)
    raise NotKnownError


def formatted(template: str, values: list[Any]) -> str:
    """The ``-f`` operator, as far as it only puts values into places."""

    def put(match: re.Match[str]) -> str:
        if match[0] in ("{{", "}}"):
            return match[0][0]
        if not match[1] or int(match[1]) >= len(values):
            raise NotKnownError
        return text_of(values[int(match[1])])

    longest = max((len(text_of(value)) for value in values), default=0)
    if template.count("{") * longest > LONGEST_VALUE:
        raise NotKnownError
    return re.sub(r"\{\{|\}\}|\{(\d*)[^}]*\}", lambda each: _plain_place(each, put), template)


def _plain_place(match: re.Match[str], put: Callable[[re.Match[str]], str]) -> str:
    if match[1] and match[0] != f"{{{match[1]}}}":
        raise NotKnownError
    return put(match)


def static_call(type_name: str, name: str, values: list[Any]) -> Any:
    """``[Math]::Ceiling(…)`` and the like."""
    type_name = type_name.removeprefix("system.")
    if name == "new" and ("arraylist" in type_name or "list[" in type_name):
        return ArrayList()
    if any(mark_in(value) for value in values):
        return next(mark for value in values if (mark := mark_in(value)))
    if type_name == "math":
        return _of_math(name, values)
    if type_name == "string":
        if name in ("isnullorempty", "isnullorwhitespace"):
            text = text_of(values[0])
            return not (text.strip() if name == "isnullorwhitespace" else text)
        if name == "join":
            members = (value if isinstance(value, list) else [value] for value in values[1:])
            return joined(text_of(values[0]), [each for some in members for each in some])
        if name == "format":
            return formatted(text_of(values[0]), values[1:])
    if type_name == "io.path":
        texts = [text_of(value) for value in values]
        if name == "combine":
            return ntpath.join(*texts)
        function: Any = {
            "getfilename": ntpath.basename,
            "getdirectoryname": ntpath.dirname,
            "getfilenamewithoutextension": lambda each: ntpath.splitext(ntpath.basename(each))[0],
            "getextension": lambda each: ntpath.splitext(each)[1],
        }.get(name)
        if function:
            return function(texts[0])
    raise NotKnownError


def _of_math(name: str, values: list[Any]) -> Any:
    numbers = [number_of(value) for value in values]
    functions: dict[str, Callable[..., Any]] = {
        "ceiling": math.ceil, "floor": math.floor, "truncate": math.trunc, "abs": abs,
        "max": max, "min": min, "pow": math.pow, "sqrt": math.sqrt, "round": round,
    }  # fmt: skip
    if name not in functions or not all(math.isfinite(number) for number in numbers):
        raise NotKnownError
    try:
        return functions[name](*numbers)
    except (ValueError, TypeError, OverflowError):
        raise NotKnownError from None


def member(value: Any, name: str) -> Any:
    """``value.name``."""
    if isinstance(value, dict):
        return value.get(name)
    if name in ("count", "length"):
        return len(value) if isinstance(value, list | str) else int(value is not None)
    raise NotKnownError


def method(value: Any, name: str, arguments: list[Any]) -> Any:
    """``value.name(arguments)`` of a text or another value; lists are changed by the reader."""
    texts = [text_of(each) for each in arguments]
    if name == "tostring" and not texts:
        return text_of(value)
    if isinstance(value, dict):
        if name in ("containskey", "contains"):
            return texts[0].lower() in value
        raise NotKnownError
    if isinstance(value, list):
        if name == "contains":
            return any(_equal(each, arguments[0], True) for each in value)
        raise NotKnownError
    text = text_of(value)
    strips = {"trim": str.strip, "trimstart": str.lstrip, "trimend": str.rstrip}
    if name in strips:
        return strips[name](text, "".join(texts) or None)
    if name == "replace" and len(texts) == 2 and texts[0]:
        if text.count(texts[0]) * len(texts[1]) > LONGEST_VALUE:
            raise NotKnownError
        return text.replace(texts[0], texts[1])
    if name == "split" and len(texts) == 1:
        return re.split("|".join(re.escape(char) for char in texts[0]) or r"\s", text)
    if name in ("tolower", "toupper"):
        return text.lower() if name == "tolower" else text.upper()
    if name in ("contains", "startswith", "endswith") and texts:
        results = {
            "contains": texts[0] in text, "startswith": text.startswith(texts[0]),
            "endswith": text.endswith(texts[0]),
        }  # fmt: skip
        return results[name]
    if name == "substring" and texts:
        start = int(number_of(arguments[0]))
        end = start + int(number_of(arguments[1])) if len(arguments) > 1 else len(text)
        if not 0 <= start <= end <= len(text):
            raise NotKnownError
        return text[start:end]
    raise NotKnownError
