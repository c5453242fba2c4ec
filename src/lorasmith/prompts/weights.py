"""What brackets weigh, in a row of text and brackets. Torch-free.

Brackets are marks in the row and no tree: the web UI lets the two kinds close independently of
each other, an open one that is never closed weighs everything up to the end, and a closing one
without a partner is text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

ROUND_BRACKET_WEIGHT = 1.1
SQUARE_BRACKET_WEIGHT = 1 / 1.1

_BREAK = re.compile(r"\s*\bBREAK\b\s*")
_PIECE = re.compile(r"\\(?P<escaped>[\\()\[\]]?)|[^\\]+")


@dataclass(frozen=True, slots=True)
class Text:
    """Text as it is written, with its backslashes."""

    written: str


@dataclass(frozen=True, slots=True)
class Mark:
    """A bracket: ``(``, ``[``, ``)``, ``]``, or ``:1.2)``."""

    written: str

    @property
    def opens(self) -> bool:
        return self.written in ("(", "[")

    @property
    def kind(self) -> str:
        """The opening bracket of its pair."""
        return "[" if self.written in ("[", "]") else "("

    @property
    def weight(self) -> float:
        """What the pair that it closes weighs, or would if nothing closed it."""
        if self.kind == "[":
            return SQUARE_BRACKET_WEIGHT
        return float(self.written[1:-1]) if self.written[0] == ":" else ROUND_BRACKET_WEIGHT


@dataclass(frozen=True, slots=True)
class Fragment:
    """A run of text that has one weight."""

    text: str
    weight: float


Sections = tuple[tuple[Fragment, ...], ...]
"""The text between BREAKs, at least one; each a run of fragments, maybe none."""


def weigh_brackets(row: Sequence[Text | Mark]) -> Sections:
    """The text of a row with its weights, cut at each BREAK."""
    row = _joined(row)
    weights = _pair_weights(row)
    # Products of the open brackets, by kind.
    products: dict[str, list[float]] = {"(": [1.0], "[": [1.0]}
    sections: list[list[Fragment]] = [[]]
    for index, item in enumerate(row):
        if index in weights and isinstance(item, Mark):
            open_ = products[item.kind]
            if item.opens:
                open_.append(open_[-1] * weights[index])
            else:
                open_.pop()
            continue
        weight = products["("][-1] * products["["][-1]
        for number, text in enumerate(_pieces(item)):
            if number:
                sections.append([])
            _append(sections[-1], text, weight)
    return tuple(tuple(section) for section in sections)


def _joined(row: Sequence[Text | Mark]) -> list[Text | Mark]:
    """Neighbouring texts as one: a BREAK is a word of the whole."""
    joined: list[Text | Mark] = []
    for item in row:
        if isinstance(item, Text) and joined and isinstance(joined[-1], Text):
            joined[-1] = Text(joined[-1].written + item.written)
        else:
            joined.append(item)
    return joined


def _pair_weights(row: Sequence[Text | Mark]) -> dict[int, float]:
    """What each bracket that weighs does, by its place; those that are text are not in it."""
    weights: dict[int, float] = {}
    waiting: dict[str, list[int]] = {"(": [], "[": []}
    for index, item in enumerate(row):
        if not isinstance(item, Mark):
            continue
        if item.opens:
            waiting[item.kind].append(index)
            weights[index] = item.weight
        elif waiting[item.kind]:
            weights[waiting[item.kind].pop()] = item.weight
            weights[index] = item.weight
    return weights


def _pieces(item: Text | Mark) -> list[str]:
    """The text without its backslashes, cut at each BREAK."""
    if isinstance(item, Mark):
        return [item.written]
    pieces = [""]
    for match in _PIECE.finditer(item.written):
        if match["escaped"] is not None:
            pieces[-1] += match["escaped"]
            continue
        first, *rest = _BREAK.split(match[0])
        pieces[-1] += first
        pieces += rest
    return pieces


def _append(section: list[Fragment], text: str, weight: float) -> None:
    if text and section and section[-1].weight == weight:
        section[-1] = Fragment(section[-1].text + text, weight)
    elif text:
        section.append(Fragment(text, weight))
