"""The grammar of the web UI's prompts: text to a tree. Torch-free.

::

    nodes     = (text | mark | edit | alternate)*
    mark      = "(" | ")" | ":" NUMBER ")" | "[" | "]"      weighs, see prompt_weights
    edit      = "[" [nodes ":"] nodes ":" WHEN "]"
    alternate = "[" nodes ("|" nodes)+ "]"

A recursive descent over tokens whose brackets have been paired before. Every string is a prompt:
what is no edit and no alternation is brackets that weigh, and what pairs with nothing is left to
:mod:`lorasmith.prompts.weights`. A colon or a bar counts only directly within its
brackets, not in further ones inside, and not behind a backslash.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lorasmith.prompts.schedule import NUMBER, StepMark
from lorasmith.prompts.weights import Mark, Text

# Edits within edits; a prompt has two or three. Python's own stack ends at some hundreds.
MAX_DEPTH = 50

_TOKEN = re.compile(
    rf"(?P<text>\\[\\()\[\]:|]?|[^\\()\[\]:|]+)"
    rf"|(?P<mark>:\s*[+-]?{NUMBER}\s*\)|[()\[\]])"
    rf"|(?P<divider>[:|])",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Edit:
    """``[before:after:when]``; without ``before`` also written ``[after:when]``."""

    before: Nodes
    after: Nodes
    when: StepMark


@dataclass(frozen=True, slots=True)
class Alternate:
    """``[option|option]``: another option each step, in turn."""

    options: tuple[Nodes, ...]


Node = Text | Mark | Edit | Alternate
Nodes = tuple[Node, ...]


class TooDeepError(ValueError):
    """Edits or alternations nested deeper than :data:`MAX_DEPTH`."""


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    written: str
    start: int

    @property
    def end(self) -> int:
        return self.start + len(self.written)


def parse_nodes(source: str) -> Nodes:
    """The tree of a text without tags; :func:`format_nodes` writes it back.

    Raises:
        TooDeepError: nested too deeply.
    """
    tokens = [
        _Token(match.lastgroup or "", match[0], match.start()) for match in _TOKEN.finditer(source)
    ]
    return _Parser(source, tokens).nodes(0, len(tokens), 0)


class _Parser:
    def __init__(self, source: str, tokens: list[_Token]) -> None:
        self._source, self._tokens = source, tokens
        self._partner = _partners(tokens)

    def nodes(self, begin: int, end: int, depth: int) -> Nodes:
        """The nodes of the tokens from ``begin`` to before ``end``."""
        if depth > MAX_DEPTH:
            raise TooDeepError
        nodes: list[Node] = []
        at = begin
        while at < end:
            node = self._brackets(at, depth)
            if node is not None:
                nodes.append(node)
                at = self._partner[at] + 1
                continue
            token = self._tokens[at]
            if token.kind == "mark":
                nodes.append(Mark(token.written))
            elif nodes and isinstance(nodes[-1], Text):
                nodes[-1] = Text(nodes[-1].written + token.written)
            else:
                nodes.append(Text(token.written))
            at += 1
        return tuple(nodes)

    def _brackets(self, opening: int, depth: int) -> Edit | Alternate | None:
        """The edit or alternation that begins here, if one does."""
        closing = self._partner.get(opening)
        if closing is None or self._tokens[opening].written != "[":
            return None
        dividers = list(self._dividers(opening + 1, closing))
        bars = [at for at in dividers if self._tokens[at].written == "|"]
        if bars:
            return Alternate(tuple(self._parts(opening, bars, closing, depth)))
        if not 1 <= len(dividers) <= 2:
            return None
        end = self._tokens[closing].start
        when = StepMark.parse(self._source[self._tokens[dividers[-1]].end : end])
        if when is None:
            return None
        *before, after = self._parts(opening, dividers[:-1], dividers[-1], depth)
        return Edit(before[0] if before else (), after, when)

    def _dividers(self, begin: int, end: int) -> Iterator[int]:
        at = begin
        while at < end:
            if self._tokens[at].kind == "divider":
                yield at
            at = self._partner.get(at, at) + 1

    def _parts(
        self, opening: int, dividers: Sequence[int], end: int, depth: int
    ) -> Iterator[Nodes]:
        for begin, stop in zip([opening, *dividers], [*dividers, end], strict=True):
            yield self.nodes(begin + 1, stop, depth + 1)


def _partners(tokens: Sequence[_Token]) -> dict[int, int]:
    """The closing bracket of each opening one that has one, by place. Pairs nest: a square bracket
    that closes leaves round ones that were opened within it without a partner."""
    partners: dict[int, int] = {}
    waiting: list[int] = []
    squares = 0
    for at, token in enumerate(tokens):
        if token.kind != "mark":
            continue
        if token.written in ("(", "["):
            waiting.append(at)
            squares += token.written == "["
        elif token.written == "]" and squares:
            while tokens[waiting[-1]].written != "[":
                waiting.pop()
            partners[waiting.pop()] = at
            squares -= 1
        elif token.written != "]" and waiting and tokens[waiting[-1]].written == "(":
            partners[waiting.pop()] = at
    return partners


def format_nodes(nodes: Nodes) -> str:
    """The text that :func:`parse_nodes` makes ``nodes`` of."""
    return "".join(_written(node) for node in nodes)


def _written(node: Node) -> str:
    if isinstance(node, Alternate):
        return f"[{'|'.join(format_nodes(option) for option in node.options)}]"
    if isinstance(node, Edit):
        before = f"{format_nodes(node.before)}:" if node.before else ""
        return f"[{before}{format_nodes(node.after)}:{node.when.written}]"
    return node.written


def row_at(nodes: Nodes, step: int, total: int, before: int = 0) -> Iterator[Text | Mark]:
    """The row of text and brackets that the tree is at a step.

    Args:
        step: 0 for the first of the pass.
        total: the steps of the pass.
        before: steps of the pass before it.
    """
    for node in nodes:
        if isinstance(node, Edit):
            changed = step >= node.when.steps(total, before)
            yield from row_at(node.after if changed else node.before, step, total, before)
        elif isinstance(node, Alternate):
            option = node.options[step % len(node.options)]
            yield from row_at(option, step, total, before)
        else:
            yield node


def walk(nodes: Nodes) -> Iterator[Node]:
    """All nodes, those within edits and alternations too, in the order written."""
    for node in nodes:
        yield node
        if isinstance(node, Edit):
            yield from walk(node.before)
            yield from walk(node.after)
        elif isinstance(node, Alternate):
            for option in node.options:
                yield from walk(option)
