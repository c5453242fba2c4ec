"""Images that are kept from training, to measure on them what training does to others.

Which they are is a function of a seed and the files' names: a rerun, a resumed run and a run on
another machine hold out the same. An image's place among the others does not matter, so an image
that is added or removed changes the choice by one or two.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path

from lorasmith.config.sections.data import CaptionSettings
from lorasmith.config.sections.validation import ValidationSettings
from lorasmith.core.errors import DatasetError, Problem, SettingsError
from lorasmith.core.rng import derive, python_rng
from lorasmith.data.augmentation.views import PLAIN
from lorasmith.data.buckets import Buckets
from lorasmith.data.captions import augment_caption
from lorasmith.data.dataset import Dataset, SampleGroup, build_dataset
from lorasmith.data.layout import find_folders
from lorasmith.data.scan import DatasetImage, Scan, scan
from lorasmith.data.triggers import apply_like


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
    val_indices: set[int] = set()
    for index, spec in enumerate(scan.folders):
        indices = [n for n, image in enumerate(scan.images) if image.folder == index]
        if spec.reg or len(indices) < 2:
            continue
        count = min(max(1, int(share * len(indices) + 0.5)), len(indices) - 1)
        val_indices.update(sorted(indices, key=lambda n: _rank(scan.images[n], seed))[:count])
    train_images = tuple(image for n, image in enumerate(scan.images) if n not in val_indices)
    val_images = tuple(image for n, image in enumerate(scan.images) if n in val_indices)
    return replace(scan, images=train_images), val_images


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
    val_images = _ranked(held_out, seed)[:limit]
    training = _ranked((p for p in scan.images if not scan.folders[p.folder].reg), seed)
    quotas = Counter(image.folder for image in val_images)
    beside: list[DatasetImage] = []
    for image in training:
        if quotas[image.folder] > 0:
            quotas[image.folder] -= 1
            beside.append(image)
    beside_ids = set(map(id, beside))
    rest = [image for image in training if id(image) not in beside_ids]
    return tuple(val_images), (*beside, *rest[: len(val_images) - len(beside)])


def measuring_dataset(
    scan: Scan,
    groups: Sequence[Sequence[DatasetImage]],
    buckets: Buckets | Sequence[SampleGroup],
    rules: CaptionSettings,
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
        replace(
            image,
            caption=_fixed_caption(image, scan.folders[image.folder].rules or rules, seed),
        )
        for group in groups
        for image in group
    )
    folders = tuple(
        replace(spec, repeats=1, reg=False, weight=1.0, rules=CaptionSettings(), augmentation=PLAIN)
        for spec in scan.folders
    )
    return build_dataset(Scan(folders, images), buckets)


def _fixed_caption(image: DatasetImage, rules: CaptionSettings, seed: int) -> str:
    still = rules.model_copy(
        update={
            "shuffle": False,
            "dropout": 0.0,
            "dropout_every_n_epochs": None,
            "tag_dropout": 0.0,
            "tag_warmup_steps": 0,
        }
    )
    rng = python_rng(seed, "measured caption", image_number(image))
    return augment_caption(image.caption or "", still, rng=rng)


def _ranked(images: Iterable[DatasetImage], seed: int) -> list[DatasetImage]:
    return sorted(images, key=lambda image: _rank(image, seed))


def _rank(image: DatasetImage, seed: int) -> tuple[int, str]:
    """An order that looks random; equal names are told apart by their folders."""
    return derive(seed, "held out", image_number(image)), str(image.path)


# Samples of a forward pass; always the same, so that numbers do not depend on the machine.
BATCH = 8


@dataclass(frozen=True, slots=True)
class ValidationSet:
    """The images whose loss is measured, as a dataset of their own.

    Args:
        dataset: held-out images first, then the training images that are set beside them.
        held_out: how many of its items are held out.
    """

    dataset: Dataset
    held_out: int


@dataclass(frozen=True, slots=True)
class HeldOut:
    """What is left of a scan to train on, and what was held out.

    Args:
        training: without what is held out.
        images: held out; empty when nothing is.
        everything: all folders, those of training first: what indices of folders mean.
    """

    training: Scan
    images: tuple[DatasetImage, ...]
    everything: Scan

    def measured(
        self, settings: ValidationSettings, sizes: Sequence[SampleGroup], rules: CaptionSettings
    ) -> ValidationSet | None:
        """What is measured of it; ``None`` when nothing is held out."""
        if not self.images:
            return None
        groups = measured(self.training, self.images, settings.seed, settings.pictures)
        dataset = measuring_dataset(self.everything, groups, sizes, rules, settings.seed)
        return ValidationSet(dataset, len(groups[0]))


def hold_out_of(settings: ValidationSettings, full_scan: Scan, extension: str = "auto") -> HeldOut:
    """Hold images of ``full_scan`` out, or find those of a folder of their own.

    Args:
        extension: of caption files.

    Raises:
        SettingsError: no image can be held out.
        DatasetError: the folder for validation is missing, empty or has unreadable images.
    """
    if settings.folder is not None:
        return _own_folder(settings, full_scan, extension)
    if not settings.split or not full_scan.images:
        return HeldOut(full_scan, (), full_scan)
    training, images = hold_out(full_scan, settings.split, settings.seed)
    if not images:
        raise SettingsError.of(
            "validation.split",
            "nothing can be held out: there is no folder with more than one training picture",
            "add pictures, or name others with validation.folder",
        )
    return HeldOut(training, images, full_scan)


def _own_folder(settings: ValidationSettings, train_scan: Scan, extension: str) -> HeldOut:
    assert settings.folder is not None
    folders = [spec for spec in find_folders(settings.folder) if not spec.reg]
    val_scan = scan(folders, extension=extension)
    val_scan.require_usable()
    val_scan = apply_like(val_scan, train_scan)
    first = len(train_scan.folders)
    images = tuple(replace(p, folder=p.folder + first) for p in val_scan.images)
    train_paths = {image.path.resolve() for image in train_scan.images}
    overlap = [image for image in images if image.path.resolve() in train_paths]
    if overlap:
        raise DatasetError.of(
            settings.folder,
            f"{len(overlap)} of its pictures are trained on too, {overlap[0].path.name} for one",
            "validation needs pictures that training does not see: move them out of one folder",
        )
    everything = replace(train_scan, folders=(*train_scan.folders, *val_scan.folders))
    return HeldOut(train_scan, images, everything)


def near_duplicates_across(held: HeldOut, alike: Sequence[Sequence[Path]]) -> list[Problem]:
    """Held-out images that look like one that is trained on, so that they tell nothing.

    Args:
        alike: groups of images that look alike.
    """
    out = {image.path for image in held.images}
    copies = [
        path.name for group in alike if not out.issuperset(group) for path in group if path in out
    ]
    if not copies:
        return []
    names = ", ".join(copies[:3]) + (f" and {len(copies) - 3} more" if len(copies) > 3 else "")
    what = f"of the held-out pictures {len(copies)} look like training pictures: {names}"
    hint = "remove the copies: there the held-out loss falls as if they were trained on"
    return [Problem("validation", what, hint)]
