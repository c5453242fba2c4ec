from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lorasmith.curation.images.crop import (
    CropRule,
    box_around,
    choose_crop,
    crop_of_size,
    largest,
    parse_aspects,
    parse_focus,
    window,
)
from lorasmith.data.buckets import place, plan_buckets
from lorasmith.data.recorded_crops import Box

SIDES = st.integers(1, 5000)
SIZES = st.tuples(SIDES, SIDES)


@given(SIZES, SIZES)
def test_the_largest_part_of_a_shape_touches_two_sides(
    size: tuple[int, int], aspect: tuple[int, int]
) -> None:
    part = largest(size, aspect)
    assert 1 <= part[0] <= size[0]
    assert 1 <= part[1] <= size[1]
    assert part[0] == size[0] or part[1] == size[1]
    # Either side is within half a pixel of the exact ratio, or at its least.
    exact = (part[1] * aspect[0] / aspect[1], part[0] * aspect[1] / aspect[0])
    assert abs(part[0] - exact[0]) <= 0.5 or abs(part[1] - exact[1]) <= 0.5 or 1 in part


@given(st.data())
def test_windows_lie_in_the_image_and_as_near_as_they_can(data: st.DataObject) -> None:
    size = data.draw(SIZES)
    part = data.draw(st.tuples(st.integers(1, size[0]), st.integers(1, size[1])))
    x = data.draw(st.integers(0, size[0]))
    y = data.draw(st.integers(0, size[1]))
    box = window(size, part, (x, y, x, y))
    assert (box[2] - box[0], box[3] - box[1]) == part
    for axis, point in ((0, x), (1, y)):
        assert 0 <= box[axis] <= size[axis] - part[axis]
        room = size[axis] - part[axis]
        ideal = min(max(point - part[axis] / 2, 0), room)
        assert abs(box[axis] - ideal) <= 0.5


def test_of_a_tall_subject_the_head_stays() -> None:
    box = window((400, 1000), (400, 400), (100, 100, 300, 950))
    assert box == (0, 84, 400, 484)


@pytest.mark.parametrize(
    ("focus", "box"),
    [
        ("center", (100, 0, 300, 200)),
        ("left", (0, 0, 200, 200)),
        ("right", (200, 0, 400, 200)),
        ("top", (100, 0, 300, 200)),
        ((0.75, 0.5), (200, 0, 400, 200)),
        ((0.6, 0.5), (140, 0, 340, 200)),
    ],
)
def test_squares_at_places(focus: str, box: Box) -> None:
    rule = CropRule(focus=focus)
    assert crop_of_size((400, 200), rule) == box
    assert choose_crop(Image.new("RGB", (400, 200)), rule) == box


@given(st.tuples(st.integers(200, 3000), st.integers(200, 3000)))
def test_what_is_cropped_to_a_bucket_goes_there_and_loses_next_to_nothing(
    size: tuple[int, int],
) -> None:
    buckets = plan_buckets(512, 512)
    box = crop_of_size(size, CropRule("bucket", "center", buckets))
    placement = place(box[2] - box[0], box[3] - box[1], buckets)
    assert placement.bucket == place(*size, buckets).bucket
    assert max(placement.resized[n] - placement.bucket[n] for n in (0, 1)) <= 3


@pytest.mark.parametrize(
    ("size", "box"),
    [
        ((900, 500), (75, 0, 825, 500)),
        ((600, 500), (50, 0, 550, 500)),
        ((400, 900), (0, 150, 400, 750)),
    ],
)
def test_the_nearest_of_given_shapes(size: tuple[int, int], box: Box) -> None:
    rule = CropRule("aspect", "center", aspects=parse_aspects("1:1, 2:3,3:2"))
    assert crop_of_size(size, rule) == box


@pytest.mark.parametrize("text", ["", "1", "1:0", "1:2:3", "a:b", "1:1,,2:3", "1:99999"])
def test_what_is_no_shape(text: str) -> None:
    with pytest.raises(ValueError, match="is no shape"):
        parse_aspects(text)


def test_faces_come_before_subjects_and_lie_above_the_middle() -> None:
    image = Image.new("RGB", (400, 1000), "white")
    image.paste("red", (100, 700, 300, 990))
    rule = CropRule()
    assert choose_crop(image, rule)[3] > 700
    box = choose_crop(image, rule, find_faces=lambda _: [(150, 300, 250, 400)])
    assert box[0] == 0
    assert box[3] - box[1] == 400
    assert (350 - box[1]) / 400 == pytest.approx(0.42, abs=0.01)

    # Asked for the subject, faces are not looked for.
    def find_faces(image: Image.Image) -> list[Box]:
        raise AssertionError

    assert choose_crop(image, CropRule(focus="subject"), find_faces)[3] > 700


def test_trimmed_first() -> None:
    image = Image.new("RGB", (300, 260))
    image.paste(Image.effect_noise((300, 200), 90).convert("RGB"), (0, 30))
    assert choose_crop(image, CropRule("whole", trim=True)) == (0, 30, 300, 230)
    left, top, right, bottom = choose_crop(image, CropRule("square", "center", trim=True))
    assert (left, top, right, bottom) == (50, 30, 250, 230)


def test_boxes_with_margins_end_at_the_image() -> None:
    assert box_around((100, 100), (10, 10, 60, 30), 0.5) == (0, 0, 85, 40)
    assert box_around((100, 100), (50, 50, 60, 60), 0) == (50, 50, 60, 60)


def test_places_in_words() -> None:
    assert parse_focus(" Centre ") == "center"
    assert parse_focus("0.5,1") == (0.5, 1.0)
    for text in ("middle", "1.5,0", "0.5", "nan,0", "1,2,3", ""):
        with pytest.raises(ValueError, match="neither a place"):
            parse_focus(text)
