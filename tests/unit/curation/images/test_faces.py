"""Faces by OpenCV: what is asked of it, and what is said without it. OpenCV's own detectors need
models that do not come with it, so a stand-in with its interface takes their place."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lorasmith.core.errors import UserError
from lorasmith.curation.images.crop import CropRule, choose_crop
from lorasmith.curation.images.faces import CUT, cut_faces, face_finder
from lorasmith.data.recorded_crops import Box


class Cascade:
    """Finds one small and one large face in the picture as it gets it."""

    def __init__(self, path: str) -> None:
        self.path = path

    def empty(self) -> bool:
        return "broken" in self.path

    def detectMultiScale(
        self, grey: np.ndarray, scale: float, neighbours: int, minSize: tuple[int, int]
    ) -> np.ndarray:
        assert grey.dtype == np.uint8
        assert grey.ndim == 2
        assert max(grey.shape) <= 640
        return np.array([[0, 0, 20, 20], [100, 50, 60, 60]])


def opencv(**more: Any) -> SimpleNamespace:
    return SimpleNamespace(
        __version__="4.0", __spec__=SimpleNamespace(), equalizeHist=lambda grey: grey, **more
    )


@pytest.fixture
def cv2(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    module = opencv(CascadeClassifier=Cascade)
    monkeypatch.setitem(sys.modules, "cv2", module)
    return module


def test_boxes_are_in_the_pictures_own_pixels_the_largest_first(cv2: Any, tmp_path: Path) -> None:
    model = tmp_path / "face.xml"
    model.write_text("")
    find = face_finder(model)
    assert find is not None
    # Looked at at half its size.
    assert find(Image.new("RGB", (1280, 640))) == [(200, 100, 320, 220), (0, 0, 40, 40)]
    assert find(Image.new("RGB", (200, 120))) == [(100, 50, 160, 110), (0, 0, 20, 20)]


def test_opencvs_own_cascade_is_taken_by_itself(cv2: Any, tmp_path: Path) -> None:
    assert face_finder() is None
    (tmp_path / "haarcascade_frontalface_default.xml").write_text("")
    cv2.data = SimpleNamespace(haarcascades=str(tmp_path))
    assert face_finder() is not None


@pytest.mark.parametrize(
    ("boxes", "shares"),
    [
        ([(40, 40, 60, 60), (-10, 10, 10, 30)], [0.5]),
        ([(40, 40, 60, 60), (90, 70, 110, 90), (10, 95, 30, 115)], [0.5, 0.25]),
        ([(40, 40, 60, 60), (-20, 10, 0, 30), (98, 10, 118, 30), (1, 70, 21, 90)], []),
        ([(-10, 10, 10, 30)], []),  # alone it is the one that is meant
        ([(2, 40, 22, 60), (-18, 40, 2, 60), (-10, 41, 10, 61)], []),  # itself in the mirror
        ([], []),
    ],
)
def test_faces_that_the_border_cuts(boxes: list[Box], shares: list[float]) -> None:
    def find(image: Image.Image) -> list[Box]:
        assert image.size == (150, 150)  # mirrored by a quarter on each side
        pixels = np.asarray(image)
        assert (pixels[25:125, :25] == pixels[25:125, 50:25:-1]).all()
        return [tuple(side + 25 for side in box) for box in boxes]  # type: ignore[misc]

    noise = np.random.default_rng(0).integers(0, 256, (100, 100, 3), dtype=np.uint8)
    found = cut_faces(Image.fromarray(noise), find)
    assert found == pytest.approx([share for share in shares if share > CUT[0]])


def test_a_face_and_what_stands_out_are_kept_together() -> None:
    image = Image.new("RGB", (400, 400), "white")
    image.paste("red", (150, 250, 250, 350))
    box = choose_crop(image, CropRule("subject", margin=0), lambda _: [(180, 100, 220, 140)])
    assert box[1] == 80
    assert box[3] >= 345


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    model = tmp_path / "broken.xml"
    model.write_text("")
    monkeypatch.setitem(sys.modules, "cv2", opencv())
    assert face_finder() is None
    with pytest.raises(UserError, match="reads no cascades"):
        face_finder(model)
    with pytest.raises(UserError, match="does not exist"):
        face_finder(tmp_path / "none.onnx")
    monkeypatch.setitem(sys.modules, "cv2", opencv(CascadeClassifier=Cascade))
    find = face_finder(model)
    assert find is not None
    with pytest.raises(UserError, match="is no cascade"):
        find(Image.new("RGB", (64, 64)))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert face_finder() is None
    with pytest.raises(UserError, match="pip install"):
        face_finder(model)


def test_a_file_that_is_no_model_of_yunets(tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2")
    assert hasattr(cv2, "FaceDetectorYN")
    model = tmp_path / "face.onnx"
    model.write_bytes(b"no model")
    find = face_finder(model)
    assert find is not None
    with pytest.raises(UserError, match="YuNet"):
        find(Image.new("RGB", (64, 64)))
