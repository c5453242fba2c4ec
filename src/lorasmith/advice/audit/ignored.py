"""What the user wants to hear no more of, kept in the dataset's ``.lorasmith/audit.json``."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from lorasmith.advice.audit.ids import dataset_names, within
from lorasmith.core.errors import DatasetError
from lorasmith.core.files import parse_json, write_json
from lorasmith.curation.changes.trash import STORE

NAME = "audit.json"
_KEY = "ignored"


def ignored_in(roots: Sequence[Path]) -> list[str]:
    """Ids of rules and of findings, each once, in the order in which they were given; what was
    ignored in one of several datasets is ignored in that one (:func:`.ids.within`), or, of a rule
    and of what concerns several, in all.

    Raises:
        DatasetError: a file of them is damaged.
    """
    names = dataset_names(roots)
    ids = ((one, names[str(root)]) for root in roots for one in _read(_path(root)))
    return list(dict.fromkeys(form for one, name in ids for form in (one, within(one, name))))


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
    names = dataset_names(roots)
    added, removed = list(ignore), list(unignore)
    for root in roots:
        path = _path(root)
        before = _read(path)
        new, gone = (_of_dataset(ids, names[str(root)]) for ids in (added, removed))
        after = [one for one in dict.fromkeys((*before, *new)) if one not in gone]
        if after != before:
            write_json(path, {_KEY: after})
    return ignored_in(roots)


def _of_dataset(ids: Iterable[str], name: str) -> list[str]:
    """Those that concern a dataset, as they are in it alone."""
    parts = [one.partition("@") for one in ids]
    return [one for one, _, dataset in parts if dataset in ("", name)]


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
