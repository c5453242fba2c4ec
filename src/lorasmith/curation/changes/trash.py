"""Earlier contents of a dataset's files, by content: what a verb replaces or removes is kept here.

Small contents (captions) lie in the journal's database, large ones (images) as files in
``.lorasmith/trash``, each under its hash and its own ending, so that they can be looked at.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sqlite3
import stat
import time
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from lorasmith.core.disk import remove_file, replace_file
from lorasmith.data.cache.file_memo import hash_file

STORE = ".lorasmith"
"""The folder of a dataset in which its journal, its trash and its measurements lie."""

SMALL = 64 * 1024
"""Bytes; what is larger is kept as a file."""

_LINK = "link:"
_STAGED = re.compile(r"\d+-\d+(\.\w+)?")
_STALE = 24 * 3600.0  # seconds


def link_state(text: str) -> str:
    """What a path is that is a symbolic link of this text."""
    return _LINK + text


def state_of(path: Path) -> str | None:
    """What a path is: ``None`` for nothing, ``link:TARGET``, else the hash of its content.

    Raises:
        OSError: it cannot be read, or is a folder.
    """
    try:
        if stat.S_ISLNK(os.lstat(path).st_mode):
            return link_state(os.readlink(path))
        return hash_file(path)
    except (FileNotFoundError, NotADirectoryError):
        return None


class Trash:
    """
    Args:
        root: of the dataset.
        database: the journal's, with the table ``contents``; changed in its transactions.
    """

    def __init__(self, root: Path, database: sqlite3.Connection) -> None:
        self.folder = root / STORE / "trash"
        self._staging = root / STORE / "staging"
        self._database = database
        self._folders: set[Path] = set()
        database.execute(
            "CREATE TABLE IF NOT EXISTS contents (hash TEXT PRIMARY KEY, data BLOB NOT NULL)"
        )

    def remember(self, contents: Iterable[tuple[str, bytes]]) -> None:
        """Keep small contents, by hash."""
        self._database.executemany("INSERT OR IGNORE INTO contents VALUES (?, ?)", contents)

    def small(self, state: str) -> bytes | None:
        """A content that lies in the database."""
        row = self._database.execute("SELECT data FROM contents WHERE hash = ?", (state,))
        found = row.fetchone()
        return bytes(found[0]) if found else None

    def holds(self, path: Path, state: str) -> bool:
        """Whether a content that ``path`` had can be brought back."""
        return (
            state.startswith(_LINK)
            or self.file_of(path, state).exists()
            or self.small(state) is not None
        )

    def file_of(self, path: Path, state: str) -> Path:
        """Where a large content of ``path`` is kept."""
        return self.folder / state[:2] / f"{state}{PurePosixPath(path.name).suffix}"

    def keep(self, path: Path, state: str, *, moving: bool = False) -> None:
        """Keep the content of ``path``, which is ``state``, unless it is kept already.

        Args:
            moving: the path is to go: its file itself is taken.
        """
        if state.startswith(_LINK) or self.small(state) is not None:
            return
        kept = self.file_of(path, state)
        if kept.exists():
            return
        kept.parent.mkdir(parents=True, exist_ok=True)
        if moving:
            replace_file(path, kept)
            return
        try:
            # The path gets another file in a moment, so that nobody writes into this one.
            os.link(path, kept)
        except OSError:  # a file system without links
            self._copy(path, kept)

    def put(self, path: Path, state: str | None) -> None:
        """Make ``path`` be what it was, in one step; ``None`` removes it.

        Raises:
            FileNotFoundError: the content is not kept.
        """
        if state is None:
            remove_file(path)
            return
        temporary = self.staging_path("next")
        if state.startswith(_LINK):
            remove_file(temporary)
            os.symlink(state.removeprefix(_LINK), temporary)
            self._make_folder(path.parent)
            replace_file(temporary, path)
            return
        if temporary.is_symlink():  # of a killed process; what it leads to is not ours to write
            remove_file(temporary)
        data = self.small(state)
        if data is not None:
            with open(temporary, "wb") as file:
                file.write(data)
        else:
            shutil.copy2(self.file_of(path, state), temporary)
        self.place(temporary, path)

    def place(self, new: Path, path: Path) -> None:
        """Give a finished file its name; it has the rights of the one that it replaces."""
        self._make_folder(path.parent)
        with contextlib.suppress(FileNotFoundError):
            rights = stat.S_IMODE(os.stat(path).st_mode)
            if rights != stat.S_IMODE(os.stat(new).st_mode):
                os.chmod(new, rights)
        try:
            replace_file(new, path)
        except OSError:
            if new.stat().st_dev == path.parent.stat().st_dev:
                raise
            # Another disk is mounted within the dataset.
            self._copy(new, path)
            remove_file(new)

    def staging_path(self, name: str) -> Path:
        """Where a new content is written before its path gets it."""
        self._make_folder(self._staging)
        return self._staging / name

    def remove_stale(self) -> None:
        """New contents that a killed process left; a living one may be at work on those of today.

        Raises:
            OSError: there are none, or another command removed them.
        """
        with os.scandir(self._staging) as entries:
            for entry in entries:
                if _STAGED.fullmatch(entry.name) and time.time() - entry.stat().st_mtime > _STALE:
                    remove_file(Path(entry))

    def bytes_kept(self) -> int:
        sizes = (file.stat().st_size for file in self._files())
        row = self._database.execute("SELECT COALESCE(SUM(LENGTH(data)), 0) FROM contents")
        return sum(sizes) + int(row.fetchone()[0])

    def drop_all_but(self, states: set[str]) -> None:
        """Free what nobody needs any more."""
        for file in self._files():
            if PurePosixPath(file.name).stem not in states:
                remove_file(file)
        self._database.execute("CREATE TEMP TABLE needed (hash TEXT PRIMARY KEY)")
        self._database.executemany(
            "INSERT OR IGNORE INTO needed VALUES (?)", ((state,) for state in states)
        )
        self._database.execute("DELETE FROM contents WHERE hash NOT IN (SELECT hash FROM needed)")
        self._database.execute("DROP TABLE needed")

    def _make_folder(self, folder: Path) -> None:
        if folder not in self._folders or not os.path.isdir(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self._folders.add(folder)

    def _files(self) -> list[Path]:
        return sorted(path for path in self.folder.glob("*/*") if path.is_file())

    def _copy(self, source: Path, target: Path) -> None:
        temporary = target.with_name(f".{target.name[:80]}.copy.lorasmith.tmp")
        shutil.copy2(source, temporary)
        replace_file(temporary, target)
