"""Crops that are recorded beside an image rather than carried out, so that the file stays whole.

``a.crop.json`` says which part of ``a.png`` is used::

    {"box": [120, 40, 1144, 1064], "size": [1600, 1200]}

``box`` is left, top, right, bottom, and ``size`` the width and height of the image that it was
chosen in, all in pixels of the upright image (after EXIF). Where two images share a name,
``a.png.crop.json`` is the one of ``a.png``. To training such an image is as large as its box.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorasmith.core.errors import DatasetError, Problem
from lorasmith.core.files import parse_json
from lorasmith.data.buckets import Size

CROP_SUFFIX = ".crop.json"

Box = tuple[int, int, int, int]  # left, top, right, bottom, px

# Above this it is something else; a record takes 60 bytes.
_MOST_BYTES = 64_000
_HINT = 'write it like {"box": [0, 0, 512, 512], "size": [640, 512]}, or remove it'


@dataclass(frozen=True, slots=True)
class Region:
    """The part of an image that is used.

    Args:
        box: left, top, right, bottom in the upright image, px; not empty, inside of it.
        size: width and height of the whole upright image, px.
    """

    box: Box
    size: Size

    @property
    def shape(self) -> Size:
        """Width and height of the part, px."""
        left, top, right, bottom = self.box
        return right - left, bottom - top

    def within(self, size: Size) -> Box:
        """The same part of a larger or smaller picture of the whole, such as a mask; never empty.

        Args:
            size: width and height of that picture, px.
        """
        if size == self.size:
            return self.box
        edges = []
        for axis in (0, 1):
            factor = size[axis] / self.size[axis]
            low = min(size[axis] - 1, round(self.box[axis] * factor))
            edges.append((low, max(low + 1, round(self.box[axis + 2] * factor))))
        return edges[0][0], edges[1][0], edges[0][1], edges[1][1]

    def to_json(self) -> dict[str, Any]:
        return {"box": list(self.box), "size": list(self.size)}


def crop_record_path(image: Path, *, shared: bool = False) -> Path:
    """Where the crop of an image is recorded.

    Args:
        shared: another image of the folder has the same name but for its ending.
    """
    return image.with_name((image.name if shared else image.stem) + CROP_SUFFIX)


def crop_record_beside(image: Path) -> Path | None:
    """The record of an image, where there is one."""
    paths = (crop_record_path(image, shared=shared) for shared in (True, False))
    return next((path for path in paths if path.is_file()), None)


def is_crop_record(path: Path) -> bool:
    return path.name.lower().endswith(CROP_SUFFIX)


def crop_records(files: Iterable[Path]) -> dict[str, Path]:
    """The records among files, by the name of the image that they are of, with or without its
    ending."""
    return {
        unicodedata.normalize("NFC", path.name[: -len(CROP_SUFFIX)]): path
        for path in files
        if is_crop_record(path)
    }


def crop_record_of(image: Path, records: Mapping[str, Path]) -> Path | None:
    """That of an image among :func:`crop_records`."""
    names = (unicodedata.normalize("NFC", name) for name in (image.name, image.stem))
    return next((records[name] for name in names if name in records), None)


def read_crop_record(path: Path, size: Size) -> Region:
    """The part of an image that a record names.

    Args:
        size: width and height of the upright image as it is now, px.

    Raises:
        DatasetError: it cannot be read, or is not of an image of this size.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ValueError
        region = parse_region(path.read_bytes())
    except OSError as error:
        raise DatasetError.of(path, f"cannot be read: {error.strerror}", "mend it") from error
    except ValueError as error:
        raise DatasetError.of(
            path, "does not say which part of a picture is used", _HINT
        ) from error
    if region.size != size:
        sizes = "{}x{}, and it is {}x{} now".format(*region.size, *size)
        what = f"was recorded when the picture was {sizes}"
        raise DatasetError(Problem(str(path), what, "record the crop again, or remove the file"))
    return region


def parse_region(data: bytes) -> Region:
    """
    Raises:
        ValueError: it is no record, or its box does not lie in its image.
    """
    value = parse_json(data)
    if not isinstance(value, dict):
        raise ValueError("not an object")
    left, top, right, bottom = _whole_numbers(value.get("box"), 4)
    width, height = _whole_numbers(value.get("size"), 2)
    if not (0 <= left < right <= width and 0 <= top < bottom <= height):
        raise ValueError("the box is not inside of the picture")
    return Region((left, top, right, bottom), (width, height))


def _whole_numbers(value: Any, count: int) -> list[int]:
    if not isinstance(value, list) or len(value) != count:
        raise ValueError(f"not {count} numbers")
    if not all(isinstance(number, int) and not isinstance(number, bool) for number in value):
        raise ValueError("not whole numbers")
    return value
