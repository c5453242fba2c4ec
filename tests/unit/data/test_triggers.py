"""Triggers: where they come from, and what becomes of captions that lack them."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorasmith.config.sections.data import CaptionSettings
from lorasmith.data.captions import augment_caption, split_tags
from lorasmith.data.layout import FolderSpec
from lorasmith.data.scan import DatasetImage, Scan
from lorasmith.data.triggers import Trigger, apply_like, apply_triggers, trigger_words

AUTO = CaptionSettings()
WORDS = st.text(st.characters(codec="ascii", categories=["Ll"]), min_size=3, max_size=6)
TAG_LISTS = st.lists(WORDS, min_size=1, max_size=6, unique=True).map(", ".join)


def scan_of(*folders: tuple[str, list[str | None]], reg: tuple[str, ...] = ()) -> Scan:
    """Folders by name with the captions of their images; ``None`` has no caption file."""
    specs = tuple(FolderSpec(Path(name), 10, name in reg) for name, _ in folders)
    images = tuple(
        DatasetImage(
            Path(name) / f"{n}.png", index, 64, 64, caption or name.partition("_")[2] or None,
            Path(name) / f"{n}.txt" if caption else None, False,
        )
        for index, (name, captions) in enumerate(folders)
        for n, caption in enumerate(captions)
    )  # fmt: skip
    return Scan(specs, images)


def applied(
    *folders: tuple[str, list[str | None]], rules: CaptionSettings = AUTO
) -> tuple[list[str | None], tuple[Trigger, ...]]:
    scan, triggers = apply_triggers(scan_of(*folders), rules)
    return [image.caption for image in scan.images], triggers


@pytest.mark.parametrize(
    ("folder", "captions", "text", "source"),
    [
        ("10_x", ["zorp, a", "Zorp, b"], "zorp", "the first tag of all 2 captions"),
        ("10_x", ["zorp, a"] * 9 + ["b"], "zorp", "the first tag of most 10 captions"),
        ("10_x", ["1girl, zorp, a", "1girl, zorp, b"], "zorp", "first tag of all"),
        ("10_zorp", ["1girl, a", "1girl, b"], "zorp", "folder's name: its captions share no"),
        ("10_zorp", ["red, a", "blue, b"], "zorp", "folder's name: its captions share no"),
        ("10_zorp", ["standing, a"], "zorp", "folder's name: one caption alone does not tell"),
        ("10_zorp", [None, None], "zorp", "folder's name: there are no captions"),
        ("zorp", [None], "zorp", "folder's name: there are no captions"),
        ("10_zorp", ["a long sentence that all of them share"] * 2, "zorp", "folder's name"),
        ("images", ["red, a", "blue, b"], "", "the folder's name says nothing"),
    ],
)
def test_where_a_trigger_comes_from(
    folder: str, captions: list[str | None], text: str, source: str
) -> None:
    _, (trigger,) = applied((folder, captions))
    assert trigger.text == text
    assert source in trigger.source
    assert str(trigger).startswith(text or "none")


def test_a_trigger_that_is_set_is_put_in_front_of_captions_that_lack_it() -> None:
    rules = CaptionSettings(trigger="zorp")
    captions = ["a, b", "Zorp, c", "a photo of a zorp, d", "zorpling", None]
    after, (trigger,) = applied(("img", captions), rules=rules)
    expected = ["zorp, a, b", "Zorp, c", "a photo of a zorp, d", "zorp, zorpling", "zorp"]
    assert after == expected
    assert trigger.source == "as set"
    assert trigger.added == 3
    assert "in front of 3 of 5 captions" in str(trigger)


@pytest.mark.parametrize("text", ["", "none", "NONE", " "])
def test_off(text: str) -> None:
    after, (trigger,) = applied(("10_zorp", ["a", None]), rules=CaptionSettings(trigger=text))
    assert after == ["a", "zorp"]
    assert not trigger.text
    assert str(trigger) == "none: switched off"


def test_a_trigger_for_each_folder_and_none_for_regularisation() -> None:
    scan = scan_of(
        ("10_zorp", ["zorp, a", "zorp, b"]), ("5_blib", ["a", "b"]), ("1_thing", ["a", None]),
        reg=("1_thing",),
    )  # fmt: skip
    scan, triggers = apply_triggers(scan, CaptionSettings(shuffle=True))
    assert trigger_words(triggers) == ["zorp", "blib"]
    assert [image.caption for image in scan.images] == [
        *("zorp, a", "zorp, b", "blib, a", "blib, b", "a", "thing"),
    ]
    assert [spec.rules.trigger for spec in scan.folders if spec.rules] == ["zorp", "blib", ""]
    assert [spec.rules.keep_tokens for spec in scan.folders if spec.rules] == [1, 1, 0]


def test_folders_may_have_triggers_of_their_own() -> None:
    scan = scan_of(("a", ["x"]), ("b", ["y"]))
    own = FolderSpec(Path("b"), rules=CaptionSettings(trigger="blib, blob"))
    scan = Scan((scan.folders[0], own), scan.images)
    scan, triggers = apply_triggers(scan, CaptionSettings(trigger="zorp"))
    assert [image.caption for image in scan.images] == ["zorp, x", "blib, blob, y"]
    assert scan.folders[1].rules is not None
    assert scan.folders[1].rules.keep_tokens == 2, "both tags stay in front"
    assert trigger_words(triggers) == ["zorp", "blib, blob"]


def test_it_can_be_kept_out_of_captions() -> None:
    rules = CaptionSettings(trigger="zorp", trigger_in_front=False, shuffle=True)
    scan, (trigger,) = apply_triggers(scan_of(("10_x", ["a, zorp", "b"])), rules)
    assert [image.caption for image in scan.images] == ["a, zorp", "b"]
    assert (trigger.text, trigger.added) == ("zorp", 0)
    assert scan.folders[0].rules is not None
    assert scan.folders[0].rules.keep_tokens == 0
    rules = CaptionSettings(trigger_in_front=False)
    assert applied(("10_zorp", ["a", "b"]), rules=rules)[1][0].text == "", "it stands in none"


@pytest.mark.parametrize(
    ("word", "caption"),
    [("zorp cat", "a, zorp_cat"), ("zorp (book)", r"zorp \(book\), a"), ("zorp_cat", "Zorp Cat")],
)
def test_spellings_of_taggers_are_the_same_word(word: str, caption: str) -> None:
    rules = CaptionSettings(trigger=word)
    assert applied(("img", [caption]), rules=rules)[0] == [caption]


def test_each_line_and_every_choice_of_a_caption_has_it() -> None:
    rules = CaptionSettings(trigger="zorp", wildcards=True)
    (caption,), _ = applied(("img", ["{a|b}, c\nzorp, d"]), rules=rules)
    seen = {augment_caption(caption or "", rules, rng=Random(n)) for n in range(40)}
    assert seen == {"zorp, a, c", "zorp, b, c", "zorp, d"}


@given(st.lists(TAG_LISTS, min_size=1, max_size=5), WORDS, st.integers(0, 3), st.integers(0, 99))
def test_it_is_in_front_however_tags_are_shuffled_and_dropped(
    captions: list[str], trigger: str, keep: int, seed: int
) -> None:
    rules = CaptionSettings(trigger=trigger, shuffle=True, tag_dropout=0.5, keep_tokens=keep)
    scan, _ = apply_triggers(scan_of(("10_x", list(captions))), rules)
    own = scan.folders[0].rules
    assert own is not None
    for image, before in zip(scan.images, captions, strict=True):
        tags = split_tags(augment_caption(image.caption or "", own, rng=Random(seed)))
        if trigger in split_tags(before)[:keep]:
            assert trigger in tags[:keep]
        else:
            assert tags[0] == trigger
        assert set(tags) <= {trigger, *split_tags(before)}


@given(st.lists(TAG_LISTS, min_size=1, max_size=5), st.sampled_from(["auto", "zorp", ""]))
def test_what_was_found_is_found_again(captions: list[str], trigger: str) -> None:
    """As a run that is resumed does with the trigger in its settings."""
    scan = scan_of(("10_thing", list(captions)))
    rules = CaptionSettings(trigger=trigger, shuffle=True)
    once, (found,) = apply_triggers(scan, rules)
    again, _ = apply_triggers(scan, rules.model_copy(update={"trigger": found.text}))
    assert again == once
    assert apply_triggers(once, rules)[0] == once


def test_measured_images_are_called_as_those_trained_on() -> None:
    training, _ = apply_triggers(scan_of(("10_zorp", ["a"]), ("10_blib", ["a"])), AUTO)
    measured = apply_like(scan_of(("1_zorp", ["b"]), ("1_other", ["b"])), training)
    assert [image.caption for image in measured.images] == ["zorp, b", "b"]
    alone, _ = apply_triggers(scan_of(("10_zorp", ["a"])), AUTO)
    measured = apply_like(scan_of(("val", ["b"])), alone)
    assert [image.caption for image in measured.images] == ["zorp, b"]
