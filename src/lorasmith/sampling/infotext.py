"""The ``parameters`` text that web UIs write into their PNGs, and read back from them.

Three parts, each on lines of its own: the prompt, ``Negative prompt: …``, and one line of
``Key: value`` pairs. A value with a comma, colon or line break is a JSON string.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from lorasmith import __version__
from lorasmith.files import atomic_path
from lorasmith.sampling.generate import PictureRequest
from lorasmith.sampling.samplers import find_sampler

CHUNK = "parameters"
_NEGATIVE = "Negative prompt: "
_PAIR = re.compile(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])*"|[^,]*)(?:,|$)')
# A last line with fewer pairs than this is text, as the web UI has it.
_FEWEST_PAIRS = 3


@dataclass(frozen=True, slots=True)
class Infotext:
    """What made a picture.

    Args:
        settings: ``Steps``, ``Sampler``, ``CFG scale``, ``Seed``, ``Size``, ``Model`` … in order.
    """

    prompt: str
    negative: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)


def describe(
    request: PictureRequest,
    *,
    model: str,
    clip_skip: int = 1,
    lora_hashes: Mapping[str, str] | None = None,
) -> Infotext:
    """What made a picture, under the web UI's names.

    Args:
        request: with the size that the picture has, as in a GeneratedPicture.
        model: the base model's name.
        lora_hashes: of the LoRAs in the prompt, by name; see :func:`.loras.short_hash`.
    """
    settings = {
        "Steps": str(request.steps),
        "Sampler": find_sampler(request.sampler).title,
        "CFG scale": f"{request.cfg:g}",
        "Seed": str(request.seed),
        "Size": f"{request.width}x{request.height}",
        "Model": model,
    }
    if clip_skip != 1:
        settings["Clip skip"] = str(clip_skip)
    if lora_hashes:
        settings["Lora hashes"] = ", ".join(
            f"{name}: {hash_}" for name, hash_ in lora_hashes.items()
        )
    settings["Version"] = f"lorasmith {__version__}"
    return Infotext(request.prompt, request.negative, settings)


def format_infotext(info: Infotext) -> str:
    """The text; :func:`parse_infotext` reads it back."""
    lines = [info.prompt.strip()]
    if info.negative.strip():
        lines.append(_NEGATIVE + info.negative.strip())
    lines.append(", ".join(f"{key}: {_quote(value)}" for key, value in info.settings.items()))
    return "\n".join(lines)


def parse_infotext(text: str) -> Infotext:
    """The parts of a ``parameters`` text of ours or a web UI's; never raises."""
    *lines, last = text.strip().split("\n")
    pairs = _PAIR.findall(last)
    if len(pairs) < _FEWEST_PAIRS:
        lines, pairs = [*lines, last], []
    starts = (i for i, line in enumerate(lines) if line.startswith(_NEGATIVE.rstrip()))
    cut = next(starts, len(lines))
    negative = "\n".join(lines[cut:]).removeprefix(_NEGATIVE.rstrip())
    settings = {key: _unquote(value) for key, value in pairs}
    return Infotext("\n".join(lines[:cut]).strip(), negative.strip(), settings)


def save_picture(path: Path, picture: Image.Image, info: Infotext) -> None:
    """Write a PNG that carries ``info``.

    Raises:
        RunError: the disk is full or the folder cannot be written to.
    """
    chunks = PngInfo()
    # Pillow writes tEXt where Latin-1 suffices and iTXt (UTF-8) where not; web UIs read both.
    chunks.add_text(CHUNK, format_infotext(info))
    with atomic_path(path) as temporary:
        picture.save(temporary, format="PNG", pnginfo=chunks)


def read_infotext(path: Path) -> Infotext | None:
    """What a PNG says about how it was made; ``None`` when it says nothing."""
    with Image.open(path) as picture:
        text = picture.info.get(CHUNK)
    return parse_infotext(text) if isinstance(text, str) else None


def _quote(value: object) -> str:
    text = str(value)
    plain = text == text.strip() and not text.startswith('"') and not re.search(r"[,:\n]", text)
    return text if plain else json.dumps(text, ensure_ascii=False)


def _unquote(value: str) -> str:
    value = value.strip()
    if not value.startswith('"'):
        return value
    try:
        return str(json.loads(value))
    except ValueError:
        return value
