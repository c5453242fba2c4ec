"""The questions of which captions tell the answer only in part: at most three, each with what is
proposed and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import get_args

from lorasmith.advice.advise.case import Case, Kind, Letter, Pictures
from lorasmith.advice.advise.guide_tables import CATEGORIES
from lorasmith.advice.advise.signs import DIFFICULTY, MALE, PEOPLE, PHOTOS, share, words_found

# Of the captions: a part that so many have is one of the subject's.
MANY = 0.4
MOST = 0.6
# From so many on, pictures of different things are a style.
STYLE_IMAGES = 40
DEFAULT_CATEGORY: Letter = "C"

NOBODY = "no caption names a person"

KINDS: Mapping[str, str] = {
    "character": "a person or creature, with what belongs to it",
    "style": "how pictures are drawn, whatever they show",
    "concept": "a pose, a garment, a composition, a background",
    "object": "a thing: a vehicle, a weapon, a building",
}
USES: Mapping[str, str] = {
    "balanced": "likeness and freedom, both",
    "faithful": "as like as can be: clothes, details, the body's build",
    "flexible": "in other clothes, poses and styles",
    "combined": "together with other LoRAs, on other models",
    "small": "as small a file as can be",
}


@dataclass(frozen=True, slots=True)
class Question:
    """
    Args:
        name: of the option that answers it.
        choices: with what each means.
        proposed: one of them.
        because: what it was proposed by.
    """

    name: str
    text: str
    choices: Mapping[str, str]
    proposed: str
    because: str


def propose_kind(pictures: Pictures) -> tuple[Kind, str]:
    """What captions tell of what the pictures have in common."""
    texts = pictures.captions
    if len(texts) < MANY * pictures.images:
        return "character", "most pictures have no caption that would say otherwise"
    nobody = 1 - share(texts, (*PEOPLE, "solo"))
    people = f"{1 - nobody:.0%} of the captions name a person" if nobody < 1 else NOBODY
    if nobody < 1 - MOST:
        shared = shared_look(pictures)
        if pictures.images >= STYLE_IMAGES and not shared:
            return "style", f"{people}, and nothing of how it looks is in most of them"
        return "character", people
    if len(pictures.concepts) == 1 and pictures.images >= STYLE_IMAGES and nobody < MOST:
        return "style", f"{people}, the others do not: many subjects"
    if nobody >= MOST and _is_creature(texts):
        return "character", "no captions name a person, and most an animal or a machine"
    return ("concept", people) if nobody < MOST else ("object", people)


def shared_look(pictures: Pictures) -> list[str]:
    """Tags of at least half of the captions that tell one person from another."""
    counts: dict[str, int] = {}
    for text in pictures.captions:
        for tag in {part.strip() for part in text.split(",")}:
            if tag.endswith((" hair", " eyes", " ears", " skin", " horns", " wings", "tail")):
                counts[tag] = counts.get(tag, 0) + 1
    return [tag for tag, count in counts.items() if count >= len(pictures.captions) / 2]


def _is_creature(texts: tuple[str, ...]) -> bool:
    rows = (signs for signs in DIFFICULTY if signs.category in "FGHI")
    return any(share(texts, signs.words) >= MANY for signs in rows)


def propose_difficulty(pictures: Pictures, kind: Kind) -> tuple[Letter, str]:
    """The hardest row of the guides' table that enough captions have signs of."""
    texts = pictures.captions
    if len(texts) < MANY * pictures.images:
        return DEFAULT_CATEGORY, "most pictures have no caption that would tell"
    people = share(texts, (*PEOPLE, "solo")) >= MANY
    photos = share(texts, PHOTOS) >= MANY
    for signs in DIFFICULTY:
        if (signs.without_people and people) or (signs.photos and not photos):
            continue
        if share(texts, signs.words) >= MANY:
            words = list(words_found(texts, signs.words))[:3]
            letters = (letter for letter in get_args(Letter) if letter == signs.category)
            count = f"{share(texts, signs.words):.0%} of the captions"
            return next(letters), f"{', '.join(words)} in {count}"
    if kind == "object":
        return DEFAULT_CATEGORY, "no sign of another; vehicles are C to G"
    return "A", "no caption tells of unusual hair, clothes, parts or shapes"


def is_male(pictures: Pictures) -> bool:
    """Whether most captions name a man: bases know women better."""
    return share(pictures.captions, MALE) >= MOST


def questions_of(case: Case) -> list[Question]:
    """All three, in their order."""
    kind, why_kind = propose_kind(case.pictures)
    letter, why_letter = propose_difficulty(case.pictures, kind)
    categories = {row.letter: row.description for row in CATEGORIES.values()}
    return [
        Question("kind", "What is to be learned?", KINDS, kind, why_kind),
        Question("difficulty", "How hard is it to draw?", categories, letter, why_letter),
        Question("use", "What is it for?", USES, "balanced", "both, where nothing is said"),
    ]
