"""Pictures that are kept from training, to measure on them what training does to others.

Which they are is a function of a seed and the files' names: a rerun, a resumed run and a run on
another machine hold out the same. A picture's place among the others does not matter, so a picture
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
from lorasmith.data.scan import Picture, Scan


def picture_number(picture: Picture) -> int:
    """A 63-bit number for the file's name: what its fixed draws are counted by."""
    name = unicodedata.normalize("NFC", picture.path.name)
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "little") >> 1


def hold_out(scan: Scan, share: float, seed: int) -> tuple[Scan, tuple[Picture, ...]]:
    """Take ``share`` of each folder's pictures out of ``scan``.

    A folder gives at least one picture, and keeps at least one; of a single picture nothing is held
    out, nor of regularisation pictures.

    Args:
        share: 0 < share < 1; rounded to the nearest number of pictures.

    Returns:
        What is left to train on, and what is held out, in the scan's order.
    """
    held: set[int] = set()
    for index, spec in enumerate(scan.folders):
        own = [n for n, picture in enumerate(scan.pictures) if picture.folder == index]
        if spec.reg or len(own) < 2:
            continue
        count = min(max(1, int(share * len(own) + 0.5)), len(own) - 1)
        held.update(sorted(own, key=lambda n: _rank(scan.pictures[n], seed))[:count])
    kept = tuple(picture for n, picture in enumerate(scan.pictures) if n not in held)
    out = tuple(picture for n, picture in enumerate(scan.pictures) if n in held)
    return dataclasses.replace(scan, pictures=kept), out


def measured(
    scan: Scan, held_out: Sequence[Picture], seed: int, limit: int | None = None
) -> tuple[tuple[Picture, ...], tuple[Picture, ...]]:
    """The held-out pictures that are measured, and as many training pictures to set beside them.

    The training pictures are of the same folders, in the same numbers, as far as these have them;
    else of any folder but those of regularisation pictures. There may be fewer of them.

    Args:
        scan: what is trained on.
        held_out: indices of folders are those of ``scan``, or beyond them for folders of their own.
        limit: the most held-out pictures; ``None`` for all.
    """
    chosen = _ranked(held_out, seed)[:limit]
    training = _ranked((p for p in scan.pictures if not scan.folders[p.folder].reg), seed)
    wanted = Counter(picture.folder for picture in chosen)
    beside: list[Picture] = []
    for picture in training:
        if wanted[picture.folder] > 0:
            wanted[picture.folder] -= 1
            beside.append(picture)
    taken = set(map(id, beside))
    rest = [picture for picture in training if id(picture) not in taken]
    return tuple(chosen), (*beside, *rest[: len(chosen) - len(beside)])


def measuring_dataset(
    scan: Scan,
    groups: Sequence[Sequence[Picture]],
    buckets: Buckets | Sequence[SampleGroup],
    rules: CaptionRules,
    seed: int,
) -> Dataset:
    """The pictures of all ``groups``, one after the other, as they are measured.

    Each once, not mirrored, its caption with nothing shuffled or dropped; where a caption has
    choices, one is made for good.

    Args:
        scan: whose folders the pictures' indices mean.
        rules: those of training.
    """
    pictures = tuple(
        dataclasses.replace(
            picture,
            caption=_fixed_caption(picture, scan.folders[picture.folder].rules or rules, seed),
        )
        for group in groups
        for picture in group
    )
    folders = tuple(
        dataclasses.replace(
            spec, repeats=1, reg=False, weight=1.0, rules=CaptionRules(), augmentation=PLAIN
        )
        for spec in scan.folders
    )
    return build_dataset(Scan(folders, pictures), buckets)


def _fixed_caption(picture: Picture, rules: CaptionRules, seed: int) -> str:
    still = dataclasses.replace(
        rules,
        shuffle=False,
        dropout=0.0,
        dropout_every_n_epochs=None,
        tag_dropout=0.0,
        tag_warmup_steps=0,
    )
    rng = python_rng(seed, "measured caption", picture_number(picture))
    return augment_caption(picture.caption or "", still, rng=rng)


def _ranked(pictures: Iterable[Picture], seed: int) -> list[Picture]:
    return sorted(pictures, key=lambda picture: _rank(picture, seed))


def _rank(picture: Picture, seed: int) -> tuple[int, str]:
    """An order that looks random; equal names are told apart by their folders."""
    return derive(seed, "held out", picture_number(picture)), str(picture.path)
