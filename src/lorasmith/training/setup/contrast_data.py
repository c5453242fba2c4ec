"""What runs that learn a difference have as their dataset: prompts in the place of images, or pairs
of images that differ in one thing.

Without images an item is a prompt, of the size that is trained at, and no file stands behind it;
of pairs it is the image with more of the attribute, and the other side's dataset has its partner in
the same place. An epoch has no meaning of its own; it is a number of steps, after which the order
is drawn anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lorasmith.config.schema import TrainSettings
from lorasmith.config.sections.data import CaptionSettings
from lorasmith.core.errors import DatasetError, Problem
from lorasmith.core.events import Controls, Observer
from lorasmith.curation.check.augmentation import count_augmentation
from lorasmith.curation.check.check import CaptionCount, CheckReport, check_dataset, count_steps
from lorasmith.curation.collection import finish_interrupted
from lorasmith.data.buckets import Buckets, plan_buckets
from lorasmith.data.dataset import Dataset, build_dataset
from lorasmith.data.layout import FolderSpec
from lorasmith.data.pairs import find_sides, scan_pairs
from lorasmith.data.scan import DatasetImage, Scan
from lorasmith.models.families.table import Architecture
from lorasmith.models.tokenizer import count_tokens
from lorasmith.training.kinds.kind import ContrastTraining
from lorasmith.training.setup.length import PlannedLength, usual_length

STEPS_PER_EPOCH = 100
FOLDER = Path("prompts")


@dataclass(frozen=True, slots=True)
class ContrastData:
    """What a run on images has in its images.

    Args:
        batches: of an epoch, over all processes.
        length: of the run, with its settings.
        opposites: of pairs the other side.
    """

    scan: Scan
    dataset: Dataset
    batches: int
    length: PlannedLength
    report: CheckReport
    opposites: Dataset | None = None


def prompt_data(
    contrast: ContrastTraining, settings: TrainSettings, architecture: Architecture, processes: int
) -> ContrastData:
    """Prompts in the place of images.

    Raises:
        SettingsError: the resolution does not suit the model.
    """
    captions = contrast.captions(settings)
    size = settings.data.resolution or architecture.native_resolution
    width, height = (size, size) if isinstance(size, int) else size
    buckets = plan_buckets(width, height, enabled=False, multiple=architecture.size_multiple)
    width, height = buckets.sizes[0]
    images = tuple(
        DatasetImage(FOLDER / f"prompt {number}", 0, width, height, caption, None, has_alpha=False)
        for number, caption in enumerate(captions, 1)
    )
    scan = Scan((FolderSpec(FOLDER, _repeats(len(images), settings, processes)),), images)
    dataset = build_dataset(scan, buckets, CaptionSettings())
    batches, length = _length(dataset, settings, processes)
    texts = list(dict.fromkeys([*captions, *contrast.further(settings)]))
    report = CheckReport(
        (),
        (*buckets.notes, *_long(texts, settings.model.max_tokens)),
        count_steps(dataset, *_counts(length.settings, processes)),
        CaptionCount(0, 0, 0, max(map(count_tokens, texts))),
        (),
        (),
        (),
        (),
        count_augmentation(dataset),
        (),
        length=length.explanation,
        prompts=tuple(contrast.describe(settings)),
    )
    return ContrastData(scan, dataset, batches, length, report)


def pair_data(
    contrast: ContrastTraining,
    settings: TrainSettings,
    buckets: Buckets,
    processes: int,
    observer: Observer,
    controls: Controls | None,
) -> ContrastData:
    """Pairs of images.

    Raises:
        DatasetError: they are not there, one has no partner, or cannot be read.
        Stopped: by ``controls``.
    """
    assert settings.data.path is not None, "a run has them"
    (caption,) = contrast.captions(settings)
    finish_interrupted(find_sides(settings.data.path), observer)
    pairs = scan_pairs(settings.data.path, caption)
    pairs = pairs.repeated(_repeats(len(pairs.high.images), settings, processes))
    dataset = build_dataset(pairs.high, buckets, CaptionSettings(), augmentation=settings.augment)
    batches, length = _length(dataset, settings, processes)
    opposites = pairs.opposites(dataset)
    low, high = (
        check_dataset(
            side,
            of_side,
            batch=settings.train.batch,
            processes=processes,
            captioned=False,
            observer=observer,
            controls=controls,
        )
        for side, of_side in ((pairs.low, opposites), (pairs.high, dataset))
    )
    if problems := (*low.errors, *high.errors):
        raise DatasetError(dict.fromkeys(problems))
    warnings = dict.fromkeys((*low.warnings, *high.warnings))
    report = replace(
        high,
        warnings=(*warnings, *_long([caption], settings.model.max_tokens)),
        steps=count_steps(dataset, *_counts(length.settings, processes)),
        folders=(*low.folders, *high.folders),
        ignored=(*low.ignored, *high.ignored),
        length=length.explanation,
    )
    return ContrastData(pairs.high, dataset, batches, length, report, opposites)


def _repeats(items: int, settings: TrainSettings, processes: int) -> int:
    """Of each item, so that an epoch has :data:`STEPS_PER_EPOCH` steps or few more."""
    train = settings.train
    return -(-STEPS_PER_EPOCH * train.batch * train.accumulation * processes // items)


def _length(dataset: Dataset, settings: TrainSettings, processes: int) -> tuple[int, PlannedLength]:
    """Batches of an epoch over all processes, and the run's length."""
    batches = dataset.batches_per_epoch(settings.train.batch, processes)
    return batches, usual_length(settings, -(-batches // settings.train.accumulation))


def _counts(settings: TrainSettings, processes: int) -> tuple[int, int, int, int, int | None]:
    """What :func:`.count_steps` takes besides the dataset."""
    train = settings.train
    epochs = train.epochs if isinstance(train.epochs, int) else 1
    return train.batch, processes, train.accumulation, epochs, train.steps


def _long(texts: Sequence[str], most: int) -> Iterator[Problem]:
    for text in texts:
        count = count_tokens(text)
        if count > most:
            what = f"{text[:40]!r} has {count} tokens, and the model reads {most} of them"
            yield Problem("prompts", what, "shorten it, or raise model.max_tokens")
