from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.curation.in_memory import collection, image

from lorasmith.curation.filter import parse_filter
from lorasmith.curation.filter_language.completion import complete
from lorasmith.curation.filter_language.words import written

IMAGES = collection(
    [
        image("a.png", 'hat, red hat, say "x", 1girl', "10_zorp"),
        image("b.png", "hat, happy, miku (vocaloid)", "10_zorp"),
        image("c.png", "red hat, hat", "5_more hats"),
    ]
)


def offers(text: str) -> list[str]:
    """With the cursor at ``|``: the whole text with each completion."""
    cursor = text.index("|")
    text = text.replace("|", "")
    return [
        text[: each.start] + each.text + text[each.end :] for each in complete(text, cursor, IMAGES)
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tag:ha|", ["tag:hat", "tag:happy", 'tag:"red hat"']),
        ("a tag:h|at b", ["a tag:hat b", "a tag:happy b", 'a tag:"red hat" b']),
        ("tag:re|", ['tag:"red hat"']),
        ('tag:"red h|', ['tag:"red hat"']),
        ("tag:say|", [r'tag:"say \"x\""']),
        ("tag:mi|", ['tag:"miku (vocaloid)"']),
        ("-folder:|", ["-folder:10_zorp", '-folder:"5_more hats"']),
        ("dup:e|", ["dup:exact"]),
        ("hei|", ["height:"]),
        ("unt|", ["untagged"]),
        ("happ|", ["tag:happy"]),
        ("tag:nothing|", []),
        ("tokens:>|", []),
        ("(tag:hap|)", ["(tag:happy)"]),
    ],
)
def test_what_is_offered(text: str, expected: list[str]) -> None:
    assert offers(text) == expected


def test_at_the_beginning_all_keys_are_offered() -> None:
    completions = complete("", 0, IMAGES, most=100)
    assert {"tag:", "folder:", "tokens:", "untagged"} <= {each.text for each in completions}
    assert all(each.description for each in completions)


def test_frequent_tags_come_first_with_their_counts() -> None:
    completions = complete("tag:", 4, IMAGES)
    assert [(each.text, each.images) for each in completions[:2]] == [("hat", 3), ('"red hat"', 2)]


@given(st.text(), st.data())
def test_any_text_and_place(text: str, data: st.DataObject) -> None:
    cursor = data.draw(st.integers(0, len(text)))
    for each in complete(text, cursor, IMAGES):
        assert 0 <= each.start <= each.end <= len(text)


@pytest.mark.parametrize("tag", ["hat", "red hat", "happy", 'say "x"', "miku (vocaloid)"])
def test_a_completion_is_a_filter_that_finds_its_tag(tag: str) -> None:
    text = offers(f"tag:{tag[:3] if ' ' in tag else tag}|")[0]
    assert text == f"tag:{written(tag)}"
    assert all(tag in one.tags for one in parse_filter(text).select(IMAGES))
