from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image, ImageEnhance
from scipy.spatial import cKDTree

from lorasmith.curation.facts import ImageFacts
from lorasmith.curation.measuring import measure_image
from lorasmith.curation.sorting.duplicates import MAX_DISTANCE, near_duplicates
from lorasmith.curation.sorting.versions import (
    _patterns,
    _Table,
    cropped_copies,
    mirrored_copies,
)

Save = Callable[..., Path]

THUMBNAIL = ImageFacts(
    *("", 64, 64, 1000, "PNG", 1, "", False, 0, bytes(48), bytes(576), 0.0, 0.5, 0.1, 0.1)
)


def measured(paths: Iterable[Path]) -> dict[Path, ImageFacts]:
    return {path: measure_image(path) for path in paths}


def names(groups: list[list[Path]]) -> list[set[str]]:
    return [{path.name for path in group} for group in groups]


def test_pictures_of_one_colour_are_nobodys_copies(tmp_path: Path) -> None:
    for number in range(3):
        Image.new("RGB", (64, 48), (80 * number, 0, 0)).save(tmp_path / f"{number}.png")
    facts = measured(sorted(tmp_path.iterdir()))
    assert mirrored_copies(facts) == cropped_copies(facts) == []


def test_copies_are_found_and_others_are_not(tmp_path: Path, save: Save) -> None:
    paths = [save(tmp_path / f"{number}.png", 200, 160) for number in range(30)]
    original = Image.open(paths[3])
    copies = {
        "smaller.png": original.resize((130, 104)),
        "brighter.png": ImageEnhance.Brightness(original).enhance(1.03),
    }
    for name, image in copies.items():
        image.save(tmp_path / name)
    original.save(tmp_path / "jpeg.jpg", quality=70)
    paths += [tmp_path / name for name in (*copies, "jpeg.jpg")]
    found = near_duplicates(measured(paths))
    assert names(found) == [{"3.png", "smaller.png", "brighter.png", "jpeg.jpg"}]


def test_the_same_pattern_in_other_colours_is_another_image(tmp_path: Path, save: Save) -> None:
    path = save(tmp_path / "a.png", 128, 128)
    pixels = np.asarray(Image.open(path).convert("L"))
    tints = {"red": (255, 120, 120), "blue": (170, 170, 255)}
    for name, tint in tints.items():
        tinted = (pixels[..., None] / 255 * np.array(tint)).astype(np.uint8)
        Image.fromarray(tinted).save(tmp_path / f"{name}.png")
    assert near_duplicates(measured([tmp_path / f"{name}.png" for name in tints])) == []


def test_blank_images_of_one_colour_are_alike_of_others_not(tmp_path: Path) -> None:
    for name, colour in {"a": "red", "b": "red", "c": "lime", "d": "black"}.items():
        Image.new("RGB", (40, 40), colour).save(tmp_path / f"{name}.png")
    found = near_duplicates(measured(sorted(tmp_path.iterdir())))
    assert names(found) == [{"a.png", "b.png"}]


def test_ten_thousand_hashes_are_compared_in_a_few_seconds() -> None:
    rng = Random(0)
    hashes = [rng.getrandbits(64) for _ in range(10_000)]
    like = ImageFacts("", 1, 1, 1, "PNG", 1, "", False, 0, bytes(48), bytes(576), 0, 0, 0, 0)
    many = {Path(f"{n}.png"): replace(like, phash=value) for n, value in enumerate(hashes)}
    for n in range(50):  # at the greatest distance that still counts
        flips = sum(1 << bit for bit in rng.sample(range(64), MAX_DISTANCE))
        many[Path(f"copy {n}.png")] = replace(like, phash=hashes[n] ^ flips)
    begin = time.process_time()
    groups = near_duplicates(many)
    assert time.process_time() - begin < 5
    pairs = [{f"{n}.png", f"copy {n}.png"} for n in range(50)]
    assert all(pair in names(groups) for pair in pairs)


def test_the_nearest_thumbnails_are_those_of_a_tree() -> None:
    """Some in a crowd of more than are told, and none equally far."""
    rng = np.random.default_rng(1)
    soft = rng.integers(0, 256, (90, 6, 6)).repeat(4, 1).repeat(4, 2)
    soft[60:] = soft[0] + rng.integers(-40, 41, (30, 24, 24))
    facts = {
        Path(f"{number}.png"): replace(
            THUMBNAIL, greys=grey.clip(0, 255).astype(np.uint8).tobytes()
        )
        for number, grey in enumerate(soft)
    }
    table = _Table(facts)
    for versions in (table.greys[:, :, ::-1], table.windows(0.07)):
        tree = cKDTree(_patterns(table.greys))
        distances, indices = tree.query(_patterns(versions), k=4, distance_upper_bound=0.55)
        expected = [
            (first, second)
            for first, (far, others) in enumerate(zip(distances, indices.tolist(), strict=True))
            for distance, second in zip(far, others, strict=True)
            if np.isfinite(distance)
        ]
        assert list(table.near(versions)) == expected
    assert len(expected) > 4 * 30


def test_thumbnails_without_their_edges_are_pillows() -> None:
    greys = np.random.default_rng(2).integers(0, 256, (5, 24, 24), dtype=np.uint8)
    facts = {
        Path(f"{number}.png"): replace(THUMBNAIL, greys=grey.tobytes())
        for number, grey in enumerate(greys)
    }
    box = (0.12 * 24, 0.12 * 24, 0.88 * 24, 0.88 * 24)
    for grey, window in zip(greys, _Table(facts).windows(0.12), strict=True):
        image = Image.fromarray(grey.astype(np.float32))
        assert np.array_equal(window, image.resize((24, 24), Image.Resampling.BILINEAR, box))
