"""What each operation does to a caption: functions that make an edit from an operation's value.

An edit changes a :class:`~.caption_text.TagLine`. Positions count from 1, negative ones from the
end. A tag is the same only in the same spelling, but where an operation says otherwise.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import regex

from lorasmith.core.errors import DatasetError, Problem
from lorasmith.core.text import did_you_mean, quoted
from lorasmith.curation.edit.caption_text import TagLine
from lorasmith.curation.edit.consolidate import consolidation, read_families
from lorasmith.curation.edit.spelling import (
    TagList,
    bare,
    escaped,
    find_lists,
    is_kaomoji,
    like,
    read_list,
    unescaped,
    wildcard_pattern,
    with_spaces,
    with_underscores,
)

_PATTERN_SECONDS = 1.0  # for one tag
TRAITS = ("hair", "eyes", "body")
PRUNED = ("meta", "quality", "colours")
# What side-cars may call a tag, by what is said to --prune.
KINDS = {
    **{kind: kind for kind in ("artist", "copyright", "character", "species", "meta")},
    "series": "copyright",
}
CASES: dict[str, Callable[[str], str]] = {
    "lower": str.lower,
    "upper": str.upper,
    "title": str.title,
    "sentence": lambda tag: tag[:1].upper() + tag[1:].lower(),
}
SORTS = "alphabetic, count, trigger[=WORD] or list=FILE"
PLACES = "front, back, after-trigger, after=TAG, or a position such as 1 or -1"


@dataclass(frozen=True, slots=True)
class CaptionContext:
    """What an operation may know besides the caption.

    Args:
        folder_name: what the image's folder is called, without its repeats; "" for a general name.
        counts: in how many captions of the collection each tag is.
        kinds: bare tags by what side-cars call them ("artist").
    """

    folder_name: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)
    kinds: Mapping[str, frozenset[str]] = field(default_factory=dict)


Edit = Callable[[TagLine, CaptionContext], None]


@dataclass
class Reading:
    """What operations of one call know of each other.

    Args:
        triggers: tags that ``trigger`` puts first.
        families: more of them, for ``consolidate``.
        place: where the ``add`` that is read puts its tags.
    """

    triggers: list[str]
    families: Path | None
    place: str = "back"


def edit_error(name: str, what: str, hint: str = "") -> DatasetError:
    """Of an operation, under its name on the command line."""
    return DatasetError(Problem(f"--{name}", what, hint))


# Places and positions


def position(text: str, where: str) -> int:
    """A position: 1 is the first, -1 the last.

    Raises:
        DatasetError: it is no such number.
    """
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number == 0:
        raise edit_error(where, f"{text!r} is not a position", "1 is the first tag, -1 the last")
    return number


def _index(place: int, count: int) -> int | None:
    """Of a position among ``count`` tags, where there is such a one."""
    index = place - 1 if place > 0 else count + place
    return index if 0 <= index < count else None


def name_pair(value: str, where: str) -> tuple[str, str]:
    r"""``A=B``; a ``=`` in A is written ``\=``."""
    match = re.match(r"((?:\\.|[^\\=])*)=(.*)", value, re.DOTALL)
    if match is None or not match[1]:
        raise edit_error(where, f"{value!r} is not of the form A=B", r"a = within A is written \=")
    return match[1].replace("\\=", "="), match[2]


def _tags(value: str, where: str) -> list[str]:
    tags = TagLine(value).tags
    if not tags:
        raise edit_error(where, "there is no tag in it")
    return tags


# Operations: each makes an edit from its value


def add(value: str, reading: Reading) -> Edit:
    tags = _tags(value, "add")
    place = reading.place
    name, _, anchor = place.partition("=")
    number = 0
    if name == "after-trigger" and not anchor:
        if not reading.triggers:
            raise edit_error(
                "at", "the trigger is not known", "say it: --trigger WORD, or after=WORD"
            )
    elif name == "after":
        if not anchor:
            raise edit_error("at", "it needs a tag, as in after=1girl")
    elif place not in ("front", "back"):
        if not re.fullmatch(r"[+-]?\d+", place):
            raise edit_error("at", f"{place!r} is no place", f"say {PLACES}")
        number = position(place, "at")

    def index_in(line: TagLine) -> int:
        count = len(line.tags)
        if place == "front":
            return 0
        if name == "after-trigger":
            # Behind all triggers that stand at the front.
            leading = [tag in reading.triggers for tag in line.tags]
            last = max((index for index, is_one in enumerate(leading) if is_one), default=-1)
            return last + 1
        if name == "after":
            return line.tags.index(anchor) + 1 if anchor in line.tags else count
        if number:
            return min(number - 1, count) if number > 0 else max(count + number + 1, 0)
        return count

    def edit(line: TagLine, context: CaptionContext) -> None:
        new = [tag for tag in dict.fromkeys(tags) if tag not in line.tags]
        line.insert(index_in(line), new)

    return edit


def remove(value: str, reading: Reading) -> Edit:
    texts = set(_tags(value, "remove"))
    patterns = [pattern for text in texts if (pattern := wildcard_pattern(text))]
    plain = texts | {re.sub(r"\\([*?])", r"\1", text) for text in texts}

    @functools.cache
    def is_removed(tag: str) -> bool:
        return tag in plain or any(pattern.fullmatch(tag) for pattern in patterns)

    return lambda line, context: line.remove(is_removed)


def remove_at(value: str, reading: Reading) -> Edit:
    place = position(value, "remove-at")

    def edit(line: TagLine, context: CaptionContext) -> None:
        index = _index(place, len(line.tags))
        if index is not None:
            line.remove_at([index])

    return edit


def _replaced(line: TagLine, new_tag: Callable[[str], str | None]) -> None:
    """Give tags other names; ``None`` leaves one as it is. A name that the caption has already is
    not there twice, one with commas is several tags, and an empty one takes the tag away."""
    removed, renamed = set(), set()
    for index, tag in enumerate(line.tags):
        new = new_tag(tag)
        if new is None or new == tag:
            continue
        kept = set(line.tags[:index]) | set(line.tags[index + 1 :])
        parts = [part for part in dict.fromkeys(TagLine(new).tags) if part not in kept]
        if not parts:
            removed.add(index)
        line.tags[index] = ", ".join(parts) or tag
        renamed.add(index)
    if removed:
        line.remove_at(removed)
    if renamed:
        line.replace_all(str(line))  # One tag may have become several.


def replace(value: str, reading: Reading) -> Edit:
    old, new = name_pair(value, "replace")
    if not old.startswith("re:"):
        return lambda line, context: _replaced(line, lambda tag: new if tag == old else None)
    try:
        pattern = regex.compile(old[3:])
        # The groups that the new name has, too.
        regex.compile(f"(?:{old[3:]})|").sub(new, "", timeout=_PATTERN_SECONDS)
    except (regex.error, IndexError, RecursionError, TimeoutError) as error:
        hint = "put a backslash before what is meant as it stands, such as ( or +"
        raise edit_error(
            "replace", f"{old[3:]!r} is no regular expression: {error}", hint
        ) from error

    def new_tag(tag: str) -> str:
        try:
            return pattern.sub(new, tag, timeout=_PATTERN_SECONDS).strip()
        except TimeoutError:
            hint = "write it so that no part of it can fit in many ways, as in (a*)*"
            raise edit_error(
                "replace", f"{old[3:]!r} takes too long on {quoted(tag)}", hint
            ) from None

    new_tags = _Spellings(new_tag)
    return lambda line, context: _replaced(line, new_tags.__getitem__)


def replace_text(value: str, reading: Reading) -> Edit:
    old, new = name_pair(value, "replace-text")

    def edit(line: TagLine, context: CaptionContext) -> None:
        text = str(line)
        if old in text:
            line.replace_all(text.replace(old, new))

    return edit


def rename_tag(value: str, reading: Reading) -> Edit:
    old, new = name_pair(value, "rename-tag")
    new = " ".join(new.split())
    if not new or "," in new:
        raise edit_error("rename-tag", f"{new!r} is not one tag", "use --replace, or --remove")
    name = bare(old)

    def edit(line: TagLine, context: CaptionContext) -> None:
        _replaced(line, lambda tag: like(new, tag) if bare(tag) == name else None)

    return edit


def swap(value: str, reading: Reading) -> Edit:
    parts = value.replace(",", " ").split()
    if len(parts) != 2:
        raise edit_error("swap", f"{value!r} is not two positions", "as in --swap 1 3")
    first, second = (position(part, "swap") for part in parts)

    def edit(line: TagLine, context: CaptionContext) -> None:
        i, j = (_index(place, len(line.tags)) for place in (first, second))
        if i is not None and j is not None:
            line.tags[i], line.tags[j] = line.tags[j], line.tags[i]

    return edit


def rotate(value: str, reading: Reading) -> Edit:
    def edit(line: TagLine, context: CaptionContext) -> None:
        line.tags = line.tags[1:] + line.tags[:1]

    return edit


def normalize(value: str, reading: Reading) -> Edit:
    return lambda line, context: line.normalize()


def folder_name(value: str, reading: Reading) -> Edit:
    return lambda line, context: _lead(line, TagLine(context.folder_name).tags)


def trigger(value: str, reading: Reading) -> Edit:
    triggers = _tags(value, "trigger")
    return lambda line, context: _lead(line, triggers)


def _lead(line: TagLine, tags: Sequence[str]) -> None:
    """Put tags first, in this order, and nowhere else."""
    tags = list(dict.fromkeys(tags))
    behind = line.tags[len(tags) :]
    if line.tags[: len(tags)] != tags or any(tag in behind for tag in tags):
        line.remove(lambda tag: tag in tags)
        line.insert(0, tags)


def sort(value: str, reading: Reading) -> Edit:
    name, _, argument = value.partition("=")
    if name == "alphabetic" and not argument:
        return lambda line, context: line.tags.sort(key=lambda tag: (bare(tag), tag))
    if name == "count" and not argument:
        return lambda line, context: line.tags.sort(key=lambda tag: -context.counts.get(tag, 0))
    if name == "list" and argument:
        listed = [bare(tag) for tag in read_list(Path(argument).expanduser())]
        return _sorted_by({tag: place for place, tag in reversed(list(enumerate(listed)))}, bare)
    if name == "trigger":
        triggers = TagLine(argument).tags if argument else reading.triggers
        if not triggers:
            raise edit_error("sort", "the trigger is not known", "say it: --sort trigger=WORD")
        return _sorted_by({tag: place for place, tag in enumerate(triggers)}, str)
    raise edit_error("sort", f"{value!r} is not known", f"say {SORTS}")


def _sorted_by(places: Mapping[str, int], key: Callable[[str], str]) -> Edit:
    """Tags with a place first, in its order; the others behind them in theirs."""
    return lambda line, context: line.tags.sort(key=lambda tag: places.get(key(tag), len(places)))


def dedupe(value: str, reading: Reading) -> Edit:
    def edit(line: TagLine, context: CaptionContext) -> None:
        names = [bare(tag) for tag in line.tags]
        if len(set(names)) < len(names):
            seen: set[str] = set()
            repeats = []
            for index, name in enumerate(names):
                if name in seen:
                    repeats.append(index)
                seen.add(name)
            line.remove_at(repeats)

    return edit


def consolidate(value: str, reading: Reading) -> Edit:
    families = read_families(reading.families)

    def edit(line: TagLine, context: CaptionContext) -> None:
        implied = consolidation([bare(tag) for tag in line.tags], families)
        if implied:
            line.remove_at(implied)

    return edit


class _Spellings(dict[str, str]):
    """Tags by how they were spelled; each is spelled anew once."""

    def __init__(self, spell: Callable[[str], str]) -> None:
        super().__init__()
        self._spell = spell

    def __missing__(self, tag: str) -> str:
        self[tag] = new = self._spell(tag)
        return new


def _respelled(spell: Callable[[str], str]) -> Edit:
    spellings = _Spellings(spell)

    def edit(line: TagLine, context: CaptionContext) -> None:
        line.tags = list(map(spellings.__getitem__, line.tags))

    return edit


def underscores(value: str, reading: Reading) -> Edit:
    return _respelled(with_underscores)


def spaces(value: str, reading: Reading) -> Edit:
    return _respelled(with_spaces)


def escape(value: str, reading: Reading) -> Edit:
    return _respelled(escaped)


def unescape(value: str, reading: Reading) -> Edit:
    return _respelled(unescaped)


def case(value: str, reading: Reading) -> Edit:
    if value not in CASES:
        hint = did_you_mean(value, CASES, f"choose from {', '.join(CASES)}")
        raise edit_error("case", f"{value!r} is not known", hint)
    change = CASES[value]
    return _respelled(lambda tag: tag if is_kaomoji(tag) else change(tag))


def prune(value: str, reading: Reading) -> Edit:
    kinds = kinds_in(value)
    lists = [name for name in _names(value) if name in PRUNED or name not in KINDS]
    tags = find_lists(",".join(lists), [*PRUNED, *KINDS])

    def edit(line: TagLine, context: CaptionContext) -> None:
        named = frozenset[str]().union(*(context.kinds.get(kind, ()) for kind in kinds))
        line.remove(lambda tag: tag in tags or bare(tag) in named)

    return edit


def kinds_in(value: str) -> list[str]:
    """Which of the kinds of tags ``prune`` is given, as side-cars call them."""
    return [KINDS[name] for name in _names(value) if name in KINDS]


def _names(value: str) -> list[str]:
    return [name.strip() for name in value.split(",")]


def traits(value: str, reading: Reading) -> Edit:
    return _without(find_lists(value, TRAITS))


def _without(tags: TagList) -> Edit:
    return lambda line, context: line.remove(tags.__contains__)
