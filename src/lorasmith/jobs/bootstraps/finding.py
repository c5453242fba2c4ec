"""The bootstraps that lie in folders, and whether something of them has changed. No torch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lorasmith.advice.bootstrap.state import OUT, STATE, is_busy
from lorasmith.core.disk import changed_ns
from lorasmith.jobs.projects import visible_folders


def find_bootstraps(folder: Path) -> list[Path]:
    """Those in a workspace or project: itself, a folder right in it, or in ``bootstrap`` of these.
    Links are not followed."""
    places = [folder, *visible_folders(folder)]
    places += [inner for place in places for inner in visible_folders(place / OUT)]
    return sorted({place for place in places if (place / STATE).is_file()})


def times_of(folder: Path) -> dict[str, list[int]]:
    """Of each bootstrap there: numbers that are others when something of it has changed."""
    found = find_bootstraps(folder)
    return {str(path): [int(is_busy(path)), *map(changed_ns, _watched(path))] for path in found}


def _watched(path: Path) -> Iterator[Path]:
    yield path / STATE
    rounds = path / "rounds"
    newest = max(visible_folders(rounds), default=rounds)
    yield newest / "drawings"
