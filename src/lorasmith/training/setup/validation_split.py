"""From settings to the images that are held out of training and measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lorasmith.config.sections.validation import ValidationSettings
from lorasmith.core.errors import DatasetError, Problem, SettingsError
from lorasmith.data.captions import CaptionRules
from lorasmith.data.dataset import Dataset, SampleGroup
from lorasmith.data.holdout import hold_out, measured, measuring_dataset
from lorasmith.data.layout import find_folders
from lorasmith.data.scan import DatasetImage, Scan, scan

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
        self, settings: ValidationSettings, sizes: Sequence[SampleGroup], rules: CaptionRules
    ) -> ValidationSet | None:
        """What is measured of it; ``None`` when nothing is held out."""
        if not self.images:
            return None
        groups = measured(self.training, self.images, settings.seed, settings.pictures)
        dataset = measuring_dataset(self.everything, groups, sizes, rules, settings.seed)
        return ValidationSet(dataset, len(groups[0]))


def hold_out_of(settings: ValidationSettings, found: Scan, extension: str = "auto") -> HeldOut:
    """Hold images of ``found`` out, or find those of a folder of their own.

    Args:
        extension: of caption files.

    Raises:
        SettingsError: no image can be held out.
        DatasetError: the folder for validation is missing, empty or has unreadable images.
    """
    if settings.folder is not None:
        return _own_folder(settings, found, extension)
    if not settings.split or not found.images:
        return HeldOut(found, (), found)
    training, images = hold_out(found, settings.split, settings.seed)
    if not images:
        raise SettingsError.of(
            "validation.split",
            "nothing can be held out: there is no folder with more than one training picture",
            "add pictures, or name others with validation.folder",
        )
    return HeldOut(training, images, found)


def _own_folder(settings: ValidationSettings, found: Scan, extension: str) -> HeldOut:
    assert settings.folder is not None
    folders = [spec for spec in find_folders(settings.folder) if not spec.reg]
    own = scan(folders, extension=extension)
    own.require_usable()
    first = len(found.folders)
    images = tuple(replace(p, folder=p.folder + first) for p in own.images)
    trained = {image.path.resolve() for image in found.images}
    both = [image for image in images if image.path.resolve() in trained]
    if both:
        raise DatasetError.of(
            settings.folder,
            f"{len(both)} of its pictures are trained on too, {both[0].path.name} for one",
            "validation needs pictures that training does not see: move them out of one folder",
        )
    everything = replace(found, folders=(*found.folders, *folders))
    return HeldOut(found, images, everything)


def near_duplicates_across(held: HeldOut, alike: Sequence[Sequence[Path]]) -> list[Problem]:
    """Held-out images that look like one that is trained on, so that they tell nothing.

    Args:
        alike: groups of images that look alike.
    """
    out = {image.path for image in held.images}
    found = [
        path.name for group in alike if not out.issuperset(group) for path in group if path in out
    ]
    if not found:
        return []
    what = f"of the held-out pictures {len(found)} look like training pictures: {shown(found)}"
    hint = "remove the copies: there the held-out loss falls as if they were trained on"
    return [Problem("validation", what, hint)]


def shown(names: Sequence[str], most: int = 3) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
