"""What the user wants to hear no more of, kept in the dataset's ``.lorasmith/audit.json``."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from lorasmith.core.errors import DatasetError
from lorasmith.core.files import parse_json, write_json
from lorasmith.curation.changes.trash import STORE

NAME = "audit.json"
_KEY = "ignored"


def ignored_in(roots: Iterable[Path]) -> list[str]:
    """Ids of rules and of findings, each once, in the order in which they were given.

    Raises:
        DatasetError: a file of them is damaged.
    """
    return list(dict.fromkeys(one for root in roots for one in _read(_path(root))))


def remember(
    roots: Sequence[Path], ignore: Iterable[str] = (), *, unignore: Iterable[str] = ()
) -> list[str]:
    """Add ids to those that are ignored in datasets, or take them out.

    Returns:
        all that are ignored now.

    Raises:
        DatasetError: a file of them is damaged.
        RunError: it cannot be written.
    """
    added, removed = list(ignore), set(unignore)
    for root in roots:
        path = _path(root)
        before = _read(path)
        after = [one for one in dict.fromkeys((*before, *added)) if one not in removed]
        if after != before:
            write_json(path, {_KEY: after})
    return ignored_in(roots)


def _path(root: Path) -> Path:
    return root / STORE / NAME


def _read(path: Path) -> list[str]:
    if not path.is_file():
        return []
    with contextlib.suppress(OSError, ValueError):
        value = parse_json(path.read_bytes())
        ids = value.get(_KEY) if isinstance(value, dict) else None
        if isinstance(ids, list) and all(isinstance(one, str) for one in ids):
            return ids
    what = "says what the audit is to ignore, and cannot be read"
    raise DatasetError.of(path, what, "mend it, or remove it to hear of everything")
