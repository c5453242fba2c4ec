"""Conditions of a bash script: ``[ … ]``, ``[[ … ]]`` and ``(( … ))``."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Generic, TypeVar

from lorasmith.importers.scripts.bash_expansion import BashExpansion
from lorasmith.importers.scripts.bash_syntax import Test
from lorasmith.importers.scripts.bash_words import Word
from lorasmith.importers.scripts.variables import (
    MARK,
    Reason,
    ScriptError,
    Truth,
    glob_pattern,
    only_running,
    shown,
)

_NUMBERS: dict[str, Callable[[int, int], bool]] = {
    "-eq": lambda a, b: a == b, "-ne": lambda a, b: a != b, "-lt": lambda a, b: a < b,
    "-le": lambda a, b: a <= b, "-gt": lambda a, b: a > b, "-ge": lambda a, b: a >= b,
}  # fmt: skip
_FILES = ("-nt", "-ot", "-ef")


_NOT_UNDERSTOOD = "holds a condition that is not understood"
T = TypeVar("T")


class _Items(Generic[T]):
    """What a condition is made of, with the place up to which it has been read."""

    def __init__(self, items: list[T], operators: tuple[str, str]) -> None:
        self._items, self._operators, self.place = items, operators, 0

    @property
    def left(self) -> int:
        return len(self._items) - self.place

    def peek(self) -> T | str:
        return self._items[self.place] if self.left > 0 else ""

    def take(self, count: int) -> list[T]:
        self.place += count
        return self._items[self.place - count : self.place]

    def chain(self, one: Callable[[], Truth], level: int = 0) -> Truth:
        """Conditions with "or", and tighter "and", between them."""
        if level == 2:
            return one()
        truth = self.chain(one, level + 1)
        while self.peek() == self._operators[level]:
            self.take(1)
            truth = (_or, _and)[level](truth, self.chain(one, level + 1))
        return truth


class BashConditions(BashExpansion):
    def _holds(self, text: str, line: int) -> Truth:
        """Whether an expression of whole numbers is something else than 0."""
        try:
            number = self._number(text, line)
        except ValueError:
            return False
        return number if isinstance(number, Reason) else number != 0

    def _single_test(self, words: list[str]) -> Truth:
        """``[ … ]``: of words that are expanded already."""
        items = _Items(words, ("-o", "-a"))

        def one() -> Truth:
            if items.left >= 3 and _is_binary(words[items.place + 1]):
                return self._compare(*items.take(3), pattern=None, arithmetic=False)
            word = items.peek()
            if items.left >= 2 and word == "!":
                items.take(1)
                return _not(one())
            if items.left >= 2 and re.fullmatch("-[a-zA-Z]", word) and word not in "-a-o":
                return self._unary(*items.take(2))
            return self._filled(*(items.take(1) or [""]))  # Nothing behind -o is a mistake.

        if not words:
            return False
        truth = items.chain(one)
        return truth if not items.left else False  # As for "too many arguments".

    def _double_test(self, node: Test) -> Truth:
        """``[[ … ]]``: of words whose variables are neither split nor patterns when quoted."""
        items = _Items(node.items, ("||", "&&"))

        def one() -> Truth:
            if items.peek() == "(":
                items.take(1)
                truth = items.chain(one)
                items.take(1)
                return truth
            if not items.left:
                raise ScriptError(node.line, "holds a condition that breaks off")
            (word,) = items.take(1)
            if not isinstance(word, Word):
                raise ScriptError(node.line, _NOT_UNDERSTOOD)
            if word.plain == "!":
                return _not(one())
            following = items.peek()
            if re.fullmatch("-[a-zA-Z]", word.plain) and isinstance(following, Word):
                items.take(1)
                return self._unary(word.plain, self._text(following, node.line))
            operator = following if isinstance(following, str) else following.plain
            if items.left >= 2 and (_is_binary(operator) or operator in ("<", ">", "=~")):
                _, right = items.take(2)
                if not isinstance(right, Word) or operator == "=~":
                    return only_running(f"the test {operator}")
                left, other = self._text(word, node.line), self._text(right, node.line)
                return self._compare(left, operator, other, pattern=right, arithmetic=True)
            return self._filled(self._text(word, node.line))

        truth = items.chain(one)
        if items.left:
            raise ScriptError(node.line, _NOT_UNDERSTOOD)
        return truth

    def _filled(self, text: str) -> Truth:
        if MARK.sub("", text):
            return True
        return self._script.reason(text) or False

    def _unary(self, operator: str, text: str) -> Truth:
        if operator in ("-n", "-z"):
            truth = self._filled(text)
            return truth if operator == "-n" else _not(truth)
        if operator == "-v":
            if text in self._script.values:
                return True
            return self._script.reason(self._script.never_set(text)) or False
        return only_running(f"whether {operator} {shown(text)} holds")

    def _compare(
        self, one: str, operator: str, other: str, *, pattern: Word | None, arithmetic: bool
    ) -> Truth:
        reason = self._script.reason(one) or self._script.reason(other)
        if operator in _FILES:
            return only_running(f"whether {operator} holds")
        if operator in _NUMBERS:
            if reason:
                return reason
            numbers: list[int] = []
            for text in (one, other):
                try:
                    number = self._number(text, 0) if arithmetic else int(text)
                except ValueError:  # Bash complains, and the test does not hold.
                    return False
                if isinstance(number, Reason):
                    return number
                numbers.append(number)
            return _NUMBERS[operator](*numbers)
        if reason:
            return reason
        if operator in ("<", "\\<", ">", "\\>"):
            return one < other if operator.endswith("<") else one > other
        if pattern is None:
            equal: Truth = one == other
        else:
            equal = self._matches(one, pattern, 0)
        return _not(equal) if operator == "!=" else equal

    def _matches(self, text: str, pattern: Word, line: int) -> Truth:
        """Whether a text fits a pattern, whose quoted parts are no pattern."""
        regex = ""
        for part in pattern.parts:
            value = self._text(Word(pattern.line, [part]), line)
            if reason := self._script.reason(value):
                return reason
            regex += re.escape(value) if part.quoted else glob_pattern(value)
        if not self._script.can_match(regex, text):
            return only_running("whether a pattern fits")
        try:
            return re.fullmatch(regex, text, re.DOTALL) is not None
        except re.error:
            return only_running("whether a pattern fits")


def _is_binary(operator: str) -> bool:
    return operator in ("=", "==", "!=", *_NUMBERS, *_FILES)


def _not(truth: Truth) -> Truth:
    return truth if isinstance(truth, Reason) else not truth


def _and(one: Truth, other: Truth) -> Truth:
    if one is False or other is False:
        return False
    return next((each for each in (one, other) if isinstance(each, Reason)), True)


def _or(one: Truth, other: Truth) -> Truth:
    return _not(_and(_not(one), _not(other)))
