from __future__ import annotations

from pathlib import Path

import pytest

from lorasmith.core.errors import DatasetError
from lorasmith.curation.sidecars.tags import SideCar, Tag
from lorasmith.curation.sidecars.text_files import (
    MOST_BYTES,
    parse_caption_file,
    parse_tags_file,
    read_bytes,
    read_text_file,
)

GRABBER = "artist:someone\ncharacter:zorp\nlong hair\nre:zero\n^_^"
TAGS = (Tag("someone", "artist"), Tag("zorp", "character"), Tag("long hair"), Tag("re:zero"))


def test_grabber_writes_a_tag_a_line_and_doubles_it_the_second_time() -> None:
    once = parse_tags_file(GRABBER)
    assert once.tags == (*TAGS, Tag("^_^"))
    assert parse_tags_file(f"{GRABBER}\n{GRABBER}\n") == once
    assert parse_tags_file(f"\ufeff{GRABBER}".replace("\n", "\r\n")) == once


@pytest.mark.parametrize(
    "text",
    [
        "1girl long_hair red_hat solo",
        "1girl, long_hair, red_hat, solo",
        "1girl,long_hair,red_hat,solo,",
        "1girl\nlong_hair\nred_hat\nsolo",
        "1girl long_hair red_hat solo\n1girl long_hair red_hat solo",
        "https://danbooru.donmai.us/posts/1\n1girl\nlong_hair\nred_hat\nsolo",
    ],
)
def test_one_list_in_its_forms(text: str) -> None:
    names = [tag.name for tag in parse_tags_file(text).tags]
    assert names == ["1girl", "long_hair", "red_hat", "solo"]


@pytest.mark.parametrize("text", ["holding hat", "re zero", "zorp"])
def test_one_tag_of_several_words(text: str) -> None:
    assert parse_tags_file(text) == SideCar((Tag(text),))


def test_tags_with_small_words_are_tags() -> None:
    text = "hand on own hip\nthe lord of the rings\nalice in wonderland"
    assert [tag.name for tag in parse_tags_file(text).tags] == text.split("\n")


@pytest.mark.parametrize(
    "text",
    [
        "A girl with a red hat is standing in the rain.",
        "a photo of my_dog sitting on the couch",
        "zorp, a girl in a red hat, standing in the rain on a wet street at night",
    ],
)
def test_what_is_told_stays_as_it_is(text: str) -> None:
    assert parse_caption_file(text) == SideCar(text=text)


def test_several_captions_stay_and_the_same_one_twice_does_not() -> None:
    assert (
        parse_caption_file("zorp, hat\nzorp, rain, night\n").text == "zorp, hat\nzorp, rain, night"
    )
    twice = parse_caption_file("zorp, hat\nzorp, hat, new")
    assert [tag.name for tag in twice.tags] == ["zorp", "hat", "new"]


def test_files_that_are_none_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"\x89PNG\x00\x01\x02")
    with pytest.raises(DatasetError, match="not a text file"):
        read_text_file(path)
    path.write_bytes(b"a" * (MOST_BYTES + 1))
    with pytest.raises(DatasetError, match="more than 4"):
        read_text_file(path)
    with pytest.raises(DatasetError, match="cannot be read"):
        read_bytes(tmp_path)
    path.write_bytes("zorp, ruban à cheveux".encode("cp1252"))
    assert read_text_file(path) == "zorp, ruban à cheveux"
