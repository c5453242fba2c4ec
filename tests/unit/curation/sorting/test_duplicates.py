from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from lorasmith.core.errors import Stopped
from lorasmith.core.events import Controls, Event, Progress
from lorasmith.curation.sorting import duplicates as fingerprints
from lorasmith.curation.sorting.duplicates import (
    ImageFingerprint,
    fingerprint_images,
    near_duplicates,
)
from lorasmith.data.images import glance

Save = Callable[..., Path]


def names(groups: list[list[Path]]) -> list[set[str]]:
    return [{path.name for path in group} for group in groups]


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
    found = near_duplicates(fingerprint_images(paths))
    assert names(found) == [{"3.png", "smaller.png", "brighter.png", "jpeg.jpg"}]


def test_the_same_pattern_in_other_colours_is_another_image(tmp_path: Path, save: Save) -> None:
    path = save(tmp_path / "a.png", 128, 128)
    pixels = np.asarray(Image.open(path).convert("L"))
    tints = {"red": (255, 120, 120), "blue": (170, 170, 255)}
    for name, tint in tints.items():
        tinted = (pixels[..., None] / 255 * np.array(tint)).astype(np.uint8)
        Image.fromarray(tinted).save(tmp_path / f"{name}.png")
    assert near_duplicates(fingerprint_images([tmp_path / f"{name}.png" for name in tints])) == []


def test_blank_images_of_one_colour_are_alike_of_others_not(tmp_path: Path) -> None:
    for name, colour in {"a": "red", "b": "red", "c": "lime", "d": "black"}.items():
        Image.new("RGB", (40, 40), colour).save(tmp_path / f"{name}.png")
    found = near_duplicates(fingerprint_images(sorted(tmp_path.iterdir())))
    assert names(found) == [{"a.png", "b.png"}]


def test_transparency_counts_where_it_shows(tmp_path: Path) -> None:
    Image.new("RGBA", (40, 40), (1, 2, 3, 255)).save(tmp_path / "opaque.png")
    Image.new("RGBA", (40, 40), (1, 2, 3, 200)).save(tmp_path / "clear.png")
    Image.new("P", (40, 40)).save(tmp_path / "palette.png", transparency=0)
    clear = {
        look.path.name
        for look in fingerprint_images(sorted(tmp_path.iterdir()))
        if look.transparent
    }
    assert clear == {"clear.png", "palette.png"}


def test_only_new_images_are_decoded_again(
    tmp_path: Path, save: Save, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [save(tmp_path / f"{number}.png") for number in range(4)]
    for path in paths:
        os.utime(path, (time.time() - 60,) * 2)
    memo = tmp_path / "memo.json"
    first = fingerprint_images(paths, memo=memo)
    seen: list[Path] = []
    original = glance
    monkeypatch.setattr(fingerprints, "glance", lambda path: seen.append(path) or original(path))
    assert fingerprint_images(paths, memo=memo) == first
    assert seen == []
    Image.new("RGB", (33, 33)).save(paths[2])
    fingerprint_images(paths, memo=memo)
    assert seen == [paths[2]]


def test_progress_and_stopping(tmp_path: Path, save: Save) -> None:
    paths = [save(tmp_path / f"{number}.png") for number in range(6)]
    controls = Controls()
    events: list[Event] = []

    def observe(event: Event) -> None:
        events.append(event)
        if len(events) == 3:
            controls.stop()

    with pytest.raises(Stopped):
        fingerprint_images(paths, observer=observe, controls=controls)
    assert events == [Progress("looking at pictures", n, 6) for n in (1, 2, 3)]


def test_ten_thousand_hashes_are_compared_in_a_few_seconds() -> None:
    rng = Random(0)
    hashes = [rng.getrandbits(64) for _ in range(10_000)]
    colours = bytes(48)
    many = [
        ImageFingerprint(Path(f"{n}.png"), None, False, value, colours)
        for n, value in enumerate(hashes)
    ]
    for n in range(50):  # at the greatest distance that still counts
        flips = sum(1 << bit for bit in rng.sample(range(64), fingerprints.MAX_DISTANCE))
        many.append(
            ImageFingerprint(Path(f"copy {n}.png"), None, False, hashes[n] ^ flips, colours)
        )
    begin = time.process_time()
    groups = near_duplicates(many)
    assert time.process_time() - begin < 5
    pairs = [{f"{n}.png", f"copy {n}.png"} for n in range(50)]
    assert all(pair in names(groups) for pair in pairs)


def test_transparent_images_are_remembered_too(tmp_path: Path) -> None:
    path = tmp_path / "clear.png"
    Image.new("RGBA", (40, 40), (255, 0, 0, 128)).save(path)
    os.utime(path, (1e9, 1e9))  # settled: what is seen of it goes into the memo
    memo = tmp_path / "looks.json"
    first = fingerprint_images([path], memo=memo)
    assert first[0].transparent
    assert memo.exists()
    assert fingerprint_images([path], memo=memo) == first
