"""Pairs of tags that no image can have both, and the tags that let it have them after all."""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence

from lorasmith.curation.edit.consolidate import read_families
from lorasmith.curation.edit.spelling import LISTS, read_list

Pair = tuple[str, str]

_MANY = re.compile(r"(?:[2-9]|\d\d|[2-9]\+|6\+)(?:girls|boys|others|koma)|multiple \w+|.*\bgroup\b")
# With these there is more than one figure, or more than one view of it.
_SEVERAL = frozenset(
    (
        *("couple", "everyone", "crowd", "reflection", "mirror", "before and after", "people"),
        *("split screen", "comparison", "reference sheet", "character sheet", "comic", "collage"),
        *("variations", "size comparison", "role reversal", "clone", "doll", "poster"),
    )
)
_PEOPLE = frozenset(("1girl", "1boy", "1other"))

# Colours that taggers and people take for each other: no contradiction within a row.
_NEAR = (
    {"blonde", "yellow", "gold", "golden", "platinum", "amber"},
    {"white", "silver", "grey", "gray", "platinum", "lavender"},
    {"red", "orange", "ginger", "crimson", "auburn"},
    {"brown", "brunette", "auburn", "ginger", "amber", "orange"},
    {"purple", "violet", "lavender", "pink"},
    {"pink", "red", "crimson"},
    {"blue", "aqua", "teal", "turquoise"},
    {"green", "aqua", "teal", "turquoise"},
)
_SEVERAL_COLOURS = {
    "hair": frozenset(
        (
            *("multicolored hair", "two-tone hair", "gradient hair", "streaked hair"),
            *("hair streak", "split-color hair", "rainbow hair", "colored inner hair"),
            *("colored tips", "dyed hair", "roots (hair)", "alternate hair color"),
        )
    ),
    "eyes": frozenset(
        (
            *("heterochromia", "multicolored eyes", "two-tone eyes", "gradient eyes"),
            *("rainbow eyes", "mismatched pupils", "ringed eyes", "alternate eye color"),
        )
    ),
}

# Of each row, what the first part names excludes what the second names.
_EXCLUDES: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (("long hair", "very long hair", "absurdly long hair"), ("short hair", "very short hair")),
    (("bald",), ("long hair", "short hair", "ponytail", "twintails")),
    (("open mouth",), ("closed mouth",)),
    (("open eyes",), ("closed eyes",)),
    (("smile", "grin"), ("frown",)),
    (("standing",), ("sitting", "lying", "seiza", "wariza")),
    (("flat chest",), ("medium breasts", "large breasts", "huge breasts", "gigantic breasts")),
    (("small breasts",), ("large breasts", "huge breasts", "gigantic breasts")),
    (("full body",), ("close-up", "portrait")),
    (("from above",), ("from below",)),
    (("day",), ("night",)),
    (("indoors",), ("outdoors",)),
)
_EXCLUDING = frozenset(tag for some, _ in _EXCLUDES for tag in some)
# What excludes another however many figures there are.
_COUNTS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("solo", re.compile(r"(?:[2-9]|6\+)(?:girls|boys|others)|multiple \w+|couple")),
    ("1girl", re.compile(r"(?:[2-9]|6\+)girls|multiple girls")),
    ("1boy", re.compile(r"(?:[2-9]|6\+)boys|multiple boys")),
    ("no humans", re.compile(r"(?:[1-9]|6\+)(?:girls?|boys?)|multiple (?:girls|boys)")),
)
_SHADES = frozenset(("dark", "light"))  # dark hair may be of any colour
# "no shoes" and "unworn shoes" are one thing.
_NOT_WORN = frozenset(("unworn", "removed", "removing", "discarded", "single", "no"))


def contradictions(names: Sequence[str]) -> list[Pair]:
    """Pairs of one caption's tags that cannot both be right.

    Args:
        names: bare tags.
    """
    tags = frozenset(names)
    pairs = list(_counts(tags))
    if not _shows_several(tags):
        pairs += _excluded(tags)
        pairs += _colours(tags)
    pairs += _negated(names)
    return pairs


def _shows_several(tags: frozenset[str]) -> bool:
    return bool(tags & _SEVERAL) or len(tags & _PEOPLE) > 1 or any(map(_MANY.fullmatch, tags))


def _counts(tags: frozenset[str]) -> Iterator[Pair]:
    for tag, pattern in _COUNTS:
        if tag in tags:
            yield from ((tag, other) for other in sorted(tags) if pattern.fullmatch(other))
    if "solo" in tags and {"1girl", "1boy"} <= tags:
        yield "1girl", "1boy"


def _excluded(tags: frozenset[str]) -> Iterator[Pair]:
    if tags.isdisjoint(_EXCLUDING):  # As most captions are.
        return
    for some, others in _EXCLUDES:
        yield from itertools.product(tags.intersection(some), tags.intersection(others))


def _colours(tags: frozenset[str]) -> Iterator[Pair]:
    words = _colour_words()
    coloured = {tag: words[tag] for tag in tags if tag in words}
    for part, unless in _SEVERAL_COLOURS.items() if len(coloured) > 1 else ():
        if tags & unless:
            continue
        of_part = sorted(tag for tag in coloured if tag.endswith(part))
        for one, other in itertools.combinations(of_part, 2):
            pair = {coloured[one], coloured[other]}
            if len(pair) > 1 and not any(pair <= near for near in _NEAR):
                yield one, other


@functools.cache
def _colour_words() -> dict[str, str]:
    """The colour of each tag that names one of hair or eyes: "light blue hair" is blue."""
    pairs = [tag.rsplit(maxsplit=2)[-2:] for tag in read_list(LISTS / "colours.txt")]
    words = zip(read_list(LISTS / "colours.txt"), pairs, strict=True)
    return {tag: pair[0] for tag, pair in words if len(pair) > 1 and pair[0] not in _SHADES}


def _negated(names: Iterable[str]) -> Iterator[Pair]:
    """ "no hat" with a hat."""
    families = read_families()
    names = list(dict.fromkeys(names))
    for tag in names:
        negation, _, what = tag.partition(" ")
        if negation != "no" or not what or " " in what:
            continue
        for other in names:
            words = families[other].words
            if families[other].subject == what and not words & _NOT_WORN:
                yield tag, other
