"""Triggers, and prompts with and without them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lorasmith.measures.eval_set import mixed_captions, spread


def test_mixed_captions_keep_the_trigger_and_combine_others_tags() -> None:
    captions = ["zorp, a1, a2, a3, a4", "zorp, b1, b2, b3, b4"]
    assert mixed_captions(captions, ["zorp"]) == ["zorp, a1, a2, b3, b4", "zorp, b1, b2, a3, a4"]


def test_of_two_subjects_each_keeps_its_own_trigger() -> None:
    captions = ["zorp, a1, a2", "blib, b1, b2"]
    assert mixed_captions(captions, ["zorp", "blib"]) == ["zorp, a1, b2", "blib, b1, a2"]


def test_sentences_are_not_mixed() -> None:
    captions = ["zorp on a hill", "zorp at sea"]
    assert mixed_captions(captions, []) == captions


def test_a_single_caption_stays() -> None:
    assert mixed_captions(["zorp, a, b"], ["zorp"]) == ["zorp, a, b"]


@given(st.lists(st.text(min_size=1), min_size=1, max_size=9, unique=True), st.integers(1, 20))
def test_spread_gives_the_number_that_is_asked_for(texts: list[str], count: int) -> None:
    chosen = spread(texts, count)
    assert len(chosen) == count
    assert len(set(chosen)) == min(count, len(texts))
    assert spread([], count) == []
