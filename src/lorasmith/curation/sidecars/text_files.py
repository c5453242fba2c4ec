"""Tags in text files beside images: Grabber's, Hydrus', gallery-dl's, and captions.

A file says nothing of its form: tags may stand one a line, between commas, or between spaces with
underscores in them. Grabber appends to what is there, so that a second download writes all tags
once more.
"""

from __future__ import annotations

import re
from pathlib import Path

from lorasmith.core.errors import DatasetError
from lorasmith.core.text import bytes_text
from lorasmith.curation.sidecars.tags import SideCar, Tag, merge_tags, tags_of
from lorasmith.data.caption_files import decode

# What is larger is not about one image.
MOST_BYTES = 4_000_000

_BINARY = re.compile("[\x00-\x08\x0e-\x1a\x1c-\x1f]")
_ADDRESS = re.compile(r"(?:https?|ftp|file)://\S+", re.IGNORECASE)
# Words of sentences, which no site has as tags.
_SENTENCE = frozenset(
    {"a", "an", "and", "are", "as", "at", "has", "her", "his", "in", "is", "it", "its", "of", "on"}
    | {"she", "he", "that", "the", "their", "there", "they", "this", "to", "was", "with", "while"}
)
_SENTENCE_END = re.compile(r"[.!?;](?:\s|$)")
# So many words in one piece between commas are a sentence.
_LONG = 9
# Of a second list of tags at least so many stand in the first, if they are of one image.
_ALIKE = 2 / 3


def read_text_file(path: Path) -> str:
    """A side-car's text.

    Raises:
        DatasetError: it cannot be read, is too large for one image, or is no text.
    """
    return text_of(read_bytes(path), path)


def read_bytes(path: Path, most: int = MOST_BYTES) -> bytes:
    """
    Raises:
        DatasetError: it cannot be read or is larger than ``most``.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(most + 1)
    except OSError as error:
        what = f"cannot be read: {error.strerror or error}"
        raise DatasetError.of(path, what, "mend its permissions or remove it") from error
    if len(data) > most:
        what = f"has more than {bytes_text(most)}, which no list of tags has"
        raise DatasetError.of(path, what, "move it elsewhere")
    return data


def text_of(data: bytes, where: object) -> str:
    """The text of these bytes, whatever encoding it has.

    Raises:
        DatasetError: it is no text.
    """
    text, _ = decode(data)
    if _BINARY.search(text):
        raise DatasetError.of(where, "is not a text file", "remove or rename it")
    return text


def parse_tags_file(text: str) -> SideCar:
    """What a downloader wrote: tags, one a line, or between commas or spaces; each once.

    Lines that are addresses (of the image's page) are no tags.
    """
    lines = _lines(text)
    parsed = [_parse_line(line, alone=len(lines) == 1) for line in lines]
    texts = [line for line, tags in zip(lines, parsed, strict=True) if tags is None]
    return SideCar(merge_tags(tags for tags in parsed if tags is not None), "\n".join(texts))


def parse_caption_file(text: str) -> SideCar:
    """A caption: as a file of tags where it is one; what reads as sentences stays a text.

    Several lines with commas are several captions of the image, as training reads them, and stay
    as they are, unless they are the same tags.
    """
    lines = _lines(text)
    if len(lines) > 1 and any("," in line for line in lines) and not _are_alike(lines):
        return SideCar(text="\n".join(lines))
    return parse_tags_file(text)


def _lines(text: str) -> list[str]:
    lines = [" ".join(line.split()) for line in text.lstrip("\ufeff").splitlines()]
    return list(dict.fromkeys(line for line in lines if line and not _ADDRESS.fullmatch(line)))


def _parse_line(line: str, *, alone: bool) -> list[Tag] | None:
    """Its tags; ``None`` where it is a sentence.

    Args:
        alone: there is no other line: a line among others may be one tag of several words.
    """
    pieces = [piece for piece in line.split(",") if piece.strip()]
    if any(_is_sentence(piece) for piece in pieces):
        return None
    if len(pieces) > 1:
        return tags_of(pieces)
    words = line.split()
    if len(words) > 1 and _are_spaced_tags(words, alone=alone):
        return tags_of(words)
    return tags_of(pieces)


def _is_sentence(piece: str) -> bool:
    """Whether it is told, not listed: long, and with the small words of sentences."""
    words = piece.lower().split()
    small = sum(word.strip(".,!?;\"'") in _SENTENCE for word in words)
    if len(words) >= _LONG:
        return small > 0 and not any("_" in word for word in words)
    long = len(words) >= _LONG - 3 and small > 1
    return long or (small > 0 and _SENTENCE_END.search(piece) is not None)


def _are_spaced_tags(words: list[str], *, alone: bool) -> bool:
    """Whether words on one line are a tag each: some have underscores, and nothing is told."""
    underscores = sum("_" in word.strip("_") for word in words)
    if underscores * 2 > len(words) or (underscores > 1 and not alone):
        return True
    return alone and underscores > 0 and not any(word.lower() in _SENTENCE for word in words)


def _are_alike(lines: list[str]) -> bool:
    """Whether all lines are the tags of one image, written again."""
    first, *others = ({tag.strip().casefold() for tag in line.split(",")} for line in lines)
    return all(len(first & tags) >= _ALIKE * min(len(first), len(tags)) for tags in others)
