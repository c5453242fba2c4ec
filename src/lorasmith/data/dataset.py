"""What an epoch consists of: items, their samples, and the order of batches.

An *item* is a picture placed in its bucket; a *sample* is one use of an item in an epoch, so an
item with 10 repeats has 10 samples. The batches of an epoch are a pure function of seed, epoch and
batch size: nothing is drawn from a running generator, so position in an epoch is an integer.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from lorasmith.data.buckets import Buckets, Placement, Size, place
from lorasmith.data.captions import CaptionRules, vary
from lorasmith.data.crops import FaceBox, face_box
from lorasmith.data.masks import Mask
from lorasmith.data.regularization import match_repeats
from lorasmith.data.scan import Picture, Scan
from lorasmith.data.views import PLAIN, Augmentation, View, Views
from lorasmith.randomness import python_rng


@dataclass(frozen=True, slots=True)
class Item:
    """A picture as training uses it.

    Args:
        index: its place in :attr:`Dataset.items`.
        picture: the file.
        caption: as written, perhaps of several lines; "" when there is none.
        placement: bucket, scaling and crop.
        repeats: uses in an epoch; 0 for a regularisation picture that is not needed.
        reg: a regularisation picture.
        weight: factor on its loss.
        keep_tokens: tags kept at the front, instead of the rules' own.
        mask: which parts of it are learned; ``None`` = the whole.
        face: where it shows one, as its name tells.
    """

    index: int
    picture: Picture
    caption: str
    placement: Placement
    repeats: int = 1
    reg: bool = False
    weight: float = 1.0
    keep_tokens: int | None = None
    mask: Mask | None = None
    face: FaceBox | None = None


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
    """Items and the rules for their captions.

    Epochs count from 0 here; a sample occurs exactly once in each.
    """

    def __init__(
        self,
        items: Sequence[Item],
        rules: CaptionRules,
        buckets: Buckets | None = None,
        augmentation: Augmentation = PLAIN,
    ) -> None:
        assert all(item.index == index for index, item in enumerate(items))
        self.items = tuple(items)
        self.rules = rules
        self.buckets = buckets
        self.augmentation = augmentation
        self._rules_by_keep: dict[int, CaptionRules] = {}

    @cached_property
    def samples(self) -> tuple[SampleRef, ...]:
        """Every use of every item, in order; ``samples[n].id == n``."""
        uses = [(item.index, repeat) for item in self.items for repeat in range(item.repeats)]
        return tuple(SampleRef(item, repeat, n) for n, (item, repeat) in enumerate(uses))

    @cached_property
    def samples_by_bucket(self) -> dict[Size, tuple[SampleRef, ...]]:
        """Samples of each bucket that has any; buckets sorted."""
        found: dict[Size, list[SampleRef]] = {}
        for ref in self.samples:
            found.setdefault(self.items[ref.item].placement.bucket, []).append(ref)
        return {size: tuple(found[size]) for size in sorted(found)}

    def batches(self, epoch: int, *, seed: int, batch: int) -> list[list[SampleRef]]:
        """The batches of one epoch, in order.

        Samples are shuffled within their bucket, cut into batches (the last of a bucket may be
        short), and the batches are shuffled. No batch mixes buckets.

        Args:
            epoch: from 0.
            seed: the run's.
            batch: samples per optimizer micro-step over all processes together; each process takes
                its slice.
        """
        assert batch >= 1
        rng = python_rng(seed, "order", epoch)
        batches: list[list[SampleRef]] = []
        for refs in self.samples_by_bucket.values():
            shuffled = list(refs)
            rng.shuffle(shuffled)
            batches += [shuffled[at : at + batch] for at in range(0, len(shuffled), batch)]
        rng.shuffle(batches)
        return batches

    def batches_per_epoch(self, batch: int) -> int:
        """The sum over buckets of ceil(samples / batch)."""
        return sum(-(-len(refs) // batch) for refs in self.samples_by_bucket.values())

    def caption_for(self, ref: SampleRef, *, seed: int, epoch: int, step: int = 0) -> str:
        """The sample's caption in that epoch; ``step`` only matters for the warm-up of tags."""
        item = self.items[ref.item]
        rng = python_rng(seed, "caption", epoch, ref.id)
        return vary(item.caption, self.rules_of(item), rng=rng, step=step, epoch=epoch + 1)

    def views_of(self, item: Item) -> Views:
        """The ways in which training sees the picture."""
        name = item.picture.path.name
        return Views(self.augmentation, item.placement, name, item.face)

    def view_for(self, ref: SampleRef, *, seed: int, epoch: int) -> View:
        """What the sample shows of its picture in that epoch."""
        item = self.items[ref.item]
        use = epoch * item.repeats + ref.repeat
        return self.views_of(item).use(seed, epoch, ref.id, item=item.index, use=use)

    @property
    def masked(self) -> bool:
        """Whether any picture has a mask."""
        return any(item.mask is not None for item in self.items)

    @property
    def captions_vary(self) -> bool:
        return self.rules.varies

    @cached_property
    def captions(self) -> list[str]:
        """Each different caption of the first epoch once, in order: of any, if they do not vary."""
        return list(dict.fromkeys(self.caption_for(ref, seed=0, epoch=0) for ref in self.samples))

    def rules_of(self, item: Item) -> CaptionRules:
        keep = item.keep_tokens
        if keep is None or keep == self.rules.keep_tokens:
            return self.rules
        if keep not in self._rules_by_keep:
            self._rules_by_keep[keep] = dataclasses.replace(self.rules, keep_tokens=keep)
        return self._rules_by_keep[keep]


def build_dataset(
    scan: Scan,
    buckets: Buckets,
    rules: CaptionRules | None = None,
    *,
    augmentation: Augmentation = PLAIN,
    masks: Mapping[Path, Mask] | None = None,
    prior_weight: float = 1.0,
) -> Dataset:
    """Place every picture, and repeat regularisation pictures to match the training ones.

    Args:
        scan: from :func:`lorasmith.data.scan.scan`.
        buckets: from :func:`lorasmith.data.buckets.plan_buckets`.
        rules: for captions; default: used as written.
        augmentation: which views of the pictures there are.
        masks: by the path of the picture.
        prior_weight: factor on the loss of regularisation pictures, besides their folder's own.
    """
    folders = scan.folders
    train = [p for p in scan.pictures if not folders[p.folder].reg]
    reg = [p for p in scan.pictures if folders[p.folder].reg]
    repeats = [folders[p.folder].repeats for p in train]
    uses = match_repeats(sum(repeats), [folders[p.folder].repeats for p in reg])
    items = []
    for index, (picture, count) in enumerate(zip(train + reg, repeats + uses, strict=True)):
        folder = folders[picture.folder]
        items.append(
            Item(
                index,
                picture,
                picture.caption or "",
                place(picture.width, picture.height, buckets),
                count,
                folder.reg,
                folder.weight * (prior_weight if folder.reg else 1.0),
                folder.keep_tokens,
                (masks or {}).get(picture.path),
                face_box(picture.path),
            )
        )
    return Dataset(items, rules or CaptionRules(), buckets, augmentation)
