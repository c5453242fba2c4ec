from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorasmith.core.errors import SettingsError
from lorasmith.data.buckets import Buckets, bucket_sizes, place, plan_buckets

SIDES = st.integers(1, 6000)
STEPS = st.sampled_from([8, 16, 32, 64])


# Counts read off sd-scripts' own generator for these settings.
@pytest.mark.parametrize(
    ("resolution", "low", "high", "count"),
    [(512, 320, 768, 9), (512, 256, 1024, 17), (576, 320, 768, 9), (768, 256, 1024, 19),
     (1024, 256, 2048, 41), (512, 320, 960, 9)],
)  # fmt: skip
def test_as_many_buckets_as_sd_scripts(resolution: int, low: int, high: int, count: int) -> None:
    assert len(bucket_sizes(resolution, resolution, min=low, max=high, step=64)) == count


def test_the_nine_buckets_of_the_guides() -> None:
    sizes = bucket_sizes(512, 512, min=320, max=768, step=64)
    tall = [(320, 704), (320, 768), (384, 640), (448, 576)]
    assert sizes == sorted([*tall, (512, 512), *((h, w) for w, h in tall)])


@given(STEPS, st.integers(2, 20), st.integers(2, 20), st.integers(1, 4), st.integers(1, 4))
def test_bucket_sizes_keep_to_area_step_and_range(
    step: int, across: int, down: int, narrower: int, wider: int
) -> None:
    width, height = across * step, down * step
    low, high = min(width, height) // narrower, max(width, height) * wider
    sizes = bucket_sizes(width, height, min=low, max=high, step=step)
    assert sizes == sorted(set(sizes))
    assert all((h, w) in sizes for w, h in sizes)
    for w, h in sizes:
        assert w * h <= width * height
        assert w % step == 0
        assert h % step == 0
        # One of its sides could not be a step longer, but for the range and for the square that is
        # always there.
        longer = min(w * (h + step), h * (w + step), key=lambda area: area <= width * height)
        assert longer > width * height or max(w, h) + step > high or w == h


@given(SIDES, SIDES, STEPS, st.booleans(), st.booleans())
def test_placement_covers_its_bucket_and_crops_inside(
    width: int, height: int, step: int, upscale: bool, enabled: bool
) -> None:
    buckets = plan_buckets(256, 320, step=step if enabled else None, enabled=enabled,
                           upscale=upscale)  # fmt: skip
    placement = place(width, height, buckets)
    left, top, right, bottom = placement.crop
    assert (right - left, bottom - top) == placement.bucket
    assert 0 <= left <= right <= placement.resized[0]
    assert 0 <= top <= bottom <= placement.resized[1]
    # Centred, to the pixel that cannot be halved.
    assert 0 <= (placement.resized[0] - right) - left <= 1
    assert 0 <= (placement.resized[1] - bottom) - top <= 1
    assert all(side % buckets.step == 0 for side in placement.bucket)
    assert math.prod(placement.bucket) <= buckets.area
    assert 0 <= placement.cropped < 1
    # One scale for both sides, to rounding: the image is not stretched.
    scale = placement.scale
    assert abs(placement.resized[0] - width * scale) <= 1 + width / min(width, height)
    assert abs(placement.resized[1] - height * scale) <= 1 + height / min(width, height)


@given(SIDES, SIDES)
def test_with_upscaling_no_bucket_is_nearer_in_aspect(width: int, height: int) -> None:
    buckets = plan_buckets(512, 512)
    chosen = place(width, height, buckets).bucket
    aspect = width / height
    best = min(abs(w / h - aspect) for w, h in buckets.sizes)
    assert abs(chosen[0] / chosen[1] - aspect) == best


@given(st.integers(64, 6000), st.integers(64, 6000))
def test_without_upscaling_nothing_grows(width: int, height: int) -> None:
    placement = place(width, height, plan_buckets(512, 512, upscale=False))
    if placement.resized != (width, height) and min(placement.bucket) > 64:
        assert placement.scale <= 1
    if width * height <= 512 * 512:
        assert placement.resized == (width, height)
        assert placement.bucket == (width // 64 * 64, height // 64 * 64)


def test_a_image_of_a_buckets_size_is_left_alone() -> None:
    # 320x704 and 320x768 are near; each keeps what is exactly its own.
    buckets = plan_buckets(512, 512, min=320, max=768)
    for size in buckets.sizes:
        assert place(*size, buckets).resized == size
        assert place(*size, buckets).cropped == 0


def test_sd_scripts_issue_731_without_upscaling() -> None:
    # There it became 960x960.
    placement = place(1050, 1080, plan_buckets(1024, 1024, upscale=False))
    assert placement.bucket == (1024, 1024)


def test_smaller_than_a_step_is_enlarged_to_it() -> None:
    placement = place(40, 100, plan_buckets(512, 512, upscale=False))
    assert placement.bucket == (64, 64)
    assert placement.resized == (64, 160)


def test_without_buckets_all_images_have_one_size() -> None:
    buckets = plan_buckets(512, 384, enabled=False)
    assert buckets.sizes == ((512, 384),)
    assert {place(w, h, buckets).bucket for w, h in [(10, 900), (512, 384)]} == {(512, 384)}


@pytest.mark.parametrize(
    ("given_size", "used", "said"),
    [((500, 500), 512 * 512, True), ((512, 512), 512 * 512, False),
     ((479, 500), 448 * 512, True), ((480, 500), 512 * 512, True)],
)  # fmt: skip
def test_resolution_off_the_step_is_rounded_and_said(
    given_size: tuple[int, int], used: int, said: bool
) -> None:
    width, height = given_size
    buckets = plan_buckets(width, height, step=64)
    assert buckets.area == used
    assert bool(buckets.notes) == said
    if said:
        assert f"{width}x{height}" in buckets.notes[0].what


@pytest.mark.parametrize(
    ("resolution", "multiple", "step"),
    [
        (512, 8, 64),
        (500, 8, 64),
        (1024, 8, 64),
        (4, 8, 8),
        (128, 8, 16),
        (64, 8, 8),
        (64, 16, 16),
        (256, 64, 64),
    ],
)
def test_step_follows_the_size_of_images(resolution: int, multiple: int, step: int) -> None:
    assert plan_buckets(resolution, resolution, multiple=multiple).step == step


def test_range_is_rounded_outward_and_said() -> None:
    buckets = plan_buckets(512, 512, min=300, max=800)
    assert buckets.sizes == tuple(bucket_sizes(512, 512, min=256, max=832, step=64))
    assert [note.where for note in buckets.notes] == ["buckets.min", "buckets.max"]


def test_max_equal_to_the_resolution_is_allowed() -> None:
    assert max(w for w, _ in plan_buckets(768, 768, min=320, max=768).sizes) == 768


def test_a_range_without_the_resolution_is_refused_with_both_reasons() -> None:
    with pytest.raises(SettingsError) as caught:
        plan_buckets(832, 832, min=896, max=768)
    assert [problem.where for problem in caught.value.problems] == ["buckets.min", "buckets.max"]


def test_a_step_that_the_model_cannot_take_is_refused() -> None:
    with pytest.raises(SettingsError, match="48"):
        plan_buckets(512, 512, step=50, multiple=16)


def test_range_without_upscaling_has_no_effect_and_says_so() -> None:
    notes = plan_buckets(512, 512, min=256, max=1024, upscale=False).notes
    assert "no effect" in notes[0].what


def test_sdxl_size_condition() -> None:
    # A 1200x1000 image in a 512x512 bucket: scaled to 614x512, cropped 51 from the left.
    placement = place(1200, 1000, Buckets(((512, 512),), 512 * 512, 64))
    assert placement.resized == (614, 512)
    assert placement.size_condition() == (1000, 1200, 0, 51, 512, 512)
    odd = place(1201, 1000, Buckets(((512, 512),), 512 * 512, 64))
    left, right = odd.crop[0], odd.resized[0] - odd.crop[2]
    assert odd.size_condition(flipped=True)[3] == right != left
