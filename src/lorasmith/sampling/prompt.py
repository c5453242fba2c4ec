r"""The prompt language of the Stable Diffusion web UI (A1111), as a plain data structure.

==========================  ====================================================================
``(word)``                  weight 1.1; brackets nest and multiply
``[word]``                  weight 1 / 1.1
``(word:1.3)``              weight 1.3
``\(``, ``\)``, ``\[`` …    the bracket itself; ``\\`` is a backslash
``BREAK``                   the rest goes into a new chunk of 75 tokens
``<lora:NAME:0.8>``         a LoRA at strength 0.8 on the UNet and on the text encoder
``<lora:NAME:0.8:0.5>``     0.8 on the UNet, 0.5 on the text encoder
``<lora:NAME:unet=1:te=0>`` the same by name, in any order
==========================  ====================================================================

A bracket without its partner behaves as in the web UI: an open one weighs everything up to the
end, a closing one is text. Only a tag can be wrong.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from difflib import get_close_matches

from lorasmith.errors import Problem, PromptError

ROUND_BRACKET_WEIGHT = 1.1
SQUARE_BRACKET_WEIGHT = 1 / 1.1

_TAG = re.compile(r"<([A-Za-z]\w*):([^<>]*)>")
_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)"
_TOKEN = re.compile(
    rf"\\(?P<escaped>[\\()\[\]]?)"
    rf"|:\s*(?P<weight>{_NUMBER})\s*\)"
    rf"|(?P<bracket>[()\[\]])"
    rf"|(?P<text>[^\\()\[\]:]+|:)",
    re.ASCII,
)
_BREAK = re.compile(r"\s*\bBREAK\b\s*")
_EDITING = re.compile(rf"(?<!\\)\[[^\[\]]*:\s*{_NUMBER}\s*\]", re.ASCII)
_ALTERNATION = re.compile(r"(?<!\\)\[[^\[\]]*\|[^\[\]]*\]")
_LORA_KINDS = ("lora", "lyco")
_LORA_KEYS = ("unet", "te", "lbw", "lwb", "x")


@dataclass(frozen=True, slots=True)
class Fragment:
    """A run of text that has one weight."""

    text: str
    weight: float


@dataclass(frozen=True, slots=True)
class LoraTag:
    """``<lora:NAME:unet:te>``.

    Args:
        name: as written; a file name with or without its extension.
        unet, text_encoder: strengths, 1 = as trained.
        ambiguous: both strengths were given by position and differ: web UIs read either order.
        source: the tag as written.
        block_weights: what follows ``lbw=`` (or ``lwb=``), with the value of its ``x=``.
    """

    name: str
    unet: float = 1.0
    text_encoder: float = 1.0
    ambiguous: bool = False
    source: str = field(default="", compare=False)
    block_weights: str | None = None
    block_x: float | None = None


@dataclass(frozen=True, slots=True)
class Prompt:
    """A parsed prompt.

    Args:
        source: what was parsed.
        sections: the text between BREAKs, at least one; each a run of fragments, maybe none.
        loras: in the order written.
        notes: what the user probably meant otherwise, one sentence each.
    """

    source: str
    sections: tuple[tuple[Fragment, ...], ...]
    loras: tuple[LoraTag, ...] = ()
    notes: tuple[str, ...] = ()


def parse_prompt(source: str) -> Prompt:
    """Parse a prompt.

    Raises:
        PromptError: tags that cannot be read, or a weight beyond all numbers; all at once.
    """
    text, loras, problems = _take_tags(source)
    sections = _sections(_weighted(text))
    if any(not math.isfinite(f.weight) for section in sections for f in section):
        problems.append(Problem(_quoted(source), "its brackets multiply to an infinite weight"))
    if problems:
        raise PromptError(problems)
    return Prompt(source, sections, tuple(loras), tuple(_notes(text, loras)))


def _quoted(text: str) -> str:
    return f'"{text}"' if len(text) <= 60 else f'"{text[:57]}..."'


def _take_tags(source: str) -> tuple[str, list[LoraTag], list[Problem]]:
    """The text without its ``<kind:…>`` tags, and what the tags say."""
    loras: list[LoraTag] = []
    problems: list[Problem] = []
    for match in _TAG.finditer(source):
        kind, arguments = match[1].lower(), match[2].split(":")
        if kind in _LORA_KINDS:
            tag = _lora_tag(match[0], arguments, problems)
            if tag.name in {other.name for other in loras}:
                problems.append(
                    Problem(match[0], "this LoRA is named twice", "write one tag with one strength")
                )
            loras.append(tag)
        else:
            problems.append(
                Problem(match[0], f'unknown tag "{match[1]}"', "only <lora:NAME:STRENGTH> is known")
            )
    return _TAG.sub("", source), loras, problems


def _lora_tag(where: str, arguments: list[str], problems: list[Problem]) -> LoraTag:
    name = arguments[0].strip()
    if not name:
        problems.append(Problem(where, "the LoRA has no name", "write <lora:NAME:STRENGTH>"))
    positional = [part.strip() for part in arguments[1:] if "=" not in part]
    named = dict(_named(where, arguments[1:], problems))
    blocks = named.get("lbw", named.get("lwb"))
    if blocks is None and len(positional) > 1 and positional[1][:1].isalpha():
        # What the block weight extension read before web UI 1.5: <lora:NAME:1:OUTX:0.5>.
        blocks = positional[1]
    elif len(positional) > 2:
        problems.append(
            Problem(where, f"{len(positional)} strengths", "write at most two: UNet, text encoder")
        )
    if blocks is not None:
        positional = positional[:1]
    both = _strength(where, positional[0], problems) if positional else 1.0
    second = _strength(where, positional[1], problems) if len(positional) > 1 else both
    unet = _strength(where, named["unet"], problems) if "unet" in named else both
    te = _strength(where, named["te"], problems) if "te" in named else second
    return LoraTag(
        name,
        unet,
        te,
        ambiguous=not {"unet", "te"} & named.keys() and both != second,
        source=where,
        block_weights=blocks,
        block_x=_strength(where, named["x"], problems) if "x" in named else None,
    )


def _named(where: str, arguments: list[str], problems: list[Problem]) -> Iterator[tuple[str, str]]:
    for argument in arguments:
        key, equals, value = argument.partition("=")
        key = key.strip().lower()
        if equals and key in _LORA_KEYS:
            yield key, value.strip()
        elif equals:
            nearest = get_close_matches(key, _LORA_KEYS, n=1)
            known = "did you mean {}=?".format(*nearest) if nearest else "unet= and te= are known"
            problems.append(Problem(where, f'unknown argument "{key}="', known))


def _strength(where: str, text: str, problems: list[Problem]) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if math.isfinite(value):
        return value
    problems.append(Problem(where, f'the strength "{text}" is not a number', "write one like 0.8"))
    return 1.0


def _weighted(text: str) -> list[tuple[str | None, float]]:
    """Runs of text with their weights, in order; ``None`` for BREAK."""
    runs: list[tuple[str | None, float]] = []
    # Where each open bracket began; the two kinds close independently of each other.
    opened: dict[str, list[int]] = {"(": [], "[": []}

    def close(start: int, weight: float) -> None:
        runs[start:] = [(run, own * weight) for run, own in runs[start:]]

    for match in _TOKEN.finditer(text):
        if match["bracket"] in opened:
            opened[match["bracket"]].append(len(runs))
        elif match["weight"] and opened["("]:
            close(opened["("].pop(), float(match["weight"]))
        elif match["bracket"] == ")" and opened["("]:
            close(opened["("].pop(), ROUND_BRACKET_WEIGHT)
        elif match["bracket"] == "]" and opened["["]:
            close(opened["["].pop(), SQUARE_BRACKET_WEIGHT)
        elif match["escaped"] is not None:
            runs.append((match["escaped"], 1.0))
        else:
            first, *rest = _BREAK.split(match[0])
            runs.append((first, 1.0))
            for part in rest:
                runs += [(None, 1.0), (part, 1.0)]
    for start in opened["("]:
        close(start, ROUND_BRACKET_WEIGHT)
    for start in opened["["]:
        close(start, SQUARE_BRACKET_WEIGHT)
    return runs


def _sections(runs: list[tuple[str | None, float]]) -> tuple[tuple[Fragment, ...], ...]:
    """Neighbours of equal weight joined, cut at each BREAK."""
    sections: list[list[Fragment]] = [[]]
    for text, weight in runs:
        section = sections[-1]
        if text is None:
            sections.append([])
        elif text and section and section[-1].weight == weight:
            section[-1] = Fragment(section[-1].text + text, weight)
        elif text:
            section.append(Fragment(text, weight))
    return tuple(tuple(section) for section in sections)


def _notes(text: str, loras: list[LoraTag]) -> Iterator[str]:
    for pattern, meaning in (
        (_EDITING, "is prompt editing in the web UI; here it is text of weight 1/1.1"),
        (_ALTERNATION, "is alternation in the web UI; here it is text of weight 1/1.1"),
    ):
        for match in pattern.finditer(text):
            yield f"{match[0]} {meaning}"
    if re.search(r"\bAND\b", text):
        yield 'AND joins two prompts in the web UI; here it is the word "and"'
    for tag in loras:
        if tag.ambiguous:
            yield (
                f"<lora:{tag.name}:…>: read as UNet {tag.unet:g} and text encoder "
                f"{tag.text_encoder:g}; some web UIs read the other order, unet= and te= are safer"
            )
