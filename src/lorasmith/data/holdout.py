"""Images that are kept from training, to measure on them what training does to others.

Which they are is a function of a seed and the files' names: a rerun, a resumed run and a run on
another machine hold out the same. An image's place among the others does not matter, so an image
that is added or removed changes the choice by one or two.
"""

from __future__ import annotations

import dataclasses
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from hashlib import blake2b

from lorasmith.core.rng import derive, python_rng
from lorasmith.data.augmentation.views import PLAIN
from lorasmith.data.buckets import Buckets
from lorasmith.data.captions import CaptionRules, augment_caption
from lorasmith.data.dataset import Dataset, SampleGroup, build_dataset
from lorasmith.data.scan import DatasetImage, Scan


def image_number(image: DatasetImage) -> int:
    """A 63-bit number for the file's name: what its fixed draws are counted by."""
    name = unicodedata.normalize("NFC", image.path.name)
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "little") >> 1


def hold_out(scan: Scan, share: float, seed: int) -> tuple[Scan, tuple[DatasetImage, ...]]:
    """Take ``share`` of each folder's images out of ``scan``.

    A folder gives at least one image, and keeps at least one; of a single image nothing is held
    out, nor of regularisation images.

    Args:
        share: 0 < share < 1; rounded to the nearest number of images.

    Returns:
        What is left to train on, and what is held out, in the scan's order.
    """
    held: set[int] = set()
    for index, spec in enumerate(scan.folders):
        own = [n for n, image in enumerate(scan.images) if image.folder == index]
        if spec.reg or len(own) < 2:
            continue
        count = min(max(1, int(share * len(own) + 0.5)), len(own) - 1)
        held.update(sorted(own, key=lambda n: _rank(scan.images[n], seed))[:count])
    kept = tuple(image for n, image in enumerate(scan.images) if n not in held)
    out = tuple(image for n, image in enumerate(scan.images) if n in held)
    return dataclasses.replace(scan, images=kept), out


def measured(
    scan: Scan, held_out: Sequence[DatasetImage], seed: int, limit: int | None = None
) -> tuple[tuple[DatasetImage, ...], tuple[DatasetImage, ...]]:
    """The held-out images that are measured, and as many training images to set beside them.

    The training images are of the same folders, in the same numbers, as far as these have them;
    else of any folder but those of regularisation images. There may be fewer of them.

    Args:
        scan: what is trained on.
        held_out: indices of folders are those of ``scan``, or beyond them for folders of their own.
        limit: the most held-out images; ``None`` for all.
    """
    chosen = _ranked(held_out, seed)[:limit]
    training = _ranked((p for p in scan.images if not scan.folders[p.folder].reg), seed)
    wanted = Counter(image.folder for image in chosen)
    beside: list[DatasetImage] = []
    for image in training:
        if wanted[image.folder] > 0:
            wanted[image.folder] -= 1
            beside.append(image)
    taken = set(map(id, beside))
    rest = [image for image in training if id(image) not in taken]
    return tuple(chosen), (*beside, *rest[: len(chosen) - len(beside)])


def measuring_dataset(
    scan: Scan,
    groups: Sequence[Sequence[DatasetImage]],
    buckets: Buckets | Sequence[SampleGroup],
    rules: CaptionRules,
    seed: int,
) -> Dataset:
    """The images of all ``groups``, one after the other, as they are measured.

    Each once, not mirrored, its caption with nothing shuffled or dropped; where a caption has
    choices, one is made for good.

    Args:
        scan: whose folders the images' indices mean.
        rules: those of training.
    """
    images = tuple(
        dataclasses.replace(
            image,
            caption=_fixed_caption(image, scan.folders[image.folder].rules or rules, seed),
        )
        for group in groups
        for image in group
    )
    folders = tuple(
        dataclasses.replace(
            spec, repeats=1, reg=False, weight=1.0, rules=CaptionRules(), augmentation=PLAIN
        )
        for spec in scan.folders
    )
    return build_dataset(Scan(folders, images), buckets)


def _fixed_caption(image: DatasetImage, rules: CaptionRules, seed: int) -> str:
    still = dataclasses.replace(
        rules,
        shuffle=False,
        dropout=0.0,
        dropout_every_n_epochs=None,
        tag_dropout=0.0,
        tag_warmup_steps=0,
    )
    rng = python_rng(seed, "measured caption", image_number(image))
    return augment_caption(image.caption or "", still, rng=rng)


def _ranked(images: Iterable[DatasetImage], seed: int) -> list[DatasetImage]:
    return sorted(images, key=lambda image: _rank(image, seed))


def _rank(image: DatasetImage, seed: int) -> tuple[int, str]:
    """An order that looks random; equal names are told apart by their folders."""
    return derive(seed, "held out", image_number(image)), str(image.path)
