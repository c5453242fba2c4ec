"""Tags with their kinds, as sites of images have them, and the caption that they make."""

from __future__ import annotations

import functools
import html
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from lorasmith.core.errors import Problem, UserError
from lorasmith.core.text import did_you_mean
from lorasmith.curation.edit.spelling import with_spaces

GENERAL = "general"
CATEGORIES = (
    *(GENERAL, "character", "copyright", "artist", "species"),
    *("meta", "rating", "quality", "model", "lore", "invalid"),
)
"""The kinds of tags that are kept apart."""

# What sites and programs call them: Danbooru's and e621's words, Hydrus' and Philomena's
# namespaces, e-hentai's, Zerochan's, Sankaku's and the tag mappings' of taggers.
_NAMESPACES = {
    **{name: name for name in CATEGORIES},
    **dict.fromkeys(("tag", "tags", "gender", "clothing", "medium", "body", "0"), GENERAL),
    **dict.fromkeys(("female", "male", "mixed", "other"), GENERAL),
    **dict.fromkeys(
        ("char", "characters", "person", "oc", "vtuber", "cosplayer", "4"), "character"
    ),
    **dict.fromkeys(("copyrights", "series", "franchise", "game", "parody", "3"), "copyright"),
    **dict.fromkeys(("artists", "creator", "mangaka", "circle", "photographer"), "artist"),
    **dict.fromkeys(("studio", "group", "contributor", "1"), "artist"),
    **dict.fromkeys(("metadata", "title", "page", "chapter", "volume", "source", "url"), "meta"),
    **dict.fromkeys(("filename", "system", "pool", "md5", "id", "editor", "language"), "meta"),
    **dict.fromkeys(("site", "booru", "uploader", "status", "date", "reclass", "5", "9"), "meta"),
    **dict.fromkeys(("quality tags",), "quality"),
    **dict.fromkeys(("deprecated", "6"), "invalid"),
}
# A namespace is a word or two before a colon that a space need not follow. Numbers are none.
_NAMESPACED = re.compile(r"([a-z][a-z ]{1,15}):\s*(\S.*)", re.IGNORECASE | re.DOTALL)
_RATINGS = {"g": "general", "s": "safe", "q": "questionable", "e": "explicit"}

# A tag is a few words; what is much longer, or there so often, is something else.
MOST_SIGNS, MOST_TAGS = 500, 5_000
# Half characters, which JSON can say and no file can hold, and signs that no text has.
_UNWRITABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")
# Signs that would end a tag, or the line that it stands in.
_ENDING = re.compile(r"[\x00-\x1f\x7f,\u2028\u2029]+")


@dataclass(frozen=True, slots=True)
class Tag:
    """
    Args:
        name: as the source spells it, entities and outer spaces gone.
        category: one of :data:`CATEGORIES`; "general" where the source does not say.
    """

    name: str
    category: str = GENERAL


@dataclass(frozen=True, slots=True)
class SideCar:
    """What is said of one image.

    Args:
        tags: in the source's order, each once.
        text: free text, "" for none.
    """

    tags: tuple[Tag, ...] = ()
    text: str = ""

    def __bool__(self) -> bool:
        return bool(self.tags or self.text)


@dataclass(frozen=True, slots=True)
class TagRules:
    """What becomes of tags on their way into a caption.

    Args:
        drop: categories that are left out; see :func:`parse_categories`.
        ratings: leave ratings in, which are no tags where they come from.
        underscores: leave ``long_hair`` as it is, rather than ``long hair``.
        text: write the free text before the tags, where there are tags too.
    """

    drop: Collection[str] = ("meta",)
    ratings: bool = False
    underscores: bool = False
    text: bool = True


def parse_categories(texts: Iterable[str], field: str = "drop") -> tuple[str, ...]:
    """Categories of ``meta,artist``, under any of their names; "none" is none.

    Raises:
        UserError: with each word that is none of them.
    """
    words = [word.strip().lower() for text in texts for word in re.split(r"[,\s]+", text)]
    words = [word for word in words if word and word != "none"]
    hint = f"there are {', '.join(CATEGORIES)}"
    problems = [
        Problem(field, f'"{word}" is no kind of tag', did_you_mean(word, _NAMESPACES, hint))
        for word in words
        if word not in _NAMESPACES or word.isdecimal()
    ]
    if problems:
        raise UserError(problems)
    return tuple(dict.fromkeys(_NAMESPACES[word] for word in words))


def category_of(name: object) -> str:
    """A site's or a program's name, or Danbooru's number, for a kind of tag; "general" for any
    that is not known."""
    return _NAMESPACES.get(str(name).strip().lower(), GENERAL)


@functools.lru_cache(maxsize=100_000)
def clean_tag(text: str, category: str | None = None) -> Tag | None:
    """One tag; ``None`` where nothing is left of it, or it is too long to be one.

    Args:
        text: perhaps with its namespace, ``artist:someone``, which goes when it is a known one;
            ``re:zero`` is a tag.
        category: what the source says; ``None`` lets the namespace say it.
    """
    name = " ".join(_ENDING.sub(" ", html.unescape(text[: 4 * MOST_SIGNS])).split())
    match = _NAMESPACED.fullmatch(name)
    if match and match[1].lower() in _NAMESPACES:
        name = match[2].strip()
        if category in (None, GENERAL):
            category = category_of(match[1])
    if not name or len(name) > MOST_SIGNS:
        return None
    return Tag(name, category or GENERAL)


def tags_of(texts: Iterable[object], category: str | None = None) -> list[Tag]:
    """The tags of these texts; what is no text is none."""
    tags = (clean_tag(text, category) for text in texts if isinstance(text, str))
    return [tag for _, tag in zip(range(MOST_TAGS), (tag for tag in tags if tag), strict=False)]


def rating_tag(value: object) -> list[Tag]:
    """A rating as a tag: Danbooru's g, s, q, e or a word; nothing of what is neither."""
    if not isinstance(value, str) or not value.strip():
        return []
    word = value.strip().lower()
    return tags_of([_RATINGS.get(word, word).removeprefix("rating:")], "rating")


def same(name: str) -> str:
    """What two spellings of one tag have in common: neither case nor underscores count."""
    return name.replace("_", " ").casefold()


def merge_tags(lists: Iterable[Sequence[Tag]]) -> tuple[Tag, ...]:
    """All tags of several lists, each once where it stands first; where one of the lists knows its
    kind, that counts."""
    by_name: dict[str, Tag] = {}
    for tag in (tag for tags in lists for tag in tags):
        first = by_name.setdefault(same(tag.name), tag)
        if first.category == GENERAL != tag.category:
            by_name[same(tag.name)] = Tag(first.name, tag.category)
    return tuple(by_name.values())


def merge(cars: Iterable[SideCar]) -> SideCar:
    """What several sources say of one image together: all tags, and the first of the texts."""
    cars = list(cars)
    text = next((car.text for car in cars if car.text), "")
    return SideCar(merge_tags(car.tags for car in cars), text)


def caption_of(car: SideCar, rules: TagRules) -> str:
    """The caption: the text, then the tags that stay, each once, with commas between; "" where
    nothing stays."""
    left_out = {*rules.drop, *(() if rules.ratings else ("rating",))}
    names = [tag.name for tag in merge_tags([car.tags]) if tag.category not in left_out]
    tags = ", ".join(names if rules.underscores else map(with_spaces, names))
    text = car.text if rules.text or not tags else ""
    return _UNWRITABLE.sub("", ", ".join(part for part in (text, tags) if part))
