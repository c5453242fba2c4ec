"""Prompts in the place of images: what runs that look at none have as their dataset.

An item is a prompt, of the size that is trained at, and no file stands behind it. An epoch has no
meaning of its own; it is a number of steps, after which the order of prompts is drawn anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lorasmith.config.schema import TrainSettings
from lorasmith.config.sections.data import CaptionSettings
from lorasmith.core.errors import Problem
from lorasmith.curation.check.augmentation import count_augmentation
from lorasmith.curation.check.check import CaptionCount, CheckReport, count_steps
from lorasmith.data.buckets import plan_buckets
from lorasmith.data.dataset import Dataset, build_dataset
from lorasmith.data.layout import FolderSpec
from lorasmith.data.scan import DatasetImage, Scan
from lorasmith.models.families.table import Architecture
from lorasmith.models.tokenizer import count_tokens
from lorasmith.training.kinds.kind import PromptTraining
from lorasmith.training.setup.length import PlannedLength, plan_length_of_prompts

STEPS_PER_EPOCH = 100
FOLDER = Path("prompts")


@dataclass(frozen=True, slots=True)
class PromptData:
    """Prompts, as a run on images has its images.

    Args:
        batches: of an epoch, over all processes.
        length: of the run, with its settings.
    """

    scan: Scan
    dataset: Dataset
    batches: int
    length: PlannedLength
    report: CheckReport


def prompt_data(
    prompts: PromptTraining, settings: TrainSettings, architecture: Architecture, processes: int
) -> PromptData:
    """What such a run has in the place of images.

    Raises:
        SettingsError: the resolution does not suit the model.
    """
    train, captions = settings.train, prompts.captions(settings)
    size = settings.data.resolution or architecture.native_resolution
    width, height = (size, size) if isinstance(size, int) else size
    buckets = plan_buckets(width, height, enabled=False, multiple=architecture.size_multiple)
    width, height = buckets.sizes[0]
    repeats = -(-STEPS_PER_EPOCH * train.batch * train.accumulation * processes // len(captions))
    images = tuple(
        DatasetImage(FOLDER / f"prompt {number}", 0, width, height, caption, None, has_alpha=False)
        for number, caption in enumerate(captions, 1)
    )
    scan = Scan((FolderSpec(FOLDER, repeats),), images)
    dataset = build_dataset(scan, buckets, CaptionSettings())
    batches = dataset.batches_per_epoch(train.batch, processes)
    length = plan_length_of_prompts(settings, -(-batches // train.accumulation))
    report = _report(dataset, prompts, buckets.notes, length, processes)
    return PromptData(scan, dataset, batches, length, report)


def _report(
    dataset: Dataset,
    prompts: PromptTraining,
    notes: Sequence[Problem],
    length: PlannedLength,
    processes: int,
) -> CheckReport:
    settings = length.settings
    train = settings.train
    epochs = train.epochs if isinstance(train.epochs, int) else 1
    texts = list(dict.fromkeys([*prompts.captions(settings), *prompts.further(settings)]))
    return CheckReport(
        (),
        (*notes, *_long(texts, settings.model.max_tokens)),
        count_steps(dataset, train.batch, processes, train.accumulation, epochs, train.steps),
        CaptionCount(0, 0, 0, max(map(count_tokens, texts))),
        (),
        (),
        (),
        (),
        count_augmentation(dataset),
        (),
        length=length.explanation,
        prompts=tuple(prompts.describe(settings)),
    )


def _long(texts: Sequence[str], most: int) -> Iterator[Problem]:
    for text in texts:
        count = count_tokens(text)
        if count > most:
            what = f"{text[:40]!r} has {count} tokens, and the model reads {most} of them"
            yield Problem("prompts", what, "shorten it, or raise model.max_tokens")
