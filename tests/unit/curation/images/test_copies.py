from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorasmith.curation.images.copies import one_sided, swap_sides


@pytest.mark.parametrize(
    ("text", "mirrored"),
    [
        ("zorp, left hand up", "zorp, right hand up"),
        ("left_arm, Right leg, LEFT", "right_arm, Left leg, RIGHT"),
        ("from the left to the right.", "from the right to the left."),
        ("copyright, bright eyes, leftover, upright", "copyright, bright eyes, leftover, upright"),
        ("links, gauche, 左", "links, gauche, 左"),
        ("right-handed\r\nleft", "left-handed\r\nright"),
    ],
)
def test_sides_in_whole_words(text: str, mirrored: str) -> None:
    assert swap_sides(text) == mirrored


@given(st.text(st.sampled_from("leftrigh LEFTRIGH_,-\n")) | st.text())
def test_twice_is_nothing_where_words_have_one_case(text: str) -> None:
    text = text.lower()
    assert swap_sides(swap_sides(text)) == text


def test_what_a_mirror_makes_wrong() -> None:
    tags = ["text", "english text", "heterochromia", "asymmetrical hair", "texture", "smile"]
    assert one_sided(tags) == tags[:4]
