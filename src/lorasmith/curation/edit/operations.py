"""What can be done to captions: a table of operations, read from texts such as ``add=hat``.

Several are applied in the order in which they are given.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from lorasmith.core.errors import DatasetError, Problem
from lorasmith.core.files import is_utf8
from lorasmith.core.text import did_you_mean, quoted
from lorasmith.curation.edit import tag_edits as to
from lorasmith.curation.edit.caption_text import TagLine
from lorasmith.curation.edit.spelling import bare, wildcard_pattern
from lorasmith.curation.edit.tag_edits import (
    CASES,
    KINDS,
    PLACES,
    PRUNED,
    SORTS,
    TRAITS,
    CaptionContext,
    Edit,
    Reading,
    edit_error,
)


class Operation(NamedTuple):
    """One operation, ready to be applied.

    ``text`` is what it was read from; ``edit`` is ``None`` of :data:`JOIN_LINES`, which is not of
    a line. ``adds`` says that it puts something into an empty caption, ``names`` are tags that some
    caption should have.
    """

    text: str
    edit: Edit | None
    adds: bool = False
    names: tuple[str, ...] = ()


JOIN_LINES = "join-lines"


def read_operations(texts: Sequence[str], families: Path | None = None) -> list[Operation]:
    """Operations from texts, each NAME or NAME=VALUE as on the command line: ``["add=hat",
    "at=front", "dedupe"]``. ``at`` is for the ``add`` before it, or for all where it comes first.

    Args:
        families: more families for ``consolidate``; see :mod:`.consolidate`.

    Raises:
        DatasetError: with everything that is wrong.
    """
    words = [text.partition("=")[::2] for text in texts]
    triggers = [tag for name, value in words if name == "trigger" for tag in TagLine(value).tags]
    places = _places_of_adds(words)
    reading = Reading(triggers, families)
    problems: list[Problem] = []
    operations: list[Operation] = []
    for index, (name, value) in enumerate(words):
        try:
            _check(name, value)
            if name == "at" and not places:
                raise edit_error("at", "there is no --add whose place it says", "give one")
            if name == "add":
                reading.place = places[index]
            kind = OPERATIONS[name]
            edit = kind.make(value, reading) if kind.make else None
        except DatasetError as error:
            problems += error.problems
        else:
            names = kind.names(value) if kind.names else ()
            if name != "at":
                operations.append(Operation(texts[index], edit, kind.adds, names))
    if problems:
        raise DatasetError(problems)
    return operations


def _places_of_adds(words: Sequence[tuple[str, str]]) -> dict[int, str]:
    """What ``at`` says for each ``add``, by index: the first behind it, else one before all."""
    usual, add = "back", None
    places: dict[int, str] = {}
    for index, (name, value) in enumerate(words):
        if name == "add":
            add = index
            places[add] = usual
        elif name == "at" and add is None:
            usual = value
        elif name == "at" and add is not None:
            places[add] = value
    return places


def _check(name: str, value: str) -> None:
    if name not in OPERATIONS:
        hint = did_you_mean(name, OPERATIONS, f"there are {', '.join(OPERATIONS)}")
        raise DatasetError.of("operations", f"{name!r} is no operation", hint)
    kind = OPERATIONS[name]
    if kind.metavar and not value:
        raise edit_error(name, f"it needs a value: {kind.metavar}")
    if not kind.metavar and value:
        raise edit_error(name, f"it takes no value, and {value!r} was given")
    if not is_utf8(value):
        raise edit_error(name, "its value is not text in UTF-8", "set the terminal to UTF-8")
    if len(value.splitlines()) > 1:
        raise edit_error(name, "its value has a line break, which would begin another caption")


class _Kind(NamedTuple):
    """A row of the table: the option's value, what it says in ``--help``, what makes the edit;
    ``choices`` are the words that the value may be, or some of them."""

    metavar: str
    help: str
    make: Callable[[str, Reading], Edit] | None
    adds: bool = False
    names: Callable[[str], tuple[str, ...]] | None = None
    choices: tuple[str, ...] = ()


def _old_tag(value: str) -> tuple[str, ...]:
    old = to.name_pair(value, "replace")[0]
    return () if old.startswith("re:") else (old,)


OPERATIONS: dict[str, _Kind] = {
    "add": _Kind("TAG", "Add a tag, or several between commas, where it is not yet", to.add, True),
    "at": _Kind(
        "PLACE", f"Where the --add before it puts its tag: {PLACES}  [default: back]", None
    ),
    "trigger": _Kind("WORD", "Put it first in every caption, once", to.trigger, True),
    "folder-name": _Kind(
        "", "Put the folder's name first, without its repeats", to.folder_name, True
    ),
    "remove": _Kind(
        "TAG",
        "Remove a tag, or several between commas; * and ? stand for letters",
        to.remove,
        names=lambda value: tuple(t for t in TagLine(value).tags if not wildcard_pattern(t)),
    ),
    "remove-at": _Kind("N", "Remove the tag at a position", to.remove_at),
    "replace": _Kind(
        "A=B",
        r"Replace the tag A by B; re:A=B takes a regular expression, and \1 in B",
        to.replace,
        names=_old_tag,
    ),
    "replace-text": _Kind("A=B", "Replace A by B anywhere in the text", to.replace_text),
    "rename-tag": _Kind("A=B", "Replace A by B in all its spellings: A_A, (A:1.2)", to.rename_tag),
    "swap": _Kind("I J", "Swap the tags at two positions", to.swap),
    "rotate": _Kind("", "Move the first tag to the end", to.rotate),
    "sort": _Kind("ORDER", f"Sort tags: {SORTS}", to.sort, choices=("alphabetic", "count")),
    "dedupe": _Kind("", "Remove tags that stand there before, in any spelling", to.dedupe),
    "consolidate": _Kind(
        "", "Remove what a more specific tag says: boots, where red boots are", to.consolidate
    ),
    "prune": _Kind(
        "LIST",
        f"Remove the tags of lists: {', '.join(PRUNED)}, or a file; or of a kind that sources"
        " name: artist, series, character, species",
        to.prune,
        choices=(*PRUNED, *KINDS),
    ),
    "traits": _Kind(
        "LIST", f"Remove what never changes: {', '.join(TRAITS)}", to.traits, choices=TRAITS
    ),
    "underscores": _Kind("", "Write red_hat for red hat; faces such as ^_^ stay", to.underscores),
    "spaces": _Kind("", "Write red hat for red_hat; faces such as ^_^ stay", to.spaces),
    "escape": _Kind("", "Put a backslash before brackets that are no weights", to.escape),
    "unescape": _Kind("", "Take these backslashes away", to.unescape),
    "case": _Kind("CASE", f"Change capitals: {', '.join(CASES)}", to.case, choices=(*CASES,)),
    "format": _Kind("", "Tidy up stray commas and spaces", to.normalize),
    JOIN_LINES: _Kind("", "Make one caption of a file's several lines", None),
}
"""All there are, in the order of ``--help``."""


def edit_line(text: str, operations: Sequence[Operation], context: CaptionContext) -> str:
    """One caption after the operations."""
    line = TagLine(text)
    for operation in operations:
        assert operation.edit is not None, operation.text
        operation.edit(line, context)
    return str(line)


def shown(text: str) -> str:
    """An operation as an option of the command line: ``--add hat``."""
    name, _, value = text.partition("=")
    words = value.split() if name == "swap" else [value]
    return shlex.join([f"--{name}", *filter(None, words)])


def tags_without_caption(
    operations: Sequence[Operation], counts: Mapping[str, int]
) -> list[Problem]:
    """Tags that an operation names and no caption has, with what may be meant."""
    problems = []
    for number, operation in enumerate(operations):
        for name in operation.names:
            # What an operation before makes is in no caption yet.
            if name not in counts and not any(name in each.text for each in operations[:number]):
                by_name = {bare(tag): tag for tag in counts}
                known = by_name.get(bare(name))
                hint = f"did you mean {known}?" if known else did_you_mean(name, list(counts))
                what = f"no caption has {quoted(name)}"
                problems.append(Problem(shown(operation.text), what, hint))
    return problems
