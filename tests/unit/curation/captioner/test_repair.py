"""Captions fit for training, from whatever a model wrote."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorasmith.curation.captioner.repair import (
    cut_loops,
    framed,
    one_line,
    without_unfinished,
    without_words,
)

WORDS = st.lists(
    st.sampled_from(["a", "girl", "with", "black", "hair", "and", "hat,", "red", "eyes.", "(the"]),
    max_size=30,
).map(" ".join)
STYLES = ("descriptive", "tags")


@pytest.mark.parametrize(
    ("answer", "caption"),
    [
        ("  a cat \n", "a cat"),
        ("Sure! Here is a caption for the image:\n\n**A cat** on a mat.", "A cat on a mat."),
        ("<think>Let me see: a cat?\nYes.</think>\nA cat.", "A cat."),
        ("<think>and it never ended", ""),
        ('"A cat."', "A cat."),
        ('"Cats" and "dogs"', '"Cats" and "dogs"'),
        ("Caption: a cat<|im_end|></s>", "a cat"),
        ("First line.\nSecond line.", "First line. Second line."),
        ("# A heading\n- one\n- two", "A heading one two"),
        ("", ""),
    ],
)
def test_a_caption_is_one_line_of_the_answer(answer: str, caption: str) -> None:
    assert one_line(answer) == caption


def test_a_list_of_tags_is_one_line_too() -> None:
    answer = "Tags:\n1. 1girl\n2. red hat\n3. ^_^\n- red hat, Red Hat, smile."
    assert one_line(answer, "tags") == "1girl, red hat, ^_^, smile"


@pytest.mark.parametrize(
    ("text", "cut"),
    [
        ("a cat on a mat on a mat on a mat on a", "a cat on a mat"),
        ("a cat on a mat on a mat on a mat on a ma", "a cat on a mat"),
        ("a very, very, very big cat", "a very, very, very big cat"),
        ("a big big big big big cat", "a big cat"),
        ("red hat, red hat, red hat, red hat,", "red hat"),
        ("It is red. It is big. It is red. It is it.", "It is red. It is big. It is it."),
        ("one two three four five six seven. " * 2, "one two three four five six seven."),
        ("the end aaaaaaaaaaaaaaaaaaa", "the end a"),
        ("一只猫在垫子上，一只猫在垫子上，一只猫在垫子上，", "一只猫在垫子上，"),
        ("a house in 1000000 colours", "a house in 1000000 colours"),
        ("a cat and a dog and a bird", "a cat and a dog and a bird"),
        ("", ""),
    ],
)  # fmt: skip
def test_a_loop_is_cut(text: str, cut: str) -> None:
    assert cut_loops(text.strip()) == cut


@given(group=st.lists(st.sampled_from("abcdefgh"), min_size=2, max_size=8, unique=True),
       times=st.integers(3, 12))  # fmt: skip
def test_of_a_loop_of_any_length_one_turn_is_left(group: list[str], times: int) -> None:
    assert cut_loops("see " + " ".join(group * times)) == "see " + " ".join(group)


@pytest.mark.parametrize("style", STYLES)
@given(text=WORDS)
def test_cutting_and_tidying_twice_is_the_same_as_once(text: str, style: str) -> None:
    for change in (cut_loops, one_line):
        once = change(text, style)
        assert change(once, style) == once


@given(st.text(max_size=200))
def test_any_answer_becomes_one_line(answer: str) -> None:
    text = one_line(answer)
    assert text.splitlines() in ([], [text])
    assert one_line(text) == text
    assert cut_loops(cut_loops(text)) == cut_loops(text)


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("A girl with black hair and blue eyes.", "A girl with blue eyes."),
        ("A girl with blue eyes and black hair.", "A girl with blue eyes."),
        ("A girl with eyes and long Black Hair, smiling.", "A girl with eyes and long, smiling."),
        ("A girl with the black hair in a park", "A girl in a park"),
        ("A girl has black hair.", "A girl."),
        ("Black hair and blue eyes.", "Blue eyes."),
        ("A girl. Black hair. A hat.", "A girl. A hat."),
        ("A girl (black hair) and a cat", "A girl and a cat"),
        ("a hat, black hair, blue eyes", "a hat, blue eyes"),
        ("a black haired girl", "a black haired girl"),
        ("a blue-black hair band", "a blue-black hair band"),
        ("black hair", ""),
        ("", ""),
    ],
)  # fmt: skip
def test_words_are_taken_out_with_what_led_to_them(text: str, rest: str) -> None:
    assert without_words(text, ["black hair"]) == rest


def test_an_article_stays_with_its_noun() -> None:
    assert without_words("a beautiful girl", ["beautiful"]) == "a girl"


def test_of_tags_the_rest_stays() -> None:
    text = "1girl, black_hair, long black hair, Black Hair, black hairband, hat"
    assert without_words(text, ["black hair"], "tags") == "1girl, long, black hairband, hat"


def test_a_script_without_spaces() -> None:
    assert without_words("一只黑猫在垫子上", ["黑"]) == "一只猫在垫子上"


@pytest.mark.parametrize("style", STYLES)
@given(text=WORDS)
def test_none_of_the_words_is_left(text: str, style: str) -> None:
    rest = without_words(text, ["black hair", "eyes", "girl"], style)
    assert not re.search(r"\b(black\s+hair|eyes|girl)\b", rest)
    assert without_words(rest, ["black hair", "eyes", "girl"], style) == rest
    assert "  " not in rest


def test_no_words_change_nothing() -> None:
    assert without_words("a  b ,c", []) == "a  b ,c"


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("A cat. A dog on", "A cat."),
        ("A cat on", "A cat on"),
        ('A cat. "A dog."', 'A cat. "A dog."'),
    ],
)
def test_an_unfinished_sentence_goes(text: str, rest: str) -> None:
    assert without_unfinished(text) == rest


def test_an_unfinished_tag_goes() -> None:
    assert without_unfinished("hat, red ha", "tags") == "hat"
    assert without_unfinished("red ha", "tags") == "red ha"


def test_prefix_and_suffix_stand_once() -> None:
    assert framed("a cat", "zorp,", "on a mat") == "zorp, a cat on a mat"
    assert framed("zorp, a cat on a mat", "zorp,", "on a mat") == "zorp, a cat on a mat"
    assert framed("a cat", "", ", 4k") == "a cat, 4k"
    assert framed("hat, zorp, best", "zorp", "best, sky", "tags") == "zorp, hat, best, sky"
