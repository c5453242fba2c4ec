"""Spellings of tags, and lists of them."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorasmith.core.errors import DatasetError
from lorasmith.curation.edit.consolidate import consolidation, read_families
from lorasmith.curation.edit.spelling import (
    LISTS,
    TagList,
    bare,
    escaped,
    find_lists,
    is_kaomoji,
    like,
    read_list,
    split_weight,
    unescaped,
    wildcard_pattern,
    with_spaces,
    with_underscores,
)


@pytest.mark.parametrize(
    ("tag", "parts"),
    [
        ("(hat:1.2)", ("hat", "(", ":1.2)")),
        ("((red hat))", ("red hat", "((", "))")),
        ("(fate (x):1.1)", ("fate (x)", "(", ":1.1)")),
        ("fate (x)", ("fate (x)", "", "")),
        ("(hat", ("(hat", "", "")),
        ("((hat)", ("((hat)", "", "")),
        ("(a) (b)", ("(a) (b)", "", "")),
        (r"(hat\)", (r"(hat\)", "", "")),
        ("(o)_(o)", ("(o)_(o)", "", "")),
        ("()", ("()", "", "")),
    ],
)
def test_weights(tag: str, parts: tuple[str, str, str]) -> None:
    assert split_weight(tag) == parts


@given(st.text(st.sampled_from("ab(:1.2) )\\"), max_size=12))
def test_a_weight_is_taken_off_and_put_back(tag: str) -> None:
    inner, before, after = split_weight(tag)
    assert "".join(f"{before}{inner}{after}".split()) == "".join(tag.split())


def test_a_long_tag_of_brackets_takes_no_time() -> None:
    for tag in ("(" * 50_000, "(" + ":1" * 50_000 + ")", "(:" + "1" * 50_000 + "x)"):
        split_weight(tag)


@given(st.text(st.sampled_from("ab_ ^>"), max_size=8).map(str.strip))
def test_spellings_of_a_tag_are_the_same_tag(tag: str) -> None:
    if tag.strip("_ "):
        assert bare(with_underscores(tag)) == bare(tag) == bare(with_spaces(tag))


def test_accents_are_the_same_however_they_are_written() -> None:
    assert bare("cafe\u0301") == bare("CAF\u00c9")


@given(st.text(st.sampled_from("ab ()[]"), max_size=8))
def test_escapes_are_taken_back(tag: str) -> None:
    assert unescaped(escaped(tag)) == tag


def test_faces_are_told_from_words() -> None:
    assert is_kaomoji("^_^")
    assert is_kaomoji("T_T")
    assert is_kaomoji(r"\(o\)_\(o\)")
    assert not is_kaomoji("red_hat")


def test_a_new_name_is_spelled_as_the_old() -> None:
    assert like("blue hat", "red_hat") == "blue_hat"
    assert like("blue hat", "(red hat:1.2)") == "(blue hat:1.2)"
    assert like("fate (y)", r"fate_\(x\)") == r"fate_\(y\)"


def test_wildcards() -> None:
    pattern = wildcard_pattern("red*h?t")
    assert pattern is not None
    assert pattern.fullmatch("red big hat")
    assert not pattern.fullmatch("red ht")
    assert wildcard_pattern(r"red\*") is None
    assert wildcard_pattern("a.b") is None


@given(st.text(st.sampled_from("ab*?"), max_size=6), st.text(st.sampled_from("ab"), max_size=6))
def test_wildcards_as_fnmatch_has_them(pattern: str, text: str) -> None:
    compiled = wildcard_pattern(pattern)
    assert (compiled is None) == (not set(pattern) & set("*?"))
    matches = text == pattern if compiled is None else compiled.fullmatch(text) is not None
    assert matches == fnmatchcase(text, pattern)


def test_many_wildcards_take_no_time() -> None:
    pattern = wildcard_pattern("*a?=" * 300)
    assert pattern is not None
    assert not pattern.fullmatch("ab=" * 300 + "!")


@pytest.mark.parametrize("path", sorted(LISTS.glob("*.txt")), ids=lambda path: path.stem)
def test_shipped_lists_have_each_tag_once(path: Path) -> None:
    tags = read_list(path)
    assert len(tags) == len(set(tags)) > 30
    assert all(tag == tag.casefold() for tag in tags)


def test_lists_in_any_spelling(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("# remark\nred hat\nblue *,\n\n", encoding="utf-8")
    tags = find_lists(f"meta,{tmp_path / 'mine.txt'}", ["meta"])
    for tag in ("Red_Hat", "(red hat:1.3)", "blue_dress", "highres"):
        assert tag in tags
    assert "hat" not in tags
    assert "^_^" in TagList(["^_^"])


def test_an_unknown_list_is_named() -> None:
    with pytest.raises(DatasetError) as info:
        find_lists("mta,nowhere.txt", ["meta"])
    assert [problem.hint for problem in info.value.problems] == [
        "did you mean meta?",
        "correct the path",
    ]


def test_families_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "families.txt"
    lines = "vehicle: glider\nkeep: wing\nleading: shiny\n"
    file.write_text(lines, encoding="utf-8")
    families = read_families(file)
    tags = ["red vehicle", "red glider", "wing", "left wing", "shiny", "shiny hat"]
    assert consolidation(tags, families) == [0, 4]
    assert consolidation(["footwear", "sneakers", "shoes"], families) == [0, 2]
    file.write_text("vehicle\n", encoding="utf-8")
    read_families.cache_clear()
    with pytest.raises(DatasetError, match="is no family"):
        read_families(file)
    read_families.cache_clear()


WORDS = st.lists(
    st.sampled_from(["red", "boots", "footwear", "hat", "on", "no", "holding"]), min_size=1
).map(" ".join)


@given(st.lists(WORDS, max_size=6))
def test_what_goes_is_said_by_what_stays(tags: list[str]) -> None:
    families = read_families()
    implied = consolidation(tags, families)
    left = [tag for index, tag in enumerate(tags) if index not in implied]
    for index in implied:
        assert any(families.says(tag, tags[index]) for tag in left)
    assert consolidation(left, families) == []
