"""Which changes of a plan cannot be done: names that are taken, too long, or outside of the
dataset."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from lorasmith.core.errors import Problem
from lorasmith.core.files import is_utf8
from lorasmith.core.text import quoted
from lorasmith.curation.changes.change import Change
from lorasmith.curation.changes.trash import STORE
from lorasmith.data.layout import not_utf8

LONGEST_NAME = 255
"""Bytes of a file's name."""

RootOf = Callable[[Path], Path | None]


def misplaced(changes: Sequence[Change], root_of: RootOf) -> Iterator[Problem]:
    """Paths that no command may touch: these are mistakes of the command."""
    for change in changes:
        for path in filter(None, (change.path, change.target)):
            if is_utf8(str(path)) and root_of(path) is None:
                yield Problem(str(path), "lies outside of the dataset", "choose a place within it")
            elif STORE in str(path) and STORE in path.parts:
                yield Problem(str(path), f"lies in {STORE}, which keeps the earlier contents")


def infeasible(changes: Sequence[Change], root_of: RootOf) -> Iterator[tuple[Change, Problem]]:
    """Changes that are not possible, or not together, each with its reason."""
    leaving = {
        os.path.abspath(change.path) for change in changes if change.kind in ("move", "remove")
    }
    takers: dict[str, Change] = {}
    users: dict[tuple[str, bool], Change] = {}
    for change in changes:
        place = change.target or change.path
        if (problem := _unwritable(change)) is not None:
            yield change, problem
        source = os.path.abspath(change.path)
        # What moves away leaves its name to another.
        use = (source, change.kind == "move")
        moved = users.get((source, True)) if change.kind == "remove" else None
        if (other := users.get(use) or moved) is not None:
            for each in (other, change):
                yield each, Problem(_where(each), "would be changed twice")
        users[use] = change
        if change.target is not None and root_of(change.path) != root_of(place):
            what = f"cannot be moved to another dataset ({place.parent})"
            yield change, Problem(_where(change), what)
        if change.kind == "remove":
            continue
        key = os.path.abspath(place)
        if (other := takers.get(key)) is not None:
            for each, rival in ((other, change), (change, other)):
                what = f"would become {place.name}, as {Path(_where(rival)).name} would"
                yield each, Problem(_where(each), what, "rename one of them")
        takers[key] = change
        is_free = key in leaving or not os.path.lexists(place)
        if change.kind != "write" and not is_free:
            same = os.path.exists(change.path) and os.path.samefile(change.path, place)
            if not (change.kind == "move" and same):
                yield change, _taken(change, place)


def _where(change: Change) -> str:
    return str(change.image or change.path)


def _taken(change: Change, place: Path) -> Problem:
    if _where(change) == str(place):
        return Problem(str(place), "is there already", "choose another name")
    what = f"would become {place.name}, which is there already"
    return Problem(_where(change), what, "rename one of them")


def _unwritable(change: Change) -> Problem | None:
    """A name that cannot be written, or is too long."""
    for path in filter(None, (change.path, change.target)):
        if not is_utf8(str(path)):
            return not_utf8(path)
        length = len(os.fsencode(path.name))
        if length > LONGEST_NAME:
            name = quoted(path.name)
            what = f"{name} would have {length} bytes; a name has {LONGEST_NAME} at most"
            return Problem(_where(change), what, "give it a shorter name")
    return None
