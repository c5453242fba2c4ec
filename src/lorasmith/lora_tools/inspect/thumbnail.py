"""The preview image inside a file's header: modelspec's ``thumbnail``, a data URL. Torch-free."""

from __future__ import annotations

import base64
import binascii
import io
import re
from collections.abc import Mapping
from pathlib import Path

from PIL import Image

from lorasmith.core.errors import DatasetError, UserError
from lorasmith.data.images import load_image

KEY = "modelspec.thumbnail"
SIDE = 512
"""Pixels of a preview's longer side; a header is read whole whenever the file is looked at."""

QUALITY = 88
_DATA_URL = re.compile(r"data:(image/[\w.+-]+);base64,(.*)", re.DOTALL)


def preview_url(path: Path) -> str:
    """An image as a data URL: JPEG, made smaller where it is large.

    Raises:
        UserError: it is no image that can be read.
    """
    try:
        upright = load_image(path)
    except DatasetError as error:
        what = f"cannot be read as a picture: {error.problems[0].what}"
        raise UserError.of(path, what, "give a PNG") from error
    upright.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    upright.save(buffer, "JPEG", quality=QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def read_preview(metadata: Mapping[str, str]) -> tuple[str, bytes] | None:
    """("image/jpeg", the image file's bytes) of a header, or None where there is no image."""
    match = _DATA_URL.fullmatch(metadata.get(KEY, ""))
    if match is None:
        return None
    try:
        return match[1], base64.b64decode(match[2], validate=True)
    except (binascii.Error, ValueError):
        return None
