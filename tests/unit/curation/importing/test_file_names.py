from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorasmith.core.errors import UserError
from lorasmith.core.file_names import safe_stem
from lorasmith.curation.importing.file_names import FreeNames, NamePattern
from lorasmith.curation.sidecars.tags import Tag


@pytest.mark.parametrize(
    ("stem", "safe"),
    [
        ("a b", "a b"), ("con", "_con"), ("LPT1.x", "_LPT1.x"), ("-rf", "_-rf"), ("a\nb", "a_b"),
        ('a<>:"/\\|?*b', "a_b"), (" .. ", "_"), ("", "_"), ("e\u0301", "é"), ("猫", "猫"),
    ],
)  # fmt: skip
def test_names_that_every_system_takes(stem: str, safe: str) -> None:
    assert safe_stem(stem) == safe


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=400), max_size=8))
def test_no_name_twice_and_none_too_long(stems: list[str]) -> None:
    free = FreeNames(["a.png", "A_2.txt"])
    names = [free.take(stem) for stem in stems]
    assert len({name.casefold() for name in names}) == len(names)
    assert all(len(f"{name}-masklabel.jpeg".encode()) <= 255 for name in names)
    assert not {"a", "a_2"} & {name.casefold() for name in names}


def test_the_first_number_that_is_free() -> None:
    free = FreeNames(["a.png", "A_2.txt"])
    assert [free.take("a"), free.take("A"), free.take("b"), free.take("b")] == [
        "a_3", "A_4", "b", "b_2",
    ]  # fmt: skip


def test_tags_in_names_as_grabber_writes_them() -> None:
    pattern = NamePattern("%artist%/%copyright%/%character%/%md5%.%ext%")
    tags = pattern.tags(Path("/x/y/some_one/zorps/zorp_a zorp_b/0123abc.jpg"))
    assert tags == (
        Tag("some_one", "artist"), Tag("zorps", "copyright"), Tag("zorp_a", "character"),
        Tag("zorp_b", "character"),
    )  # fmt: skip
    assert NamePattern("%id% - %all%").tags(Path("12 - artist:x red_hat.png")) == (
        Tag("x", "artist"), Tag("red_hat"),
    )  # fmt: skip
    assert pattern.tags(Path("a.jpg")) == ()


@pytest.mark.parametrize("text", ["%md5%.%ext%", "%charakter%", "plain", "%"])
def test_a_pattern_without_tags_is_refused(text: str) -> None:
    with pytest.raises(UserError) as info:
        NamePattern(text)
    assert info.value.problems[0].where == "name_tags"
