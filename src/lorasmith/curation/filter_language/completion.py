"""What may be written next in a filter."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from lorasmith.curation.collection import Collection
from lorasmith.curation.filter import folded
from lorasmith.curation.filter_language.words import FLAGS, KEYS, OPERATORS, tokens, written


@dataclass(frozen=True, slots=True)
class Completion:
    """
    Args:
        start, end: the part of the text that it takes the place of.
        text: what to put there.
        kind: "key", "flag", "tag", "folder", "value".
        images: how many have it; ``None`` where nobody counts.
        description: of keys and flags.
    """

    start: int
    end: int
    text: str
    kind: str
    images: int | None = None
    description: str = ""


_MOST_COMPLETIONS = 20


def complete(
    text: str, cursor: int, collection: Collection, most: int = _MOST_COMPLETIONS
) -> list[Completion]:
    """What the word at the cursor may become: keys and flags, tags of the collection with those
    first that most images have, its folders.

    Args:
        cursor: 0 to len(text).
    """
    token = next((t for t in tokens(text) if t.kind != "-" and t.start < cursor <= t.end), None)
    if token is None or token.kind in ("(", ")"):
        return list(_words("", cursor, cursor))[:most]
    if token.kind != "term" or not token.key or cursor <= token.value_start - 1:
        if token.quote:
            return []
        prefix = text[token.start : cursor]
        options = [*_words(prefix, token.start, token.end)]
        if prefix.casefold() in (*FLAGS, *OPERATORS):
            return options[:most]
        tags = _ranked(prefix, _tag_counts(collection))
        options += [
            Completion(token.start, token.end, f"tag:{written(tag)}", "tag", count)
            for tag, count in tags
        ]
        return options[:most]
    begin = token.value_start
    prefix = text[begin + len(token.quote) : cursor]
    prefix = re.sub(r"\\(.)", r"\1", prefix, flags=re.DOTALL)
    counts: Mapping[str, int] = {}
    if token.key == "tag":
        counts = _tag_counts(collection)
    elif token.key == "folder":
        counts = Counter(image.folder for image in collection.images if image.folder)
    elif token.key in KEYS:
        choices = KEYS[token.key].choices
        return [
            Completion(begin, token.end, choice, "value")
            for choice in choices
            if choice.startswith(prefix)
        ]
    return [
        Completion(begin, token.end, written(name), token.key, count)
        for name, count in _ranked(prefix, counts)
    ][:most]


def _words(prefix: str, start: int, end: int) -> Iterator[Completion]:
    small = prefix.casefold()
    for name, key in KEYS.items():
        if name.startswith(small):
            yield Completion(start, end, f"{name}:", "key", None, key.description)
    for name, flag in FLAGS.items():
        if name.startswith(small):
            yield Completion(start, end, name, "flag", None, flag.description)


def _tag_counts(collection: Collection) -> Mapping[str, int]:
    return Counter(tag for image in collection.images for tag in dict.fromkeys(image.tags))


def _ranked(prefix: str, counts: Mapping[str, int]) -> list[tuple[str, int]]:
    """Those that begin with the prefix, then those of which a word does; frequent ones first."""
    small = folded(prefix)
    ranks = ((_rank(folded(name), small), -count, name) for name, count in counts.items())
    return [(name, -count) for rank, count, name in sorted(ranks) if rank < 2]


def _rank(name: str, prefix: str) -> int:
    if name.startswith(prefix):
        return 0
    return 1 if re.search(rf"[\s_(-]{re.escape(prefix)}", name) else 2
