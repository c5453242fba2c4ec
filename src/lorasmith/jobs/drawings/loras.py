"""The LoRA files that prompts can name, as cards: name, preview, and what their headers say."""

from __future__ import annotations

import functools
import json
from pathlib import Path

from pydantic import BaseModel

from lorasmith.core.errors import UserError
from lorasmith.core.files import (
    files_below,
    parse_json,
    read_safetensors_header,
    version_of,
    write_bytes,
)
from lorasmith.data.images import DECODER_ERRORS, open_image
from lorasmith.formats.run_paths import is_state_file

PREVIEWS = (".png", ".preview.png", ".jpg", ".jpeg", ".webp")
"""What web UIs put behind a LoRA's name for its preview, in the order in which they look."""
_MOST_CARD = 1 << 20


class LoraCard(BaseModel):
    """
    Args:
        name: what a prompt calls it: ``<lora:NAME:1>``.
        preview, preview_version: a picture beside it; "" without one.
        changed: Unix time, s.
        base: of the model it was trained on, as its header says.
        trigger: the words that call what it learned.
        strength: at which its card says it is used best.
    """

    name: str
    path: str
    preview: str = ""
    preview_version: str = ""
    file_bytes: int
    changed: float
    base: str = ""
    trigger: str = ""
    negative: str = ""
    strength: float | None = None


class LoraCards(BaseModel):
    folder: str
    loras: list[LoraCard]


def lora_cards(folder: Path) -> LoraCards:
    """All in a folder and its sub-folders, by name, but training states and what is hidden, such as
    latents of a dataset."""
    files = [path for path in files_below(folder, {".safetensors"}) if not is_state_file(path)]
    stems: dict[str, int] = {}
    for path in files:
        stems[path.stem] = stems.get(path.stem, 0) + 1
    cards = []
    for path in files:
        below = str(path.relative_to(folder).with_suffix(""))
        name = path.stem if stems[path.stem] == 1 else below
        try:
            state = path.stat()
        except OSError:  # A training has just put another in its place.
            continue
        said = _said(path, state.st_size, state.st_mtime_ns)
        if said is None:
            continue
        preview = preview_of(path)
        base, trigger = said
        cards.append(
            LoraCard(
                name=name,
                path=str(path),
                preview=str(preview or ""),
                preview_version=version_of(preview) if preview is not None else "",
                file_bytes=state.st_size,
                changed=state.st_mtime,
                base=base,
                **({"trigger": trigger} | _card(path)),
            )
        )
    return LoraCards(folder=str(folder), loras=cards)


def require_lora(path: Path) -> None:
    """
    Raises:
        UserError: by its name it is no LoRA file, or it is not there.
    """
    if path.suffix.lower() != ".safetensors" or not path.is_file():
        raise UserError.of(path, "is no LoRA file", "choose one that ends with .safetensors")


def preview_of(lora: Path) -> Path | None:
    """The picture that web UIs show for a file: the first of :data:`PREVIEWS` that is there."""
    return next((path for end in PREVIEWS if (path := lora.with_suffix(end)).is_file()), None)


def copy_preview(lora: Path, new: Path) -> None:
    """Give a file that was made of a LoRA the preview of that, if it has one and the file none.

    Raises:
        WriteError: it cannot be written.
    """
    preview = preview_of(lora)
    if preview is not None and preview_of(new) is None:
        ending = preview.name.removeprefix(lora.stem)
        write_bytes(new.with_suffix(ending), preview.read_bytes())


def set_preview(lora: Path, picture: Path) -> Path:
    """Put a picture beside a LoRA as its preview, ``NAME.png``, with all that it says of itself;
    returns the file.

    Raises:
        UserError: the one is no LoRA file, or the other no PNG.
        WriteError: the file cannot be written.
    """
    require_lora(lora)
    try:
        with open_image(picture) as image:
            is_png = image.format == "PNG"
        data = picture.read_bytes()
    except DECODER_ERRORS as error:
        raise UserError.of(picture, "cannot be read as a picture", "choose a PNG") from error
    if not is_png:
        raise UserError.of(picture, "is no PNG", "choose a picture that was drawn here")
    place = lora.with_suffix(".png")
    write_bytes(place, data)
    return place


@functools.lru_cache(4096)
def _said(path: Path, size: int, changed: int) -> tuple[str, str] | None:
    """Base model and trigger of a file, which is read again when it has changed; ``None`` of what
    is no LoRA, such as a base model beside them."""
    try:
        header = read_safetensors_header(path)
    except (ValueError, OSError):
        return "", ""
    said = header.metadata
    tensors = header.tensors
    if any(name.startswith("model.diffusion_model.") for name in tensors):
        return None
    base = said.get("ss_base_model_version") or said.get("modelspec.architecture", "")
    return _plain(base, 200), _plain(said.get("modelspec.trigger_phrase", ""))


def _card(path: Path) -> dict[str, str | float]:
    """What A1111's card of a LoRA, ``NAME.json``, says."""
    place = path.with_suffix(".json")
    try:
        if place.stat().st_size > _MOST_CARD:
            return {}
        values = parse_json(place.read_text(encoding="utf-8"))
    except (OSError, ValueError, json.JSONDecodeError):
        return {}
    if not isinstance(values, dict):
        return {}
    found: dict[str, str | float] = {}
    for key, name in (("activation text", "trigger"), ("negative text", "negative")):
        if isinstance(values.get(key), str) and values[key].strip():
            found[name] = _plain(values[key])
    weight = values.get("preferred weight")
    if isinstance(weight, int | float) and 0 < weight <= 100:
        found["strength"] = float(weight)
    return found


def _plain(text: str, most: int = 500) -> str:
    """Words of a file's, which go into prompts and into command lines: without signs that a
    terminal obeys, and in one line."""
    return " ".join("".join(c if c.isprintable() else " " for c in text[: 4 * most]).split())[:most]
