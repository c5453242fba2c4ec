"""The UNet's blocks by name, and a number for each of them in every way that people write it.

Names and the forms of 12, 17, 20 and 26 values are those of hako-mikan's
sd-webui-lora-block-weight; 25 values and the curves (``down=sine+0.2``) are those of sd-scripts'
``network_args``. Torch-free: settings, training and prompts (``lbw=``) read the same texts.

What may be written::

    OUTALL                          a preset, see PRESETS, NONE to ALL0.5; any block's name (OUT05:
                                    that block alone) and NOUT05 (all but that block)
    INX:x=0.3                       a preset with X, and what X stands for
    1,0,0,0,1,1,1,1,1,1,1,1,0,…     one number a block, in one of FORMS
    down=sine+0.2 mid=1 up=cosine   sd-scripts' curves, or its lists of 12 numbers
    rest=0 OUT=1 OUT03-OUT05=0.5    by name: a block, a range, a side, and the rest
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from lorasmith.core.text import did_you_mean, number_hint, quantity

BASE, MIDDLE = "BASE", "M00"
"""The text encoder, and the UNet's middle block."""

SIDE = 12
"""Blocks on the way down of SD1 and SD2, and as many on the way up; SDXL has 9."""

INPUTS = tuple(f"IN{n:02}" for n in range(SIDE))
OUTPUTS = tuple(f"OUT{n:02}" for n in range(SIDE))
UNET_BLOCKS = (*INPUTS, MIDDLE, *OUTPUTS)
BLOCKS = (BASE, *UNET_BLOCKS)

_WITH_ATTENTION = (BASE, *(f"IN{n:02}" for n in (1, 2, 4, 5, 7, 8)), MIDDLE, *OUTPUTS[3:])

FORMS: dict[int, tuple[str, ...]] = {
    12: (BASE, *(f"IN{n:02}" for n in (4, 5, 7, 8)), MIDDLE, *OUTPUTS[:6]),
    17: _WITH_ATTENTION,
    20: (BASE, *INPUTS[:9], MIDDLE, *OUTPUTS[:9]),
    25: UNET_BLOCKS,
    26: BLOCKS,
}
"""By how many values a list has: the blocks that they stand for, in this order.

17 and 26 are for SD1 and SD2 (LoRA; LoCon and all other types), 12 and 20 for SDXL likewise, 25 is
sd-scripts'. Blocks that a form does not name get 0, as in the extension; BASE in the form of 25
gets 1, as in sd-scripts.
"""

FORM_NAMES = (
    "12 values (SDXL: BASE, IN04, IN05, IN07, IN08, M00, OUT00-OUT05), "
    "17 (SD1: BASE, IN01, IN02, IN04, IN05, IN07, IN08, M00, OUT03-OUT11), "
    "20 (SDXL: BASE, IN00-IN08, M00, OUT00-OUT08), "
    "25 (IN00-IN11, M00, OUT00-OUT11) or 26 (the same after BASE)"
)

PRESETS: dict[str, str] = {
    "NONE": "rest=0",
    "ALL": "rest=1",
    "INS": "rest=0 BASE=1 IN00-IN04=1",
    "IND": "rest=0 BASE=1 IN05-IN11=1",
    "INALL": "rest=0 BASE=1 IN=1",
    "MIDD": "rest=0 BASE=1 IN05-OUT06=1",
    "OUTD": "rest=0 BASE=1 OUT00-OUT06=1",
    "OUTS": "rest=0 BASE=1 OUT07-OUT11=1",
    "OUTALL": "rest=0 BASE=1 OUT=1",
    "ALL0.5": "rest=0.5",
    "INX": "rest=1 OUT=X",
    "OUTX": "rest=X OUT=1",
    "LINX": "rest=1 OUT=X",
    "LOUTX": "rest=X OUT=1",
}
"""The extension's presets, and the four that guides add to test one side without the other.

The extension writes them in 17 values; here they are the ranges that those values lie in, so that
blocks between them, which 17 values do not name, go with their neighbours. For a LoRA, which has
nothing there, that is the same.
"""

CURVES: dict[str, Callable[[float], float]] = {
    "sine": lambda t: math.sin(math.pi / 2 * t),
    "cosine": lambda t: math.sin(math.pi / 2 * (1 - t)),
    "linear": lambda t: t,
    "reverse_linear": lambda t: 1 - t,
    "zeros": lambda t: 0.0,
}
"""sd-scripts' words for ``down_lr_weight`` and ``up_lr_weight``, over t from 0 to 1 of a side."""

Special = Callable[[str, str], float]
"""What ``X``, ``R`` or ``U`` (first argument) means for a block (second)."""

_LARGEST = 1e6
_NUMBER = r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:e[+-]?\d+)?"
_SPECIAL = re.compile(r"(?P<letter>[XRU])(?P<offset>[+-]\d[\d.]*)?\Z", re.IGNORECASE)
_PAIR = re.compile(r"(?<!\w)([A-Za-z_]\w*(?:-\w+)?)\s*=")
_SIDES = {
    "down": INPUTS, "down_lr_weight": INPUTS, "mid": (MIDDLE,), "mid_lr_weight": (MIDDLE,),
    "up": OUTPUTS, "up_lr_weight": OUTPUTS,
}  # fmt: skip


def parse(
    value: Any, *, side: int | None = SIDE, special: Special | None = None
) -> dict[str, float]:
    """The weight of every one of :data:`BLOCKS`, from any of the ways above.

    Args:
        value: a text, a list of numbers, or a table by name.
        side: blocks on each side of the model, which curves are stretched over; None while the
            model is not known: lists of a side may then have any length up to 12.
        special: gives ``X``, ``R`` and ``U`` their values; without it they are refused.

    Raises:
        ValueError: says what was expected.
    """
    text = to_text(value)
    name, _, x = text.partition(":")
    if x:
        special = _with_x(x, text)
    preset = PRESETS.get(name.strip().upper())
    if preset is None:
        preset = _single(name.strip().upper())
    if x and "X" not in (preset or name).upper():
        raise ValueError(f"{text!r} has no X that x= could stand for")
    weights = parse_given(preset or name, side=side, special=special, where=text)
    if "rest" in weights:
        rest = weights.pop("rest")
        return {block: weights.get(block, rest) for block in BLOCKS}
    by_name = "=" in (preset or name)
    return {block: weights.get(block, float(by_name or block == BASE)) for block in BLOCKS}


def parse_given(
    value: Any, *, side: int | None = SIDE, special: Special | None = None, where: str = ""
) -> dict[str, float]:
    """Numbers of those blocks alone that ``value`` names, and of ``rest`` where it names that.

    For what has a default of its own elsewhere, such as ranks. Presets are not known here.

    Raises:
        ValueError: says what was expected.
    """
    text = to_text(value)
    where = where or text
    pairs = list(_PAIR.finditer(text))
    if not pairs:
        return _listed(text, special, where)
    if text[: pairs[0].start()].strip(" ,;"):
        raise ValueError(f"{where!r} mixes numbers with names; write one or the other")
    ends = [pair.start() for pair in pairs[1:]] + [len(text)]
    contents = [
        (pair[1], text[pair.end() : end].strip(" ;\t\n"))
        for pair, end in zip(pairs, ends, strict=True)
    ]
    by_block: dict[str, float] = {}
    # The narrower name wins, in whatever order they stand.
    for blocks, numbers in sorted(
        (_pair(key, content, side, special, where) for key, content in contents),
        key=lambda item: -len(item[0]),
    ):
        by_block.update(zip(blocks, numbers, strict=True))
    return by_block


def to_text(value: Any) -> str:
    """One text for a list or a table that says the same.

    Raises:
        ValueError: it is none of the three, or holds something that is no number.
    """
    if isinstance(value, str):
        return value.strip().strip("{}").strip()
    if isinstance(value, Mapping):
        return " ".join(f"{key}={to_text(item)}" for key, item in value.items())
    if isinstance(value, Sequence):
        return ",".join(to_text(item) for item in value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{value!r} is neither a text, nor a list of numbers, nor a table by name")
    if not abs(value) <= _LARGEST:
        raise ValueError(f"{value!r} is too large")
    return format_number(value)


def format_weights(weights: Mapping[str, float]) -> str:
    """The form of 26 values; :func:`parse` reads it back."""
    return ",".join(format_number(weights[block]) for block in BLOCKS)


def format_number(number: float) -> str:
    """The shortest text that reads back as ``number``."""
    return str(int(number)) if number == int(number) and abs(number) < 1e15 else repr(number)


def block_of(path: str, layers_per_block: int = 2, levels: int = 4) -> str:
    """The block that a layer of a UNet belongs to.

    The original code's numbering: IN00 is the first convolution; each level below counts its
    residual blocks, with their transformers, and then what halves; OUT counts likewise, and what
    doubles belongs to the level's last. ``time_embedding``, computed first of all, goes with IN00
    and the last norm and convolution with the last OUT block, so that every layer has a block.

    Args:
        path: diffusers' module path: ``down_blocks.1.attentions.0.proj_in``.
        layers_per_block: as in the UNet's configuration; 2 for SD1, SD2 and SDXL.
        levels: resolutions of the UNet; 4 for SD1 and SD2, 3 for SDXL.
    """
    parts = path.split(".")
    if parts[0] == "mid_block":
        return MIDDLE
    if parts[0] in ("conv_norm_out", "conv_out"):
        return f"OUT{levels * (layers_per_block + 1) - 1:02}"
    if parts[0] not in ("down_blocks", "up_blocks"):
        return INPUTS[0]
    level, kind, place = int(parts[1]), parts[2], int(parts[3])
    if parts[0] == "down_blocks":
        place = layers_per_block if kind == "downsamplers" else place
        return f"IN{1 + level * (layers_per_block + 1) + place:02}"
    place = layers_per_block if kind == "upsamplers" else place
    return f"OUT{level * (layers_per_block + 1) + place:02}"


class _Layer(Protocol):
    @property
    def part(self) -> str: ...
    @property
    def path(self) -> str: ...


@dataclass(frozen=True, slots=True)
class BlockMap:
    """How a denoiser is divided into the blocks that people weigh.

    Args:
        inputs, outputs: how many IN and OUT blocks it has; a sd-scripts curve runs over each side.
        of_path: the block of a module's path in the denoiser.
        middle: whether it has M00.
    """

    inputs: int
    outputs: int
    of_path: Callable[[str], str]
    middle: bool = True

    @property
    def side(self) -> int:
        """Blocks of the longer side."""
        return max(self.inputs, self.outputs)

    @property
    def names(self) -> tuple[str, ...]:
        """BASE and the denoiser's blocks, in the order in which they run."""
        middle = (MIDDLE,) if self.middle else ()
        return (BASE, *INPUTS[: self.inputs], *middle, *OUTPUTS[: self.outputs])

    def ranges(self, blocks: Collection[str]) -> str:
        """Names for a person: "IN01-IN08, M00"; BASE is not said, for it is the text encoder."""
        runs: list[list[str]] = []
        previous = -2
        for place, name in enumerate(self.names):
            if name not in blocks or name == BASE:
                continue
            if place == previous + 1 and name[:2] == runs[-1][0][:2]:
                runs[-1][1:] = [name]
            else:
                runs.append([name])
            previous = place
        return ", ".join("-".join(run) for run in runs)

    def block(self, layer: _Layer) -> str:
        """The block of a layer; the text encoder is BASE."""
        return self.of_path(layer.path) if layer.part == "unet" else BASE


def unet_block_map(levels: int = 4, layers_per_block: int = 2) -> BlockMap:
    """That of a UNet, by its configuration: SD1's and SD2's unless said otherwise."""
    side = levels * (layers_per_block + 1)
    of_path = partial(block_of, layers_per_block=layers_per_block, levels=levels)
    return BlockMap(side, side, of_path)


def learning_weights(
    value: Any, *, side: int | None = SIDE, threshold: float = 0.0
) -> dict[str, float]:
    """:func:`parse` for training, where a weight multiplies a learning rate.

    Args:
        threshold: weights at or below it count as 0; sd-scripts' ``block_lr_zero_threshold``.

    Raises:
        ValueError: as :func:`parse`, and where a weight is negative.
    """
    weights = parse(value, side=side)
    negative = [block for block, weight in weights.items() if weight < 0]
    if negative:
        raise ValueError(
            f"{negative[0]} is {weights[negative[0]]:g}; a learning rate cannot be multiplied by "
            "a negative number. 0 leaves a block out"
        )
    return {block: 0.0 if weight <= threshold else weight for block, weight in weights.items()}


def sizes(value: Any, *, whole: bool) -> dict[str, float]:
    """Ranks or alphas of those blocks that ``value`` names, ``rest`` filled in.

    Args:
        value: a list in one of :data:`FORMS`, or a table by name.
        whole: ranks: whole numbers.

    Raises:
        ValueError: as :func:`parse_given`, and for what cannot be a rank or an alpha.
    """
    by_block = parse_given(value) if value else {}
    if "rest" in by_block:
        rest = by_block.pop("rest")
        by_block = {block: by_block.get(block, rest) for block in BLOCKS}
    for block, size in by_block.items():
        if size < 0 or (whole and size != int(size)):
            kind = "a rank: a whole number, 0 to leave the block out" if whole else "an alpha"
            raise ValueError(f"{block} is {size:g}, which is not {kind}")
    return by_block


def _with_x(text: str, where: str) -> Special:
    """What X is, from ``x=0.3`` after a preset."""
    key, equals, number = text.partition("=")
    if key.strip().lower() != "x" or not equals:
        raise ValueError(f"{where!r}: after the colon stands x=NUMBER")
    x = _number(number, None, "", where)

    def special(letter: str, block: str) -> float:
        if letter != "X":
            raise ValueError(_refused(letter, where))
        return x

    return special


def _single(name: str) -> str | None:
    """The presets of one block: its name, or N and its name; MID is M00."""
    for prefix, rest, weight in (("", 0, 1), ("N", 1, 0)):
        block = name.removeprefix(prefix)
        block = MIDDLE if block == "MID" else block
        if name.startswith(prefix) and block in BLOCKS:
            return f"rest={rest} {block}={weight}"
    return None


def _listed(text: str, special: Special | None, where: str) -> dict[str, float]:
    items = [item.strip() for item in text.strip("[]() ").split(",")]
    if len(items) == 1 and not re.fullmatch(_NUMBER, items[0], re.IGNORECASE):
        names = [*PRESETS, *BLOCKS]
        hint = did_you_mean(text.upper(), names, f"presets: {', '.join(PRESETS)}", most=3)
        raise ValueError(f"{where!r} is neither a preset nor a block; {hint}")
    if len(items) not in FORMS:
        count = quantity(len(items), "value")
        raise ValueError(f"{count} given; expected {FORM_NAMES}")
    blocks = FORMS[len(items)]
    return {
        block: _number(item, special, block, where)
        for block, item in zip(blocks, items, strict=True)
    }


def _pair(
    key: str, content: str, side: int | None, special: Special | None, where: str
) -> tuple[Sequence[str], list[float]]:
    """The blocks that ``key`` names, and their numbers."""
    if key.lower() in _SIDES:
        numbers = _side_numbers(key, content, side, special, where)
        return _SIDES[key.lower()][: len(numbers)], numbers
    blocks = _named(key, where)
    number = content.rstrip(", ")
    return blocks, [_number(number, special, block, where) for block in blocks]


def _side_numbers(
    key: str, content: str, side: int | None, special: Special | None, where: str
) -> list[float]:
    blocks = _SIDES[key.lower()][:side]
    word, plus, offset = content.partition("+")
    curve = CURVES.get(word.strip().lower())
    if curve is not None and len(blocks) > 1:
        base = _number(offset, None, "", where) if plus else 0.0
        return [curve(n / (len(blocks) - 1)) + base for n in range(len(blocks))]
    items = [item.strip() for item in content.strip("[]() ").split(",")]
    if len(items) in (2, len(blocks) + 1) and not items[-1]:
        del items[-1]  # The comma before the next name.
    if len(items) == 1:
        items = items * len(blocks)
    elif side is None:
        blocks = blocks[: len(items)]
    if len(items) != len(blocks):
        ends = f"{blocks[0]} to {blocks[-1]}"
        raise ValueError(
            f"{key} has {quantity(len(items), 'value')}; expected {len(blocks)} ({ends})"
        )
    try:
        # sd-scripts takes an empty place for 0.
        pairs = zip(items, blocks, strict=True)
        return [_number(item or "0", special, block, where) for item, block in pairs]
    except ValueError as error:
        curves = f"a side is {len(blocks)} numbers or one of {', '.join(CURVES)}"
        raise ValueError(f"{error}; {curves}, with +NUMBER if wanted") from None


def _named(key: str, where: str) -> Sequence[str]:
    """The blocks of a name, a side, a range, or ``rest``."""
    name = key.upper()
    groups: dict[str, Sequence[str]] = {
        "IN": INPUTS, "OUT": OUTPUTS, "MID": (MIDDLE,), "REST": ("rest",),
    }  # fmt: skip
    if name in groups:
        return groups[name]
    if name in BLOCKS:
        return (name,)
    ends = [MIDDLE if end == "MID" else end for end in name.split("-")]
    if len(ends) == 2 and all(end in BLOCKS for end in ends):
        first, last = sorted(BLOCKS.index(end) for end in ends)
        return BLOCKS[first : last + 1]
    hint = did_you_mean(name, {each: each.replace("REST", "rest") for each in (*BLOCKS, *groups)})
    there = (
        "There are BASE, IN00-IN11, M00, OUT00-OUT11, "
        "ranges such as IN05-OUT03, the sides IN and OUT, and rest"
    )
    raise ValueError(f"{key} in {where!r} is no block; {f'{hint} {there}'.lstrip()}")


def _number(text: str, special: Special | None, block: str, where: str) -> float:
    text = text.strip()
    match = _SPECIAL.match(text)
    if match is not None:
        letter = match["letter"].upper()
        if special is None:
            raise ValueError(_refused(letter, where))
        return special(letter, block) + _plain(match["offset"] or "0", where)
    return _plain(text, where)


def _plain(text: str, where: str) -> float:
    if not re.fullmatch(_NUMBER, text, re.IGNORECASE):
        hint = number_hint(text)
        raise ValueError(f"{text!r} in {where!r} is not a number" + (f"; {hint}" if hint else ""))
    number = float(text)
    if not abs(number) <= _LARGEST:
        raise ValueError(f"{text} in {where!r} is too large")
    return number


def _refused(letter: str, where: str) -> str:
    meaning = {
        "X": "X stands for a number given when pictures are made; write it as in INX:x=0.3",
        "R": "R stands for a random number from 0 to 1 when pictures are made",
        "U": "U stands for a random number from -1.5 to 1.5 when pictures are made",
    }
    hint = "" if letter == "X" else "; write the number itself"
    return f"{where!r} holds {letter}: {meaning[letter]}{hint}"
