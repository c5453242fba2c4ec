"""Which tags are answers to one question."""

from __future__ import annotations

import pytest

from lorasmith.advice.diagnose.tag_groups import groups_of, is_negation, question_of


@pytest.mark.parametrize(
    ("tag", "question"),
    [
        ("crown", "headwear"),
        ("no hat", "headwear"),
        ("red hair", "colour of hair"),
        ("long hair", "hair"),
        ("blue background", "background"),
        ("grass field", "background"),
        ("holding sword", "holding"),
        ("smile", "mouth"),
        ("One_Eye", "eyes"),
        ("", ""),
    ],
)
def test_questions(tag: str, question: str) -> None:
    assert question_of(tag) == question


def test_groups_are_of_two_or_more_and_the_first_come_first() -> None:
    tags = ["smile", "crown", "frown", "grass field", "top hat", "open mouth", "smile"]
    assert groups_of(tags, 9) == {
        "mouth": ["smile", "frown", "open mouth"],
        "headwear": ["crown", "top hat"],
    }
    assert groups_of(tags, 4) == {"mouth": ["smile", "frown", "open mouth"]}
    assert groups_of(tags, 2) == {"mouth": ["smile", "frown"]}


def test_negations() -> None:
    assert is_negation("no_hat")
    assert not is_negation("nose")
