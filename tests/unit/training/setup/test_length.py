"""The length of a run, worked out from its images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from lorasmith.config.load import load_settings
from lorasmith.config.sections.run import RunSettings
from lorasmith.data.buckets import plan_buckets
from lorasmith.data.dataset import Dataset, SampleGroup, build_dataset
from lorasmith.data.layout import FolderSpec
from lorasmith.data.scan import DatasetImage, Scan
from lorasmith.models.families.table import FAMILIES
from lorasmith.training.setup.length import (
    FAR,
    REFERENCE_IMAGES,
    WHOLE_EPOCHS,
    PlannedLength,
    plan_length,
    showings_of,
    updates_for,
    work_out,
)

COUNTS = st.lists(st.integers(1, 300), min_size=1, max_size=4)
RULES = st.builds(
    RunSettings,
    showings=st.integers(1, 500),
    showings_falloff=st.floats(0, 1),
    min_steps=st.integers(1, 200),
    max_steps=st.integers(200, 100_000),
)
OPEN = {"min_steps": 1, "max_steps": 10**8}


def dataset(*folders: tuple[int, int], reg: int = 0) -> Dataset:
    """(images, repeats) of each folder, all images of one size, and one of regularisation."""
    specs = [FolderSpec(Path(f"{n}"), repeats) for n, (_, repeats) in enumerate(folders)]
    counts = [images for images, _ in folders]
    if reg:
        specs.append(FolderSpec(Path("reg"), 1, reg=True))
        counts.append(reg)
    images = tuple(
        DatasetImage(spec.path / f"{n}.png", index, 64, 64, "a", None, False)
        for index, (spec, count) in enumerate(zip(specs, counts, strict=True))
        for n in range(count)
    )
    return build_dataset(Scan(tuple(specs), images), plan_buckets(64, 64))


def per_epoch(data: Dataset, batch: int) -> int:
    return data.batches_per_epoch(batch)


def planned(
    data: Dataset,
    *settings: str,
    batch: int = 1,
    validates: bool = False,
    suggested: dict[str, Any] | None = None,
) -> PlannedLength:
    return plan_length(
        load_settings(None, [*settings, f"train.batch={batch}"]),
        data,
        per_epoch(data, batch),
        suggested or {},
        validates=validates,
    )


@given(st.integers(1, 300), RULES)
def test_more_images_take_more_steps_and_fewer_showings_each(n: int, rule: RunSettings) -> None:
    assert updates_for([n + 1], 1, rule)[0] >= updates_for([n], 1, rule)[0]
    assert showings_of(n + 1, rule) <= showings_of(n, rule)
    assert updates_for([n], 8, rule)[0] <= updates_for([n], 1, rule)[0], "of larger batches fewer"


def test_the_ends_of_the_falloff() -> None:
    flat = RunSettings(showings=100, showings_falloff=0, **OPEN)
    assert [updates_for([n], 1, flat)[0] for n in (1, 20, 60)] == [100, 2000, 6000]
    full = RunSettings(showings=100, showings_falloff=1, **OPEN)
    assert [round(updates_for([n], 1, full)[0]) for n in (1, 20, 60)] == [2000] * 3
    assert showings_of(REFERENCE_IMAGES, RunSettings(showings=77, showings_falloff=0.3)) == 77


@given(COUNTS, RULES)
def test_concepts_add_up_within_the_limits(images: list[int], rule: RunSettings) -> None:
    rule_without = rule.model_copy(update=OPEN)
    alone = sum(updates_for([n], 1, rule_without)[0] for n in images)
    together, _ = updates_for(images, 1, rule_without)
    assert together == pytest.approx(max(1, alone))
    limited, limit = updates_for(images, 1, rule)
    assert rule.min_steps <= limited <= rule.max_steps
    assert (limit == "") == (limited == together)


@given(st.integers(1, 40), st.integers(1, 60), st.integers(1, 60), st.integers(1, 8))
def test_repeats_change_the_length_by_rounding_alone(
    images: int, repeats: int, other: int, batch: int
) -> None:
    rule = RunSettings()
    lengths = []
    for number in (repeats, other):
        data = dataset((images, number))
        length = work_out(data, per_epoch(data, batch), rule)
        lengths.append(length.steps * len(data.samples) / length.steps_per_epoch)
        # As many samples as were asked for, but for the end of an epoch and the limits.
        asked = length.updates * length.per_step
        assert abs(lengths[-1] - asked) <= WHOLE_EPOCHS * asked + length.per_step
    a, b = lengths
    # Short batches at the ends of short epochs change what a step holds, and with it the limits.
    assume(not length.limit)
    assert abs(a - b) <= 2 * WHOLE_EPOCHS * max(a, b) + 2 * batch


@given(st.integers(1, 30), st.integers(1, 12), st.integers(1, 60), st.integers(1, 8))
def test_regularisation_comes_on_top(images: int, repeats: int, reg: int, batch: int) -> None:
    plain, with_reg = dataset((images, repeats)), dataset((images, repeats), reg=reg)
    rule = RunSettings(**OPEN)
    alone = work_out(plain, per_epoch(plain, batch), rule)
    both = work_out(with_reg, per_epoch(with_reg, batch), rule)
    assert both.images == alone.images == (images,)
    epochs = [one.steps / one.steps_per_epoch for one in (alone, both)]
    assert epochs[0] == pytest.approx(epochs[1], rel=2 * WHOLE_EPOCHS + batch / 50)
    assert both.regularised
    assert "with the regularisation pictures" in str(both)


def test_one_folder_in_two_sizes_is_one_concept() -> None:
    specs = (FolderSpec(Path("a"), group=0), FolderSpec(Path("a"), group=1))
    images = tuple(
        DatasetImage(Path(f"a/{n}.png"), folder, 64, 64, "a", None, False)
        for folder in (0, 1)
        for n in range(5)
    )
    groups = [SampleGroup(plan_buckets(64, 64)), SampleGroup(plan_buckets(128, 128))]
    data = build_dataset(Scan(specs, images), groups)
    length = work_out(data, 10, RunSettings())
    assert length.images == (5,)


def test_what_is_said() -> None:
    rule = RunSettings(showings=100, showings_falloff=0)
    data = dataset((14, 10))
    length = work_out(data, per_epoch(data, 8), rule)
    assert str(length) == (
        "14 pictures x 100 showings / 7.78 to a step = 180 optimizer steps: 10 epochs of 10 repeats"
    )
    assert length.steps == 180
    data = dataset((14, 1000))
    length = work_out(data, per_epoch(data, 8), rule)
    assert str(length).endswith("= 175 optimizer steps: 0.1 epochs of 1000 repeats")
    data = dataset((2, 1), (1, 1))
    text = str(work_out(data, per_epoch(data, 1), RunSettings(showings=1, min_steps=99)))
    assert "3 pictures of 2 folders x" in text
    assert ", 99 being the least: 33 epochs" in text


def test_what_is_set_stays() -> None:
    data = dataset((20, 1))
    plan = planned(data, "train.epochs=7")
    assert (plan.settings.train.epochs, plan.explanation) == (7, "")
    plan = planned(data, "train.steps=70")
    assert (plan.settings.train.epochs, plan.settings.train.steps) == ("auto", 70)
    plan = planned(data)
    assert (plan.settings.train.epochs, plan.settings.train.steps) == (100, None)
    assert plan.explanation
    again = planned(data, "train.epochs=100", "save.every_epochs=10", "sample.every_epochs=10")
    assert again.settings == plan.settings, "a run that is resumed goes on with the same"
    assert not plan.warnings


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        (["train.epochs=5"], "train.epochs"),
        (["train.epochs=500"], "train.epochs"),
        (["train.steps=100"], "train.steps"),
        (["train.showings=1000"], "train.showings"),
        (["train.max_steps=200"], "train.max_steps"),
    ],
)
def test_what_is_far_from_usual_is_named(settings: list[str], named: str) -> None:
    (problem,) = planned(dataset((20, 1)), *settings).warnings
    assert problem.where == named
    assert "such pictures usually take" in problem.what
    assert "2000" in problem.hint


@given(st.floats(0.2, 5).filter(lambda x: abs(x - FAR) > 0.02 and abs(x - 1 / FAR) > 0.002))
def test_usual_is_what_the_base_says(factor: float) -> None:
    data = dataset((20, 1))
    suggested = {"train.showings": 1000, "train.max_steps": 10**6}
    steps = round(20_000 * factor)
    warnings = planned(data, f"train.steps={steps}", suggested=suggested).warnings
    assert bool(warnings) == (not 1 / FAR <= factor <= FAR)


@pytest.mark.parametrize(
    ("images", "repeats", "settings", "every"),
    [
        (20, 1, [], (10, None)),
        (20, 10, [], (1, None)),
        (20, 40, [], (None, 200)),
        (20, 1, ["train.epochs=3"], (1, None)),
        (20, 1000, ["train.epochs=2"], (1, None)),
        (20, 1, ["train.steps=3"], (None, 10)),
        (20, 1, ["train.epochs=64"], (6, None)),
        (20, 1, ["save.every_steps=7"], (None, 7)),
        (20, 1, ["save.every_epochs=3"], (3, None)),
        (20, 1, ["save.every_epochs=none"], (None, None)),
    ],
)
def test_about_ten_snapshots(
    images: int, repeats: int, settings: list[str], every: tuple[int | None, int | None]
) -> None:
    plan = planned(dataset((images, repeats)), *settings)
    save = plan.settings.save
    assert (save.every_epochs, save.every_steps) == every


def test_validation_goes_by_it_where_there_is_some() -> None:
    data = dataset((20, 1))
    assert planned(data).settings.validation.every_epochs == "auto"
    assert planned(data, validates=True).settings.validation.every_epochs == 10


@pytest.mark.parametrize("family", FAMILIES.values(), ids=lambda family: family.name)
@pytest.mark.parametrize(
    ("images", "least", "most"), [(6, 500, 900), (35, 900, 1300), (100, 900, 1600)]
)
def test_families_take_what_guides_say(family: Any, images: int, least: int, most: int) -> None:
    values = {path.partition(".")[2]: value for path, value in family.defaults.items()}
    rule = RunSettings(**{k: v for k, v in values.items() if k in RunSettings.model_fields})
    assert least <= updates_for([images], 1, rule)[0] <= most
