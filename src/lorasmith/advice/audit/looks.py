"""What rules found out by looking at pixels again, kept in ``.lorasmith/looks.sqlite`` under the
hash of what was looked at: nothing is looked at twice."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lorasmith.core.files import parse_json
from lorasmith.curation.changes.trash import STORE

NAME = "looks.sqlite"
_TABLE = "CREATE TABLE IF NOT EXISTS looks (kind TEXT, key TEXT, value TEXT, UNIQUE (kind, key))"
_AT_ONCE = 500  # names in one question to the database


class Looks:
    """Of one dataset; where nothing can be written, as long as the object.

    Args:
        root: the dataset's folder.
    """

    def __init__(self, root: Path) -> None:
        self._path = Path(root) / STORE / NAME
        self._known: dict[tuple[str, str], Any] = {}

    def get(self, kind: str, keys: Sequence[str]) -> dict[str, Any]:
        """What is known, by key; without what is not.

        Args:
            kind: of look, with the number of its version.
        """
        # What cannot be read is found out again.
        with contextlib.suppress(sqlite3.Error, ValueError):
            self._known |= self._read(kind, keys)
        return {key: self._known[kind, key] for key in keys if (kind, key) in self._known}

    def put(self, kind: str, values: Mapping[str, Any]) -> None:
        """Keep what can be written as JSON, by key."""
        self._known |= {(kind, key): value for key, value in values.items()}
        with contextlib.suppress(sqlite3.Error, OSError):
            self._write([(kind, key, json.dumps(value)) for key, value in values.items()])

    def _read(self, kind: str, keys: Sequence[str]) -> dict[tuple[str, str], Any]:
        known = {}
        if self._path.is_file():
            with contextlib.closing(sqlite3.connect(self._path)) as database:
                for start in range(0, len(keys), _AT_ONCE):
                    some = keys[start : start + _AT_ONCE]
                    marks = ", ".join("?" * len(some))
                    question = f"SELECT key, value FROM looks WHERE kind = ? AND key IN ({marks})"
                    for key, value in database.execute(question, (kind, *some)):
                        known[kind, key] = parse_json(value)
        return known

    def _write(self, rows: Sequence[tuple[str, str, str]]) -> None:
        self._path.parent.mkdir(exist_ok=True)
        with contextlib.closing(sqlite3.connect(self._path)) as database:
            database.execute(_TABLE)
            database.executemany("INSERT OR REPLACE INTO looks VALUES (?, ?, ?)", rows)
            database.commit()
