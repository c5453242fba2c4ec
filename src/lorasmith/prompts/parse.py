r"""The prompt language of the Stable Diffusion web UI (A1111), as a plain data structure.

===========================  ===================================================================
``(word)``, ``[word]``       weight 1.1 and 1 / 1.1; brackets nest and multiply
``(word:1.3)``               weight 1.3
``\(``, ``\)``, ``\[`` …     the bracket itself; ``\\`` is a backslash
``BREAK``                    the rest goes into a new chunk of 75 tokens
``[cat:dog:0.5]``            prompt editing: cat for the first half of the steps, then dog; a
                             number without a point counts steps
``[dog:0.5]``, ``[cat::5]``  dog from the middle on; cat for five steps
``[cat|dog]``                alternation: another one each step
``a :1.2 AND b``             two prompts, each with its weight, composed by guidance
``<lora:NAME:0.8>``          see :mod:`lorasmith.prompts.lora_tags`
===========================  ===================================================================

What is said of these is documented in the web UI's wiki. A bracket without its partner behaves as
there: an open one weighs everything up to the end, a closing one is text. Only a tag can be wrong.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from lorasmith.core.errors import Problem, PromptError
from lorasmith.core.text import quoted
from lorasmith.prompts.grammar import (
    MAX_DEPTH,
    Edit,
    Nodes,
    TooDeepError,
    format_nodes,
    parse_nodes,
    row_at,
    walk,
)
from lorasmith.prompts.lora_tags import LoraTag, take_tags
from lorasmith.prompts.schedule import NUMBER
from lorasmith.prompts.weights import Mark, Sections, Text, weigh_brackets

# Fewer plain brackets than this never multiply to infinity.
MANY = 5000

_AND = re.compile(r"\bAND\b")
_WEIGHT = re.compile(rf"\s*([+-]?{NUMBER})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Part:
    """One of the prompts that AND joins; most prompts are one part.

    Args:
        nodes: its tree.
        weight: what multiplies its guidance.
    """

    nodes: Nodes
    weight: float = 1.0

    @property
    def changes(self) -> bool:
        """Whether it says another thing at another step."""
        return not all(isinstance(node, Text | Mark) for node in self.nodes)

    def sections(self, step: int = 0, total: int = 1, before: int = 0) -> Sections:
        """Its text at a step: between BREAKs, at least one; each a run of fragments, maybe none.

        Args:
            step: 0 for the first of the pass.
            total: the steps of the pass.
            before: steps of the pass before it ("hires fix").
        """
        return weigh_brackets(list(row_at(self.nodes, step, total, before)))


@dataclass(frozen=True, slots=True)
class Prompt:
    """A parsed prompt.

    Args:
        source: what was parsed.
        parts: what AND joins, at least one.
        loras: in the order written.
        notes: what the user probably meant otherwise, one sentence each.
    """

    source: str = field(compare=False)
    parts: tuple[Part, ...]
    loras: tuple[LoraTag, ...] = ()
    notes: tuple[str, ...] = field(default=(), compare=False)

    @property
    def composed(self) -> bool:
        """Whether it is more than one text."""
        return len(self.parts) > 1


def parse_prompt(source: str, *, negative: bool = False) -> Prompt:
    """Parse a prompt.

    Args:
        negative: in a negative prompt AND is a word, as in the web UI.

    Raises:
        PromptError: tags that cannot be read, or brackets beyond all measure; all at once.
    """
    text, loras, problems = take_tags(source)
    parts: list[Part] = []
    pieces = [text] if negative else _AND.split(text)
    for piece in pieces:
        words, weight = _weight(piece) if len(pieces) > 1 else (piece, 1.0)
        try:
            part = Part(parse_nodes(words), weight)
        except TooDeepError:
            what = f"[…] within […] more than {MAX_DEPTH} deep"
            problems.append(Problem(quoted(source), what, "write it flatter"))
            continue
        parts.append(part)
        if not _is_finite(part):
            problems.append(Problem(quoted(source), "its brackets multiply to an infinite weight"))
    if problems:
        raise PromptError(problems)
    return Prompt(source, tuple(parts), tuple(loras), tuple(_notes(parts, loras)))


def _weight(piece: str) -> tuple[str, float]:
    """The text of one of several parts, and the weight after its last colon."""
    text, colon, end = piece.rstrip().rpartition(":")
    match = _WEIGHT.fullmatch(end)
    if not colon or match is None:
        return piece, 1.0
    return text, float(match[1])


def _is_finite(part: Part) -> bool:
    """Whether all weights are numbers, at whatever step: all that may stand there, in one row."""
    row = [node for node in walk(part.nodes) if isinstance(node, Text | Mark)]
    if len(row) < MANY and not any(node.written[0] == ":" for node in row):
        return math.isfinite(part.weight)  # 1.1 to that power is.
    fragments = (fragment for section in weigh_brackets(row) for fragment in section)
    return math.isfinite(part.weight) and all(math.isfinite(each.weight) for each in fragments)


def _notes(parts: Sequence[Part], loras: Sequence[LoraTag]) -> Iterator[str]:
    for edit in (node for part in parts for node in walk(part.nodes)):
        if isinstance(edit, Edit) and edit.when.is_share and float(edit.when.written) > 1.0:
            edit_text = format_nodes((edit,))
            yield (
                f"{edit_text} is prompt editing and changes in a second pass only; "
                "a weight stands in round brackets"
            )
    for tag in loras:
        if tag.ambiguous:
            yield (
                f"<lora:{tag.name}:…>: read as UNet {tag.unet:g} and text encoder "
                f"{tag.text_encoder:g}; some web UIs read the other order, unet= and te= are safer"
            )
