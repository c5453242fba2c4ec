"""A caption file as edits see it: what no edit touches keeps its bytes.

A file is lines, and each line with something on it is a caption of its own: training takes the
first, or with wildcards one of them in each use. Every one of them is edited alike. In a file
without any, the first line is the empty caption.

A line is tags between commas. It is split at *every* comma, as training does and sd-scripts does:
brackets and backslashes keep nothing together, so ``(red hat, blue eyes:1.2)`` is two tags, and
``(tag:1.2)`` is a tag of that spelling.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from lorasmith.core.errors import DatasetError
from lorasmith.data.caption_files import decode

# Everything that `str.strip` takes off, and the comma.
_EDGES = "".join(chr(code) for code in range(0x3001) if chr(code).isspace()) + ","
# Between two tags. From the first of its spaces on, or long runs of spaces would take long.
_GAP = re.compile(r"((?<!\s)\s*+,[\s,]*+)")
_PLAIN_GAP = ", "
# What a text file does not have.
_CONTROL = re.compile("[\x00-\x08\x0e-\x1a\x1c-\x1f]")

# How a text of each encoding may stand in a file: mark and codec.
_FORMS: dict[str, tuple[tuple[bytes, str], ...]] = {
    "UTF-8": ((b"", "utf-8"), (codecs.BOM_UTF8, "utf-8")),
    "UTF-16": (
        (b"", "utf-16-le"),
        (b"", "utf-16-be"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
    ),
    "UTF-32": ((codecs.BOM_UTF32_LE, "utf-32-le"), (codecs.BOM_UTF32_BE, "utf-32-be")),
    "GBK": ((b"", "gb18030"),),
    "Shift JIS": ((b"", "cp932"),),
    "Windows-1252": ((b"", "cp1252"),),
    "Latin-1": ((b"", "latin-1"),),
}


class TagLine:
    """One caption: tags, and what stands between them.

    ``gaps[0] + tags[0] + gaps[1] + … + tags[-1] + gaps[-1]`` is the line, so there is one gap
    more than there are tags; those within hold a comma or several. Tags are stripped and not empty.
    A change of order moves tags alone: the gaps stay where they are.
    """

    __slots__ = ("gaps", "tags")

    tags: list[str]
    gaps: list[str]

    def __init__(self, text: str) -> None:
        self.replace_all(text)

    def replace_all(self, text: str) -> None:
        """Become the line ``text``."""
        inner = text.strip(_EDGES)
        if not inner:
            self.tags, self.gaps = [], [text]
            return
        lead = text[: len(text) - len(text.lstrip(_EDGES))]
        tail = text[len(lead) + len(inner) :]
        # Nearly all captions are "a, b, c", and those are split faster so.
        tags = inner.split(_PLAIN_GAP)
        if "," not in "".join(tags) and "" not in tags and list(map(str.strip, tags)) == tags:
            self.tags, self.gaps = tags, [lead, *[_PLAIN_GAP] * (len(tags) - 1), tail]
            return
        parts = _GAP.split(inner)
        self.tags, self.gaps = parts[::2], [lead, *parts[1::2], tail]

    def __str__(self) -> str:
        pieces = [""] * (2 * len(self.tags) + 1)
        pieces[::2], pieces[1::2] = self.gaps, self.tags
        return "".join(pieces)

    def insert(self, at: int, tags: Sequence[str]) -> None:
        """Put tags before the one at index ``at``; with the gap that the line has between others.

        Args:
            at: 0 to the count of tags.
        """
        if not tags:
            return
        if not self.tags:
            self.tags, self.gaps = list(tags), ["", *[_PLAIN_GAP] * (len(tags) - 1), ""]
            return
        usual = self.gaps[1] if len(self.tags) > 1 and self.gaps[1].count(",") == 1 else _PLAIN_GAP
        self.tags[at:at] = tags
        # The gap at the line's beginning stays there.
        place = max(at, 1)
        self.gaps[place:place] = [usual] * len(tags)

    def remove(self, is_removed: Callable[[str], object]) -> None:
        """Take out the tags of which it is true, each with the gap behind it; the last with that
        before it."""
        if any(map(is_removed, self.tags)):
            self.remove_at(index for index, tag in enumerate(self.tags) if is_removed(tag))

    def remove_at(self, indices: Iterable[int]) -> None:
        """Take out the tags at these indices."""
        removed = set(indices)
        left = [index for index in range(len(self.tags)) if index not in removed]
        first, last = self.gaps[0], self.gaps[-1]
        self.tags = [self.tags[index] for index in left]
        behind = [self.gaps[index + 1] for index in left[:-1]]
        self.gaps = [first, *behind, last] if left else [""]

    def normalize(self) -> None:
        """One comma and one space between tags, nothing at the edges, single spaces in tags."""
        self.tags = [" ".join(tag.split()) for tag in self.tags]
        self.gaps = ["", *[_PLAIN_GAP] * (len(self.tags) - 1), ""] if self.tags else [""]


@dataclass(frozen=True, slots=True)
class CaptionFile:
    """The text of a caption file, and how to write it again.

    Args:
        text: all of it, but for a byte order mark.
        form: mark and codec; ``None`` where the bytes cannot be written again from the text.
        is_text: it holds no control characters; else training takes it as empty.
    """

    data: bytes
    text: str
    encoding: str
    form: tuple[bytes, str] | None
    is_text: bool

    @classmethod
    def of(cls, data: bytes) -> CaptionFile:
        """Read the bytes of a file; never fails."""
        text, encoding = decode(data)
        forms = (form for form in _FORMS[encoding] if _encoded(text, form) == data)
        return cls(data, text, encoding, next(forms, None), _CONTROL.search(text) is None)

    def with_text(self, text: str) -> bytes:
        """The file with another text, in its own encoding.

        Where that cannot hold the text (or other programs would then take it for another
        encoding), the file becomes UTF-8.

        Raises:
            DatasetError: its bytes are broken, so what is not changed could not be kept.
        """
        if text == self.text:
            return self.data
        if self.form is None:
            what = f"it holds bytes that are not {self.encoding}, and they would be lost"
            raise DatasetError.of("", what, "mend it in an editor, or save it as UTF-8")
        data = _encoded(text, self.form)
        if self.encoding != "UTF-8" and (data is None or decode(data)[0] != text):
            data = None
        return text.encode("utf-8") if data is None else data


def edit_captions(text: str, edit: Callable[[str], str]) -> str:
    """A file's text with ``edit`` applied to each caption in it."""
    lines = text.splitlines(keepends=True) or [""]
    bodies = [_body(line) for line in lines]
    captions = [index for index, body in enumerate(bodies) if body.strip()] or [0]
    for index in captions:
        new = edit(bodies[index])
        if new != bodies[index]:
            lines[index] = new + lines[index][len(bodies[index]) :]
    return "".join(lines)


def caption_count(text: str) -> int:
    """Of a file's text: lines with something on them."""
    return sum(1 for line in text.splitlines() if line.strip())


def joined_lines(text: str) -> str:
    """A text of several captions as one: a comma in the place of each line break."""
    lines = [line.strip(_EDGES) for line in text.splitlines() if line.strip(_EDGES)]
    if len(lines) < 2:
        return text
    last = text.splitlines(keepends=True)[-1]
    return _PLAIN_GAP.join(lines) + last[len(_body(last)) :]


def _body(line: str) -> str:
    """A line without its break."""
    return "".join(line.splitlines())


def _encoded(text: str, form: tuple[bytes, str]) -> bytes | None:
    mark, codec = form
    try:
        return mark + text.encode(codec)
    except UnicodeEncodeError:
        return None
