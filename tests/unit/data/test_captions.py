from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorasmith.config.sections.data import CaptionSettings
from lorasmith.data.captions import (
    augment_caption,
    readings,
    resolve_wildcards,
    split_tags,
    tags_of,
)

TAGS = st.lists(st.text("abcdefgh ", min_size=1).map(str.strip).filter(bool), max_size=8)


def outcomes(caption: str, rules: CaptionSettings, count: int = 300, **where: int) -> Counter[str]:
    return Counter(augment_caption(caption, rules, rng=Random(n), **where) for n in range(count))


@given(st.text("abc, _{}|()", max_size=40))
def test_untouched_without_rules(caption: str) -> None:
    assert augment_caption(caption, CaptionSettings(), rng=Random(0)) == caption


def test_first_line_without_wildcards_any_line_with() -> None:
    assert outcomes("one\ntwo", CaptionSettings()) == {"one": 300}
    assert set(outcomes("one\ntwo", CaptionSettings(wildcards=True))) == {"one", "two"}


def test_prefix_and_suffix_are_joined_by_spaces() -> None:
    rules = CaptionSettings(prefix="photo of", suffix="outdoors")
    assert augment_caption("zorp\nsecond line", rules, rng=Random(0)) == "photo of zorp outdoors"


@given(TAGS, st.integers(0, 10), st.integers(0, 1000))
def test_shuffle_keeps_the_first_and_loses_none(tags: list[str], keep: int, seed: int) -> None:
    caption = ", ".join(tags)
    rules = CaptionSettings(shuffle=True, keep_tokens=keep)
    result = split_tags(augment_caption(caption, rules, rng=Random(seed)))
    assert result[:keep] == tags[:keep]
    assert Counter(result) == Counter(tags)


def test_shuffle_reaches_every_order() -> None:
    found = outcomes("a, b, c", CaptionSettings(shuffle=True))
    assert len(found) == 6
    assert min(found.values()) > 20


def test_keep_tokens_counts_tags_not_words() -> None:
    found = outcomes("zorp the great, a, b", CaptionSettings(shuffle=True, keep_tokens=1))
    assert set(found) == {"zorp the great, a, b", "zorp the great, b, a"}


def test_keep_tokens_separator_fixes_both_ends_and_leaves_no_trace() -> None:
    rules = CaptionSettings(shuffle=True, keep_tokens_separator="|||")
    found = outcomes("zorp, girl ||| a, b ||| 4k, best", rules)
    assert set(found) == {"zorp, girl, a, b, 4k, best", "zorp, girl, b, a, 4k, best"}
    still = CaptionSettings(keep_tokens_separator="|||")
    assert augment_caption("zorp ||| a", still, rng=Random(0)) == "zorp, a"


def test_tag_dropout_spares_kept_tags_and_has_the_rate() -> None:
    rules = CaptionSettings(tag_dropout=0.3, keep_tokens=1)
    results = [split_tags(augment_caption("k, a, b, c", rules, rng=Random(n))) for n in range(1000)]
    assert all(tags[0] == "k" for tags in results)
    assert sum(len(tags) - 1 for tags in results) / 3000 == pytest.approx(0.7, abs=0.03)


def test_caption_dropout_has_the_rate_and_drops_the_prefix_too() -> None:
    found = outcomes("a", CaptionSettings(dropout=0.2, prefix="p"), 1000)
    assert set(found) == {"", "p a"}
    assert found[""] == pytest.approx(200, abs=45)


def test_epochs_without_captions_count_from_one() -> None:
    rules = CaptionSettings(dropout_every_n_epochs=3)
    results = [augment_caption("a", rules, rng=Random(0), epoch=epoch) for epoch in range(1, 8)]
    assert results == ["a", "a", "", "a", "a", "", "a"]


@pytest.mark.parametrize(
    ("caption", "expected"),
    [("{a|b} c", {"a c", "b c"}),
     ("{a|{b|c}} d", {"a d", "b d", "c d"}),
     ("{{b|c}|a}", {"a", "b", "c"}),
     ("{a|}x", {"ax", "x"}),
     ("{{a|b}}", {"{a|b}"}),
     ("{only}", {"only"}),
     ("{a|b", {"{a|b"}),
     ("a|b}", {"a|b}"}),
     ("{}", {"{}"})],
)  # fmt: skip
def test_wildcards(caption: str, expected: set[str]) -> None:
    assert {resolve_wildcards(caption, Random(n)) for n in range(200)} == expected


def test_wildcards_are_text_unless_asked_for() -> None:
    assert augment_caption("{a|b}", CaptionSettings(), rng=Random(0)) == "{a|b}"


def test_secondary_separator_moves_its_tags_as_one() -> None:
    rules = CaptionSettings(shuffle=True, secondary_separator=";")
    assert set(outcomes("a;b, c", rules)) == {"a,b, c", "c, a,b"}


@pytest.mark.parametrize(
    ("step", "kept"), [(0, 4), (1, 4), (2, 5), (5, 7), (9, 9), (10, 10), (50, 10)]
)
def test_tags_come_in_one_by_one(step: int, kept: int) -> None:
    """sd-scripts' floor(step * (tags - least) / steps) + least, of the tags that are not kept."""
    rules = CaptionSettings(keep_tokens=1, tag_warmup_steps=10, tag_warmup_min=4)
    tags = [f"t{number}" for number in range(10)]
    shown = augment_caption(", ".join(["zorp", *tags]), rules, rng=Random(0), step=step)
    assert shown == ", ".join(["zorp", *tags[:kept]])


def test_other_separators_and_empty_tags() -> None:
    rules = CaptionSettings(separator=";", tag_dropout=1e-12)
    assert augment_caption("a, x;; b ;", rules, rng=Random(0)) == "a, x; b"


def test_the_same_draw_gives_the_same_caption() -> None:
    rules = CaptionSettings(shuffle=True, dropout=0.1, tag_dropout=0.2, wildcards=True)
    caption = "z, {a|b}, c, d, e\ny, f"
    assert [augment_caption(caption, rules, rng=Random(n)) for n in range(50)] == [
        augment_caption(caption, rules, rng=Random(n)) for n in range(50)
    ]


@pytest.mark.parametrize(
    ("rules", "varies"),
    [(CaptionSettings(), False), (CaptionSettings(prefix="a", keep_tokens=2), False),
     (CaptionSettings(shuffle=True), True), (CaptionSettings(dropout=0.1), True),
     (CaptionSettings(dropout_every_n_epochs=2), True), (CaptionSettings(tag_dropout=0.1), True),
     (CaptionSettings(wildcards=True), True), (CaptionSettings(tag_warmup_steps=5), True)],
)  # fmt: skip
def test_varies(rules: CaptionSettings, varies: bool) -> None:
    assert rules.varies is varies


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize(
    ("separator", "caption", "outcomes_"),
    [(";", "zorp; red hat, big; smile", {"zorp; red hat, big; smile", "zorp; smile; red hat, big"}),
     ("; ", "zorp; red hat, big; smile",
      {"zorp; red hat, big; smile", "zorp; smile; red hat, big"}),
     (" | ", "z | a | b", {"z | a | b", "z | b | a"}),
     ("|", "z|a|b", {"z| a| b", "z| b| a"}),
     (" ", "z a b", {"z a b", "z b a"}),
     ("\u3001", "z\u3001a\u3001b", {"z\u3001 a\u3001 b", "z\u3001 b\u3001 a"})],
)  # fmt: skip
def test_tags_are_joined_by_the_separator_they_were_split_at(
    shuffle: bool, separator: str, caption: str, outcomes_: set[str]
) -> None:
    rules = CaptionSettings(shuffle=shuffle, separator=separator, keep_tokens=1)
    assert set(outcomes(caption, rules)) == (outcomes_ if shuffle else {caption})


def test_separators_of_all_kinds_together() -> None:
    rules = CaptionSettings(
        shuffle=True, separator=";", keep_tokens_separator="|||", secondary_separator="+"
    )
    found = outcomes("zorp, the great; girl ||| a+b; c, d ||| end ||| last", rules)
    assert set(found) == {
        "zorp, the great; girl; a;b; c, d; end; last",
        "zorp, the great; girl; c, d; a;b; end; last",
    }


@pytest.mark.parametrize(
    ("caption", "rules", "texts", "tags"),
    [("a; b, c", CaptionSettings(separator=";", shuffle=True, dropout=0.5, tag_dropout=0.9),
      ["a; b, c"], ["a", "b, c"]),
     ("z ||| a;;;b, c", CaptionSettings(keep_tokens_separator="|||", secondary_separator=";;;"),
      ["z, a,b, c"], ["z", "a", "b", "c"]),
     ("a, b\nc", CaptionSettings(prefix="zorp,", suffix="hd"), ["zorp, a, b hd"],
      ["zorp", "a", "b hd"]),
     ("{red|blue} hat, a\nc", CaptionSettings(wildcards=True), ["red hat, a", "blue hat, a", "c"],
      ["red hat", "a", "blue hat", "c"]),
     ("a, a", CaptionSettings(), ["a, a"], ["a", "a"]),
     ("", CaptionSettings(), [""], []),
     ("{a|b}", CaptionSettings(), ["{a|b}"], ["{a|b}"])],
)  # fmt: skip
def test_readings_and_tags_are_what_training_may_see(
    caption: str, rules: CaptionSettings, texts: list[str], tags: list[str]
) -> None:
    assert readings(caption, rules) == texts
    assert tags_of(caption, rules) == tags


@given(st.text("ab,;|{}+ \n", max_size=30), st.booleans(), st.integers(0, 99))
def test_what_is_drawn_is_one_of_the_readings(caption: str, wildcards: bool, seed: int) -> None:
    rules = CaptionSettings(
        wildcards=wildcards, separator=";", secondary_separator="+", keep_tokens_separator="||"
    )
    assert augment_caption(caption, rules, rng=Random(seed)) in readings(caption, rules)


def test_very_many_choices_are_looked_at_in_part() -> None:
    found = readings("{a|b|c|d}" * 40, CaptionSettings(wildcards=True))
    assert len(found) == 64
    assert set("".join(text[0] + text[-1] for text in found)) == set("abcd")
