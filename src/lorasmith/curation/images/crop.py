"""Which part of an image is kept: squares, shapes of buckets, subjects, given boxes.

All boxes are left, top, right, bottom in px of the upright image, inside of it and not empty.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from PIL import Image

from lorasmith.curation.images.focus import find_saliency
from lorasmith.curation.images.trim import find_border, find_reduced_border
from lorasmith.data.buckets import Buckets, Size, place
from lorasmith.data.recorded_crops import Box

Shape = Literal["square", "bucket", "aspect", "subject", "box", "recorded", "whole"]
Point = tuple[float, float]  # shares of width and height, 0..1

FOCUSES = ("auto", "center", "subject", "face", "top", "bottom", "left", "right")
_POINTS: dict[str, Point] = {
    "center": (0.5, 0.5), "top": (0.5, 0.0), "bottom": (0.5, 1.0), "left": (0.0, 0.5),
    "right": (1.0, 0.5),
}  # fmt: skip
# Room above the head of a subject that is taller than its crop, of the crop's height.
_HEADROOM = 0.04
# A face's middle in its crop, from above: eyes are at about a third.
_FACE_HEIGHT = 0.42
_HAIR = 0.5  # around a face, of its sides

FindFaces = Callable[[Image.Image], list[Box]]


@dataclass(frozen=True, slots=True)
class CropRule:
    """What is to be kept of images.

    Args:
        shape: "square", "bucket" and "aspect" take the largest such part, "subject" what stands
            out, in any shape, "whole" everything (but for borders).
        focus: where the part lies: one of :data:`FOCUSES`, or a point of the image.
        buckets: of "bucket".
        aspects: of "aspect", as pairs of width and height; the nearest is taken.
        margin: around a subject, a share of its sides.
        trim: borders are cut off first; "reduced": those, too, that only the reduced image shows.
        tolerance: of borders, see :func:`.find_border`.
    """

    shape: Shape = "square"
    focus: str | Point = "auto"
    buckets: Buckets | None = None
    margin: float = 0.05
    trim: bool | Literal["reduced"] = False
    tolerance: int = 12
    aspects: tuple[Size, ...] = ()

    @property
    def looks(self) -> bool:
        """Whether it takes the image's pixels, or its size alone."""
        if self.trim or self.shape == "subject":
            return True
        by_point = not isinstance(self.focus, str) or self.focus in _POINTS
        return self.shape != "whole" and not by_point


def choose_crop(
    image: Image.Image,
    rule: CropRule,
    find_faces: FindFaces | None = None,
) -> Box:
    """The part of an image that the rule keeps.

    Args:
        image: RGB, upright.
        find_faces: boxes of faces, the largest first; ``None`` knows none.
    """
    area = (0, 0, *image.size)
    if rule.trim:
        find = find_reduced_border if rule.trim == "reduced" else find_border
        area = find(image, rule.tolerance)
    inner = image.crop(area) if area != (0, 0, *image.size) else image
    part = _within(inner, rule, find_faces)
    return area[0] + part[0], area[1] + part[1], area[0] + part[2], area[1] + part[3]


def crop_of_size(size: Size, rule: CropRule) -> Box:
    """As :func:`choose_crop`, of a rule that does not look at pixels."""
    assert not rule.looks
    return _shaped(size, rule, _point_of(size, rule.focus))


def _within(image: Image.Image, rule: CropRule, find_faces: FindFaces | None) -> Box:
    size = image.size
    if rule.shape == "whole":
        return (0, 0, *size)
    if rule.shape != "subject" and (isinstance(rule.focus, tuple) or rule.focus in _POINTS):
        return _shaped(size, rule, _point_of(size, rule.focus))
    faces = find_faces(image) if find_faces is not None and rule.focus != "subject" else []
    if rule.shape == "subject":
        return _subject_box(image, rule, faces)
    if faces:
        return _shaped(size, rule, _face_place(size, rule, faces[0]))
    subject = find_saliency(image).subject()
    return _shaped(size, rule, subject or _point_of(size, "center"))


def _subject_box(image: Image.Image, rule: CropRule, faces: list[Box]) -> Box:
    """Around what stands out and the largest face, hair and all."""
    subject = find_saliency(image).subject()
    heads = [box_around(image.size, face, _HAIR) for face in faces[:1]]
    boxes = [*heads, *([subject] if subject is not None else [])]
    if not boxes:
        return (0, 0, *image.size)
    left, top, right, bottom = zip(*boxes, strict=True)
    whole = (min(left), min(top), max(right), max(bottom))
    return box_around(image.size, whole, rule.margin)


def _shaped(size: Size, rule: CropRule, focus: Box) -> Box:
    return window(size, shape_of(size, rule), focus)


def shape_of(size: Size, rule: CropRule) -> Size:
    """Width and height of the largest part that has the rule's shape, px."""
    if rule.shape == "square":
        return min(size), min(size)
    if rule.shape == "bucket":
        assert rule.buckets is not None
        return largest(size, place(*size, rule.buckets).bucket)
    if rule.shape == "aspect":
        ratio = math.log(size[0] / size[1])
        nearest = min(rule.aspects, key=lambda each: abs(math.log(each[0] / each[1]) - ratio))
        return largest(size, nearest)
    return size


def largest(size: Size, aspect: Size) -> Size:
    """The largest size within ``size`` of that aspect, as nearly as whole px allow."""
    width, height = size
    if width * aspect[1] > height * aspect[0]:
        return max(1, min(width, round(height * aspect[0] / aspect[1]))), height
    return width, max(1, min(height, round(width * aspect[1] / aspect[0])))


def window(size: Size, part: Size, focus: Box) -> Box:
    """Where a part of that size lies, so that the focus is in its middle as far as the image
    allows; of one that is taller than the part, the upper end is kept: that is where heads are."""
    begins = []
    for axis in (0, 1):
        low, high, length = focus[axis], focus[axis + 2], part[axis]
        if axis == 1 and high - low > length:
            begin = low - _HEADROOM * length
        else:
            begin = (low + high - length) / 2
        begins.append(max(0, min(size[axis] - length, math.floor(begin + 0.5))))
    return begins[0], begins[1], begins[0] + part[0], begins[1] + part[1]


def box_around(size: Size, box: Box, margin: float) -> Box:
    """The box with a margin (a share of its sides), as far as the image has it."""
    across, down = margin * (box[2] - box[0]), margin * (box[3] - box[1])
    left, top = max(0, math.floor(box[0] - across)), max(0, math.floor(box[1] - down))
    right, bottom = min(size[0], math.ceil(box[2] + across)), min(size[1], math.ceil(box[3] + down))
    left, top = min(left, size[0] - 1), min(top, size[1] - 1)
    return left, top, max(left + 1, right), max(top + 1, bottom)


def _point_of(size: Size, focus: str | Point) -> Box:
    x, y = _POINTS[focus] if isinstance(focus, str) else focus
    at = round(x * size[0]), round(y * size[1])
    return (*at, *at)


def _face_place(size: Size, rule: CropRule, face: Box) -> Box:
    """Around a face, which lies somewhat above the middle."""
    height = shape_of(size, rule)[1]
    middle = round((face[1] + face[3]) / 2 + (0.5 - _FACE_HEIGHT) * height)
    return face[0], middle, face[2], middle


def parse_aspects(text: str) -> tuple[Size, ...]:
    """Shapes as width:height, with commas between: "1:1, 2:3".

    Raises:
        ValueError: says what was expected.
    """
    aspects = []
    for part in text.split(","):
        numbers = [side.strip() for side in part.split(":")]
        whole = len(numbers) == 2 and all(side.isdecimal() and side.isascii() for side in numbers)
        if not whole or not all(1 <= int(side) <= 10_000 for side in numbers):
            raise ValueError(f"{part.strip()!r} is no shape, such as 2:3")
        aspects.append((int(numbers[0]), int(numbers[1])))
    return tuple(aspects)


def parse_focus(text: str) -> str | Point:
    """One of :data:`FOCUSES`, or a point as shares of width and height: "0.5,0.3".

    Raises:
        ValueError: says what was expected.
    """
    text = text.strip().lower().replace("centre", "center")
    if text in FOCUSES:
        return text
    try:
        x, y = (float(part) for part in text.split(","))
    except ValueError:
        x = y = math.nan
    if not (0 <= x <= 1 and 0 <= y <= 1):
        raise ValueError(
            f"{text!r} is neither a place ({', '.join(FOCUSES)}) nor a point from 0,0 to 1,1"
        )
    return x, y
