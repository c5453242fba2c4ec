"""The page to choose a round's drawings by: one HTML file with everything in it, which works from a
disk without a network. What is ticked becomes the command that goes on."""

from __future__ import annotations

import base64
import html
import io
import json
import re
from pathlib import Path
from typing import Any

from lorasmith.advice.bootstrap.state import Bootstrap, images_of
from lorasmith.advice.bootstrap.summary import sticks_out
from lorasmith.core.files import ASSETS, write_text
from lorasmith.core.text import quantity
from lorasmith.data.images import load_image

TEMPLATE = ASSETS / "choose.html"
# Longer sides of pictures in the page, px: of drawings, and of the set.
DRAWN, IN_SET = 768, 208
SMALL = 128
QUALITY = 88


def write_page(boot: Bootstrap) -> Path:
    """Write the newest round's page; its drawings are measured.

    Raises:
        RunError: it cannot be written.
    """
    one = boot.now
    title = f"{boot.options.trigger}, round {one.number}: which drawings to train on"
    text = json.dumps(_data(boot), ensure_ascii=False, separators=(",", ":"))
    # "<" could end the script, the two others end a line in some.
    for character in "<\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    parts = {"title": html.escape(title), "data": text}
    template = TEMPLATE.read_text(encoding="utf-8")
    write_text(boot.page, re.sub(r"\{\{(title|data)\}\}", lambda match: parts[match[1]], template))
    return boot.page


def _data(boot: Bootstrap) -> dict[str, Any]:
    one = boot.now
    given = [(path, "given") for path in images_of(boot.given_folder)]
    kept = [(path, "") for path in images_of(boot.drawn_folder)]
    repeats = {name: sticks_out(count) for name, count in one.repeated.items()}
    size = max(load_image(boot.drawing(one, one.drawings[0])).size)
    about = f"{quantity(len(one.drawings), 'drawing')} by {Path(one.lora).name}. "
    about += "Likeness: 0% the base model's drawings, 100% as like as the given pictures."
    return {
        "about": about,
        "command": boot.command,
        "small": size <= SMALL,
        "rounds": [
            {
                "number": each.number,
                "images": each.images,
                "likeness": each.likeness,
                "diversity": each.diversity,
                "kept": None if each.kept is None else len(each.kept),
            }
            for each in boot.rounds
        ],
        "drawings": [
            {
                "number": drawing.number,
                "src": _source(boot.drawing(one, drawing), DRAWN),
                "caption": drawing.caption,
                "likeness": drawing.likeness,
                "suggested": drawing.number in one.suggested,
                "reason": one.reasons.get(drawing.number, ""),
                "source": drawing.source,
            }
            for drawing in one.drawings
        ],
        "set": [
            {
                "name": path.name,
                "src": _source(path, IN_SET),
                "note": ", ".join(filter(None, [note, repeats.get(path.name)])),
            }
            for path, note in (*given, *kept)
        ],
    }


def _source(path: Path, side: int) -> str:
    """An image within the page, its longer side ``side`` px at most."""
    image = load_image(path)
    image.thumbnail((side, side))
    small = max(image.size) <= SMALL
    file = io.BytesIO()
    image.save(file, format="WEBP", lossless=small, quality=QUALITY)
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"
