"""Files in and out: uploads, as they come, and images, as pixels.

What a browser gets of an image is made here, pixel by pixel: no metadata, no second file hidden
behind it, and no format that runs anything (SVG). The file's name says nothing.
"""

from __future__ import annotations

import asyncio
import io
import os
import tempfile
import threading
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, HTTPException, Query, Request, Response
from fastapi.responses import FileResponse
from PIL import Image
from pydantic import BaseModel

from lorasmith.core.disk import discard, write_error
from lorasmith.core.errors import DatasetError, UserError
from lorasmith.core.files import free_bytes, version_of
from lorasmith.core.text import bytes_text
from lorasmith.data.images import load_upright, to_rgb
from lorasmith.jobs.drawings.loras import require_lora
from lorasmith.jobs.runs.folders import copy_lora
from lorasmith.jobs.runs.records import ProblemRecord, problem_records
from lorasmith.studio.context import StudioDep
from lorasmith.studio.security import UPLOAD_BYTES

router = APIRouter(prefix="/api", tags=["files"])

LORA_KIND = "application/octet-stream"
SMALLEST, LARGEST = 16, 2048
"""Sizes of thumbnails, px of the longer side."""

# A browser asks for six at once; each image of 100 megapixels takes 300 MB meanwhile.
_at_once = threading.BoundedSemaphore(2)
_WHITE = (255, 255, 255)

_SPARE_BYTES = 500_000_000
"""Left free on the disk, which others write to, too."""
_FOR_EVER = "private, max-age=31536000, immutable"
# An image opened by itself is a page: one that may do nothing at all.
_IMAGE_POLICY = "default-src 'none'; sandbox"


class Uploaded(BaseModel):
    """``files`` are there now; ``problems`` are of files in an archive that were left out."""

    files: list[str]
    problems: list[ProblemRecord]


@router.put("/files")
async def put_file(request: Request, folder: str, name: str, studio: StudioDep) -> Uploaded:
    """One file, its bytes as the body; a zip is unpacked. The folder is made if need be."""
    from lorasmith.jobs.uploads import require_name, take

    path = await asyncio.to_thread(studio.roots.resolve_new, folder, name)
    require_name(path)
    arrived = await _received(request, path)
    arrival = await asyncio.to_thread(take, arrived, path)
    return Uploaded(
        files=[str(file) for file in arrival.files],
        problems=problem_records(arrival.problems),
    )


async def _received(request: Request, path: Path) -> Path:
    """The body as a hidden file beside ``path``.

    Raises:
        HTTPException: it is larger than uploads may be.
        UserError: it was broken off, or the disk has no room for it.
    """
    too_large = HTTPException(413, f"an upload may have {bytes_text(UPLOAD_BYTES)} at most")
    length = request.headers.get("content-length", "0")
    if not length.isdecimal() or len(length) > 18 or int(length) > UPLOAD_BYTES:
        raise too_large
    arrived = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        room = free_bytes(path.parent) - _SPARE_BYTES
        handle, name = tempfile.mkstemp(".lorasmith.tmp", ".upload.", path.parent)
        arrived, size = Path(name), 0
        with os.fdopen(handle, "wb") as file:
            async for chunk in request.stream():
                size += len(chunk)
                if size > UPLOAD_BYTES:
                    raise too_large
                if size > room:
                    what = "there is no room for it on the disk"
                    raise UserError.of(path.name, what, "free some space")
                await asyncio.to_thread(file.write, chunk)
    except BaseException as error:
        if arrived is not None:
            discard(arrived)
        if isinstance(error, OSError):
            raise write_error(path.parent, error) from error
        raise
    return arrived


@router.get(
    "/image",
    response_class=Response,
    responses={200: {"content": {"image/*": {"schema": {"type": "string", "format": "binary"}}}}},
)
def get_image(
    path: str,
    studio: StudioDep,
    size: Annotated[int | None, Query(ge=SMALLEST, le=LARGEST)] = None,
    v: Annotated[str, Query(max_length=200)] = "",
) -> Response:
    """An image's pixels, or a thumbnail of ``size`` px. With the version ``v`` that the file has
    now (as listings say it), browsers keep it for ever; with another one they ask again."""
    place = studio.roots.resolve(path)
    # Before its bytes are read: what is changed meanwhile is then asked for again.
    is_current = bool(v) and v == version_of(place)
    content, kind = _encoded(place, size)
    headers = {
        "cache-control": _FOR_EVER if is_current else "no-cache",
        "content-security-policy": _IMAGE_POLICY,
    }
    return Response(content, media_type=kind, headers=headers)


@router.get(
    "/lora",
    response_class=FileResponse,
    responses={200: {"content": {LORA_KIND: {"schema": {"type": "string", "format": "binary"}}}}},
)
def get_lora(path: str, studio: StudioDep) -> FileResponse:
    """A LoRA file, to be saved where a web UI looks for it."""
    file = studio.roots.resolve(path)
    require_lora(file)
    return FileResponse(file, media_type=LORA_KIND, filename=file.name)


class LoraCopy(BaseModel):
    """``folder``: where it is copied to, such as ``models/Lora`` of a web UI."""

    path: str
    folder: str


class Copied(BaseModel):
    path: str


@router.post("/lora/copy")
def post_lora_copy(studio: StudioDep, body: LoraCopy) -> Copied:
    """A LoRA file into another folder that the studio may open."""
    folder = studio.roots.resolve(body.folder)
    studio.roots.refuse_state(folder)
    return Copied(path=str(copy_lora(studio.roots.resolve(body.path), folder)))


def _encoded(path: Path, size: int | None = None) -> tuple[bytes, str]:
    """An image's pixels as a file, and its media type.

    Args:
        size: px of the longer side, at most: WebP on white; ``None`` for the whole image: PNG, or
            JPEG of what was one.

    Raises:
        DatasetError: it is no image that is read here, or damaged.
    """
    sink = io.BytesIO()
    with _at_once:
        image, original = load_upright(path, least=size or 0)
        was_jpeg = original.format == "JPEG"
        try:
            if size is not None:
                image.thumbnail((size, size), Image.Resampling.BOX, reducing_gap=2.0)
                to_rgb(image, _WHITE).save(sink, "WEBP", quality=82, method=2)
                return sink.getvalue(), "image/webp"
            if was_jpeg:
                to_rgb(image, _WHITE).save(sink, "JPEG", quality=95, subsampling=0)
                return sink.getvalue(), "image/jpeg"
            plain = image.convert("RGBA") if image.has_transparency_data else to_rgb(image, _WHITE)
            # Else Pillow writes what the file said of itself: its texts, its colour profile.
            plain.info.clear()
            plain.save(sink, "PNG", compress_level=1)
        except (OSError, ValueError, MemoryError) as error:
            raise DatasetError.of(path, f"cannot be shown: {error}", "convert it to PNG") from error
        return sink.getvalue(), "image/png"
