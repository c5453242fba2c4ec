"""The words of filters: keys and flags, and how a text is cut into them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Need = Literal["captions", "tokens", "headers", "pixels"]
Kind = Literal["text", "regex", "number", "choice"]

_PIXELS = {"": 1.0, "px": 1.0, "kp": 1e3, "mp": 1e6}
_BYTES = {"": 1.0, "b": 1.0, "kb": 1e3, "mb": 1e6, "gb": 1e9, "kib": 2.0**10, "mib": 2.0**20}


@dataclass(frozen=True, slots=True)
class Key:
    """What may stand before a colon.

    Args:
        needs: what is to be known of pictures; ``None`` for their names alone.
        units: of a number, by their names in small letters.
        example: of a value.
        choices: all values, of a "choice".
    """

    kind: Kind
    needs: Need | None
    description: str
    example: str
    units: tuple[tuple[str, float], ...] = (("", 1.0),)
    choices: tuple[str, ...] = ()


KEYS: dict[str, Key] = {
    "tag": Key("text", "captions", "has this tag", "hat"),
    "caption": Key("text", "captions", "has this text in its caption", "smile"),
    "name": Key("text", None, "has this text in its file's name", "_001"),
    "path": Key("text", None, "has this text in its path, from the folder on", "hats/a"),
    "folder": Key("text", None, "lies in this folder, or in one within it", "10_zorp"),
    "re": Key("regex", "captions", "has a part of its caption that fits this pattern", '"^zorp"'),
    "tags": Key("number", "captions", "number of tags", ">20"),
    "chars": Key("number", "captions", "characters of the caption", "<100"),
    "tokens": Key("number", "tokens", "CLIP tokens of the caption", ">75"),
    "width": Key("number", "headers", "pixels, upright", "<512"),
    "height": Key("number", "headers", "pixels, upright", ">=1024"),
    "aspect": Key("number", "headers", "width by height; also written 16:9", ">1.5"),
    "size": Key("number", "headers", "width times height, or 512x768", "<1mp",
                tuple(_PIXELS.items())),
    "bytes": Key("number", "headers", "of the file", "<500kb", tuple(_BYTES.items())),
    "blur": Key("number", "pixels", "0 sharp to 1 blurred", ">0.7"),
    "brightness": Key("number", "pixels", "0 black to 1 white", "<0.2"),
    "contrast": Key("number", "pixels", "0 none to 1 black and white", "<0.1"),
    "saturation": Key("number", "pixels", "0 grey to 1 pure colours", "<0.05"),
    "dup": Key("choice", "pixels", "there is another of the same file, or nearly the same picture",
               "exact", choices=("exact", "near")),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Flag:
    """A word that stands alone."""

    needs: Need | None
    description: str


FLAGS: dict[str, Flag] = {
    "captioned": Flag("captions", "its caption is not empty"),
    "untagged": Flag("captions", "its caption is empty, or it has none"),
    "mask": Flag(None, "it has a mask"),
    "animated": Flag("headers", "it has several frames"),
    "transparent": Flag("pixels", "the background shows through it somewhere"),
    "broken": Flag("pixels", "it cannot be read to its end"),
    "dup": Flag("pixels", "there is another that is the same or nearly the same"),
}

OPERATORS = ("and", "or", "not")


@dataclass(frozen=True, slots=True)
class Value:
    """
    Args:
        text: without quotes and escapes.
        wild: the places of * and ? in it that stand for other characters.
        raw: with its escapes, as patterns want it.
    """

    text: str
    wild: frozenset[int] = frozenset()
    raw: str = ""


@dataclass(frozen=True, slots=True)
class Token:
    """
    Args:
        kind: "(", ")", "-", an operator, or "term".
        key: what stands before the colon, in small letters; "" for nothing.
        value_start: where the value begins, its quote included.
        quote: around the value, or "".
        closed: the quote is.
    """

    kind: str
    start: int
    end: int
    key: str = ""
    value: Value = Value("")
    value_start: int = 0
    quote: str = ""
    closed: bool = True


_KEY = re.compile(r"([^\W\d]\w*):")
_QUOTES = "\"'"


def tokens(text: str) -> Iterator[Token]:
    """All of a text, which may be half written."""
    at = 0
    while at < len(text):
        if text[at].isspace():
            at += 1
            continue
        token = _sign(text, at) if text[at] in "()-" else _word(text, at)
        yield token
        at = token.end


def _sign(text: str, at: int) -> Token:
    return Token(text[at], at, at + 1)


def _word(text: str, start: int) -> Token:
    match = _KEY.match(text, start)
    key = match[1].casefold() if match else ""
    begin = match.end() if match else start
    if begin < len(text) and text[begin] in _QUOTES:
        value, end, closed = _quoted(text, begin, pattern=key == "re")
        return Token("term", start, end, key, value, begin, text[begin], closed)
    value, end = _unquoted(text, begin)
    if not key and text[begin:end].lower() in OPERATORS:
        return Token(text[begin:end].lower(), start, end)
    return Token("term", start, end, key, value, begin)


def _quoted(text: str, begin: int, *, pattern: bool) -> tuple[Value, int, bool]:
    quote, at, end = text[begin], begin + 1, len(text)
    while at < end and text[at] != quote:
        at += 2 if text[at] == "\\" else 1
    closed = at < end
    inside = text[begin + 1 : min(at, end)]
    raw = inside.replace(f"\\{quote}", quote) if pattern else inside
    return unescaped(inside, raw), min(at + 1, end), closed


def _unquoted(text: str, begin: int) -> tuple[Value, int]:
    at, depth = begin, 0
    while at < len(text) and not text[at].isspace():
        if text[at] == ")" and not depth:
            break
        depth += (text[at] == "(") - (text[at] == ")")
        at += 2 if text[at] == "\\" else 1
    at = min(at, len(text))
    return unescaped(text[begin:at], text[begin:at]), at


def unescaped(written: str, raw: str = "") -> Value:
    """A value of what stands between its quotes."""
    characters: list[str] = []
    wild: set[int] = set()
    escaped = False
    for character in written:
        if character == "\\" and not escaped:
            escaped = True
            continue
        if character in "*?" and not escaped:
            wild.add(len(characters))
        characters.append(character)
        escaped = False
    return Value("".join(characters) + "\\" * escaped, frozenset(wild), raw)


_NEEDS_QUOTES = re.compile(r"[\s\"'\\()*?]")


def written(text: str) -> str:
    """A text as the value of a key: in quotes where it needs them."""
    if text and not _NEEDS_QUOTES.search(text):
        return text
    return '"' + re.sub(r'([\\"*?])', r"\\\1", text) + '"'


def at_place(place: str) -> str:
    """A filter that takes the one image at a place within the dataset: ``path:`` alone would take
    11.png for 1.png, too."""
    text = written(place)
    longer = f'"?{text[1:]}' if text.startswith('"') else f"?{text}"
    return f"(path:{text} -path:{longer})"
