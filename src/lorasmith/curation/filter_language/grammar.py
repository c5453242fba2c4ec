"""The grammar of filters: text to a tree.

::

    filter = or                              nothing at all takes every picture
    or     = and ("or" and)*
    and    = not (["and"] not)*
    not    = ("not" | "-") not | atom
    atom   = "(" or ")" | FLAG | [KEY ":"] VALUE
    VALUE  = word | '"' text '"' | "'" text "'"

A word ends at a space, or at a bracket that it did not open itself: ``(tag:miku_(vocaloid))``.
Before any character a backslash takes its meaning away; in ``re:`` it is the pattern's own. What is
quoted, or begins with a colon as ``:d`` does, is a text whatever it looks like.
"""

from __future__ import annotations

import math
import re
import unicodedata
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rich.cells import cell_len

from lorasmith.core.errors import DatasetError, Problem
from lorasmith.core.text import did_you_mean, quoted
from lorasmith.curation.filter_language.words import FLAGS, KEYS, Key, Token, Value, tokens

# Brackets and negations within each other; Python's own stack ends at some hundreds.
MAX_DEPTH = 50

Comparison = Literal["=", "!=", "<", "<=", ">", ">="]


@dataclass(frozen=True, slots=True)
class TextTerm:
    """``key`` is "" for a word without one."""

    key: str
    value: Value


@dataclass(frozen=True, slots=True)
class RegexTerm:
    """``pattern`` is one of the library regex, which can be stopped."""

    pattern: Any


@dataclass(frozen=True, slots=True)
class NumberTerm:
    """``tokens:>75``; the number is in ``scale``, and equal to what it is when rounded to its
    ``decimals``."""

    key: str
    comparison: Comparison
    number: float
    decimals: int = 0
    scale: float = 1.0


@dataclass(frozen=True, slots=True)
class SizeTerm:
    """``size:512x768``."""

    comparison: Literal["=", "!="]
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class FlagTerm:
    """``choice`` is that of ``dup:exact``."""

    name: str
    choice: str = ""


@dataclass(frozen=True, slots=True)
class Not:
    node: Node


@dataclass(frozen=True, slots=True)
class And:
    nodes: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Or:
    nodes: tuple[Node, ...]


Term = TextTerm | RegexTerm | NumberTerm | SizeTerm | FlagTerm
Node = Term | Not | And | Or


class FilterError(DatasetError):
    """A filter that cannot be read.

    Args:
        start, end: the part of the text that is wrong.
    """

    def __init__(self, problems: Problem | Sequence[Problem], start: int = 0, end: int = 0) -> None:
        super().__init__(problems)
        self.start, self.end = start, end


def parse(text: str, where: str = "where") -> Node:
    """The tree of a filter.

    Args:
        where: what the problem names, such as the option that the filter was given to.

    Raises:
        FilterError: it cannot be read; shows the place.
    """
    return _Parser(text, where).parse()


class _Parser:
    def __init__(self, text: str, where: str) -> None:
        self._text, self._where = text, where
        self._tokens = list(tokens(text))
        self._at = 0

    def parse(self) -> Node:
        if not self._tokens:
            return And(())
        node = self._or(0)
        if self._at < len(self._tokens):
            stray = self._tokens[self._at]
            raise self._error(stray.start, stray.end, "this bracket was not opened")
        return node

    def _next(self) -> str:
        """The kind of the next word; "" at the end."""
        return self._tokens[self._at].kind if self._at < len(self._tokens) else ""

    def _take(self) -> Token:
        self._at += 1
        return self._tokens[self._at - 1]

    def _or(self, depth: int) -> Node:
        nodes = [self._and(depth)]
        while self._next() == "or":
            self._take()
            nodes.append(self._and(depth))
        return nodes[0] if len(nodes) == 1 else Or(tuple(nodes))

    def _and(self, depth: int) -> Node:
        nodes = [self._not(depth)]
        while self._next() not in ("", ")", "or"):
            if self._next() == "and":
                self._take()
            nodes.append(self._not(depth))
        return nodes[0] if len(nodes) == 1 else And(tuple(nodes))

    def _not(self, depth: int) -> Node:
        negative = False
        while self._next() in ("-", "not"):
            self._take()
            negative = not negative
        node = self._atom(depth)
        return Not(node) if negative else node

    def _atom(self, depth: int) -> Node:
        if self._next() == "term":
            return self._term(self._take())
        if self._next() != "(":
            raise self._nothing()
        opening = self._take()
        if depth >= MAX_DEPTH:
            what = f"there are more than {MAX_DEPTH} brackets within each other"
            raise self._error(opening.start, opening.end, what)
        if self._next() == ")":
            what, hint = "there is nothing between these brackets", "put a text with brackets in "
            raise self._error(opening.start, self._take().end, what, f'{hint}quotes, as in "a ()"')
        node = self._or(depth + 1)
        if self._next() != ")":
            hint = 'write ")" behind what belongs together, or put a text with brackets in quotes'
            raise self._error(opening.start, opening.end, "this bracket is not closed", hint)
        self._take()
        return node

    def _nothing(self) -> FilterError:
        """Where a term should be is a sign, or the end."""
        before = self._tokens[self._at - 1] if self._at else None
        if self._next() == ")" and before is None:
            stray = self._take()
            return self._error(stray.start, stray.end, "this bracket was not opened")
        if before is not None and before.kind == "(" and self._next():
            before = None
        token = before if before is not None else self._tokens[self._at]
        name = self._text[token.start : token.end]
        side = "after" if before is not None else "before"
        hint = f'to look for this very word, put it in quotes: "{name}"'
        return self._error(token.start, token.end, f'there is nothing {side} "{name}"', hint)

    def _term(self, token: Token) -> Term:
        if not token.closed:
            begin = token.value_start
            hint = f"write {token.quote} behind the text, or \\{token.quote} for the sign itself"
            raise self._error(begin, begin + 1, "this quote is not closed", hint)
        behind = self._text[token.end : token.end + 1]
        if token.quote and behind and not behind.isspace() and behind != ")":
            at = token.end
            raise self._error(at, at + 1, "there is no space behind the quote", "write one here")
        if not token.key:
            bare = not token.quote and "\\" not in token.value.raw
            if bare and token.value.text.lower() in FLAGS:
                return FlagTerm(token.value.text.lower())
            return TextTerm("", token.value)
        key = KEYS.get(token.key)
        if key is None:
            raise self._unknown(token)
        if not token.quote and token.value_start == token.end:
            what = f'there is nothing after "{token.key}:"'
            hint = f"write it as in {token.key}:{key.example}"
            raise self._error(token.start, token.end, what, hint)
        if key.kind == "text":
            return TextTerm(token.key, token.value)
        if key.kind == "regex":
            return self._regex(token)
        if key.kind == "choice":
            return self._choice(token, key)
        return self._number(token, key)

    def _unknown(self, token: Token) -> FilterError:
        written = self._text[token.start : token.end]
        name = self._text[token.start : token.value_start - 1]
        literal = f'"{written}"' if '"' not in written else "the whole"
        otherwise = f"to look for this very text, write {literal} in quotes"
        if token.key in FLAGS:
            hint = f'write "{token.key}" alone, without a colon'
        else:
            hint = did_you_mean(token.key, list(KEYS), otherwise, form="{}:")
        return self._error(
            token.start, token.value_start, f"there is no key {quoted(name + ':')}", hint
        )

    def _regex(self, token: Token) -> RegexTerm:
        try:
            return RegexTerm(compile_pattern(token.value.raw))
        except ValueError as error:
            what = f"this is not a pattern: {error}"
            hint = "patterns are those of Python's re"
            raise self._value_error(token, what, hint) from None

    def _choice(self, token: Token, key: Key) -> FlagTerm:
        choice = token.value.text.lower()
        if choice not in key.choices:
            hint = did_you_mean(choice, key.choices, f"there are {', '.join(key.choices)}")
            raise self._value_error(token, f"{quoted(token.value.text)} is not known", hint)
        return FlagTerm(token.key, choice)

    def _number(self, token: Token, key: Key) -> NumberTerm | SizeTerm:
        example = f"write it as in {token.key}:{key.example}"
        match = _NUMBER.fullmatch(token.value.text)
        if match is None:
            raise self._value_error(token, f"{quoted(token.value.text)} is not a number", example)
        comparison: Comparison = _COMPARISONS[match["sign"]]
        number, unit = match["number"], (match["unit"] or "").lower()
        if match["other"] is not None:
            return self._two_numbers(token, comparison, match, example)
        scales = dict(key.units)
        if unit not in scales:
            names = [name for name in scales if name]
            hint = f"units are {', '.join(names)}" if names else "it has no unit"
            raise self._value_error(token, f"there is no unit {quoted(unit)}", hint)
        decimals = len(number.partition(".")[2])
        return NumberTerm(token.key, comparison, float(number), decimals, scales[unit])

    def _two_numbers(
        self, token: Token, comparison: Comparison, match: re.Match[str], example: str
    ) -> NumberTerm | SizeTerm:
        """``aspect:16:9``, ``size:512x768``."""
        first, second = float(match["number"]), float(match["other"])
        plain = match["unit"] is None
        if plain and token.key == "aspect" and second > 0:
            return NumberTerm("aspect", comparison, first / second, 2)
        whole = first.is_integer() and second.is_integer()
        if plain and token.key == "size" and whole and comparison in ("=", "!="):
            sign: Literal["=", "!="] = "=" if comparison == "=" else "!="
            return SizeTerm(sign, int(first), int(second))
        what = f"{quoted(token.value.text)} is not a number"
        if token.key == "size" and comparison not in ("=", "!="):
            what, example = "a size is the same or not", "compare the product: size:<1mp"
        raise self._value_error(token, what, example)

    def _value_error(self, token: Token, what: str, hint: str) -> FilterError:
        return self._error(token.value_start, token.end, what, hint)

    def _error(self, start: int, end: int, what: str, hint: str = "") -> FilterError:
        problem = Problem(self._where, f"{what}\n{_pointing(self._text, start, end)}", hint)
        return FilterError(problem, start, end)


_SIGNED = r"(?P<sign>==?|!=|<=|>=|<|>|)"
_DECIMAL = r"\d{1,30}(?:\.\d{0,15})?|\.\d{1,15}"
_NUMBER = re.compile(
    rf"{_SIGNED}(?P<number>[+-]?(?:{_DECIMAL}))"
    rf"(?:[:/xX×](?P<other>{_DECIMAL}))?(?P<unit>[a-zA-Z]{{1,9}})?",
    re.ASCII,
)
_COMPARISONS: dict[str, Comparison] = {
    "": "=", "=": "=", "==": "=", "!=": "!=", "<": "<", "<=": "<=", ">": ">", ">=": ">=",
}  # fmt: skip


# The library writes repeats out: (a{1000}){1000} would take half a gigabyte.
_MOST_REPEATS, _LONGEST_PATTERN = 2000, 1000
_REPEAT = re.compile(r"\{[^{}]{0,30}?(\d+)\s*\}", re.ASCII)


def compile_pattern(text: str) -> Any:
    """A regular expression, whatever the case of letters.

    Raises:
        ValueError: it is none, or would take much memory; says why.
    """
    repeats = math.prod(max(1, int(match[1][:9])) for match in _REPEAT.finditer(text))
    if repeats > _MOST_REPEATS or len(text) > _LONGEST_PATTERN:
        raise ValueError("it is too long, or repeats too much")
    import regex  # takes a while, and few filters have one

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what may mean something else one day
            return regex.compile(text, regex.IGNORECASE)
    except regex.error as error:
        raise ValueError(error.msg) from None
    except (OverflowError, RecursionError, MemoryError):
        raise ValueError("it is too long or too deep") from None


# Places

_SHOWN, _BEFORE, _INDENT = 70, 30, " " * 6


def _pointing(text: str, start: int, end: int) -> str:
    """The text, or what is around a place of it, with carets below the place."""
    line = "".join(" " if unicodedata.category(c) in ("Zs", "Cc", "Zl", "Zp") else c for c in text)
    cut = max(0, start - _BEFORE) if cell_len(line) > _SHOWN else 0
    before, line = ("…" if cut else ""), line[cut:]
    start, end = start - cut, end - cut
    shown = line[: _SHOWN - 1] + "…" if len(line) > _SHOWN else line
    carets = "^" * max(1, min(cell_len(line[start:end]), _SHOWN - start))
    return f"{_INDENT}{before}{shown}\n{_INDENT}{' ' * cell_len(before + line[:start])}{carets}"
