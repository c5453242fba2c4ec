"""Which tags of a caption say nothing that a more specific one does not say.

"boots, red footwear, red boots" is "red boots". A tag goes where all its words stand in another
tag, a word of a family standing also for the words above it: boots are footwear.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lorasmith.core.errors import DatasetError
from lorasmith.curation.edit.spelling import LISTS, read_list

SHIPPED = LISTS / "families.txt"


@dataclass(frozen=True)
class Families:
    """
    Args:
        above: the more general words of a word, those above them included.
        kept: tags that never go: a cat is not said by "cat ears".
    """

    above: Mapping[str, frozenset[str]]
    kept: frozenset[str]
    _known: dict[str, tuple[frozenset[str], frozenset[str]]] = field(default_factory=dict)

    def words_of(self, tag: str) -> tuple[frozenset[str], frozenset[str]]:
        """A tag's words, and these with all that they stand for."""
        if tag not in self._known:
            words = frozenset(tag.split())
            meaning = words.union(*(self.above.get(word, ()) for word in words))
            self._known[tag] = words, meaning
        return self._known[tag]


@functools.cache
def read_families(path: Path | None = None) -> Families:
    """The families that ship, and those of a file: lines ``footwear: boots, shoes`` and, for tags
    that never go, ``keep: cat, dog``.

    Raises:
        DatasetError: the file cannot be read, or has a line of another form.
    """
    parents: dict[str, set[str]] = {}
    kept: set[str] = set()
    for file in filter(None, (SHIPPED, path)):
        for line in read_list(file):
            name, colon, words = line.partition(":")
            members = [word.strip().casefold() for word in words.split(",") if word.strip()]
            if not colon or not name.strip() or not members:
                what = f"{line!r} is no family"
                raise DatasetError.of(file, what, "write it as in footwear: boots, shoes")
            if name.strip() == "keep":
                kept.update(members)
                continue
            for word in members:
                parents.setdefault(word, set()).add(name.strip().casefold())
    return Families({word: _all_above(word, parents) for word in parents}, frozenset(kept))


def _all_above(word: str, parents: Mapping[str, set[str]]) -> frozenset[str]:
    above: set[str] = set()
    waiting = [word]
    while waiting:
        new = parents.get(waiting.pop(), set()) - above
        above |= new
        waiting += new
    return frozenset(above - {word})


def consolidation(tags: Sequence[str], families: Families) -> list[int]:
    """Indices of the tags that others say already.

    Args:
        tags: bare, as :func:`.spelling.bare` gives them.
    """
    words, meanings = zip(*map(families.words_of, tags), strict=True) if tags else ((), ())
    by_word: dict[str, set[int]] = {}
    for index, meaning in enumerate(meanings):
        for word in meaning:
            by_word.setdefault(word, set()).add(index)
    implied = []
    for index, own in enumerate(words):
        if tags[index] in families.kept or not all(len(by_word[word]) > 1 for word in own):
            continue
        others = set.intersection(*(by_word[word] for word in own))
        if any(_says(other, index, words, meanings) for other in others if other != index):
            implied.append(index)
    return implied


def _says(
    other: int,
    index: int,
    words: Sequence[frozenset[str]],
    meanings: Sequence[frozenset[str]],
) -> bool:
    """Whether a tag whose meaning has all words of another may stand for it: not where both have
    the same words; and of two that say each other, the first stays."""
    if words[other] == words[index]:
        return False
    return other < index or not words[other] <= meanings[index]
