"""The pictures that were drawn, as they lie in their folders, with what they say of themselves."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel

from lorasmith.core.files import file_version
from lorasmith.data.image_texts import generation_text
from lorasmith.data.images import DECODER_ERRORS, open_image
from lorasmith.data.layout import natural_key
from lorasmith.formats.run_paths import DRAWINGS, is_day_of_drawings
from lorasmith.prompts.infotext import Infotext, parse_infotext

MOST_TEXT = 100_000
"""Characters of what a picture says of itself, of which a page is told."""


class DrawnPicture(BaseModel):
    """
    Args:
        version: another one whenever the file is; for its address.
        width, height: px.
        settings: steps, sampler, seed …, as a web UI names them.
        text: all that it says, as it stands in the file.
    """

    path: str
    version: str
    day: str
    width: int
    height: int
    prompt: str
    negative: str
    settings: dict[str, str]
    text: str


class DrawnPictures(BaseModel):
    """``before``: what to ask for the next ones with; "" where there are none."""

    folder: str
    pictures: list[DrawnPicture]
    before: str


def drawn_pictures(base: Path, *, before: str = "", limit: int = 60) -> DrawnPictures:
    """The pictures of a project or workspace, the newest first; what is no picture is left out.

    Args:
        before: ``DAY/NAME``, of the last one that is known.
        limit: the most that are told.
    """
    folder = base / DRAWINGS
    day, _, name = before.partition("/")
    found: list[DrawnPicture] = []
    last = ""
    for path in _newest_first(folder, day, name):
        if len(found) == limit:
            return DrawnPictures(folder=str(folder), pictures=found, before=last)
        picture = _read(path)
        last = f"{path.parent.name}/{path.name}"
        if picture is not None:
            found.append(picture)
    return DrawnPictures(folder=str(folder), pictures=found, before="")


def _newest_first(folder: Path, day: str, name: str) -> Iterator[Path]:
    for place in sorted(_inside(folder), key=lambda path: path.name, reverse=True):
        if not is_day_of_drawings(place) or (day and place.name > day):
            continue
        files = [path for path in _inside(place) if path.suffix.lower() == ".png"]
        for path in sorted(files, key=lambda path: natural_key(path.name), reverse=True):
            if place.name != day or natural_key(path.name) < natural_key(name):
                yield path


def _inside(folder: Path) -> list[Path]:
    with contextlib.suppress(OSError):
        return [path for path in folder.iterdir() if not path.is_symlink()]
    return []


def _read(path: Path) -> DrawnPicture | None:
    try:
        state = path.stat()
        with open_image(path) as image:
            (width, height), text = image.size, generation_text(image)[:MOST_TEXT]
    except DECODER_ERRORS:
        # Damaged, or its place alone is taken: it is being drawn.
        return None
    info = parse_infotext(text) if text.strip() else Infotext("", "", {})
    return DrawnPicture(
        path=str(path),
        version=file_version(state.st_size, state.st_mtime_ns),
        day=path.parent.name,
        width=width,
        height=height,
        prompt=info.prompt,
        negative=info.negative,
        settings=dict(info.settings),
        text=text,
    )
