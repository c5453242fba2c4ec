"""Everything worth knowing about a dataset before training on it.

:func:`check_dataset` looks at every image and caption and gives a :class:`CheckReport`: what
forbids training, what is odd, and the tables that say what training will see. Nothing here loads a
model.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lorasmith.core.errors import DatasetError, Problem
from lorasmith.core.events import Controls, Event, Observer, ignore
from lorasmith.core.text import quantity
from lorasmith.curation.check import checks
from lorasmith.curation.check.augmentation import (
    AugmentationCount,
    count_augmentation,
    odd_augmentation,
    wrong_faces,
)
from lorasmith.curation.collection import measure_files
from lorasmith.curation.facts import ImageFacts
from lorasmith.curation.sorting.duplicates import near_duplicates
from lorasmith.data.caption_files import TABLE_SUFFIXES
from lorasmith.data.dataset import Dataset, Item
from lorasmith.data.layout import Ignored, folder_caption
from lorasmith.data.scan import DatasetImage, Scan
from lorasmith.data.triggers import Trigger


@dataclass(frozen=True, slots=True)
class FolderRow:
    """One folder of the dataset.

    Args:
        repeats: as set; what a regularisation image is really used is in ``uses``.
        samples: uses of all its images in an epoch.
        captions: images with a caption file.
        tables: images whose captions stand in a table of many, by the table's name.
        fallback: what the others are called, or ``None``.
        uses: images by their number of uses in an epoch.
    """

    path: Path
    reg: bool
    pictures: int
    repeats: int
    samples: int
    captions: int
    tables: dict[str, int]
    fallback: str | None
    uses: dict[int, int]


@dataclass(frozen=True, slots=True)
class BucketRow:
    """One size that images are brought to; ``worst_crop`` is a share of the area, 0..1."""

    width: int
    height: int
    pictures: int
    samples: int
    batches: int
    worst_crop: float


@dataclass(frozen=True, slots=True)
class ImageRow:
    """What becomes of one image: ``scale`` over 1 enlarges; ``cropped`` is a share, 0..1.
    ``recorded_crop`` is the box that ``size`` is of, where one is recorded beside the file."""

    path: Path
    size: tuple[int, int]
    bucket: tuple[int, int]
    resized: tuple[int, int]
    crop: tuple[int, int, int, int]
    scale: float
    cropped: float
    uses: int
    recorded_crop: tuple[int, int, int, int] | None = None


@dataclass(frozen=True, slots=True)
class StepCount:
    """How the number of steps comes about.

    Args:
        train_samples: training images times their repeats.
        reg_samples: regularisation images, repeated to match.
        buckets: that have samples; each is cut into batches by itself.
        batch_sizes: samples per batch over all processes; of several groups all that there are.
        batches: per epoch, the sum over buckets of ceil(samples / batch).
        accumulation: batches per optimizer step.
        steps_per_epoch: ceil(batches / accumulation).
        epochs: of the run, or those that ``total`` steps begin.
        total: optimizer steps of the run.
        fixed: ``total`` was given by itself, by the user or by the rule of lengths.
    """

    train_samples: int
    reg_samples: int
    buckets: int
    batch_sizes: tuple[int, ...]
    batches: int
    accumulation: int
    steps_per_epoch: int
    epochs: int
    total: int
    fixed: bool

    def __str__(self) -> str:
        samples = self.train_samples + self.reg_samples
        reg = f" + {self.reg_samples} regularisation" if self.reg_samples else ""
        train_text = quantity(self.train_samples, "sample")
        samples_text = f"{self.train_samples}{reg} samples" if reg else train_text
        parts = [f"{samples_text} in {quantity(self.buckets, 'bucket')},"]
        sizes = " or ".join(map(str, self.batch_sizes))
        parts.append(f"{sizes} to a batch: {quantity(self.batches, 'batch')} an epoch")
        if len(self.batch_sizes) == 1:
            short = self.batches - -(-samples // self.batch_sizes[0])
            if short:
                parts.append(f"({short} more than {samples} / {sizes}: no batch mixes buckets)")
        if self.accumulation > 1:
            parts.append(
                f"of which {self.accumulation} make a step: "
                f"{quantity(self.steps_per_epoch, 'step')} an epoch"
            )
        if self.fixed:
            epochs = f"{self.total / self.steps_per_epoch:.3g}"
            text = quantity(1, "epoch") if epochs == "1" else f"{epochs} epochs"
            parts.append(f"; {quantity(self.total, 'step')}, which is {text}")
        else:
            times = f"{self.steps_per_epoch} x {quantity(self.epochs, 'epoch')}"
            parts.append(f"; {times} = {quantity(self.total, 'step')}")
        return " ".join(parts).replace(" ;", ";")


@dataclass(frozen=True, slots=True)
class CaptionCount:
    """Captions of the training images; ``longest`` in CLIP tokens, 0 when not counted."""

    from_file: int
    from_folder: int
    none: int
    longest: int


@dataclass(frozen=True, slots=True)
class CheckReport:
    """``errors`` forbid training; ``warnings`` are odd; the rest is what training will see:
    ``prompts`` in place of pictures where there are none of these."""

    errors: tuple[Problem, ...]
    warnings: tuple[Problem, ...]
    steps: StepCount
    captions: CaptionCount
    folders: tuple[FolderRow, ...]
    buckets: tuple[BucketRow, ...]
    pictures: tuple[ImageRow, ...]
    near_duplicates: tuple[tuple[Path, ...], ...]
    augmentation: AugmentationCount
    ignored: tuple[Ignored, ...]
    held_out: tuple[Path, ...] = ()
    triggers: tuple[Trigger, ...] = ()
    length: str = ""
    prompts: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """JSON-ready values; each ``because`` is a sentence that explains numbers beside it."""
        value = _plain(asdict(self))
        assert isinstance(value, dict)
        value["steps"]["because"] = str(self.steps)
        value["augmentation"]["because"] = str(self.augmentation)
        return value

    def require_usable(self) -> None:
        """Raises :class:`DatasetError` with every error, if there is one."""
        if self.errors:
            raise DatasetError(self.errors)


@dataclass(frozen=True, slots=True)
class DatasetChecked(Event):
    """What was found in the dataset that a job is about to use."""

    report: CheckReport

    def record(self) -> dict[str, Any]:
        return {"event": type(self).__name__, **self.report.to_json()}


def check_dataset(
    scan: Scan,
    dataset: Dataset,
    *,
    batch: int = 1,
    processes: int = 1,
    accumulation: int = 1,
    epochs: int = 1,
    steps: int | None = None,
    length: str = "",
    count_tokens: Callable[[str], int] | None = None,
    max_tokens: int = 75,
    triggers: Sequence[Trigger] = (),
    warnings: Sequence[Problem] = (),
    held_out: Sequence[DatasetImage] = (),
    decode: bool = True,
    captioned: bool = True,
    observer: Observer = ignore,
    controls: Controls | None = None,
) -> CheckReport:
    """Check a dataset as a run would use it.

    Args:
        scan: where the dataset comes from.
        dataset: built from ``scan``.
        batch: samples per batch and process, in groups without a size of their own.
        processes: that train together.
        accumulation: batches per optimizer step.
        epochs: of the run.
        steps: of the run; overrides ``epochs``.
        length: how they come about, "" where they were set.
        count_tokens: CLIP tokens of a caption; ``None`` leaves lengths unchecked.
        max_tokens: longest caption that the run encodes.
        triggers: what calls up the images of each folder.
        warnings: of other checks of the same images.
        held_out: images that are not trained on; they are looked at as well.
        decode: look into every image, not at its header only.
        captioned: images should have captions of their own.
        observer: told of progress.
        controls: asked between images.

    Raises:
        Stopped: by ``controls``.
    """
    paths = list(dict.fromkeys(image.path for image in (*scan.images, *held_out)))
    facts = measure_files(paths, observer, controls) if decode else {}
    alike = near_duplicates(facts)
    train = [item for item in dataset.items if not item.reg]
    tokens = checks.caption_lengths(dataset, count_tokens)
    unused = checks.unused_mask_files(scan, dataset)
    damaged = [
        Problem(str(path), one.problem, one.hint) for path, one in facts.items() if one.problem
    ]
    sources = {item.image.caption_path for item in dataset.items}
    tables = {path.resolve() for path in sources if path and path.suffix.lower() in TABLE_SUFFIXES}
    # One beside the folders is found once more there.
    ignored = [one for one in scan.ignored if one.path.resolve() not in tables]
    dataset_warnings = _warnings(scan, dataset, facts, alike, tokens, batch, processes, max_tokens)
    dataset_warnings += checks.missing_captions(scan) if captioned else ()
    return CheckReport(
        (*scan.problems, *damaged, *wrong_faces(dataset)),
        (*dataset_warnings, *warnings),
        count_steps(dataset, batch, processes, accumulation, epochs, steps),
        _captions(train, tokens),
        tuple(_folder_rows(scan, dataset)),
        tuple(_bucket_rows(dataset, batch, processes)),
        tuple(_image_row(item) for item in dataset.items),
        tuple(tuple(group) for group in alike),
        count_augmentation(dataset),
        (*ignored, *(Ignored(path, "a mask that is not used") for path in unused)),
        tuple(image.path for image in held_out),
        tuple(triggers),
        length,
    )


def _warnings(
    scan: Scan,
    dataset: Dataset,
    facts: Mapping[Path, ImageFacts],
    alike: Sequence[Sequence[Path]],
    tokens: dict[Path, int],
    batch: int,
    processes: int,
    max_tokens: int,
) -> list[Problem]:
    return [
        *scan.warnings,
        *checks.unused_masks(scan, dataset),
        *dict.fromkeys(note for group in dataset.groups for note in group.buckets.notes),
        *checks.long_captions(tokens, max_tokens),
        *checks.unused_syntax(dataset),
        *checks.odd_captions(dataset),
        *checks.nothing_to_vary(dataset),
        *checks.shared_stems(scan),
        *checks.enlarged(dataset.items),
        *checks.cropped(dataset.items),
        *checks.lonely_buckets(dataset, batch, processes),
        *checks.regularisation(dataset),
        *checks.transparent(facts),
        *checks.alike(alike),
        *odd_augmentation(dataset),
    ]


def count_steps(
    dataset: Dataset, batch: int, processes: int, accumulation: int, epochs: int, steps: int | None
) -> StepCount:
    batches = dataset.batches_per_epoch(batch, processes)
    sizes = {dataset.groups[one.group].batch_size(batch, processes) for one in dataset.buckets}
    per_epoch = -(-batches // accumulation)
    total = steps if steps is not None else per_epoch * epochs
    return StepCount(
        sum(item.repeats for item in dataset.items if not item.reg),
        sum(item.repeats for item in dataset.items if item.reg),
        len(dataset.buckets),
        tuple(sorted(sizes)),
        batches,
        accumulation,
        per_epoch,
        -(-total // per_epoch) if per_epoch else 0,
        total,
        steps is not None,
    )


def _captions(train: Sequence[Item], tokens: dict[Path, int]) -> CaptionCount:
    from_file = sum(item.image.caption_path is not None for item in train)
    none = sum(not item.caption for item in train)
    longest = max(tokens.values(), default=0)
    return CaptionCount(from_file, len(train) - from_file - none, none, longest)


def _folder_rows(scan: Scan, dataset: Dataset) -> list[FolderRow]:
    rows = []
    for index, spec in enumerate(scan.folders):
        items = [item for item in dataset.items if item.image.folder == index]
        sources = [path for item in items if (path := item.image.caption_path) is not None]
        tables = Counter(path.name for path in sources if path.suffix.lower() in TABLE_SUFFIXES)
        rows.append(
            FolderRow(
                spec.path,
                spec.reg,
                len(items),
                spec.repeats,
                sum(item.repeats for item in items),
                len(sources) - sum(tables.values()),
                dict(tables),
                folder_caption(spec),
                dict(sorted(Counter(item.repeats for item in items).items())),
            )
        )
    return rows


def _bucket_rows(dataset: Dataset, batch: int, processes: int) -> list[BucketRow]:
    rows = []
    for bucket in dataset.buckets:
        (width, height), refs = bucket.size, bucket.samples
        items = {ref.item for ref in refs}
        worst = max(dataset.items[index].placement.cropped for index in items)
        batches = dataset.batch_count(bucket, batch, processes)
        rows.append(BucketRow(width, height, len(items), len(refs), batches, round(worst, 4)))
    return rows


def _image_row(item: Item) -> ImageRow:
    placement = item.placement
    return ImageRow(
        item.image.path,
        placement.original,
        placement.bucket,
        placement.resized,
        placement.crop,
        round(placement.scale, 4),
        round(placement.cropped, 4),
        item.repeats,
        item.image.region.box if item.image.region is not None else None,
    )


def _plain(value: object) -> object:
    """Paths as text, tuples as lists, all the way down; keys as JSON wants them."""
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    return str(value) if isinstance(value, Path) else value
