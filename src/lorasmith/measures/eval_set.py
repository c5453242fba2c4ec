"""What snapshots of a run are measured on: images, and prompts with and without the trigger word.

All of it is a function of the files' names and captions alone. Torch-free.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

from lorasmith.config.sections.data import CaptionSettings
from lorasmith.data.buckets import Buckets
from lorasmith.data.captions import join_tags, split_tags
from lorasmith.data.dataset import Dataset, SampleGroup
from lorasmith.data.holdout import measured, measuring_dataset
from lorasmith.data.scan import DatasetImage, Scan
from lorasmith.measures.records import Extent
from lorasmith.sampling.from_dataset import stripped

SEED = 0
# Captions with fewer tags behind the trigger are used as they are: there is little to exchange.
FEWEST_TAGS = 2


def mixed_captions(
    captions: Sequence[str], triggers: Sequence[str], separator: str = ","
) -> list[str]:
    """Captions that no training image has, as far as that can be had.

    Behind the trigger, the first half of the tags of one caption and the second half of those of
    the next, so that an image that repeats a training image does not do what it was asked.
    Captions of few tags, such as sentences, stay as they are.
    """
    mixed: list[str] = []
    rows = [split_tags(stripped(c, triggers, separator), separator) for c in captions]
    for number, caption in enumerate(captions):
        own, other = rows[number], rows[(number + 1) % len(rows)]
        if min(len(own), len(other)) < FEWEST_TAGS:
            mixed.append(caption.split("\n", 1)[0].strip())
            continue
        first, second = own[: len(own) // 2], other[len(other) // 2 :]
        called = [one for one in triggers if stripped(caption, [one], separator) != caption]
        tags = [*called, *first, *(tag for tag in second if tag not in first)]
        mixed.append(join_tags(tags, separator))
    return list(dict.fromkeys(mixed))


def spread(texts: Sequence[str], count: int) -> list[str]:
    """``count`` of them, evenly over the whole; fewer texts are repeated."""
    if not texts:
        return []
    if len(texts) >= count:
        return [texts[i * len(texts) // count] for i in range(count)]
    return [texts[i % len(texts)] for i in range(count)]


@dataclass(frozen=True, slots=True)
class EvalSet:
    """Everything that is the same for all snapshots of a run.

    Args:
        triggers: what calls the subjects; empty where nothing does.
        dataset: held-out images first, then training images; each once, nothing varied.
        held_out: how many of its items are held out.
        references: as many of the training images as drawings are compared with.
        prompts: captions to draw, with the trigger.
        plain: captions without it; empty where there is no trigger to leave out.
        trained: how many training images there are.
        regularised: whether there are regularisation images.
    """

    triggers: tuple[str, ...]
    dataset: Dataset
    held_out: int
    references: Dataset
    prompts: tuple[str, ...]
    plain: tuple[str, ...]
    trained: int
    regularised: bool

    @property
    def fingerprint(self) -> str:
        """Changes with any image, caption or prompt."""
        digest = blake2b(digest_size=8)
        for item in (*self.dataset.items, *self.references.items):
            stat = item.image.path.stat()
            place = (item.placement.bucket, item.placement.crop)
            facts = (item.image.path.name, stat.st_size, stat.st_mtime_ns, item.caption, place)
            digest.update(repr(facts).encode())
            if item.image.region is not None:
                digest.update(repr(item.image.region).encode())
        digest.update(repr((self.held_out, self.prompts, self.plain)).encode())
        return digest.hexdigest()


def choose_eval_set(
    training: Scan,
    held_out: Sequence[DatasetImage],
    everything: Scan,
    *,
    sizes: Buckets | Sequence[SampleGroup],
    rules: CaptionSettings,
    triggers: Sequence[str],
    separator: str,
    count: int,
    extent: Extent,
    plain: Sequence[str] = (),
) -> EvalSet:
    """Choose images and prompts.

    Args:
        training: what is trained on.
        held_out: what is not, of the folders of ``everything``.
        sizes: how images are fitted.
        triggers: what calls the subjects.
        separator: of tags.
        count: prompts of each kind.
        extent: says how many images.
        plain: prompts to draw without the trigger, in place of captions.
    """
    subject = [image for image in training.images if not training.folders[image.folder].reg]
    reg = [image for image in training.images if training.folders[image.folder].reg]

    def ranked(images: Sequence[DatasetImage], limit: int) -> tuple[DatasetImage, ...]:
        return measured(training, images, SEED, limit)[0]

    def dataset(*groups: Sequence[DatasetImage]) -> Dataset:
        return measuring_dataset(everything, groups, sizes, rules, SEED)

    out = ranked(held_out, extent.loss_images)
    references = dataset(ranked(subject, extent.references))
    captions = [item.caption for item in references.items]
    prompts = [item.caption for item in dataset(out).items] if len(out) >= count else []
    prompts = prompts or mixed_captions(captions, triggers, separator)
    plain = list(plain)
    if triggers and not plain:
        bare = [stripped(caption, triggers, separator) for caption in captions]
        bare = list(dict.fromkeys(caption for caption in bare if caption))
        of_reg = [item.caption for item in dataset(ranked(reg, extent.loss_images)).items]
        half = count // 2 if of_reg else 0
        plain = spread(bare, count - half) + spread(of_reg, half)
    return EvalSet(
        tuple(triggers),
        dataset(out, ranked(subject, extent.loss_images)),
        len(out),
        references,
        tuple(spread(prompts, count)),
        tuple(spread(plain, count)),
        len({image.path for image in subject}),
        bool(reg),
    )
