"""Which view a sample has follows from seed, epoch and sample, and each has its turn."""

from __future__ import annotations

import colorsys
from collections import Counter
from pathlib import Path
from random import Random
from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorasmith.config.sections.augment import AugmentSettings
from lorasmith.data.augmentation.views import (
    FACTOR,
    FRESH_VARIANTS,
    HUE_DEGREES,
    LUMA,
    Colour,
    View,
    draw_colour,
    recolour,
)
from lorasmith.data.buckets import plan_buckets
from lorasmith.data.dataset import Dataset, build_dataset
from lorasmith.data.layout import FolderSpec
from lorasmith.data.scan import DatasetImage, Scan

EVERYTHING = AugmentSettings(
    flip=True, colour=0.2, random_crop=True, zoom=1.3, slices=4, face_crop=(2.0, 4.0), variants=5
)


def make(augmentation: AugmentSettings, *, repeats: int = 3, before: int = 0) -> Dataset:
    """A large image, a small one and one with a face; ``before`` more in front of them."""
    names = [f"more{n}.png" for n in range(before)]
    names += ["large.png", "small.png", "face_0300_0300_0100_0120.png"]
    sizes = {"large.png": (2000, 1500), "small.png": (600, 500)}
    found = tuple(
        DatasetImage(Path(name), 0, *sizes.get(name, (700, 620)), "a", None, False)
        for name in names
    )
    folders = (FolderSpec(Path("f"), repeats),)
    return build_dataset(Scan(folders, found), plan_buckets(512, 512), augmentation=augmentation)


def uses(dataset: Dataset, item: int, count: int) -> list[View]:
    """What the item shows in its first uses."""
    refs = [ref for ref in dataset.samples if ref.item == item]
    epochs = range(-(-count // len(refs)))
    return [dataset.view_for(ref, seed=5, epoch=epoch) for epoch in epochs for ref in refs][:count]


def test_a_plain_image_has_one_view() -> None:
    dataset = make(AugmentSettings())
    for item in dataset.items:
        (view,) = dataset.views_of(item).all()
        assert view.placement == item.placement
        assert not view.flip
        assert view.colour is None


@pytest.mark.parametrize(("variants", "slots"), [(7, 7), ("fresh", FRESH_VARIANTS)])
def test_each_slot_comes_once_in_as_many_uses(variants: int | Literal["fresh"], slots: int) -> None:
    dataset = make(AugmentSettings(random_crop=True, zoom=1.5, variants=variants))
    large = dataset.items[0]
    assert dataset.views_of(large).slots == slots
    views = uses(dataset, 0, 6 * slots)
    for begin in range(0, len(views), slots):
        counts = Counter(view.placement for view in views[begin : begin + slots])
        assert counts[large.placement] == 1
        assert len(counts) == slots
    assert views[:slots] != views[slots : 2 * slots], "in another order each time"


def test_every_second_use_of_a_large_image_is_a_slice_in_turn() -> None:
    dataset = make(AugmentSettings(slices=4, colour=0.1, variants=3))
    for index in (0, 1):
        views = uses(dataset, index, 48)
        whole = dataset.items[index].placement
        if not dataset.views_of(dataset.items[index]).sliced:
            assert {view.placement for view in views} == {whole}
            continue
        sliced = [number for number, view in enumerate(views) if view.placement != whole]
        assert sliced == list(range(1, 48, 2))
        for begin in range(1, 48, 8):
            assert len({view.placement for view in views[begin : begin + 8 : 2]}) == 4


def test_images_take_turns_in_showing_slices() -> None:
    found = [DatasetImage(Path(f"{n}.png"), 0, 2000, 1500, "", None, False) for n in range(4)]
    dataset = build_dataset(
        Scan((FolderSpec(Path("f")),), tuple(found)),
        plan_buckets(512, 512),
        augmentation=AugmentSettings(slices=4),
    )
    for epoch in range(6):
        views = [dataset.view_for(ref, seed=0, epoch=epoch) for ref in dataset.samples]
        assert sum(view.placement != dataset.items[0].placement for view in views) == 2


def test_a_view_is_a_function_of_seed_epoch_and_sample() -> None:
    one, other = make(EVERYTHING), make(EVERYTHING)
    ref = one.samples[4]
    for epoch in (7, 2, 7):
        assert one.view_for(ref, seed=1, epoch=epoch) == other.view_for(ref, seed=1, epoch=epoch)
    by_seed = [
        [one.view_for(ref, seed=seed, epoch=epoch) for epoch in range(12)] for seed in (1, 2)
    ]
    assert by_seed[0] != by_seed[1]


def test_every_view_that_is_used_is_among_those_that_are_cached() -> None:
    dataset = make(EVERYTHING)
    cached = {(i.index, view) for i in dataset.items for view in dataset.views_of(i).all()}
    used = {
        (ref.item, dataset.view_for(ref, seed=3, epoch=epoch))
        for ref in dataset.samples
        for epoch in range(40)
    }
    assert used == cached


def test_cached_views_do_not_follow_the_seed_or_other_images() -> None:
    one, more = make(EVERYTHING), make(EVERYTHING, before=2)
    for left, right in zip(one.items, more.items[2:], strict=True):
        assert list(one.views_of(left).all()) == list(more.views_of(right).all())


def test_fresh_views_are_ever_new() -> None:
    dataset = make(AugmentSettings(colour=0.3, variants="fresh"), repeats=1)
    ref = dataset.samples[0]
    views = [dataset.view_for(ref, seed=0, epoch=epoch) for epoch in range(40)]
    drawn = [view for view in views if view.colour is not None]
    assert len(drawn) == 40 * (FRESH_VARIANTS - 1) // FRESH_VARIANTS
    assert len(set(drawn)) == len(drawn)
    assert views == [dataset.view_for(ref, seed=0, epoch=epoch) for epoch in range(40)]


def test_half_of_all_uses_are_mirrored_whatever_the_view() -> None:
    dataset = make(EVERYTHING, repeats=50)
    flips = Counter(
        (ref.item, dataset.view_for(ref, seed=0, epoch=epoch).flip)
        for ref in dataset.samples
        for epoch in range(8)
    )
    for item in range(3):
        assert 0.42 < flips[item, True] / 400 < 0.58


def test_crops_that_cannot_differ_are_not_made() -> None:
    dataset = make(AugmentSettings(random_crop=True))
    square = [item for item in dataset.items if item.placement.resized == item.placement.bucket]
    others = [item for item in dataset.items if item not in square]
    assert all(dataset.views_of(item).varied == 0 for item in square)
    assert all(dataset.views_of(item).varied == 3 for item in others)
    faces = make(AugmentSettings(face_crop=(2.0, 3.0), variants=6))
    assert [faces.views_of(item).varied for item in faces.items] == [0, 0, 5]


def test_size_conditions_follow_the_crop_that_is_used() -> None:
    dataset = make(AugmentSettings(slices=4))
    corner = list(dataset.views_of(dataset.items[0]).all())[-1]
    height, width, top, left, *target = corner.size_condition()
    assert (height, width) == (1500, 2000)
    assert (left, top) == corner.placement.crop[:2] != (0, 0)
    assert tuple(target[::-1]) == corner.placement.bucket


COLOURS = st.builds(Colour, st.floats(-20, 20), st.floats(0.67, 1.5), st.floats(0.67, 1.5))


def noise(low: int = 0, high: int = 256) -> np.ndarray:
    return np.random.default_rng(1).integers(low, high, (32, 32, 3), dtype=np.uint8)


def test_no_change_is_none() -> None:
    assert np.array_equal(recolour(noise(), Colour()), noise())


@given(COLOURS)
def test_grey_stays_grey(colour: Colour) -> None:
    greys = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    result = recolour(greys, colour)
    assert np.ptp(result, axis=2).max() == 0
    expected = 255 * (np.arange(256) / 255) ** colour.gamma
    assert np.abs(result[0, :, 0] - expected).max() <= 0.51
    assert result[0, 0, 0] == 0
    assert result[0, 255, 0] == 255


@given(st.floats(-20, 20), st.floats(0.67, 1.3))
def test_hue_and_saturation_keep_the_luma(hue: float, saturation: float) -> None:
    pixels = noise(90, 166)  # in the middle: nothing is clipped
    result = recolour(pixels, Colour(hue, saturation))
    assert np.abs((result.astype(float) - pixels) @ np.array(LUMA)).max() < 1.1


def test_hues_turn_the_right_way() -> None:
    """Towards where HSV's hue, of the standard library, goes."""
    red = np.full((1, 1, 3), (180, 60, 60), np.uint8)
    for degrees in (-15, 15):
        r, g, b = recolour(red, Colour(hue=degrees))[0, 0] / 255
        turned = (colorsys.rgb_to_hsv(r, g, b)[0] * 360 + 180) % 360 - 180
        assert turned == pytest.approx(degrees, abs=6)


def test_the_matrices_of_the_specification() -> None:
    """Filter Effects Module Level 1: grayscale(1) is saturate(0); hueRotate(90) by its table."""
    pixels = np.full((1, 1, 3), (140, 120, 110), np.uint8)
    grey = 0.2126 * 140 + 0.7152 * 120 + 0.0722 * 110
    assert np.abs(recolour(pixels, Colour(saturation=0)) - grey).max() < 1
    quarter = np.array([[0, 0, 1], [0.356, 0.855, -0.211], [-0.574, 1.43, 0.144]])
    expected = quarter @ np.array([140, 120, 110])
    assert np.abs(recolour(pixels, Colour(hue=90))[0, 0] - expected).max() < 0.6


def test_gamma_is_gentle_where_sd_scripts_is_not() -> None:
    """255 ** 0.95 would be 193; white stays white here."""
    white = np.full((1, 1, 3), 255, np.uint8)
    assert recolour(white, Colour(gamma=0.95)).min() == 255
    middle = np.full((1, 1, 3), 128, np.uint8)
    assert abs(int(recolour(middle, Colour(gamma=0.95))[0, 0, 0]) - 132) <= 1


@given(st.floats(0, 1), st.integers(0, 1000))
def test_strength_bounds_every_change(strength: float, seed: int) -> None:
    colour = draw_colour(strength, Random(seed))
    assert abs(colour.hue) <= HUE_DEGREES * strength
    for factor in (colour.saturation, colour.gamma):
        assert FACTOR**-strength * (1 - 1e-9) <= factor <= FACTOR**strength * (1 + 1e-9)
