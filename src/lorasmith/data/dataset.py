"""What an epoch consists of: items, their samples, and the order of batches.

An *item* is an image placed in its bucket; a *sample* is one use of an item in an epoch, so an
item with 10 repeats has 10 samples. The batches of an epoch are a pure function of seed, epoch and
batch size: nothing is drawn from a running generator, so position in an epoch is an integer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from lorasmith.config.sections.augment import AugmentSettings
from lorasmith.config.sections.data import CaptionSettings
from lorasmith.core.rng import python_rng
from lorasmith.data.augmentation.crops import FaceBox, face_box
from lorasmith.data.augmentation.masks import Mask
from lorasmith.data.augmentation.views import PLAIN, AugmentedViews, View
from lorasmith.data.buckets import Buckets, Placement, Size, place
from lorasmith.data.captions import augment_caption
from lorasmith.data.layout import FolderSpec
from lorasmith.data.scan import DatasetImage, Scan


@dataclass(frozen=True, slots=True)
class Item:
    """An image as training uses it.

    Args:
        index: its place in :attr:`Dataset.items`.
        image: the file.
        caption: as written, perhaps of several lines; "" when there is none.
        placement: bucket, scaling and crop.
        repeats: uses in an epoch; 0 for a regularisation image that is not needed.
        reg: a regularisation image.
        weight: factor on its loss.
        group: whose batches it is in, an index into :attr:`Dataset.groups`.
        mask: which parts of it are learned; ``None`` = the whole.
        face: where it shows one, as its name tells.
        rules: for its caption; ``None`` = the dataset's.
        augmentation: of it; ``None`` = the dataset's.
        views_name: what random views are drawn from; ``None`` = the file's name.
    """

    index: int
    image: DatasetImage
    caption: str
    placement: Placement
    repeats: int = 1
    reg: bool = False
    weight: float = 1.0
    group: int = 0
    mask: Mask | None = None
    face: FaceBox | None = None
    rules: CaptionSettings | None = None
    augmentation: AugmentSettings | None = None
    views_name: str | None = None


@dataclass(frozen=True, slots=True)
class SampleGroup:
    """Folders whose samples share batches, one of sd-scripts' ``[[datasets]]``.

    Regularisation images are repeated to match the training images of their group.

    Args:
        buckets: the sizes that its images are brought to.
        batch: samples per batch and process; ``None`` = the run's.
        name: keeps it apart from another one of the same buckets and batch.
    """

    buckets: Buckets
    batch: int | None = None
    name: str = ""

    def batch_size(self, batch: int, processes: int) -> int:
        """Samples per batch over all processes; ``batch`` is the run's own, per process."""
        return (self.batch or batch) * processes


@dataclass(frozen=True, slots=True)
class BucketSamples:
    """The samples of one size in one group: what batches are cut from.

    Args:
        group: index into :attr:`Dataset.groups`.
        size: width, height, px.
    """

    group: int
    size: Size
    samples: tuple[SampleRef, ...]


@dataclass(frozen=True, slots=True)
class SampleRef:
    """One use of an item in an epoch.

    Args:
        item: index into :attr:`Dataset.items`.
        repeat: which of the item's uses, from 0.
        id: its number among all samples, the same in every epoch: the counter of its random draws.
    """

    item: int
    repeat: int
    id: int


class Dataset:
    """Items, the groups they are in, and the rules for their captions.

    Epochs count from 0 here; a sample occurs exactly once in each.
    """

    def __init__(
        self,
        items: Sequence[Item],
        rules: CaptionSettings,
        groups: Sequence[SampleGroup],
        augmentation: AugmentSettings = PLAIN,
    ) -> None:
        assert all(item.index == index for index, item in enumerate(items))
        self.items = tuple(items)
        self.rules = rules
        self.groups = tuple(groups)
        self.augmentation = augmentation

    @cached_property
    def samples(self) -> tuple[SampleRef, ...]:
        """Every use of every item, in order; ``samples[n].id == n``."""
        uses = [(item.index, repeat) for item in self.items for repeat in range(item.repeats)]
        return tuple(SampleRef(item, repeat, n) for n, (item, repeat) in enumerate(uses))

    @cached_property
    def buckets(self) -> tuple[BucketSamples, ...]:
        """The samples by group and size, both sorted; sizes that have none are left out."""
        by_bucket: dict[tuple[int, Size], list[SampleRef]] = {}
        for ref in self.samples:
            item = self.items[ref.item]
            by_bucket.setdefault((item.group, item.placement.bucket), []).append(ref)
        return tuple(BucketSamples(*key, tuple(by_bucket[key])) for key in sorted(by_bucket))

    def batches(
        self, epoch: int, *, seed: int, batch: int, processes: int = 1
    ) -> list[list[SampleRef]]:
        """The batches of one epoch, in order.

        Samples are shuffled within their bucket, cut into batches (the last of a bucket may be
        short), and the batches are shuffled. No batch mixes buckets or groups.

        Args:
            epoch: from 0.
            seed: the run's.
            batch: samples per micro-step and process, in groups without a batch size of their own.
            processes: each takes its slice of a batch, which is so many times larger.
        """
        assert batch >= 1
        rng = python_rng(seed, "order", epoch)
        batches: list[list[SampleRef]] = []
        for bucket in self.buckets:
            size = self.groups[bucket.group].batch_size(batch, processes)
            shuffled = list(bucket.samples)
            rng.shuffle(shuffled)
            batches += [shuffled[at : at + size] for at in range(0, len(shuffled), size)]
        rng.shuffle(batches)
        return batches

    def batch_count(self, bucket: BucketSamples, batch: int, processes: int = 1) -> int:
        """Batches of that bucket in an epoch: ceil(samples / batch)."""
        return -(-len(bucket.samples) // self.groups[bucket.group].batch_size(batch, processes))

    def batches_per_epoch(self, batch: int, processes: int = 1) -> int:
        """The sum over buckets; arguments as of :meth:`batches`."""
        return sum(self.batch_count(bucket, batch, processes) for bucket in self.buckets)

    def caption_for(self, ref: SampleRef, *, seed: int, epoch: int, step: int = 0) -> str:
        """The sample's caption in that epoch; ``step`` only matters for the warm-up of tags."""
        item = self.items[ref.item]
        rng = python_rng(seed, "caption", epoch, ref.id)
        return augment_caption(
            item.caption, self.rules_of(item), rng=rng, step=step, epoch=epoch + 1
        )

    def views_of(self, item: Item) -> AugmentedViews:
        """The ways in which training sees the image."""
        name = item.views_name or item.image.path.name
        region = item.image.region
        return AugmentedViews(self.augmentation_of(item), item.placement, name, item.face, region)

    def view_for(self, ref: SampleRef, *, seed: int, epoch: int) -> View:
        """What the sample shows of its image in that epoch."""
        item = self.items[ref.item]
        use = epoch * item.repeats + ref.repeat
        return self.views_of(item).at(seed, epoch, ref.id, item=item.index, use=use)

    @property
    def masked(self) -> bool:
        """Whether any image has a mask."""
        return any(item.mask is not None for item in self.items)

    @property
    def captions_vary(self) -> bool:
        return any(self.rules_of(item).varies for item in self.items if item.repeats)

    @cached_property
    def captions(self) -> list[str]:
        """Each different caption of the first epoch once, in order: of any, if they do not vary."""
        return list(dict.fromkeys(self.caption_for(ref, seed=0, epoch=0) for ref in self.samples))

    def rules_of(self, item: Item) -> CaptionSettings:
        return item.rules or self.rules

    def augmentation_of(self, item: Item) -> AugmentSettings:
        return item.augmentation or self.augmentation


def build_dataset(
    scan: Scan,
    buckets: Buckets | Sequence[SampleGroup],
    rules: CaptionSettings | None = None,
    *,
    augmentation: AugmentSettings = PLAIN,
    masks: Mapping[Path, Mask] | None = None,
    prior_weight: float = 1.0,
) -> Dataset:
    """Place every image, and repeat regularisation images to match the training ones.

    Args:
        scan: from :func:`lorasmith.data.scan.scan`.
        buckets: from :func:`lorasmith.data.buckets.plan_buckets`, for all images; or the groups
            that the folders are in, of which equal ones are one.
        rules: for captions; default: used as written.
        augmentation: which views of the images there are.
        masks: by the path of the image.
        prior_weight: factor on the loss of regularisation images, besides their folder's own.
    """
    sample_groups = (SampleGroup(buckets),) if isinstance(buckets, Buckets) else tuple(buckets)
    groups = tuple(dict.fromkeys(sample_groups[folder.group] for folder in scan.folders))
    folders = [replace(f, group=groups.index(sample_groups[f.group])) for f in scan.folders]
    train = [p for p in scan.images if not folders[p.folder].reg]
    reg = [p for p in scan.images if folders[p.folder].reg]
    uses = [folders[p.folder].repeats for p in train] + _reg_uses(train, reg, folders, len(groups))
    items = []
    for index, (image, count) in enumerate(zip(train + reg, uses, strict=True)):
        folder = folders[image.folder]
        items.append(
            Item(
                index,
                image,
                image.caption or "",
                place(image.width, image.height, groups[folder.group].buckets),
                count,
                folder.reg,
                folder.weight * (prior_weight if folder.reg else 1.0),
                folder.group,
                (masks or {}).get(image.path),
                _face_in(image),
                folder.rules,
                folder.augmentation,
            )
        )
    return Dataset(items, rules or CaptionSettings(), groups, augmentation)


def _face_in(image: DatasetImage) -> FaceBox | None:
    """The face that the file's name tells of, as it lies in the part that is used."""
    face = face_box(image.path)
    if face is None or image.region is None:
        return face
    left, top, _, _ = image.region.box
    return replace(face, x=face.x - left, y=face.y - top)


def _reg_uses(
    train: Sequence[DatasetImage],
    reg: Sequence[DatasetImage],
    folders: Sequence[FolderSpec],
    groups: int,
) -> list[int]:
    """Uses of each regularisation image, matched within its group."""
    uses = [0] * len(reg)
    for group in range(groups):
        train_uses = sum(
            folders[p.folder].repeats for p in train if folders[p.folder].group == group
        )
        indices = [n for n, p in enumerate(reg) if folders[p.folder].group == group]
        repeats = [folders[reg[n].folder].repeats for n in indices]
        for n, count in zip(indices, match_repeats(train_uses, repeats), strict=True):
            uses[n] = count
    return uses


def match_repeats(train_count: int, reg_repeats: Sequence[int]) -> list[int]:
    """Uses per epoch of each regularisation image, as in sd-scripts (``library/train_util.py``).

    There is one pool for all concepts, no pairing by file name; it is repeated until it has at
    least as many samples as the training images have.

    First each image is taken with its own repeats, in order, until the training count is reached
    (those left are not used at all); if it is not reached, every image gets one more, in order,
    again and again.

    Args:
        train_count: training samples in an epoch, repeats counted.
        reg_repeats: each image's own repeats (>= 1), in order.

    Returns:
        As many numbers as ``reg_repeats`` has; 0 for an unused image.
    """
    uses = [0] * len(reg_repeats)
    total = 0
    for index, repeats in enumerate(reg_repeats):
        if total >= train_count:
            return uses
        uses[index] = repeats
        total += repeats
    if total >= train_count or not uses:
        return uses
    rounds, remainder = divmod(train_count - total, len(uses))
    return [count + rounds + (index < remainder) for index, count in enumerate(uses)]
