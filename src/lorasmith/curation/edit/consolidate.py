"""Which tags of a caption say nothing that a more specific one does not say.

"boots, red footwear, red boots" is "red boots". A tag goes where all its words stand in another tag
that is about the same thing; a word of a family stands also for the words above it: boots are
footwear. What a tag is about is its last word, before a "with" or "on": a white shirt is a shirt, a
mole under the eye a mole; but a dress shirt is no dress, and cat ears are no cat. Words such as
"holding" say something in front, too: "holding" goes with "holding sword".
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from lorasmith.core.errors import DatasetError
from lorasmith.curation.edit.spelling import LISTS, read_list

SHIPPED = LISTS / "families.txt"

_PREPOSITIONS = frozenset(
    (
        *("on", "in", "under", "over", "with", "of", "at", "between", "behind", "around", "to"),
        *("from", "through", "across", "against", "for", "by", "near", "above", "below", "and"),
    )
)
# What is not there: "no shoes" says nothing of shoes.
_NEGATIONS = frozenset(["no", "without", "not"])


class _Tag(NamedTuple):
    """What the words of a tag say.

    ``meaning`` are the words and those above them, ``front`` those before a preposition alone;
    ``subject`` is what it is about, "" for nothing that could go or make another go; ``subjects``
    that and what is above; ``first`` the first word.
    """

    words: frozenset[str]
    meaning: frozenset[str]
    front: frozenset[str]
    subject: str
    subjects: frozenset[str]
    first: str


class Families(dict[str, _Tag]):
    """By tag, what its words say; filled as tags are asked for.

    Args:
        above: the more general words of a word, those above them included.
        kept: tags that never go.
        leading: words that say something also in front of another.
    """

    def __init__(
        self,
        above: Mapping[str, frozenset[str]],
        kept: frozenset[str],
        leading: frozenset[str],
    ) -> None:
        super().__init__()
        self.above, self.kept, self.leading = above, kept, leading

    def __missing__(self, tag: str) -> _Tag:
        order = tag.split()
        words = frozenset(order)
        places = [place for place, word in enumerate(order) if word in _PREPOSITIONS]
        end = places[0] if places else len(order)
        subject = order[end - 1] if end and not words & _NEGATIONS else ""
        self[tag] = _Tag(
            words,
            self._meaning(order),
            self._meaning(order[:end]),
            subject,
            self._meaning([subject]),
            order[0] if order else "",
        )
        return self[tag]

    def _meaning(self, words: Sequence[str]) -> frozenset[str]:
        return frozenset(words).union(*(self.above.get(word, ()) for word in words))

    def says(self, other: str, tag: str) -> bool:
        """Whether a tag says all that another does."""
        a, b = self[tag], self[other]
        # Of "short hair with long locks" it is the hair that is short.
        said = b.meaning if a.words & _PREPOSITIONS else b.front
        if not (a.subject and b.subject and a.words <= said):
            return False
        leads = tag in self.leading and b.first == tag
        return leads or a.subject in b.subjects


@functools.cache
def read_families(path: Path | None = None) -> Families:
    """The families that ship, and those of a file: lines ``footwear: boots, shoes``; ``keep:`` for
    tags that never go, ``leading:`` for words that say something in front of others.

    Raises:
        DatasetError: the file cannot be read, or has a line of another form.
    """
    parents: dict[str, set[str]] = {}
    special: dict[str, set[str]] = {"keep": set(), "leading": set()}
    for file in filter(None, (SHIPPED, path)):
        for line in read_list(file):
            name, colon, words = line.partition(":")
            members = [word.strip().casefold() for word in words.split(",") if word.strip()]
            if not colon or not name.strip() or not members:
                what = f"{line!r} is no family"
                raise DatasetError.of(file, what, "write it as in footwear: boots, shoes")
            if name.strip() in special:
                special[name.strip()].update(members)
                continue
            for word in members:
                parents.setdefault(word, set()).add(name.strip().casefold())
    above = {word: _all_above(word, parents) for word in parents}
    return Families(above, frozenset(special["keep"]), frozenset(special["leading"]))


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
    seen: set[str] = set()
    shared: set[str] = set()
    known = list(map(families.__getitem__, tags))
    for word in chain.from_iterable([tag.meaning for tag in known]):
        if word in seen:
            shared.add(word)
        else:
            seen.add(word)
    implied = []
    for index, tag in enumerate(known):
        words = tag.words
        # Few tags have words that are all in others, too.
        if words <= shared and tags[index] not in families.kept:
            others = [other for other, by in enumerate(known) if words <= by.meaning]
            if any(_goes(index, other, tags, families) for other in others if other != index):
                implied.append(index)
    return implied


def _goes(index: int, other: int, tags: Sequence[str], families: Families) -> bool:
    """Whether a tag goes for another: not where both have the same words; and of two that say each
    other, the first stays."""
    tag, by = tags[index], tags[other]
    if families[tag].words == families[by].words or not families.says(by, tag):
        return False
    return other < index or not families.says(tag, by)
