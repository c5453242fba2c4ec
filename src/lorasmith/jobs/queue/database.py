"""The file of the ledger: SQLite, read and written by several programs at the same time."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from lorasmith.core.disk import is_full
from lorasmith.core.errors import RunError, WriteError
from lorasmith.core.files import check_writable

_PATIENCE = 10.0
"""Seconds to wait for another process's transaction, each of which takes milliseconds."""

_TABLES = """
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS jobs (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  title TEXT NOT NULL,
  command TEXT NOT NULL,
  folder TEXT NOT NULL,
  device TEXT NOT NULL,
  state TEXT NOT NULL,
  wish TEXT NOT NULL DEFAULT '',
  position REAL NOT NULL,
  after INTEGER,
  created REAL NOT NULL,
  started REAL,
  ended REAL,
  run TEXT NOT NULL DEFAULT '',
  message TEXT NOT NULL DEFAULT '',
  status INTEGER,
  tries INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS version (number INTEGER NOT NULL);
INSERT INTO version SELECT 0 WHERE NOT EXISTS (SELECT * FROM version);
CREATE TRIGGER IF NOT EXISTS added AFTER INSERT ON jobs
  BEGIN UPDATE version SET number = number + 1; END;
CREATE TRIGGER IF NOT EXISTS changed AFTER UPDATE ON jobs
  BEGIN UPDATE version SET number = number + 1; END;
CREATE TRIGGER IF NOT EXISTS removed AFTER DELETE ON jobs
  BEGIN UPDATE version SET number = number + 1; END;
PRAGMA user_version = 1;
COMMIT;
"""


class Database:
    """
    Args:
        file: made if it is not there.

    Raises:
        RunError: nothing can be written there, or what is there is something else.
        WriteError: the disk is full, and nothing was changed.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        if not file.exists():
            check_writable(file.parent)
        with self.looked_at() as connection:
            is_made = connection.execute("PRAGMA user_version").fetchone()[0]
        if not is_made:  # Once: who only looks must not wait for those who write.
            with self._connection(to_look=False) as connection:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.executescript(_TABLES)

    def looked_at(self) -> contextlib.AbstractContextManager[sqlite3.Connection]:
        """A connection to read with, also where the disk is full."""
        return self._connection(to_look=True)

    @contextlib.contextmanager
    def changed(self) -> Iterator[sqlite3.Connection]:
        """One transaction: what is done with the connection is done as a whole, or not at all."""
        with self._connection(to_look=False) as connection:
            # By hand, as it must hold the lock from its first look on.
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                if connection.in_transaction:  # A full disk ends it as well.
                    connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")

    @contextlib.contextmanager
    def _connection(self, *, to_look: bool) -> Iterator[sqlite3.Connection]:
        """One of the caller's own: threads and processes share none."""
        try:
            with contextlib.closing(self._opened(to_look=to_look)) as connection:
                connection.row_factory = sqlite3.Row
                yield connection
        except sqlite3.Error as error:
            if is_full(error):
                what = f"nothing was changed, as the disk is full or broken ({error})"
                raise WriteError.of(self._file, what, "free some space") from error
            hint = "mend the permissions, or put the file away to begin anew"
            raise RunError.of(self._file, f"cannot be read or written: {error}", hint) from error

    def _opened(self, *, to_look: bool) -> sqlite3.Connection:
        connection = sqlite3.connect(self._file, timeout=_PATIENCE, isolation_level=None)
        try:
            connection.execute("PRAGMA schema_version")
        except sqlite3.OperationalError as error:
            connection.close()
            log = self._file.with_name(f"{self._file.name}-wal")
            is_alone = not log.exists() or not log.stat().st_size
            if not (to_look and is_alone and is_full(error)):
                raise
            # A full disk has no room for what several processes share while the file is open.
            address = f"{self._file.as_uri()}?mode=ro&immutable=1"
            connection = sqlite3.connect(address, uri=True, isolation_level=None)
        except BaseException:
            connection.close()
            raise
        return connection
