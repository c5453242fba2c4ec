"""Which tags of a caption say nothing that a more specific one does not say.

"boots, red footwear, red boots" is "red boots". A tag goes where all its words stand in another
tag, a word of a family standing also for the words above it: boots are footwear.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path

from lorasmith.core.errors import DatasetError
from lorasmith.curation.edit.spelling import LISTS, read_list

SHIPPED = LISTS / "families.txt"


class Families(dict[str, tuple[frozenset[str], frozenset[str]]]):
    """By tag: its words, and these with all that they stand for; filled as tags are asked for.

    Args:
        above: the more general words of a word, those above them included.
        kept: tags that never go: a cat is not said by "cat ears".
    """

    def __init__(self, above: Mapping[str, frozenset[str]], kept: frozenset[str]) -> None:
        super().__init__()
        self.above, self.kept = above, kept

    def __missing__(self, tag: str) -> tuple[frozenset[str], frozenset[str]]:
        words = frozenset(tag.split())
        self[tag] = words, words.union(*(self.above.get(word, ()) for word in words))
        return self[tag]


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
    if not tags:
        return []
    words, meanings = zip(*map(families.__getitem__, tags), strict=True)
    seen: set[str] = set()
    shared: set[str] = set()
    for word in chain.from_iterable(meanings):
        if word in seen:
            shared.add(word)
        else:
            seen.add(word)
    # Most captions have no tag whose words all are in others, too.
    return [
        index
        for index, own in enumerate(words)
        if own <= shared
        and tags[index] not in families.kept
        and any(_says(other, index, words, meanings) for other in range(len(tags)))
    ]


def _says(
    other: int,
    index: int,
    words: Sequence[frozenset[str]],
    meanings: Sequence[frozenset[str]],
) -> bool:
    """Whether a tag says another: not where both have the same words; and of two that say each
    other, the first stays."""
    if words[other] == words[index] or not words[index] <= meanings[other]:
        return False
    return other < index or not words[other] <= meanings[index]
