"""What the reports have in common that are one HTML file each: small pictures inside, no network,
printable."""

from __future__ import annotations

import base64
import html
import io
import re
from collections.abc import Iterable
from pathlib import Path

from lorasmith.core.errors import DatasetError
from lorasmith.core.files import ASSETS, write_text
from lorasmith.core.terminal import clean
from lorasmith.data.images import decoded_image

TEMPLATE = ASSETS / "report.html"
_SIDE = 144  # px of a small picture's longer side
_QUALITY = 82


def write_report(
    path: Path,
    *,
    title: str,
    summary: str,
    body: str,
    contents: str = "",
    more: str = "",
    pictures: Iterable[str] = (),
) -> None:
    """
    Args:
        path: the file.
        title: plain text; all else is HTML.
        pictures: each as :func:`small_picture` gives it; the body shows them by their numbers
            (``<img data-number="0">``), so each is in the file once.

    Raises:
        RunError: it cannot be written.
    """
    parts = {
        "title": as_html(title),
        "summary": summary,
        "contents": contents,
        "body": body,
        "more": more,
        "pictures": ",".join(f'"{data}"' for data in pictures),
    }
    template = TEMPLATE.read_text(encoding="utf-8")
    write_text(path, re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], template))


def as_html(words: object) -> str:
    """As HTML shows it; names of files may hold anything."""
    return html.escape(clean(str(words), lines=False))


def as_prose(words: object) -> str:
    """The same, with what stands between backticks as code."""
    return re.sub("`([^`]+)`", r"<code>\1</code>", as_html(words))


def small_picture(path: Path) -> str:
    """A JPEG in base64, or "" of what cannot be decoded."""
    file = io.BytesIO()
    try:
        with decoded_image(path) as image:
            image.thumbnail((_SIDE, _SIDE))
            image.save(file, "JPEG", quality=_QUALITY)
    except DatasetError:
        return ""
    return base64.b64encode(file.getvalue()).decode("ascii")
