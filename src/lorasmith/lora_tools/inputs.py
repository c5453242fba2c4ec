"""Which LoRA at which strength: how the file tools are told. Torch-free.

``style.safetensors:0.8`` is both parts at 0.8; ``a.safetensors:0.8:0.5`` the UNet at 0.8 and the
text encoders at 0.5, which ``a.safetensors:unet=0.8:te=0.5`` says as well;
``a.safetensors:0.8:lbw=OUTALL`` multiplies by the numbers of the blocks, in any of the ways of
:mod:`lorasmith.formats.block_weights`, ``lbw=INX:x=0.3`` with what X stands for.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lorasmith.core.errors import UserError, collect_each
from lorasmith.core.text import number_hint
from lorasmith.formats.block_weights import parse

_SPEC = re.compile(r"(?P<name>unet|te|lbw|x)=(?P<value>.*)|(?P<number>[+-]?[\d.][\d.eE+-]*)", re.I)
_NAMES = {"unet": "unet", "te": "text_encoder"}


@dataclass(frozen=True, slots=True)
class LoraSource:
    """A LoRA file and its strengths.

    Args:
        unet, text_encoder: of the two parts; both text encoders of SDXL have the latter.
        blocks: what multiplies the strength in each of :data:`block_weights.BLOCKS`; 1 for None.
    """

    path: Path
    unet: float = 1.0
    text_encoder: float = 1.0
    blocks: Mapping[str, float] | None = None

    def weight(self, part: str, block: str) -> float:
        """The strength of a module of "unet", "text_encoder" or "text_encoder_2"."""
        strength = self.unet if part == "unet" else self.text_encoder
        return strength if self.blocks is None else strength * self.blocks[block]

    @property
    def text(self) -> str:
        """For people: ``style (0.8)``, ``style (unet 0.8, te 0.5, by block)``."""
        same = self.unet == self.text_encoder
        strengths = f"{self.unet:g}" if same else f"unet {self.unet:g}, te {self.text_encoder:g}"
        return f"{self.path.stem} ({strengths}{', by block' * (self.blocks is not None)})"


Sources = (
    str | Path | Mapping[str, float] | Mapping[Path, float] | Mapping[str | Path, float]
    | Sequence[str | Path | tuple[str | Path, float] | LoraSource]
)  # fmt: skip
"""LoRAs and their strengths: ``{path: strength}``, or a list of files, of ``(path, strength)`` and
of texts as the command line takes them, ``"a.safetensors:0.8:lbw=OUTALL"``; or one of these."""


def parse_sources(loras: Sources) -> list[LoraSource]:
    """Every one of them.

    Raises:
        UserError: one is not written as above; all problems.
    """
    if isinstance(loras, str | Path):
        loras = [loras]
    return collect_each(_source, loras.items() if isinstance(loras, Mapping) else loras)


def _source(lora: str | Path | tuple[str | Path, float] | LoraSource) -> LoraSource:
    if isinstance(lora, LoraSource):
        return lora
    if isinstance(lora, str):
        return parse_source(lora)
    path, strength = (lora, 1.0) if isinstance(lora, Path) else lora
    number = _number(str(path), str(strength))
    return LoraSource(Path(path), number, number)


def parse_source(text: str) -> LoraSource:
    """
    Raises:
        UserError: it is not written as above, or a number is not finite, or what follows a file
            that is there is nothing of the kind.
    """
    path, specs = split_source(text)
    strengths: dict[str, float] = {}
    numbers: list[float] = []
    blocks: str | None = None
    for spec in specs:
        match = _SPEC.fullmatch(spec)
        assert match is not None
        name = (match["name"] or "").lower()
        if name in _NAMES:
            if _NAMES[name] in strengths:
                raise _twice(text)
            strengths[_NAMES[name]] = _number(text, match["value"])
        elif name == "lbw":
            if blocks is not None:
                raise UserError.of(text, "says lbw= twice", "choose one of the two")
            blocks = match["value"]
        elif name == "x" and blocks is not None:
            blocks = f"{blocks}:x={match['value']}"
        elif name == "x":
            raise UserError.of(text, "x= stands without lbw=", "write lbw=INX:x=0.3")
        else:
            numbers.append(_number(text, match["number"]))
    if len(numbers) > 2 or (numbers and strengths):
        raise _twice(text)
    if numbers:
        strengths = {"unet": numbers[0], "text_encoder": numbers[-1]}
    return LoraSource(path, **strengths, blocks=None if blocks is None else _blocks(text, blocks))


def split_source(text: str, is_file: Callable[[str], bool] | None = None) -> tuple[Path, list[str]]:
    """The path, which may hold colons itself, and what follows it.

    Args:
        is_file: whether there is a file of this name; the system is asked where it is ``None``.

    Raises:
        UserError: it names no file, or what follows a file that is there is no strength.
    """
    is_file = is_file or _is_file
    head, specs = text, list[str]()
    while ":" in head:
        before, _, last = head.rpartition(":")
        if not _SPEC.fullmatch(last):
            hint = number_hint(last)
            if (is_file(before) or hint) and not is_file(head):
                hint = hint or "choose a number such as 0.8"
                raise UserError.of(text, f"{last!r} is no strength", hint)
            break
        head = before
        specs.insert(0, last)
    if not head.strip():
        raise UserError.of(text, "names no file", "write FILE:0.8")
    return Path(head), specs


def _is_file(name: str) -> bool:
    try:
        return Path(name).is_file()
    except (OSError, ValueError):
        return False


def _twice(text: str) -> UserError:
    what = "says a strength more than once"
    return UserError.of(text, what, "write FILE:0.8, FILE:0.8:0.5 or FILE:unet=0.8:te=0.5")


def _number(text: str, value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not abs(number) <= 1e6:
        hint = number_hint(value) or "choose a number such as 0.8"
        raise UserError.of(text, f"{value!r} is no strength", hint)
    return number


def _blocks(text: str, value: str) -> dict[str, float]:
    try:
        return parse(value)
    except ValueError as error:
        raise UserError.of(text, str(error), "write it as lbw=OUTALL or lbw=1,0,0,…") from error
