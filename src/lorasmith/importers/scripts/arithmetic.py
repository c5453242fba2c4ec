"""Arithmetic of whole numbers, as ``(( ))`` of bash and ``set /a`` of cmd have it."""

from __future__ import annotations

import re
from collections.abc import Callable

_ARITHMETIC = re.compile(
    r"\s*(?:(?P<number>0[xX][0-9a-fA-F]+|\d+)(?![\w.])|(?P<name>[A-Za-z_]\w*)"
    r"|(?P<operator>\*\*|<<=|>>=|\+\+|--|&&|\|\||[-+*/%&|^]=|[<>=!]=|<<|>>|[-+*/%<>!~&|^()?:=,]))"
)
_LEVELS = (
    ("||",), ("&&",), ("|",), ("^",), ("&",), ("==", "!="), ("<=", ">=", "<", ">"),
    ("<<", ">>"), ("+", "-"), ("*", "/", "%"),
)  # fmt: skip


class _Expression:
    """One expression of whole numbers.

    Args:
        get: a variable's number; raises ``LookupError`` with a :class:`Reason` where it is unknown.
        put: takes what the expression assigns.
        bits: numbers wrap round at this width.

    Raises:
        ValueError: it is no expression of whole numbers.
    """

    def __init__(
        self, text: str, get: Callable[[str], int], put: Callable[[str, int], None], bits: int
    ) -> None:
        self._get, self._put, self._bits = get, put, bits
        self._tokens: list[tuple[str, str]] = []
        place = 0
        while place < len(text.rstrip()):
            match = _ARITHMETIC.match(text, place)
            if match is None:
                raise ValueError(text)
            self._tokens.append((str(match.lastgroup), match[str(match.lastgroup)]))
            place = match.end()
        self._place, self._idle = 0, 0

    def value(self) -> int:
        if not self._tokens:
            return 0
        value = self._list()
        if self._place != len(self._tokens):
            raise ValueError("rest")
        return value

    def _peek(self) -> str:
        return self._tokens[self._place][1] if self._place < len(self._tokens) else ""

    def _take(self, *texts: str) -> str:
        if self._peek() in texts and self._place < len(self._tokens):
            self._place += 1
            return self._tokens[self._place - 1][1]
        return ""

    def _wrap(self, value: int) -> int:
        half = 1 << (self._bits - 1)
        return (value + half) % (2 * half) - half

    def _list(self) -> int:
        value = self._assignment()
        while self._take(","):
            value = self._assignment()
        return value

    def _assignment(self) -> int:
        if self._place + 1 < len(self._tokens) and self._tokens[self._place][0] == "name":
            name, operator = self._tokens[self._place][1], self._tokens[self._place + 1][1]
            if operator.endswith("=") and operator not in ("==", "<=", ">=", "!="):
                self._place += 2
                value = self._assignment()
                if operator != "=":
                    value = self._apply(operator[:-1], self._variable(name), value)
                self._store(name, value)
                return value
        return self._ternary()

    def _ternary(self) -> int:
        condition = self._binary(0)
        if not self._take("?"):
            return condition
        one = self._skipped(self._list, not condition)
        if not self._take(":"):
            raise ValueError("?")
        other = self._skipped(self._ternary, bool(condition))
        return one if condition else other

    def _skipped(self, read: Callable[[], int], skip: bool) -> int:
        self._idle += skip
        try:
            return read()
        finally:
            self._idle -= skip

    def _binary(self, level: int) -> int:
        if level == len(_LEVELS):
            return self._power()
        value = self._binary(level + 1)
        while operator := self._take(*_LEVELS[level]):
            skip = (operator == "&&" and not value) or (operator == "||" and bool(value))
            right = self._skipped(lambda: self._binary(level + 1), skip)
            value = self._apply(operator, value, right)
        return value

    def _power(self) -> int:
        value = self._unary()
        if self._take("**"):
            exponent = self._power()
            if not 0 <= exponent <= 4096:
                raise ValueError("exponent")
            value = self._wrap(value**exponent)
        return value

    def _unary(self) -> int:
        operator = self._take("++", "--", "!", "~", "-", "+")
        if operator in ("++", "--"):
            kind, name = self._tokens[self._place] if self._peek() else ("", "")
            if kind != "name":
                raise ValueError(operator)
            self._place += 1
            value = self._variable(name) + (1 if operator == "++" else -1)
            self._store(name, value)
            return value
        if operator:
            value = self._unary()
            return {"!": int(not value), "~": ~value, "-": -value, "+": value}[operator]
        if self._take("("):
            value = self._list()
            if not self._take(")"):
                raise ValueError("(")
            return value
        if not self._peek():
            raise ValueError("end")
        kind, text = self._tokens[self._place]
        self._place += 1
        if kind == "number":
            if text[:2] in ("0x", "0X"):
                return self._wrap(int(text, 16))
            return self._wrap(int(text, 8 if text[0] == "0" else 10))
        if kind != "name":
            raise ValueError(text)
        value = self._variable(text)
        if step := self._take("++", "--"):
            self._store(text, value + (1 if step == "++" else -1))
        return value

    def _variable(self, name: str) -> int:
        return 0 if self._idle else self._get(name)

    def _store(self, name: str, value: int) -> None:
        if not self._idle:
            self._put(name, self._wrap(value))

    def _apply(self, operator: str, one: int, other: int) -> int:
        if self._idle:
            return 0
        if operator in "/%":
            if not other:
                raise ValueError("division by 0")
            quotient = abs(one) // abs(other) * (1 if (one < 0) == (other < 0) else -1)
            return self._wrap(quotient if operator == "/" else one - quotient * other)
        if operator in ("<<", ">>"):
            other %= self._bits
            return self._wrap(one << other if operator == "<<" else one >> other)
        results: dict[str, Callable[[], int]] = {
            "+": lambda: one + other, "-": lambda: one - other, "*": lambda: one * other,
            "&": lambda: one & other, "|": lambda: one | other, "^": lambda: one ^ other,
            "==": lambda: one == other, "!=": lambda: one != other, "<": lambda: one < other,
            ">": lambda: one > other, "<=": lambda: one <= other, ">=": lambda: one >= other,
            "&&": lambda: bool(one and other), "||": lambda: bool(one or other),
        }  # fmt: skip
        return self._wrap(int(results[operator]()))


def evaluate(
    text: str, get: Callable[[str], int], put: Callable[[str, int], None], *, bits: int
) -> int:
    """The value of one expression of whole numbers; see :class:`_Expression`."""
    return _Expression(text, get, put, bits).value()
