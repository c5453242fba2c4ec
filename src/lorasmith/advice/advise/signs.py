"""Words in captions that tell how hard a subject is, that it has a left and a right, what it is.

A sign is looked for as whole words, in tags and in sentences alike; what a caption denies ("no
tail") is none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache


@dataclass(frozen=True, slots=True)
class Signs:
    """Words for a row of the guides' "Character difficulty".

    Args:
        category: its letter.
        words: any of them is a sign.
        without_people: only where captions name no person: a girl with a dog is no dog.
        photos: only in photographs.
    """

    category: str
    words: tuple[str, ...]
    without_people: bool = False
    photos: bool = False


_ANIMALS = (
    *("animal", "animals", "dog", "cat", "horse", "bird", "wolf", "fox", "rabbit", "bear", "fish"),
    *("lion", "tiger", "snake", "feral", "quadruped"),
)
PEOPLE = (
    *("1girl", "1boy", "2girls", "2boys", "multiple girls", "multiple boys", "girl", "boy"),
    *("woman", "man", "person", "lady", "child"),
)
PHOTOS = ("photo", "photograph", "photorealistic", "realistic", "photo (medium)", "cosplay photo")
MALE = ("1boy", "2boys", "multiple boys", "male focus", "male", "man", "boy")

DIFFICULTY: tuple[Signs, ...] = (
    Signs("I", ("eldritch abomination", "eldritch", "lovecraftian", "cosmic horror")),
    Signs(
        "H",
        (
            "monster",
            "insect",
            "spider",
            "beetle",
            "centipede",
            "arthropod",
            "tank",
            "non-humanoid robot",
        ),
        without_people=True,
    ),
    Signs("H", _ANIMALS, without_people=True, photos=True),
    Signs(
        "G",
        (
            *("mecha", "mech", "gundam", "evangelion (mecha)", "alien", "demon", "multiple arms"),
            *("extra arms", "four arms", "4 arms", "centaur", "lamia", "multiple limbs"),
        ),
    ),
    Signs("F", (*_ANIMALS, "dragon", "pokemon (creature)"), without_people=True),
    Signs("F", ("robot", "humanoid robot", "ornate armor", "ornate armour", "power armor")),
    Signs("E", ("chibi", "mascot"), without_people=True),
    Signs("D", ("furry", "anthro", "kemono", "furry female", "furry male", "humanoid")),
    Signs("D", PEOPLE, photos=True),
    Signs(
        "C",
        (
            *("wings", "armor", "armour", "tail", "tails", "horns", "multiple tails", "halo"),
            *("breastplate", "gauntlets", "elaborate dress", "frills", "wheelchair"),
        ),
    ),
    Signs(
        "B",
        (
            *("animal ears", "cat ears", "fox ears", "pointy ears", "heterochromia", "facial mark"),
            *("multicolored hair", "two-tone hair", "streaked hair", "colored skin", "eyepatch"),
            *("drill hair", "very long hair", "ahoge", "mask", "facial tattoo", "fang", "makeup"),
            *("blue hair", "pink hair", "green hair", "purple hair", "red hair", "aqua hair"),
            *("white hair", "grey hair", "silver hair", "orange hair"),
        ),
    ),
)
"""The hardest first."""

ASYMMETRIC = (
    *("asymmetrical", "asymmetric", "heterochromia", "eyepatch", "scar", "tattoo", "prosthesis"),
    *("mechanical arm", "prosthetic arm", "single horn", "single wing", "single glove"),
    *("single thighhigh", "single sleeve", "single shoe", "single earring", "single bare shoulder"),
    *("side ponytail", "one side up", "side braid", "hair over one eye", "mole under eye"),
    *("mole under mouth", "parted hair", "two-tone hair", "split-color hair", "monocle", "bandaid"),
    *("different sleeves", "one-eyed", "one eye", "left", "right", "mismatched legwear"),
)
"""Of a subject that mirroring would change."""

LETTERING = (
    *("text", "logo", "english text", "japanese text", "sign", "clothes writing", "print"),
    *("number", "jersey number", "letters", "writing", "watermark", "signature", "speech bubble"),
)
"""What mirroring would make unreadable."""


@cache
def _pattern(words: Sequence[str]) -> re.Pattern[str]:
    longest_first = sorted(words, key=len, reverse=True)
    return re.compile(rf"(?<![\w-])(?:{'|'.join(map(re.escape, longest_first))})(?![\w-])")


_DENIED = re.compile(r"(?<!\w)(?:no|without|not an?|not) [\w -]+")


def plain(caption: str) -> str:
    """A caption in one spelling: lower case, no underscores or escapes, nothing that it denies."""
    text = caption.replace("\\", "").replace("_", " ").casefold()
    if "no humans" in text:
        text = text.replace("no humans", "")
    return ", ".join(_DENIED.sub("", part).strip() for part in text.split(","))


def share(captions: Iterable[str], words: Sequence[str]) -> float:
    """Of captions as :func:`plain` writes them: how many have one of the words, 0 to 1."""
    return len(having := list(captions)) and sum(
        _pattern(tuple(words)).search(text) is not None for text in having
    ) / len(having)


def words_found(captions: Iterable[str], words: Sequence[str]) -> dict[str, int]:
    """The words that stand in captions, with how many have each; the most frequent first."""
    counts: dict[str, int] = {}
    for text in captions:
        for word in set(_pattern(tuple(words)).findall(text)):
            counts[word] = counts.get(word, 0) + 1
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
