from __future__ import annotations

import codecs
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorasmith.data.caption_files import decode, read_caption

TEXT = "café, naïve, Blåhaj"


@pytest.mark.parametrize(
    ("data", "text", "encoding"),
    [(TEXT.encode(), TEXT, "UTF-8"),
     (codecs.BOM_UTF8 + TEXT.encode(), TEXT, "UTF-8"),
     (TEXT.encode("utf-16"), TEXT, "UTF-16"),
     (codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"), TEXT, "UTF-16"),
     (TEXT.encode("utf-16-le"), TEXT, "UTF-16"),
     (TEXT.encode("utf-16-be"), TEXT, "UTF-16"),
     (TEXT.encode("utf-32"), TEXT, "UTF-32"),
     (TEXT.encode("cp1252"), TEXT, "Windows-1252"),
     ("“quoted” – dash…".encode("cp1252"), "“quoted” – dash…", "Windows-1252"),
     ("über alles".encode("cp1252"), "über alles", "Windows-1252"),
     ("一个女孩，红色头发".encode("gbk"), "一个女孩，红色头发", "GBK"),
     ("zorp, 长发".encode("gbk"), "zorp, 长发", "GBK"),
     ("ピンクの髪の女の子".encode("cp932"), "ピンクの髪の女の子", "Shift JIS"),
     (b"\x81\x8d\x8f", "\x81\x8d\x8f", "Latin-1"),
     (b"", "", "UTF-8")],
)  # fmt: skip
def test_decode(data: bytes, text: str, encoding: str) -> None:
    assert decode(data) == (text, encoding)


@given(st.binary(max_size=60))
def test_decoding_never_fails(data: bytes) -> None:
    assert isinstance(decode(data)[0], str)


@given(st.text(max_size=60))
def test_every_utf8_text_comes_back(text: str) -> None:
    data = text.encode("utf-8")
    assert "\0" in text or text.startswith("\ufeff") or decode(data) == (text, "UTF-8")


def test_lines_are_stripped_and_empty_ones_dropped(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"  one, two \r\n\r\n\t\r\nthree\n")
    assert read_caption(path).text == "one, two\nthree"
    assert not read_caption(path).warning


def test_guessed_encodings_and_binary_files_are_said(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("café".encode("cp1252"))
    assert "Windows-1252" in read_caption(path).warning
    path.write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR")
    assert read_caption(path).text == ""
    assert "not a text file" in read_caption(path).warning
