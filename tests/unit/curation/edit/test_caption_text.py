"""What nobody asked to change survives, whatever the bytes."""

from __future__ import annotations

import codecs

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lorasmith.core.errors import DatasetError
from lorasmith.curation.edit.caption_text import (
    CaptionFile,
    TagLine,
    caption_count,
    edit_captions,
    joined_lines,
)
from lorasmith.data.caption_files import decode

LINES = st.text(st.sampled_from("ab,  \t(:1.2)\\é日\u3000_"), max_size=30)
TEXTS = st.text(st.sampled_from("ab, \n\r\x0b\x85\u2028é日"), max_size=40)


@given(st.binary(max_size=60) | TEXTS.map(str.encode))
@example(codecs.BOM_UTF8 + b"a, b\r\n")
@example(codecs.BOM_UTF16_BE + "a, é".encode("utf-16-be"))
@example("naïve, café".encode("cp1252"))
@example("微笑, 帽子".encode("gb18030"))
@example(b"a\xff\x80,\x00")
def test_an_edit_that_changes_nothing_keeps_every_byte(data: bytes) -> None:
    file = CaptionFile.of(data)
    text = edit_captions(file.text, lambda line: str(TagLine(line)))
    assert file.with_text(text) == data


@given(LINES)
def test_a_line_is_its_tags_and_gaps(text: str) -> None:
    line = TagLine(text)
    assert str(line) == text
    assert line.tags == [tag.strip() for tag in text.split(",") if tag.strip()]
    assert len(line.gaps) == len(line.tags) + 1
    assert all("," in gap for gap in line.gaps[1:-1])


@given(LINES, st.integers(0, 5), st.lists(st.sampled_from(["x", "y z"]), max_size=2))
def test_insert(text: str, at: int, new: list[str]) -> None:
    line = TagLine(text)
    at = min(at, len(line.tags))
    expected = [*line.tags[:at], *new, *line.tags[at:]]
    line.insert(at, new)
    assert TagLine(str(line)).tags == expected == line.tags


@given(LINES, st.sets(st.integers(0, 6)))
def test_remove_at(text: str, indices: set[int]) -> None:
    line = TagLine(text)
    expected = [tag for index, tag in enumerate(line.tags) if index not in indices]
    line.remove_at(indices)
    assert TagLine(str(line)).tags == expected == line.tags


def test_spacing_of_untouched_tags_survives() -> None:
    line = TagLine("  a,b ,  c,,d ,")
    line.remove_at([1])
    assert str(line) == "  a,c,,d ,"
    line.insert(3, ["e"])
    assert str(line) == "  a,c,,d,e ,"


def test_new_tags_are_spaced_as_the_others() -> None:
    line = TagLine("a,b")
    line.insert(1, ["x"])
    assert str(line) == "a,x,b"


def test_brackets_keep_nothing_together() -> None:
    assert TagLine(r"(red hat, blue eyes:1.2), fate \(x\)").tags == [
        *("(red hat", "blue eyes:1.2)"),
        r"fate \(x\)",
    ]


def test_each_line_with_text_is_a_caption() -> None:
    assert edit_captions("a\r\n\r\n b \n", lambda line: f"{line}!") == "a!\r\n\r\n b !\n"
    assert edit_captions("", lambda line: "x") == "x"
    assert edit_captions("\r\n", lambda line: "x") == "x\r\n"
    assert caption_count("a\n\n b\n") == 2


def test_lines_are_joined() -> None:
    assert joined_lines("a, b,\r\n\r\nc\r\n") == "a, b, c\r\n"
    assert joined_lines("a, b,\n") == "a, b,\n"
    assert joined_lines("") == ""


@pytest.mark.parametrize(
    "data",
    [
        codecs.BOM_UTF8 + b"hat\r\n",
        codecs.BOM_UTF16_LE + "hat\n".encode("utf-16-le"),
        "hat\n".encode("utf-16-be"),
        codecs.BOM_UTF32_BE + "hat".encode("utf-32-be"),
        "é, hat".encode("cp1252"),
        "かな, hat".encode("cp932"),
    ],
    ids=["UTF-8 mark", "UTF-16", "UTF-16 without mark", "UTF-32", "Windows-1252", "Shift JIS"],
)
def test_a_changed_file_keeps_its_encoding(data: bytes) -> None:
    file = CaptionFile.of(data)
    changed = file.with_text(file.text.replace("hat", "red hat"))
    assert len(changed) in (len(data) + 4, len(data) + 8, len(data) + 16)
    assert CaptionFile.of(changed).encoding == file.encoding
    assert CaptionFile.of(changed).form == file.form


def test_what_an_encoding_cannot_hold_becomes_utf8() -> None:
    file = CaptionFile.of("é, hat".encode("cp1252"))
    assert file.with_text("é, 帽子") == "é, 帽子".encode()


@given(st.text(max_size=20), st.sampled_from(["cp1252", "gb18030", "cp932", "utf-16-le", "utf-8"]))
def test_what_is_written_is_read_again(text: str, codec: str) -> None:
    file = CaptionFile.of("かなé, hat".encode(codec, "ignore"))
    text = "".join(letter for letter in text if letter >= " " and letter != "\ufeff")
    if file.form is not None:
        assert decode(file.with_text(text))[0] == text


def test_broken_bytes_are_refused_not_lost() -> None:
    file = CaptionFile.of(codecs.BOM_UTF8 + b"hat \xff")
    with pytest.raises(DatasetError, match="not UTF-8"):
        file.with_text("red hat")


def test_a_file_of_control_characters_is_no_text() -> None:
    assert not CaptionFile.of(b"GIF\x01\x02").is_text
    assert CaptionFile.of(b"a\tb\n").is_text
