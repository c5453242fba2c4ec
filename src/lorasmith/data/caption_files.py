"""Reading caption files, whatever editor wrote them."""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass
from pathlib import Path

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig", "UTF-8"),
    (codecs.BOM_UTF32_LE, "utf-32", "UTF-32"),  # before UTF-16, whose mark begins this one
    (codecs.BOM_UTF32_BE, "utf-32", "UTF-32"),
    (codecs.BOM_UTF16_LE, "utf-16", "UTF-16"),
    (codecs.BOM_UTF16_BE, "utf-16", "UTF-16"),
)
_HIGH_RUNS = re.compile(rb"[\x80-\xff]+")
_KANA = re.compile("[\u3041-\u30ff]")
_CONTROL = re.compile("[\x00-\x08\x0e-\x1a\x1c-\x1f]")


@dataclass(frozen=True, slots=True)
class CaptionText:
    """A caption file's text.

    Args:
        text: lines stripped, empty lines dropped, joined by newlines; "" when there is nothing.
        encoding: what it was decoded as ("UTF-8", "Windows-1252", …).
        warning: the encoding was guessed, or the file is not text ("" otherwise).
    """

    text: str
    encoding: str
    warning: str = ""


def read_caption(path: Path) -> CaptionText:
    """Read a caption file of any common encoding.

    Raises:
        OSError: it cannot be read.
    """
    text, encoding = decode(Path(path).read_bytes())
    if _CONTROL.search(text):
        return CaptionText("", encoding, "is not a text file; it is taken as empty")
    lines = [line.strip() for line in text.splitlines()]
    warning = "" if encoding.startswith("UTF-") else f"is not UTF-8; read as {encoding}"
    return CaptionText("\n".join(line for line in lines if line), encoding, warning)


def decode(data: bytes) -> tuple[str, str]:
    """Text and encoding name; never fails.

    Byte order marks first, then UTF-8, then UTF-16 without a mark (every other byte is zero), then
    the legacy encodings of East Asian and Western Windows. Those overlap: text in GBK has its high
    bytes in pairs, text in Shift JIS has kana, and Western text next to never has either.
    """
    for mark, codec, name in _MARKS:
        if data.startswith(mark):
            return data.decode(codec, errors="replace"), name
    if data and len(data) % 2 == 0:
        for zeros, codec in ((data[1::2], "utf-16-le"), (data[::2], "utf-16-be")):
            if zeros.count(0) > len(zeros) * 0.6:
                return data.decode(codec, errors="replace"), "UTF-16"
    try:
        return data.decode("utf-8"), "UTF-8"
    except UnicodeDecodeError:
        return _decode_legacy(data)


def _decode_legacy(data: bytes) -> tuple[str, str]:
    paired = all(len(run.group()) % 2 == 0 for run in _HIGH_RUNS.finditer(data))
    for codec, name, fits in (
        ("gb18030", "GBK", lambda text: paired),
        ("cp932", "Shift JIS", lambda text: _KANA.search(text) is not None),
        ("cp1252", "Windows-1252", lambda text: True),
    ):
        try:
            text = data.decode(codec)
        except UnicodeDecodeError:
            continue
        if fits(text):
            return text, name
    return data.decode("latin-1"), "Latin-1"
