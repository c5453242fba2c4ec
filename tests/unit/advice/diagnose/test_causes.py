"""Each cause is told where its own evidence is, and a sound LoRA has none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.unit.advice.diagnose.made import (
    caption_fit,
    dataset,
    evidence,
    grid,
    measures,
    readings,
)

from lorasmith.advice.audit.finding import Finding
from lorasmith.advice.diagnose.causes import CAUSES, causes_of
from lorasmith.advice.diagnose.evidence import text_encoder_burnt
from lorasmith.advice.diagnose.measuring import place_of
from lorasmith.config.schema import all_settings
from lorasmith.curation.collection import open_collection
from lorasmith.curation.filter import parse_filter
from lorasmith.curation.filter_language.words import at_place
from lorasmith.measures.strength_grid import StrengthGrid

BURNT = measures(loss={"0.6": -0.5, "1.0": -0.2, "1.4": 0.4})
WEAK = measures(likeness={"0.6": 0.1, "1.0": 0.2, "1.4": 0.3})
CONTRADICTION = Finding(
    "6 captions have both smile and frown", rule="contradiction", command="lorasmith dataset edit"
)
CASES: dict[str, dict[str, Any]] = {
    "rate-high": {"lr": {"unet": 8e-4, "text_encoder": 4e-4}, "measures": BURNT},
    "rate-low": {"lr": {"unet": 1.25e-5, "text_encoder": 6e-6}, "measures": WEAK},
    "text-encoder-rate-high": {
        "lr": {"unet": 1e-4, "text_encoder": 5e-4},
        "grid": grid(text_encoder=0.5),
    },
    "too-long": {"uses": 300.0, "measures": measures(copying=0.3)},
    "too-short": {"uses": 25.0, "measures": WEAK},
    "alpha-high": {"alpha": 32.0, "scale": 2.0},
    "clip-skip": {"clip_skip": 1, "captions": caption_fit(0.2, 0.1)},
    "other-base": {"same_base": False, "base": "pony", "measures": WEAK},
    "no-trigger": {"triggers": ()},
    "contradicting-tags": {"dataset": dataset(contradictory=0.5, findings=(CONTRADICTION,))},
    "repeated-image": {"dataset": dataset(images=20, repeated=0.5, copies=9)},
    "tags-missing": {"dataset": dataset(tags=0.0, tag_counts={})},
    "untagged-accessory": {"shown": readings({"headwear": ["crown"] * 6})},
    "few-images": {"dataset": dataset(images=4), "measures": measures(copying=0.25)},
    "base-not-kept": {"keeps_base": False, "measures": measures(plain_moved=1.2)},
}


def test_the_table_is_whole() -> None:
    ids = [rule.id for rule in CAUSES]
    assert len(set(ids)) == len(ids)
    assert set(ids) == set(CASES)


@pytest.mark.parametrize("name", CASES)
def test_a_cause_is_named_first_where_its_evidence_is(name: str) -> None:
    first, *_ = causes_of(evidence(**CASES[name]))
    assert first.id == name
    assert 0.35 <= first.likelihood <= 1
    assert first.suspicion.evidence
    assert first.suspicion.todo.endswith(".")
    assert set(first.suspicion.changes) <= set(all_settings())


def test_a_sound_lora_has_none() -> None:
    shown = readings({"headwear": ["no hat"] * 6, "mouth": ["smile", "frown"] * 3})
    assert causes_of(evidence(shown=shown, captions=caption_fit(0.1, 0.2))) == []


def test_without_measures_what_is_known_is_still_told() -> None:
    found = causes_of(evidence(**{**CASES["rate-high"], "measures": None, "grid": None}))
    assert [cause.id for cause in found] == ["rate-high"]


def test_a_file_that_says_nothing_is_told_by_its_measures_alone() -> None:
    silent = {"source": "nothing", "lr": {}, "uses": None, "scale": None, "same_base": None}
    found = causes_of(evidence(**silent, dataset=None, triggers=(), measures=BURNT))
    assert [cause.id for cause in found] == ["rate-high"]
    assert found[0].likelihood < causes_of(evidence(**CASES["rate-high"]))[0].likelihood


@pytest.mark.parametrize(
    ("lr", "known"), [({"unet": 1.4e-4}, False), ({"unet": 2.2e-4}, True), ({"unet": 6e-5}, False)]
)
def test_rates_near_the_usual_one_are_no_cause(lr: dict[str, float], known: bool) -> None:
    assert bool(causes_of(evidence(lr=lr))) == known


def test_an_optimizer_that_finds_its_rate_has_none_too_high() -> None:
    assert causes_of(evidence(lr={"unet": 1.0, "text_encoder": 1.0}, sets_lr=True)) == []


def test_what_captions_name_or_the_pictures_lack_is_no_untagged_accessory() -> None:
    shown = readings({"headwear": ["crown"] * 6})
    tagged = dataset(tag_counts={"crown": 6})
    assert causes_of(evidence(shown=shown, dataset=tagged)) == []
    half = readings({"headwear": ["crown", "no hat"] * 3})
    assert causes_of(evidence(shown=half)) == []


def test_an_accessory_that_is_drawn_unasked_is_surer() -> None:
    shown = readings({"headwear": ["crown"] * 6})
    drawn = readings({"headwear": ["crown"] * 5 + ["no hat"]})
    before, after = (causes_of(evidence(shown=shown, drawn=one))[0] for one in (None, drawn))
    assert after.likelihood > before.likelihood
    assert "83%" in after.suspicion.evidence[1]
    assert "edit pictures --add crown" in after.suspicion.command


def test_tags_that_the_pictures_deny_are_told() -> None:
    shown = readings({"mouth": ["frown"] * 4 + ["smile"] * 2}, ["smile"] * 4 + ["smile", "smile"])
    (cause,) = causes_of(evidence(shown=shown))
    assert cause.id == "contradicting-tags"
    assert "'frown', tagged 'smile'" in cause.suspicion.evidence[0]


def test_of_tags_that_exclude_each_other_the_one_that_is_not_seen_goes() -> None:
    captions = ["smile, frown", "smile, frown", "smile", "smile", "frown", "frown"]
    shown = readings({"mouth": ["frown", "smile", "smile", "smile", "frown", "frown"]}, captions)
    wrong = dataset(contradictory=1 / 3, findings=(CONTRADICTION,))
    (cause,) = causes_of(evidence(shown=shown, dataset=wrong))
    assert cause.suspicion.command.splitlines() == [
        "lorasmith dataset edit pictures --remove frown --where '(path:1.png -path:?1.png)'",
        "lorasmith dataset edit pictures --remove smile --where '(path:0.png -path:?0.png)'",
    ]


def test_a_command_takes_the_image_that_is_meant_and_no_other(tmp_path: Path) -> None:
    places = ["1.png", "11.png", "1_zorp/1.png", "11_zorp/1.png", "1_zorp/a (1).png"]
    for place in places:
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).touch()
    collection = open_collection(tmp_path)
    for place in places:
        path = tmp_path / place
        assert place_of(path, [tmp_path]) == place
        chosen = parse_filter(at_place(place)).select(collection)
        assert [image.path for image in chosen] == [path]


def test_tags_are_split_by_the_separator_of_the_captions() -> None:
    captions = ["smile; crown", "smile; crown", "frown; crown", "frown; crown"] * 2
    answers = {"mouth": ["smile", "smile", "frown", "frown"] * 2}
    shown = replace(readings(answers, captions), separator=";")
    assert shown.tags[0] == ["smile", "crown"]
    assert causes_of(evidence(shown=shown)) == []


def test_a_file_without_tags_does_not_say_that_it_has_no_trigger() -> None:
    assert causes_of(evidence(triggers=(), captions_known=False)) == []


def test_rank_stabilised_loras_have_no_alpha_above_the_rank() -> None:
    assert causes_of(evidence(alpha=16.0, rank=16, scale=4.0)) == []
    (cause,) = causes_of(evidence(alpha=32.0, rank=16, scale=8.0))
    assert cause.suspicion.value == 2


def test_an_alpha_above_the_rank_that_does_no_harm_is_said_to_do_none() -> None:
    def told(**more: Any) -> str:
        (cause, *_) = causes_of(evidence(alpha=32.0, rank=16, scale=2.0, **more))
        assert cause.id == "alpha-high"
        return " ".join(cause.suspicion.evidence)

    assert "shows harm" in told(measures=measures())
    burns = measures(loss={"0.6": -0.9, "1.0": -0.6, "1.4": -0.1})
    assert "shows harm" not in told(measures=burns)
    assert "shows harm" not in told(measures=None, grid=None)


def test_an_unknown_clip_skip_is_no_wrong_one() -> None:
    known = {"usual_clip_skip": 2, "captions": caption_fit(0.2, 0.1)}
    assert causes_of(evidence(clip_skip=None, **known)) == []


def test_usual_rates_are_no_cause_however_strong_the_text_encoder_is() -> None:
    bowl = [[-0.9 + (u - 1) ** 2 + t**2 for t in (0.0, 0.5, 1.0)] for u in (0.5, 1.0, 1.5)]
    strong = StrengthGrid([0.5, 1.0, 1.5], [0.0, 0.5, 1.0], [bowl] * 3)
    assert text_encoder_burnt(evidence(grid=strong)).size == 1
    names = [cause.id for cause in causes_of(evidence(grid=strong))]
    assert "text-encoder-rate-high" not in names


def test_captions_that_are_silent_where_others_speak_are_told() -> None:
    shown = readings({"mouth": ["frown", "smile"] * 3}, ["frown", "smile", "", "", "", ""])
    (cause,) = causes_of(evidence(shown=shown))
    assert cause.id == "tags-missing"
    assert "67%" in cause.suspicion.evidence[0]
    assert "dataset tag pictures" in cause.suspicion.command


def test_the_base_may_say_which_clip_skip_it_wants() -> None:
    (cause,) = causes_of(evidence(clip_skip=1, usual_clip_skip=2))
    assert cause.suspicion.changes == {"model.clip_skip": 2}
    unmeasured = cause.likelihood
    (cause,) = causes_of(evidence(clip_skip=1, usual_clip_skip=2, captions=caption_fit(0.2, 0.1)))
    assert cause.likelihood > unmeasured
    # What it says counts for more than what is measured.
    assert causes_of(evidence(usual_clip_skip=1, captions=caption_fit(0.2, 0.1))) == []


def test_a_picture_by_repeats_alone_needs_no_command() -> None:
    repeated = dataset(repeated=0.6, repeated_image=Path("a.png"))
    (cause,) = causes_of(evidence(dataset=repeated))
    assert cause.id == "repeated-image"
    assert not cause.suspicion.command
