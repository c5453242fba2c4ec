"""Which steps keep the base model's output, for which captions, and when a run does it at all."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import fmean

from hypothesis import given
from hypothesis import strategies as st

from lorasmith.config.load import load_settings
from lorasmith.config.schema import TrainSettings
from lorasmith.config.sections.loss import PreservationSettings
from lorasmith.data.buckets import plan_buckets
from lorasmith.data.dataset import Dataset, build_dataset
from lorasmith.data.layout import FolderSpec
from lorasmith.data.scan import DatasetImage, Scan
from lorasmith.data.triggers import apply_triggers
from lorasmith.training.preservation import (
    OWN_PASSES,
    Preservation,
    preservation_of,
    preservation_warnings,
)

ZORPS = ["zorp, red, hat", "zorp, blue", "zorp"]


def settings_with(**changes: str) -> TrainSettings:
    return load_settings(None, {name.replace("__", "."): value for name, value in changes.items()})


def dataset_of(
    folders: Mapping[str, Sequence[str]], settings: TrainSettings, reg: Sequence[str] = ()
) -> Dataset:
    """Captions by folder."""
    specs = tuple(FolderSpec(Path(name), reg=name in reg) for name in folders)
    images = tuple(
        DatasetImage(
            Path(f"{name}/{n}.png"), folder, 512, 512, caption, Path(f"{name}/{n}.txt"), False
        )
        for folder, (name, captions) in enumerate(folders.items())
        for n, caption in enumerate(captions)
    )
    found, _ = apply_triggers(Scan(specs, images), settings.captions)
    return build_dataset(found, plan_buckets(512, 512), settings.captions)


def preservation(
    folders: Mapping[str, Sequence[str]], reg: Sequence[str] = (), **changes: str
) -> tuple[Preservation | None, str]:
    settings = settings_with(**changes)
    return preservation_of(settings, dataset_of(folders, settings, reg))


def kept(folders: Mapping[str, Sequence[str]], **changes: str) -> list[str | None]:
    """The captions that are kept beside those of the first epoch, none of them drawn empty."""
    one, why_not = preservation(folders, **{"preservation__empty_share": "0", **changes})
    assert one is not None, why_not
    dataset = one.dataset
    shown = [dataset.caption_for(sample, seed=0, epoch=0) for sample in dataset.samples]
    return one.captions(shown, dataset.samples, 0)


def steps_of(share: float, count: int, seed: int = 0) -> list[int]:
    section = PreservationSettings(share=share)
    one = Preservation(section, dataset_of({}, settings_with()), (), False, seed)
    return [step for step in range(count) if one.at(step)]


@given(st.floats(0.001, 1.0), st.integers(0, 2**40))
def test_the_share_of_the_steps_is_exact_and_evenly_spread(share: float, seed: int) -> None:
    steps = steps_of(share, 400, seed)
    for end in (100, 250, 400):
        assert abs(sum(step < end for step in steps) - end * share) < 1
    assert all(later - earlier < 2 / share + 1 for earlier, later in pairwise(steps))


def test_all_steps_and_no_beat() -> None:
    assert steps_of(1.0, 50) == list(range(50))
    quarter = steps_of(0.25, 400)
    assert len(quarter) == 100
    # Of each four one, and each place among the four about as often: timesteps that are spread
    # over successive steps meet it with all of theirs.
    places = [step % 4 for step in quarter]
    assert all(15 <= places.count(place) <= 35 for place in range(4))
    assert quarter != steps_of(0.25, 400, seed=1)


@given(st.integers(0, 990), st.integers(1, 1000), st.integers(0, 2**40))
def test_the_base_draws_from_noise_down_to_a_level_that_is_trained(
    low: int, high: int, seed: int
) -> None:
    high = max(high, low + 1)
    section = PreservationSettings(own_share=1)
    one = Preservation(section, dataset_of({}, settings_with()), (), False, seed, (low, high))
    for step in range(20):
        timesteps = one.own_timesteps(step)
        if not timesteps:
            assert low >= 500  # what has hardly begun is the same for all
            continue
        assert timesteps[0] in (999, 750)
        assert all(later < earlier <= later + 501 for earlier, later in pairwise(timesteps))
        assert low <= timesteps[-1] < high
        assert timesteps == one.own_timesteps(step)


def test_in_a_share_of_these_steps_latents_are_the_bases_own() -> None:
    rows = []
    for share in (0.0, 0.3, 1.0):
        on, off = preservation({"a": ZORPS}, preservation__own_share=str(share))
        assert on is not None, off
        rows.append([on.own_timesteps(step) for step in range(2000)])
    none, some, every = rows
    assert not any(none)
    assert all(every)
    assert abs(sum(map(bool, some)) - 600) < 5 * (2000 * 0.3 * 0.7) ** 0.5
    # One prediction for each but the last, which is the one that is kept.
    assert abs(fmean(len(row) - 1 for row in every) - OWN_PASSES) < 0.1
    for start, span in ((999, 750), (750, 500)):
        lasts = sorted(row[-1] for row in every if row[0] == start)
        assert 900 < len(lasts) < 1100
        tenths = [lasts[len(lasts) * k // 10] for k in range(10)]
        assert all(abs(tenth - span * k / 10) < 50 for k, tenth in enumerate(tenths))


def test_where_the_base_draws_from_noise_it_is_for_the_prompts() -> None:
    prompts = ["a red fox", "a house, night", "one of zorp"]
    changes = {"preservation__own_share": "1", "preservation__empty_share": "0.2"}
    one, _ = preservation({"a": ZORPS}, **changes, preservation__prompts=json.dumps(prompts))
    assert one is not None
    assert one.prompts == ("a red fox", "a house, night")  # the trigger itself is not kept
    samples, counts = one.dataset.samples, Counter[str | None]()
    for step in range(400):
        kept = one.captions(ZORPS, samples, step)
        assert kept == one.captions(ZORPS[::-1], samples[::-1], step)[::-1]
        if one.own_timesteps(step)[0] == 999:
            counts.update(kept)
        else:
            assert not set(kept) & set(prompts)
    assert set(counts) == {"", *one.prompts}
    assert abs(counts[""] / counts.total() - 0.2) < 0.08
    assert abs(counts["a red fox"] / counts["a house, night"] - 1) < 0.35
    assert set(prompts[:2]) <= set(one.all_captions())
    assert "the empty caption and 2 prompts, in" in str(one)


def test_prompts_with_the_trigger_are_named() -> None:
    changes = {"preservation__prompts": '["a zorp", "a fox"]'}
    assert "1 prompt with a trigger" in warnings({"a": ZORPS}, **changes)


def test_levels_are_those_of_the_run() -> None:
    changes = {"preservation__own_share": "1", "loss__min_timestep": "300"}
    one, _ = preservation({"a": ZORPS}, **changes, loss__max_timestep="400")
    assert one is not None
    assert all(300 <= one.own_timesteps(step)[-1] < 400 for step in range(50))


def test_the_trigger_is_taken_out_of_the_very_caption_that_is_shown() -> None:
    assert kept({"a": ZORPS}) == ["red, hat", "blue", ""]
    assert kept({"a": ZORPS}, preservation__class_word="creature") == [
        "creature, red, hat", "creature, blue", "creature",
    ]  # fmt: skip
    sentences = ["a photo of ZORP, running", "zorps and a zorp"]
    assert kept({"a": sentences}, captions__trigger="zorp") == [
        "a photo of, running", "zorps and a",
    ]  # fmt: skip
    long = ", ".join(["zorp", *(f"t{n}" for n in range(20))])
    varied = kept({"a": [long]}, captions__trigger="zorp", captions__shuffle="true")
    assert varied[0] is not None
    assert varied[0] != ", ".join(f"t{n}" for n in range(20))
    assert sorted(varied[0].split(", ")) == sorted(f"t{n}" for n in range(20))


def test_triggers_of_several_tags_go_whole_however_they_are_spelled() -> None:
    captions = ["zorp_(demo), in_pink, red", r"in pink, ZORP \(demo\), blue"]
    for trigger in ("zorp (demo), in pink", r"zorp_\(demo\),in_pink"):
        assert kept({"a": captions}, captions__trigger=trigger) == ["red", "blue"]


AS_WRITTEN = {"captions__trigger": "zorp", "captions__trigger_in_front": "false"}


def test_what_is_being_learned_is_not_kept() -> None:
    """A caption without the trigger keeps the empty one; where that is learned too, nothing."""
    mixed = ["zorp, red", "blue"]
    assert kept({"a": mixed}, **AS_WRITTEN) == ["red", ""]
    assert kept({"a": mixed}, captions__trigger="zorp") == ["red", "blue"]
    dropping = {**AS_WRITTEN, "captions__dropout": "0.001"}
    assert kept({"a": [*mixed, "zorp"]}, **dropping) == ["red", None, None]
    one, _ = preservation({"a": mixed}, preservation__empty_share="1", **dropping)
    assert one is not None
    assert one.captions(mixed, one.dataset.samples, 0) == ["red", None]


def test_regularisation_images_keep_what_they_show() -> None:
    on = {"preservation__enabled": "true", "preservation__empty_share": "0"}
    one, _ = preservation({"a": ZORPS, "reg": ["creature"] * 3}, ["reg"], **on)
    assert one is not None
    shown = [item.caption for item in one.dataset.items]
    assert one.captions(shown, one.dataset.samples, 0)[3:] == ["creature"] * 3


def test_empty_captions_come_in_their_share_by_seed_step_and_sample() -> None:
    one, _ = preservation({"a": ["zorp, red"] * 4}, preservation__empty_share="0.3")
    assert one is not None
    samples, shown = one.dataset.samples, ["zorp, red"] * 4
    rows = [one.captions(shown, samples, step) for step in range(500)]
    count = sum(row.count("") for row in rows)
    assert abs(count - 600) < 5 * (2000 * 0.3 * 0.7) ** 0.5
    backwards = one.captions(shown, samples[::-1], 7)
    assert backwards == rows[7][::-1]
    assert len({tuple(row) for row in rows}) == 16


def test_every_caption_that_may_be_kept_is_known_beforehand() -> None:
    for changes in ({}, {"captions__dropout_every_n_epochs": "2"}):
        one, _ = preservation({"a": ["zorp, red", "blue"]}, **AS_WRITTEN, **changes)
        assert one is not None
        assert set(one.all_captions()) == {"red", ""}


def test_triggers_are_those_of_all_folders() -> None:
    one, _ = preservation({"a": ["bim, x", "bim, y"], "b": ["bam, x", "bam"], "c": ["x", "y"]})
    assert one is not None
    assert one.triggers == ("bim", "bam", "c")
    assert preservation({"a": ["bim, x"], "b": ["bam, bim"]}, captions__trigger="zorp")[0]


def test_on_by_itself_where_there_is_a_trigger_and_no_regularisation() -> None:
    assert preservation({"a": ZORPS})[0] is not None
    assert preservation({"a": ZORPS}, preservation__enabled="false")[0] is None
    assert preservation({"a": ZORPS, "reg": ["x"]}, ["reg"])[1] == (
        "there are regularisation pictures"
    )
    on = {"preservation__enabled": "true"}
    assert preservation({"a": ZORPS, "reg": ["x"]}, ["reg"], **on)[0] is not None
    none = {"captions__trigger": "none"}
    fused = {"train__kind": "full", "full__fused_backward": "true"}
    assert preservation({"a": ZORPS}, **fused)[1] == ("steps have one backward pass alone")
    assert preservation({"a": ZORPS}, train__kind="full")[0] is not None
    nothing_shared = {"a": ["red, hat", "blue, hat"]}
    assert preservation(nothing_shared, **none)[1] == "there is no trigger"
    assert preservation(nothing_shared, **AS_WRITTEN)[1] == "no captions have the trigger"
    one, _ = preservation(nothing_shared, **on, **none)
    assert one is not None
    assert one.triggers == ()
    assert one.captions(["red, hat"], one.dataset.samples[:1], 0) == [""]
    assert preservation({"a": ["", ""]}, **on, **none)[0] is None


def warnings(folders: Mapping[str, Sequence[str]], **changes: str) -> str:
    settings = settings_with(**changes)
    found = preservation_warnings(settings, dataset_of(folders, settings))
    return "\n".join(map(str, found))


def test_what_falls_short_of_it_is_said() -> None:
    assert not warnings({"a": ZORPS})
    none = {"captions__trigger": "none"}
    assert not warnings({"a": ["red", "blue"]}, **none)
    on = {"preservation__enabled": "true", **none}
    assert "the empty caption alone is kept" in warnings({"a": ["red", "blue"]}, **on)
    assert "nothing can be kept" in warnings({"a": ["", ""]}, **on)
    some = warnings({"a": [*ZORPS, "red", "blue"]}, **AS_WRITTEN)
    assert '2 captions of 5 do not have "zorp": with these, the empty caption is kept' in some


def test_it_is_said_in_a_sentence() -> None:
    one, _ = preservation({"a": ZORPS})
    assert str(one).startswith('captions without "zorp" and the empty caption, in ')
