"""Boxes that other programs wrote beside an image: where its subject is.

Looked for in ``a.box.json``, ``a.png.json`` and ``a.json``, and in the file's name as sd-scripts'
face detection writes it. Understood are ``box`` (left, top, right, bottom), ``bbox`` (x, y, width,
height, as COCO has it), both in px or in shares of the image, and LabelMe's ``shapes``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lorasmith.core.errors import DatasetError, Problem
from lorasmith.core.files import parse_json
from lorasmith.data.augmentation.crops import face_box
from lorasmith.data.buckets import Size
from lorasmith.data.recorded_crops import Box

_MOST_BYTES = 16_000_000  # LabelMe puts the image itself into its file
_FAR = 1e9  # px; NaN is not below it either


def find_box(image: Path, size: Size) -> Box | None:
    """The box that a side-car or the name of the image gives; ``None`` without one.

    Args:
        size: of the upright image, px.

    Raises:
        DatasetError: a side-car's box does not lie in the image, or the file is damaged.
    """
    names = (f"{image.stem}.box.json", f"{image.name}.json", f"{image.stem}.json")
    for path in map(image.with_name, names):
        if not path.is_file():
            continue
        try:
            if path.stat().st_size > _MOST_BYTES:
                continue
            box = parse_box(path.read_bytes(), size)
        except (OSError, ValueError) as error:
            problem = Problem(str(path), f"gives no box in the picture ({error})", "correct it")
            raise DatasetError(problem) from error
        if box is not None:
            return box
    face = face_box(image)
    if face is None or not face.is_inside(size):
        return None
    left, top = face.x - face.width / 2, face.y - face.height / 2
    return _inside((left, top, left + face.width, top + face.height), size)


def parse_box(data: bytes, size: Size) -> Box | None:
    """The box that a JSON file gives; ``None`` of one that speaks of something else.

    Raises:
        ValueError: it is damaged, or its box does not lie in the image.
    """
    value = parse_json(data)
    if not isinstance(value, dict):
        return None
    if "box" in value:
        return _inside(_in_pixels(_numbers(value["box"], 4), size), size)
    if "bbox" in value:
        x, y, width, height = _in_pixels(_numbers(value["bbox"], 4), size)
        return _inside((x, y, x + width, y + height), size)
    shapes = value.get("shapes")
    if not isinstance(shapes, list) or not shapes:
        return None
    points = [
        _numbers(point, 2)
        for shape in shapes
        if isinstance(shape, dict) and isinstance(shape.get("points"), list)
        for point in shape["points"]
    ]
    if not points:
        return None
    across, down = zip(*points, strict=True)
    return _inside((min(across), min(down), max(across), max(down)), size)


def _numbers(value: Any, count: int) -> list[float]:
    if not isinstance(value, list) or len(value) != count:
        raise ValueError(f"{count} numbers are expected")
    if not all(type(number) in (int, float) and abs(number) < _FAR for number in value):
        raise ValueError("something that is not a number")
    return [float(number) for number in value]


def _in_pixels(values: Sequence[float], size: Size) -> Sequence[float]:
    """Shares of the image in px; four numbers up to 1 are shares."""
    if max(values) > 1:
        return values
    return [value * size[number % 2] for number, value in enumerate(values)]


def _inside(box: Sequence[float], size: Size) -> Box:
    left, top = max(0, math.floor(box[0])), max(0, math.floor(box[1]))
    right, bottom = min(size[0], math.ceil(box[2])), min(size[1], math.ceil(box[3]))
    if right <= left or bottom <= top:
        raise ValueError(f"{[round(value) for value in box]} of {size[0]}x{size[1]} px")
    return left, top, right, bottom
