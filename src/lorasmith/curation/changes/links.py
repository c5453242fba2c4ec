"""Symbolic links in datasets: what moves or goes, and the links that lead there.

A link is moved itself, and never written through. Where it, or what it leads to, moves, it gets
the text that leads to the same file as before.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path

from lorasmith.core.errors import Problem
from lorasmith.curation.changes.change import Change
from lorasmith.curation.changes.trash import STORE


class Links:
    """The links of datasets, as they are now.

    Args:
        roots: the datasets' folders.
    """

    def __init__(self, roots: Sequence[Path]) -> None:
        self._real_folder = cache(os.path.realpath)
        paths = dict.fromkeys(path for root in roots for path in _links_below(str(root)))
        self._links: list[tuple[str, str, str, str]] = []  # path, without links above, text, to
        for path in paths:
            text = os.readlink(path)
            place = self._real(path)
            leads_to = self._led(place, text)
            if os.path.lexists(leads_to):
                self._links.append((path, place, text, leads_to))

    def stranded(self, changes: Sequence[Change]) -> Iterator[tuple[Change, Problem]]:
        """Files that would go, though a link that stays leads to them."""
        gone = {self._real(change.path): change for change in changes if change.kind == "remove"}
        for path, leads_to in self._staying(changes):
            if (change := gone.get(leads_to)) is not None:
                what = f"is what the symbolic link {os.path.basename(path)} leads to"
                hint = "put a copy of the file in the link's place"
                yield change, Problem(str(change.image or change.path), what, hint)

    def following(self, changes: Sequence[Change]) -> list[Change]:
        """Links that get another text, for changes that strand none."""
        moves = {
            self._real(change.path): self._real(change.target)
            for change in changes
            if change.target is not None
        }
        staying = dict(self._staying(changes))
        follow = []
        for path, place, text, leads_to in self._links if moves else ():
            new_place, new_end = moves.get(place, place), moves.get(leads_to, leads_to)
            if path not in staying or self._led(new_place, text) == new_end:
                continue
            new = os.path.relpath(new_end, os.path.dirname(new_place))
            new = new_end if os.path.isabs(text) else new
            what = f"a link; it goes on leading to {os.path.basename(new_end)}"
            follow.append(Change("write", Path(path), what=what, link=new))
        return follow

    def _staying(self, changes: Iterable[Change]) -> Iterator[tuple[str, str]]:
        """Links that neither go nor become files, and what they lead to."""
        others = {self._real(change.path) for change in changes if change.target is None}
        for path, place, _, leads_to in self._links:
            if place not in others:
                yield path, leads_to

    def _led(self, place: str, text: str) -> str:
        """Where the text of a link leads, by whatever links are on the way there."""
        return self._real(os.path.join(os.path.dirname(place), text))

    def _real(self, path: Path | str) -> str:
        """A path without symbolic links but for its last part."""
        folder, name = os.path.split(os.path.abspath(path) if ".." not in str(path) else path)
        if name in ("", ".", ".."):
            return self._real_folder(path)
        return os.path.join(self._real_folder(folder), name)


def _links_below(folder: str) -> Iterator[str]:
    folders = [folder]
    while folders:
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    if entry.is_symlink():
                        yield entry.path
                    elif entry.is_dir() and entry.name != STORE:
                        folders.append(entry.path)
        except OSError:  # Whoever changes something in it says so.
            continue
