"""What tags may be called: words from lists, found by their beginnings while somebody types.

Lists of tags come as taggers have them, or in the form of the web UI's tag completion
(a1111-sd-webui-tagcomplete): a CSV without a heading, ``name,category,count,"alias,alias"``.
"""

from __future__ import annotations

import csv
import io
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path

from lorasmith.core.errors import DatasetError
from lorasmith.curation.edit.spelling import with_spaces
from lorasmith.curation.filter import folded
from lorasmith.curation.tagger.labels import Labels
from lorasmith.data.caption_files import decode

# The tag completion's own lists have 5 MB.
_LARGEST = 64_000_000
_CATEGORIES = {"0": "general", "1": "artist", "3": "copyright", "4": "character", "5": "meta"}
_MARK = "\n"


@dataclass(frozen=True, slots=True)
class TagWord:
    """
    Args:
        tag: with spaces.
        source: "set" for tags of the dataset, "base" for words that a base was trained with,
            "list" for a list of the user's.
        images: of the dataset that have it, or pictures that are said to elsewhere; ``None`` where
            nobody counts.
        category: "general", "character" …; "" where it is not known.
        alias: what was typed stands for it: another word for the same.
    """

    tag: str
    source: str
    images: int | None = None
    category: str = ""
    alias: str = ""


class WordList:
    """Words to complete from, in the order of their weight.

    Args:
        words: those that are meant most often first.
        aliases: other words for some of them, by their places.
    """

    def __init__(
        self, words: Sequence[TagWord], aliases: Mapping[int, Sequence[str]] | None = None
    ) -> None:
        self.words = words
        self._aliases = aliases or {}

    @cached_property
    def _entries(self) -> list[tuple[str, int, str]]:
        """(folded text, place of its word, alias), sorted."""
        entries = [(folded(word.tag), place, "") for place, word in enumerate(self.words)]
        entries += [
            (folded(alias), place, alias)
            for place, aliases in self._aliases.items()
            for alias in aliases
        ]
        return sorted(entries)

    @cached_property
    def _text(self) -> str:
        """All words in their order, each after a mark."""
        return _MARK + _MARK.join(folded(word.tag) for word in self.words)

    def starting_with(self, prefix: str, most: int) -> list[TagWord]:
        """Words that begin so, then those of which a later word does; each by weight."""
        small = folded(prefix.replace("_", " ")).strip()
        if not small:
            return list(self.words[:most])
        entries = self._entries
        begin, end = bisect_left(entries, (small,)), bisect_left(entries, (small + "\U0010ffff",))
        found: dict[int, str] = {}
        for _, place, alias in sorted(entries[begin:end], key=lambda entry: (entry[1], entry[2])):
            found.setdefault(place, alias)
        results = [self._word(place, alias) for place, alias in islice(found.items(), most)]
        inner = (place for place in self._inside(small) if place not in found)
        return results + [self.words[place] for place in islice(inner, most - len(results))]

    def _word(self, place: int, alias: str) -> TagWord:
        word = self.words[place]
        if not alias:
            return word
        return TagWord(word.tag, word.source, word.images, word.category, alias)

    def _inside(self, small: str) -> Iterator[int]:
        """Places of words of which a later word begins so."""
        at, line, seen = 0, -1, 0
        while (at := self._text.find(f" {small}", at)) >= 0:
            line += self._text.count(_MARK, seen, at)
            seen = at
            yield line
            at = self._text.find(_MARK, at)
            if at < 0:
                return


def complete_tag(prefix: str, lists: Iterable[WordList], most: int = 20) -> list[TagWord]:
    """What a tag that somebody is typing may become: of each list in turn, each tag once."""
    found: dict[str, TagWord] = {}
    for words in lists:
        for word in words.starting_with(prefix, most):
            found.setdefault(folded(word.tag), word)
    return list(found.values())[:most]


def words_of_labels(labels: Labels) -> WordList:
    """What a tagger knows, which is what a base of its time was trained with."""
    pairs = zip(labels.names, labels.categories, strict=True)
    return WordList(
        [
            TagWord(with_spaces(name), "base", category=category)
            for name, category in pairs
            if category != "rating"
        ]
    )


def read_word_list(path: Path) -> WordList:
    """A list in the form of the web UI's tag completion; a tag a line will do.

    Raises:
        DatasetError: it cannot be read, or is far too large.
    """
    try:
        if path.stat().st_size > _LARGEST:
            raise DatasetError.of(path, "is far too large for a list of tags", "choose another")
        text, _ = decode(path.read_bytes())
        rows = list(csv.reader(io.StringIO(text)))
    except OSError as error:
        what = f"cannot be read: {error.strerror}"
        raise DatasetError.of(path, what, "choose another") from error
    except csv.Error as error:
        raise DatasetError.of(path, f"is not a CSV table: {error}", "choose another") from error
    words: list[TagWord] = []
    aliases: dict[int, list[str]] = {}
    for row in rows:
        cells = [cell.strip() for cell in (*row, "", "", "", "")[:4]]
        # A heading, where somebody gave it one.
        if not cells[0] or (not words and cells[:2] in (["name", "category"], ["tag", "category"])):
            continue
        count = int(cells[2]) if cells[2].isdecimal() and len(cells[2]) < 12 else None
        if others := [with_spaces(one.strip()) for one in cells[3].split(",") if one.strip()]:
            aliases[len(words)] = others
        category = _CATEGORIES.get(cells[1], "")
        words.append(TagWord(with_spaces(cells[0]), "list", count, category))
    if not words:
        raise DatasetError.of(path, "has no tags", "choose another")
    return _by_weight(words, aliases)


def _by_weight(words: list[TagWord], aliases: dict[int, list[str]]) -> WordList:
    order = sorted(range(len(words)), key=lambda place: -(words[place].images or 0))
    places = {old: new for new, old in enumerate(order)}
    return WordList(
        [words[place] for place in order],
        {places[place]: others for place, others in aliases.items()},
    )
