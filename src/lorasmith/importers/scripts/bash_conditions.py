"""Conditions of a bash script: ``[ … ]``, ``[[ … ]]`` and ``(( … ))``."""

from __future__ import annotations

import re
from collections.abc import Callable

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
        place = 0

        def either() -> Truth:
            truth = both()
            nonlocal place
            while place < len(words) and words[place] == "-o":
                place += 1
                truth = _or(truth, both())
            return truth

        def both() -> Truth:
            truth = one()
            nonlocal place
            while place < len(words) and words[place] == "-a":
                place += 1
                truth = _and(truth, one())
            return truth

        def one() -> Truth:
            nonlocal place
            left = len(words) - place
            if left >= 3 and _is_binary(words[place + 1]):
                place += 3
                return self._compare(*words[place - 3 : place], pattern=None, arithmetic=False)
            if left >= 2 and words[place] == "!":
                place += 1
                return _not(one())
            if left >= 2 and re.fullmatch("-[a-zA-Z]", words[place]) and words[place] not in "-a-o":
                place += 2
                return self._unary(words[place - 2], words[place - 1])
            place += 1
            return self._filled(words[place - 1])

        if not words:
            return False
        truth = either()
        return truth if place == len(words) else False  # As for "too many arguments".

    def _double_test(self, node: Test) -> Truth:
        """``[[ … ]]``: of words whose variables are neither split nor patterns when quoted."""
        items, place = node.items, 0

        def peek() -> str:
            item = items[place] if place < len(items) else ""
            return item if isinstance(item, str) else ""

        def chain(level: int) -> Truth:
            nonlocal place
            if level == 2:
                return one()
            truth = chain(level + 1)
            while peek() == ("||", "&&")[level]:
                place += 1
                truth = (_or, _and)[level](truth, chain(level + 1))
            return truth

        def one() -> Truth:
            nonlocal place
            if peek() == "(":
                place += 1
                truth = chain(0)
                place += 1
                return truth
            if place >= len(items):
                raise ScriptError(node.line, "holds a condition that breaks off")
            word = items[place]
            place += 1
            if not isinstance(word, Word):
                raise ScriptError(node.line, "holds a condition that is not understood")
            if word.plain == "!":
                return _not(one())
            if re.fullmatch("-[a-zA-Z]", word.plain) and isinstance(
                items[place] if place < len(items) else "", Word
            ):
                place += 1
                argument = items[place - 1]
                assert isinstance(argument, Word)
                return self._unary(word.plain, self._text(argument, node.line))
            following = items[place] if place < len(items) else ""
            operator = following if isinstance(following, str) else following.plain
            if place + 1 < len(items) and (_is_binary(operator) or operator in ("<", ">", "=~")):
                right = items[place + 1]
                place += 2
                if not isinstance(right, Word) or operator == "=~":
                    return only_running(f"the test {operator}")
                left, other = self._text(word, node.line), self._text(right, node.line)
                return self._compare(left, operator, other, pattern=right, arithmetic=True)
            return self._filled(self._text(word, node.line))

        truth = chain(0)
        if place != len(items):
            raise ScriptError(node.line, "holds a condition that is not understood")
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
