"""Completion of tags from lists."""

from __future__ import annotations

from pathlib import Path

import pytest

from lorasmith.core.errors import DatasetError
from lorasmith.curation.tag_words import (
    TagWord,
    WordList,
    complete_tag,
    read_word_list,
    words_of_labels,
)
from lorasmith.curation.tagger.labels import Labels


def tags(words: list[TagWord]) -> list[str]:
    return [word.tag for word in words]


SET = WordList([TagWord("zorp", "set", 9), TagWord("red hat", "set", 4), TagWord("hat", "set", 2)])


def test_words_that_begin_so_come_first_then_those_of_which_one_does() -> None:
    assert tags(SET.starting_with("ha", 9)) == ["hat", "red hat"]
    assert tags(SET.starting_with("RED_H", 9)) == ["red hat"]
    assert tags(SET.starting_with("at", 9)) == []
    assert tags(SET.starting_with("", 2)) == ["zorp", "red hat"]
    assert tags(SET.starting_with("ha", 1)) == ["hat"]


def test_each_tag_is_offered_once_by_the_first_list_that_has_it() -> None:
    other = WordList([TagWord("Hat", "list", 1000), TagWord("hair", "list", 500)])
    found = complete_tag("ha", [SET, other])
    assert [(word.tag, word.source) for word in found] == [
        ("hat", "set"),
        ("red hat", "set"),
        ("hair", "list"),
    ]
    assert len(complete_tag("ha", [SET, other], most=1)) == 1


def test_a_list_of_the_web_uis_tag_completion(tmp_path: Path) -> None:
    path = tmp_path / "danbooru.csv"
    path.write_text(
        '1girl,0,4114588,"sole_female,1girls"\nhatsune_miku,4,77262,"miku,初音ミク"\n^_^,0,200,\n'
        "hat_ribbon,0,90000\n",
        encoding="utf-8",
    )
    words = read_word_list(path)
    assert tags(list(words.words)) == ["1girl", "hat ribbon", "hatsune miku", "^_^"]
    (miku,) = words.starting_with("miku", 9)
    assert (miku.tag, miku.category, miku.images, miku.alias) == (
        "hatsune miku",
        "character",
        77262,
        "miku",
    )
    assert tags(words.starting_with("hat", 9)) == ["hat ribbon", "hatsune miku"]
    assert words.starting_with("初音", 9)[0].alias == "初音ミク"
    assert words.starting_with("sole fem", 9)[0].tag == "1girl"


def test_a_tag_a_line_will_do(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("zorp\n\nred_hat\n", encoding="utf-8")
    assert tags(list(read_word_list(path).words)) == ["zorp", "red hat"]


@pytest.mark.parametrize("content", [b"", b"\n\n", b'a,"' + b"x" * 200_000])
def test_what_is_no_list(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "mine.csv"
    path.write_bytes(content)
    with pytest.raises(DatasetError):
        read_word_list(path)
    with pytest.raises(DatasetError, match="cannot be read"):
        read_word_list(tmp_path / "none.csv")


def test_what_a_tagger_knows_without_ratings() -> None:
    labels = Labels(("red_hat", "safe"), ("general", "rating"), Path("labels.csv"), "")
    (word,) = words_of_labels(labels).words
    assert (word.tag, word.source, word.category) == ("red hat", "base", "general")
