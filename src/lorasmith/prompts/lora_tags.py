"""The ``<lora:…>`` tags of a prompt. Torch-free.

====================================  ============================================================
``<lora:NAME:0.8>``                   0.8 on the UNet and on the text encoder
``<lora:NAME:0.8:0.5>``               0.8 on the UNet, 0.5 on the text encoder
``<lora:NAME:unet=1:te=0>``           the same by name, in any order
``<lora:NAME:1:lbw=OUTALL>``          by block: what :mod:`lorasmith.formats.block_weights` reads
``<lora:NAME:1:lbw=INX:x=0.5>``       a preset with X, and what X stands for (1 if not said)
``<lora:NAME:1:OUTX:0.5>``            the same as it was written before web UI 1.5
``<lora:NAME:1:stop=10>``             off after 10 steps; ``start=``, ``step=5-10``; 0.5 is half
====================================  ============================================================

``lbw=``, ``x=``, ``start=``, ``stop=`` and ``step=`` are sd-webui-lora-block-weight's; ``lwb=`` is
read too, for guides write it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from lorasmith.core.errors import Problem
from lorasmith.core.text import did_you_mean, number_hint
from lorasmith.formats import block_weights
from lorasmith.prompts.schedule import ALWAYS, StepMark, StepRange

_TAG = re.compile(r"<([A-Za-z]\w*):([^<>]*)>")
_LORA_KINDS = ("lora", "lyco")
_KEYS = ("unet", "te", "lbw", "lwb", "x", "start", "stop", "step")
# Nothing means anything far below this; products of what is within stay numbers.
MAX_STRENGTH = 1e6
_STEPS = "write a number of steps, 10, or a share of them, 0.5"


@dataclass(frozen=True, slots=True)
class LoraTag:
    """``<lora:NAME:unet:te>``.

    Args:
        name: as written; a file name with or without its extension.
        unet, text_encoder: strengths, 1 = as trained.
        ambiguous: both strengths were given by position and differ: web UIs read either order.
        source: the tag as written.
        block_weights: what follows ``lbw=`` (or ``lwb=``), with the value of its ``x=``.
        steps: when the UNet has it; the text encoder reads the prompt once, and so has it always.
    """

    name: str
    unet: float = 1.0
    text_encoder: float = 1.0
    ambiguous: bool = False
    source: str = field(default="", compare=False)
    block_weights: str | None = None
    block_x: float | None = None
    steps: StepRange = ALWAYS

    @property
    def blocks(self) -> dict[str, float] | None:
        """The weight of each of :data:`lorasmith.formats.block_weights.BLOCKS`, if any are given.

        Raises:
            ValueError: they cannot be read; says what was expected.
        """
        if self.block_weights is None:
            return None
        x = 1.0 if self.block_x is None else self.block_x

        def special(letter: str, block: str) -> float:
            if letter == "X":
                return x
            raise ValueError(f"{letter} stands for a random number; write the number itself")

        return block_weights.parse(self.block_weights, special=special)


def format_tag(tag: LoraTag) -> str:
    """The tag, with its strengths by name where a web UI might take one for the other."""
    parts = [tag.name, f"{tag.unet!r}"]
    if tag.ambiguous:
        parts.append(f"{tag.text_encoder!r}")
    elif tag.text_encoder != tag.unet:
        parts[1:] = [f"unet={tag.unet!r}", f"te={tag.text_encoder!r}"]
    keyword_arguments = {
        "lbw": tag.block_weights,
        "x": None if tag.block_x is None else repr(tag.block_x),
        "start": tag.steps.start and tag.steps.start.written,
        "stop": tag.steps.stop and tag.steps.stop.written,
    }
    parts += [f"{key}={value}" for key, value in keyword_arguments.items() if value is not None]
    return f"<lora:{':'.join(parts)}>"


def take_tags(source: str) -> tuple[str, list[LoraTag], list[Problem]]:
    """The text without its ``<kind:…>`` tags, what the tags say, and what is wrong with them."""
    loras: list[LoraTag] = []
    problems: list[Problem] = []
    for match in _TAG.finditer(source):
        reader = _TagReader(match[0], match.start())
        kind = match[1].lower()
        if kind in _LORA_KINDS:
            tag = reader.lora(match[2].split(":"))
            if tag.name in {other.name for other in loras}:
                reader.complain("this LoRA is named twice", "write one tag with one strength")
            loras.append(tag)
        elif kind == "hypernet":
            reader.complain("hypernetworks are not supported", "take the tag out")
        else:
            reader.complain(f'unknown tag "{match[1]}"', "only <lora:NAME:STRENGTH> is known")
        problems += reader.problems
    return _TAG.sub("", source), loras, problems


class _TagReader:
    """Reads one tag, and notes what is wrong with it."""

    def __init__(self, source: str, start: int) -> None:
        self._source = source
        self._where = f"{source} at character {start + 1}"
        self.problems: list[Problem] = []

    def complain(self, what: str, hint: str) -> None:
        self.problems.append(Problem(self._where, what, hint))

    def lora(self, arguments: list[str]) -> LoraTag:
        name = arguments[0].strip()
        if not name:
            self.complain("the LoRA has no name", "write <lora:NAME:STRENGTH>")
        positional = [part.strip() for part in arguments[1:] if "=" not in part]
        keywords = dict(self._named(arguments[1:]))
        blocks, x = keywords.get("lbw", keywords.get("lwb")), keywords.get("x")
        if blocks is None and len(positional) > 1 and _names_blocks(positional[1]):
            blocks, x = positional[1], positional[2] if len(positional) > 2 else x
            positional = positional[:1]
        elif len(positional) > 2:
            self.complain(f"{len(positional)} strengths", "write at most two: UNet, text encoder")
        first = self._number(positional[0]) if positional else 1.0
        second = self._number(positional[1]) if len(positional) > 1 else first
        tag = LoraTag(
            name,
            self._number(keywords["unet"]) if "unet" in keywords else first,
            self._number(keywords["te"]) if "te" in keywords else second,
            ambiguous=not {"unet", "te"} & keywords.keys() and first != second,
            source=self._source,
            block_weights=blocks,
            block_x=None if x is None else self._number(x),
            steps=self._steps(keywords),
        )
        try:
            _ = tag.blocks
        except ValueError as error:
            self.complain("block weights: " + str(error), "")
        return tag

    def _named(self, arguments: list[str]) -> Iterator[tuple[str, str]]:
        for argument in arguments:
            key, equals, value = argument.partition("=")
            key = key.strip().lower()
            if equals and key in _KEYS:
                yield key, value.strip()
            elif equals:
                hint = did_you_mean(key, _KEYS, "unet= and te= are known", form="{}=")
                self.complain(f'unknown argument "{key}="', hint)

    def _number(self, text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if abs(value) <= MAX_STRENGTH:
            return value
        what = "is not a number" if math.isnan(value) else "is out of range"
        self.complain(f'the strength "{text}" {what}', number_hint(text) or "write one like 0.8")
        return 1.0

    def _steps(self, keywords: dict[str, str]) -> StepRange:
        if "step" in keywords:
            first, dash, last = keywords["step"].partition("-")
            if not dash:
                self.complain(f'step="{keywords["step"]}" is no range', "write it as step=5-10")
            start, stop = self._when(first), self._when(last)
            return StepRange(start, stop)
        start, stop = (self._when(keywords.get(key, "")) for key in ("start", "stop"))
        return StepRange(start, stop)

    def _when(self, text: str) -> StepMark | None:
        when = StepMark.parse(text)
        if text.strip() and when is None:
            self.complain(f'"{text}" is no step', _STEPS)
        return when


def _names_blocks(argument: str) -> bool:
    return argument[:1].isalpha() or "," in argument
