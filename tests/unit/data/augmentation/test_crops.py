"""Crops lie in the image, have the bucket's size, cover it, and hold the face."""

from __future__ import annotations

from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from lorasmith.data.augmentation.crops import (
    FaceBox,
    face_box,
    face_crop,
    has_room,
    random_crop,
    slices,
    without_face,
)
from lorasmith.data.buckets import Placement, place, plan_buckets

SIDES = st.integers(16, 4000)
SEEDS = st.integers(0, 10_000)
UPSCALE = st.booleans()


def placed(width: int, height: int, upscale: bool = True, resolution: int = 512) -> Placement:
    return place(width, height, plan_buckets(resolution, resolution, upscale=upscale))


def assert_lies_within(crop: Placement, own: Placement) -> None:
    left, top, right, bottom = crop.crop
    assert 0 <= left < right <= crop.resized[0]
    assert 0 <= top < bottom <= crop.resized[1]
    assert (right - left, bottom - top) == own.bucket == crop.bucket
    assert crop.original == own.original


@given(SIDES, SIDES, UPSCALE, SEEDS, st.floats(1, 4))
def test_random_crops(width: int, height: int, upscale: bool, seed: int, zoom: float) -> None:
    own = placed(width, height, upscale)
    crop = random_crop(own, Random(seed), zoom)
    assert_lies_within(crop, own)
    for axis in (0, 1):
        assert own.resized[axis] <= crop.resized[axis] <= round(own.resized[axis] * zoom)
    if zoom == 1 and not has_room(own):
        assert crop == own


def test_random_crops_reach_every_position() -> None:
    own = placed(600, 518, resolution=512)
    room = own.resized[0] - own.bucket[0], own.resized[1] - own.bucket[1]
    assert max(room) > 4
    rng = Random(0)
    corners = {random_crop(own, rng).crop[:2] for _ in range(2000)}
    assert {x for x, _ in corners} == set(range(room[0] + 1))
    assert {y for _, y in corners} == set(range(room[1] + 1))


@given(SIDES, SIDES, UPSCALE, st.integers(0, 30))
def test_slices_cover_the_image(width: int, height: int, upscale: bool, limit: int) -> None:
    own = placed(width, height, upscale)
    found = slices(own, limit)
    assert len(found) <= limit
    assert len(set(found)) == len(found)
    if not found:
        return
    resized = found[0].resized
    assert resized[0] <= max(width, own.bucket[0])
    assert resized[1] <= max(height, own.bucket[1])
    seen = np.zeros((resized[1], resized[0]), bool)
    for crop in found:
        assert_lies_within(crop, own)
        assert crop.resized == resized
        left, top, right, bottom = crop.crop
        seen[top:bottom, left:right] = True
    assert seen.all()


def test_slices_keep_as_much_of_the_resolution_as_the_limit_allows() -> None:
    own = placed(2048, 2048)
    assert [crop.crop[:2] for crop in slices(own, 4)] == [(0, 0), (512, 0), (0, 512), (512, 512)]
    assert slices(own, 4)[0].resized == (1024, 1024)
    assert slices(own, 8)[0].resized == (1024, 1024)
    assert slices(own, 16)[0].resized == (2048, 2048)
    assert len(slices(own, 64)) == 16
    assert len(slices(placed(1300, 1300), 9)) == 9
    assert slices(own, 0) == slices(own, 1) == ()
    assert slices(placed(700, 700), 9) == (), "too small to be worth it"


@given(SIDES, SIDES, UPSCALE, SEEDS, st.data())
def test_face_crops_hold_the_face(
    width: int, height: int, upscale: bool, seed: int, data: st.DataObject
) -> None:
    face_width = data.draw(st.integers(1, width))
    face_height = data.draw(st.integers(1, height))
    left = data.draw(st.integers(0, width - face_width))
    top = data.draw(st.integers(0, height - face_height))
    face = FaceBox(left + face_width // 2, top + face_height // 2, face_width, face_height)
    own = placed(width, height, upscale)
    crop = face_crop(own, face, (1.5, 4.0), Random(seed))
    assert_lies_within(crop, own)
    assert crop.scale <= max(own.scale, 1) * (1 + 1 / min(own.resized)) + 1e-9, "not enlarged"
    across = crop.resized[0] / width
    down = crop.resized[1] / height
    assume(max(face_width * across, face_height * down) <= min(own.bucket))
    margin = 2 + max(across, down)
    assert crop.crop[0] <= left * across + margin
    assert crop.crop[1] <= top * down + margin
    assert crop.crop[2] >= (left + face_width) * across - margin
    assert crop.crop[3] >= (top + face_height) * down - margin


def test_face_crops_have_the_asked_ratio() -> None:
    own, face = placed(3000, 3000), FaceBox(1500, 1200, 300, 260)
    rng = Random(3)
    ratios = [512 / (300 * face_crop(own, face, (2.0, 4.0), rng).scale) for _ in range(300)]
    assert min(ratios) == pytest.approx(2, rel=0.02)
    assert max(ratios) == pytest.approx(4, rel=0.02)
    assert sorted(ratios)[150] == pytest.approx(8**0.5, rel=0.06), "even on a logarithmic scale"


def test_faces_in_names() -> None:
    assert face_box(Path("a/girl_0250_0180_0090_0110.png")) == FaceBox(250, 180, 90, 110)
    assert face_box(Path("x_y_0250_10180_0090_0110.jpg")) == FaceBox(250, 10180, 90, 110)
    assert face_box(Path("girl.png")) is None
    assert face_box(Path("photo_2023_10_05_12.png")) is None, "a date is no face"
    assert without_face("girl_a_0250_0180_0090_0110") == "girl_a"
    assert without_face("girl_a") == "girl_a"


@pytest.mark.parametrize(
    ("face", "inside"),
    [
        (FaceBox(50, 50, 20, 20), True),
        (FaceBox(50, 50, 100, 100), True),
        (FaceBox(50, 50, 0, 10), False),
        (FaceBox(95, 50, 20, 20), False),
        (FaceBox(50, 400, 20, 20), False),
    ],
)
def test_faces_lie_in_their_image(face: FaceBox, inside: bool) -> None:
    assert face.is_inside((100, 100)) is inside
