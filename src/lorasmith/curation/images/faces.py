"""Faces, by OpenCV's detectors where it and a model for them are there.

The cascades (``haarcascade_frontalface_default.xml``, ``lbpcascade_animeface.xml``) come with
OpenCV 4's wheels or Debian's opencv-data; OpenCV 5 reads none, but YuNet's ONNX file.
"""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lorasmith.core.errors import UserError
from lorasmith.core.installation import extra_line
from lorasmith.data.recorded_crops import Box

_SYSTEM = (
    Path("/usr/share/opencv4/haarcascades"),
    Path("/usr/share/opencv/haarcascades"),
    Path("/usr/local/share/opencv4/haarcascades"),
    Path("/opt/homebrew/share/opencv4/haarcascades"),
)
_CASCADE = "haarcascade_frontalface_default.xml"
# Faces are looked for so small, px of the longer side.
_SIDE = 640
_LEAST = 1 / 16  # of the shorter side; smaller ones are mostly no faces
_SURE = 0.8  # YuNet's score
_MIRRORED = 0.25  # of the shorter side, beyond each border
CUT = (
    0.25,
    0.95,
)  # of a face's box, that is in the picture; what is less or more is none, or whole

FindFaces = Callable[[Image.Image], list[Box]]
"""What finds faces in an upright RGB image, the largest first."""


def face_finder(model: Path | None = None) -> FindFaces | None:
    """What finds faces; safe in threads.

    Args:
        model: a cascade (``.xml``) or YuNet (``.onnx``); ``None`` takes the frontal cascade that
            came with OpenCV.

    Returns:
        ``None`` where no model was named and there is none.

    Raises:
        UserError: the model cannot be used; says what is missing.
    """
    if importlib.util.find_spec("cv2") is None:
        if model is None:
            return None
        what = "finding faces takes OpenCV, which is not installed"
        raise UserError.of("faces", what, extra_line("faces"))
    import cv2

    if model is None:
        model = _shipped_cascade(cv2) if hasattr(cv2, "CascadeClassifier") else None
        return _by_cascade(cv2, model) if model is not None else None
    if not model.is_file():
        raise UserError.of(
            "faces", f"{model} does not exist", "name a .xml cascade or YuNet's .onnx"
        )
    if model.suffix.lower() == ".onnx":
        return _by_yunet(cv2, model)
    if not hasattr(cv2, "CascadeClassifier"):
        what = f"OpenCV {cv2.__version__} reads no cascades"
        hint = "pip install 'opencv-python-headless<5', or name YuNet's .onnx"
        raise UserError.of("faces", what, hint)
    return _by_cascade(cv2, model)


def cut_faces(image: Image.Image, find_faces: FindFaces) -> list[float]:
    """Faces that the picture's border cuts, beside a whole one that none of them touches.

    Half a face is none to what finds faces, so they are looked for with what is near the borders
    mirrored beyond them; what is whole there was none before.

    Args:
        image: upright, RGB.

    Returns:
        of each, how much of its box is in the picture, 0 to 1.
    """
    margin = round(_MIRRORED * min(image.size))
    pixels = np.pad(np.asarray(image), ((margin, margin), (margin, margin), (0, 0)), "reflect")
    boxes = [
        (left - margin, top - margin, right - margin, bottom - margin)
        for left, top, right, bottom in find_faces(Image.fromarray(pixels))
    ]
    shares = {box: _area(_overlap(box, (0, 0, *image.size))) / _area(box) for box in boxes}
    whole = max((box for box, share in shares.items() if share == 1), key=_area, default=None)
    if whole is None:
        return []
    low, high = CUT
    return [
        share
        for box, share in shares.items()
        if low < share < high and not _area(_overlap(box, whole))
    ]


def _overlap(one: Box, other: Box) -> Box:
    left, top = max(one[0], other[0]), max(one[1], other[1])
    return left, top, max(left, min(one[2], other[2])), max(top, min(one[3], other[3]))


def _area(box: Box) -> int:
    return (box[2] - box[0]) * (box[3] - box[1])


def _shipped_cascade(cv2: Any) -> Path | None:
    data = getattr(getattr(cv2, "data", None), "haarcascades", None)
    folders = [Path(data)] if data else []
    paths = [folder / _CASCADE for folder in (*folders, *_SYSTEM)]
    return next((path for path in paths if path.is_file()), None)


def _by_cascade(cv2: Any, model: Path) -> FindFaces:
    threads = threading.local()

    def find(image: Image.Image) -> list[Box]:
        if not hasattr(threads, "detector"):
            threads.detector = cv2.CascadeClassifier(str(model))
        if threads.detector.empty():
            raise UserError.of("faces", f"{model} is no cascade of OpenCV's", "name another file")
        small, factor = _small(image)
        grey = cv2.equalizeHist(np.asarray(small.convert("L")))
        least = max(16, round(_LEAST * min(small.size)))
        rows = threads.detector.detectMultiScale(grey, 1.1, 6, minSize=(least, least))
        return _boxes([(x, y, w, h) for x, y, w, h in rows], factor, image)

    return find


def _by_yunet(cv2: Any, model: Path) -> FindFaces:
    threads = threading.local()

    def find(image: Image.Image) -> list[Box]:
        small, factor = _small(image)
        try:
            if not hasattr(threads, "detector"):
                threads.detector = cv2.FaceDetectorYN.create(str(model), "", small.size, _SURE)
            threads.detector.setInputSize(small.size)
            _, rows = threads.detector.detect(np.asarray(small)[:, :, ::-1].copy())
        except cv2.error as error:
            what = f"{model} cannot be used ({str(error).strip().splitlines()[-1]})"
            raise UserError.of("faces", what, "name YuNet's ONNX file") from error
        return _boxes([tuple(row[:4]) for row in rows] if rows is not None else [], factor, image)

    return find


def _small(image: Image.Image) -> tuple[Image.Image, float]:
    factor = min(1.0, _SIDE / max(image.size))
    size = max(1, round(image.width * factor)), max(1, round(image.height * factor))
    return (image.resize(size, Image.Resampling.BOX) if factor < 1 else image), factor


def _boxes(rows: list[tuple[float, ...]], factor: float, image: Image.Image) -> list[Box]:
    boxes = []
    for x, y, width, height in sorted(rows, key=lambda row: -row[2] * row[3]):
        left, top = max(0, round(x / factor)), max(0, round(y / factor))
        right = min(image.width, round((x + width) / factor))
        bottom = min(image.height, round((y + height) / factor))
        if right > left and bottom > top:
            boxes.append((left, top, right, bottom))
    return boxes
