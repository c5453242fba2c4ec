from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorasmith.config.sections.augment import AugmentSettings
from lorasmith.config.sections.data import CaptionSettings
from lorasmith.data.buckets import plan_buckets
from lorasmith.data.dataset import Dataset, SampleGroup, SampleRef, build_dataset, match_repeats
from lorasmith.data.layout import FolderSpec
from lorasmith.data.scan import DatasetImage, Scan

FLIPPED = AugmentSettings(flip=True)
IMAGES = st.lists(
    st.tuples(st.integers(16, 900), st.integers(16, 900), st.integers(1, 5)),
    min_size=1,
    max_size=12,
)


def make(images: list[tuple[int, int, int]], rules: CaptionSettings | None = None) -> Dataset:
    """(width, height, repeats) of each; all in folders of their own."""
    folders = tuple(FolderSpec(Path(f"f{n}"), repeats) for n, (*_, repeats) in enumerate(images))
    found = tuple(
        DatasetImage(Path(f"f{n}/a.png"), n, width, height, f"t{n}, a, b", None, False)
        for n, (width, height, _) in enumerate(images)
    )
    return build_dataset(Scan(folders, found), plan_buckets(512, 512), rules, augmentation=FLIPPED)


def flat(batches: list[list[SampleRef]]) -> list[SampleRef]:
    return [ref for batch in batches for ref in batch]


@given(IMAGES, st.integers(1, 5), st.integers(0, 5), st.integers(0, 2**40))
def test_each_sample_once_an_epoch_in_batches_of_one_bucket(
    images: list[tuple[int, int, int]], batch: int, epoch: int, seed: int
) -> None:
    dataset = make(images)
    batches = dataset.batches(epoch, seed=seed, batch=batch)
    assert Counter(ref.id for ref in flat(batches)) == Counter(
        range(sum(repeats for *_, repeats in images))
    )
    assert Counter(ref.item for ref in flat(batches)) == {
        n: repeats for n, (*_, repeats) in enumerate(images)
    }
    assert len(batches) == dataset.batches_per_epoch(batch)
    for refs in batches:
        assert 1 <= len(refs) <= batch
        assert len({dataset.items[ref.item].placement.bucket for ref in refs}) == 1
    # Only the last batch of a bucket may be short.
    short = Counter(
        dataset.items[refs[0].item].placement.bucket for refs in batches if len(refs) < batch
    )
    assert all(count == 1 for count in short.values())


def test_order_is_a_function_of_seed_and_epoch_alone() -> None:
    images = [(500, 500, 20), (300, 600, 10)]
    one, other = make(images), make(images)
    first = one.batches(3, seed=7, batch=4)
    one.batches(4, seed=7, batch=4)
    assert one.batches(3, seed=7, batch=4) == first == other.batches(3, seed=7, batch=4)
    assert one.batches(4, seed=7, batch=4) != first
    assert one.batches(3, seed=8, batch=4) != first


def test_buckets_and_samples_are_both_mixed() -> None:
    dataset = make([(500, 500, 40), (300, 600, 40)])
    batches = dataset.batches(0, seed=0, batch=4)
    items = [refs[0].item for refs in batches]
    assert sum(a != b for a, b in pairwise(items)) > 4
    assert [ref.id for ref in flat(batches) if ref.item == 0] != list(range(40))


def test_captions_and_flips_follow_from_seed_epoch_and_sample() -> None:
    dataset = make([(500, 500, 50)], CaptionSettings(shuffle=True, keep_tokens=1))
    captions = [dataset.caption_for(ref, seed=1, epoch=0) for ref in dataset.samples]
    assert captions == [dataset.caption_for(ref, seed=1, epoch=0) for ref in dataset.samples]
    assert set(captions) == {"t0, a, b", "t0, b, a"}
    assert captions != [dataset.caption_for(ref, seed=1, epoch=1) for ref in dataset.samples]
    flips = [dataset.view_for(ref, seed=1, epoch=0).flip for ref in dataset.samples]
    assert 10 < sum(flips) < 40


def test_epochs_without_captions() -> None:
    dataset = make([(500, 500, 1)], CaptionSettings(dropout_every_n_epochs=2))
    texts = [dataset.caption_for(dataset.samples[0], seed=0, epoch=epoch) for epoch in range(4)]
    assert texts == ["t0, a, b", "", "t0, a, b", ""]


def test_a_folders_own_keep_tokens() -> None:
    image = DatasetImage(Path("a.png"), 0, 64, 64, "a, b, c, d", None, False)
    own = CaptionSettings(tag_dropout=0.9, keep_tokens=3)
    scan = Scan((FolderSpec(Path("f"), 30, rules=own),), (image,))
    dataset = build_dataset(scan, plan_buckets(64, 64), CaptionSettings(tag_dropout=0.9))
    captions = {dataset.caption_for(ref, seed=0, epoch=0) for ref in dataset.samples}
    assert captions == {"a, b, c", "a, b, c, d"}


def test_groups_have_their_own_sizes_and_batches() -> None:
    """The same two images at 512 and at 768, as two of sd-scripts' ``[[datasets]]``."""
    folders = (FolderSpec(Path("f"), 5), FolderSpec(Path("f"), 3, group=1))
    images = tuple(
        DatasetImage(Path(f"f/{name}.png"), folder, 800, 800, name, None, False)
        for folder in (0, 1)
        for name in "ab"
    )
    groups = [SampleGroup(plan_buckets(512, 512)), SampleGroup(plan_buckets(768, 768), batch=4)]
    dataset = build_dataset(Scan(folders, images), groups)
    assert [(b.group, b.size, len(b.samples)) for b in dataset.buckets] == [
        (0, (512, 512), 10),
        (1, (768, 768), 6),
    ]
    # ceil(10 / 3) + ceil(6 / 4); two processes double both sizes.
    assert dataset.batches_per_epoch(3) == 4 + 2
    assert dataset.batches_per_epoch(3, processes=2) == 2 + 1
    batches = dataset.batches(0, seed=1, batch=3)
    assert sorted(map(len, batches)) == [1, 2, 3, 3, 3, 4]
    for refs in batches:
        assert len({dataset.items[ref.item].group for ref in refs}) == 1
    assert {ref.id for ref in flat(batches)} == set(range(16))


def test_regularisation_is_matched_within_its_group() -> None:
    folders = (
        FolderSpec(Path("a"), 4),
        FolderSpec(Path("b"), 2, group=1),
        FolderSpec(Path("r"), 1, reg=True),
        FolderSpec(Path("s"), 1, reg=True, group=1),
    )
    images = tuple(DatasetImage(Path(f"{n}.png"), n, 64, 64, "x", None, False) for n in range(4))
    sizes = plan_buckets(64, 64)
    groups = [SampleGroup(sizes, name="a"), SampleGroup(sizes, name="b")]
    dataset = build_dataset(Scan(folders, images), groups)
    assert [item.repeats for item in dataset.items] == [4, 2, 4, 2]


def test_a_folders_own_captions_and_augmentation() -> None:
    folders = (
        FolderSpec(Path("f"), 40),
        FolderSpec(Path("g"), 40, rules=CaptionSettings(prefix="zorp"), augmentation=FLIPPED),
    )
    images = tuple(DatasetImage(Path(f"{n}.png"), n, 64, 64, "a, b", None, False) for n in (0, 1))
    dataset = build_dataset(
        Scan(folders, images), plan_buckets(64, 64), CaptionSettings(shuffle=True)
    )
    assert dataset.captions_vary
    captions: dict[int, set[str]] = {0: set(), 1: set()}
    flips: dict[int, set[bool]] = {0: set(), 1: set()}
    for ref in dataset.samples:
        captions[ref.item].add(dataset.caption_for(ref, seed=0, epoch=0))
        flips[ref.item].add(dataset.view_for(ref, seed=0, epoch=0).flip)
    assert captions == {0: {"a, b", "b, a"}, 1: {"zorp a, b"}}
    assert flips == {0: {False}, 1: {False, True}}


def test_regularisation_is_matched_and_weighted() -> None:
    folders = (
        FolderSpec(Path("10_a"), 10, weight=2.0),
        FolderSpec(Path("1_r"), 1, reg=True, weight=0.5),
    )
    images = [DatasetImage(Path("r.png"), 1, 64, 64, "r", None, False) for _ in range(4)]
    images.append(DatasetImage(Path("a.png"), 0, 64, 64, None, None, False))
    dataset = build_dataset(Scan(folders, tuple(images)), plan_buckets(64, 64), prior_weight=0.5)
    assert [(item.reg, item.repeats, item.weight) for item in dataset.items] == [
        (False, 10, 2.0), (True, 3, 0.25), (True, 3, 0.25), (True, 2, 0.25), (True, 2, 0.25),
    ]  # fmt: skip
    assert dataset.captions == ["", "r"]


def step_by_step(train: int, repeats: list[int]) -> list[int]:
    """One use at a time, as sd-scripts registers them."""
    uses = [0] * len(repeats)
    first = True
    while sum(uses) < train and repeats:
        for index, own in enumerate(repeats):
            uses[index] += own if first else 1
            if sum(uses) >= train:
                break
        first = False
    return uses


# Worked by hand.
@pytest.mark.parametrize(
    ("train", "repeats", "uses"),
    [(5, [1, 1], [3, 2]), (240, [1] * 100, [3] * 40 + [2] * 60), (3, [2, 2, 2], [2, 2, 0]),
     (4, [2, 2, 2], [2, 2, 0]), (10, [], []), (0, [1], [0]), (7, [3, 1], [5, 2])],
)  # fmt: skip
def test_known_counts(train: int, repeats: list[int], uses: list[int]) -> None:
    assert match_repeats(train, repeats) == uses


@given(st.integers(0, 300), st.lists(st.integers(1, 9), max_size=12))
def test_as_registered_one_by_one(train: int, repeats: list[int]) -> None:
    assert match_repeats(train, repeats) == step_by_step(train, repeats)
