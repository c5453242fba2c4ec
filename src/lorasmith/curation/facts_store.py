"""What was measured of images, remembered by content, wherever the file is moved to."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

from lorasmith.core.disk import discard
from lorasmith.core.errors import DatasetError
from lorasmith.core.events import Controls, Observer, Progress, ignore
from lorasmith.core.file_names import relative_path, whole_path
from lorasmith.curation.changes.trash import STORE
from lorasmith.curation.facts import ImageFacts, Pixels
from lorasmith.data.cache.file_memo import hash_file
from lorasmith.data.images import read_header

NAME = "facts.sqlite"
_VERSION = 6  # of what is measured; another begins anew

_CHUNK_BYTES = 2_000_000
# Read by a thread in a row: to wake it for each would take as long as to read it.
_HEADERS = 32

_PIXELS = [field.name for field in fields(Pixels)]
_COLUMNS = [field.name for field in fields(ImageFacts) if field.name != "pixels"] + _PIXELS
_PHASH, _SUBJECT = _COLUMNS.index("phash"), _PIXELS.index("subject")
_SWITCHES = [_COLUMNS.index(name) for name in ("transparent", "has_alpha")]  # SQLite has none


class FactsStore:
    """The facts of one dataset's images, in ``.lorasmith/facts.sqlite``; where that cannot be
    written, they are kept as long as the object."""

    def __init__(self, root: Path) -> None:
        self._root = Path(root).absolute()
        self._prefix = os.path.join(os.path.abspath(root), "")
        self._facts: dict[str, ImageFacts] = {}
        self._files: dict[str, tuple[int, int, str]] = {}
        self._sizes: dict[str, tuple[int, int, int, int]] = {}
        database = self._connect(make=False)
        if database is None:
            return
        with contextlib.suppress(sqlite3.Error), contextlib.closing(database):
            self._files = {row[0]: row[1:] for row in database.execute("SELECT * FROM files")}
            self._sizes = {row[0]: row[1:] for row in database.execute("SELECT * FROM sizes")}
            for row in database.execute(f"SELECT {', '.join(_COLUMNS)} FROM facts"):
                facts = _from_row(row)
                self._facts[facts.content_hash] = facts

    def sizes(self, paths: Iterable[Path]) -> dict[Path, tuple[int, int]]:
        """Upright width and height of images, from their headers; without those that have none."""
        sizes: dict[Path, tuple[int, int]] = {}
        unknown: list[tuple[Path, str, tuple[int, int]]] = []
        for path in paths:
            name, stamp = self._name(path), _stamp(path)
            row, file = self._sizes.get(name), self._files.get(name)
            facts = self._facts.get(file[2]) if file is not None and stamp == file[:2] else None
            if facts is not None and not facts.problem:
                sizes[path] = (facts.width, facts.height)
            elif row is not None and stamp == row[:2]:
                sizes[path] = row[2:]
            elif stamp is not None:
                unknown.append((path, name, stamp))
        parts = [unknown[at : at + _HEADERS] for at in range(0, len(unknown), _HEADERS)]
        new = {}
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            read = pool.map(_header_sizes, [[path for path, *_ in part] for part in parts])
            for part, headers in zip(parts, read, strict=True):
                for (path, name, stamp), size in zip(part, headers, strict=True):
                    if size is not None:
                        sizes[path] = size
                        new[name] = (*stamp, *size)
        self._sizes |= new
        self._save("INSERT OR REPLACE INTO sizes VALUES (?, ?, ?, ?, ?)", new)
        return sizes

    def known(self, path: Path) -> ImageFacts | None:
        """What is remembered of a file as it is now."""
        row = self._files.get(self._name(path))
        if row is None or row[:2] != _stamp(path):
            return None
        return self._facts.get(row[2])

    def measure(
        self,
        paths: Sequence[Path],
        observer: Observer = ignore,
        controls: Controls | None = None,
        *,
        closely: bool = False,
    ) -> dict[Path, ImageFacts]:
        """Of every image; those that are not remembered are decoded, on all cores.

        Args:
            closely: with :attr:`ImageFacts.pixels`.

        Raises:
            Stopped: by ``controls``; what was measured is remembered.
        """
        facts = {path: self.known(path) for path in paths}
        unknown = [path for path, one in facts.items() if _is_missing(one, closely)]
        new: dict[Path, tuple[tuple[int, int] | None, ImageFacts]] = {}
        measure_all = partial(self._measure_all, closely=closely)
        pool = ThreadPoolExecutor(os.cpu_count() or 1)
        try:
            for results in pool.map(measure_all, _chunks(unknown)):
                new |= results
                observer(Progress("looking at pictures", len(new), len(unknown)))
                if controls is not None:
                    controls.check("stopped while looking at the pictures")
        finally:
            pool.shutdown(cancel_futures=True)
            self._remember(new)
        facts |= {path: one for path, (_, one) in new.items()}
        return {path: one for path, one in facts.items() if one is not None}

    def _measure_all(
        self, paths: Sequence[Path], *, closely: bool
    ) -> dict[Path, tuple[tuple[int, int] | None, ImageFacts]]:
        results: dict[Path, tuple[tuple[int, int] | None, ImageFacts]] = {}
        unknown: dict[Path, tuple[tuple[int, int] | None, str]] = {}
        for path in paths:
            stamp, content = _stamp(path), ""
            with contextlib.suppress(OSError):  # Whoever decodes it says so.
                content = hash_file(path)
            known = self._facts.get(content)
            if known is None or _is_missing(known, closely):
                unknown[path] = (stamp, content)
            else:
                results[path] = (stamp, known)
        from lorasmith.curation.measuring import measure_images  # with NumPy

        hashes = [content for _, content in unknown.values()]
        new = measure_images(list(unknown), hashes, closely=closely)
        for (path, (stamp, _)), one in zip(unknown.items(), new, strict=True):
            results[path] = (stamp, one)
        return results

    def _remember(self, new: Mapping[Path, tuple[tuple[int, int] | None, ImageFacts]]) -> None:
        files, facts = {}, {}
        for path, (stamp, one) in new.items():
            if stamp is not None and one.content_hash:
                files[self._name(path)] = (*stamp, one.content_hash)
                facts[one.content_hash] = one
        self._files |= files
        self._facts |= facts
        self._save("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?)", files)
        places = ", ".join("?" * len(_COLUMNS))
        rows = {key: _to_row(one) for key, one in facts.items()}
        self._save(f"INSERT OR REPLACE INTO facts VALUES ({places})", rows, keyed=False)

    def _save(
        self, statement: str, rows: Mapping[str, tuple[object, ...]], *, keyed: bool = True
    ) -> None:
        """Write rows; where that is not possible, they are measured again next time."""
        if not rows:
            return
        values = ((name, *row) if keyed else row for name, row in rows.items())
        database = self._connect(make=True)
        if database is not None:
            with contextlib.suppress(sqlite3.Error), contextlib.closing(database):
                database.executemany(statement, values)
                database.commit()

    def _connect(self, *, make: bool) -> sqlite3.Connection | None:
        """The database; ``None`` where there is none and none can be. A damaged one goes."""
        path = self._root / STORE / NAME
        with contextlib.suppress(OSError):
            if make:
                path.parent.mkdir(exist_ok=True)
        if not (path.parent.is_dir() if make else path.exists()):
            return None
        try:
            return _prepared(sqlite3.connect(path))
        except sqlite3.OperationalError:  # read-only, full, or at work elsewhere
            return None
        except sqlite3.DatabaseError:
            discard(path)
            return None

    def _name(self, path: Path) -> str:
        whole, root = whole_path(path), self._prefix
        name = whole[len(root) :] if whole.startswith(root) else relative_path(whole, root)
        return sys.intern(name)  # Of a file right in the folder, paths hold the same.


def _is_missing(facts: ImageFacts | None, closely: bool) -> bool:
    return facts is None or (closely and facts.pixels is None and not facts.problem)


def _prepared(database: sqlite3.Connection) -> sqlite3.Connection:
    """With the tables of this version.

    Raises:
        sqlite3.Error: it cannot be read or written; it is closed.
    """
    try:
        (version,) = database.execute("PRAGMA user_version").fetchone()
        if version != _VERSION:
            database.executescript(
                "DROP TABLE IF EXISTS files; DROP TABLE IF EXISTS sizes; "
                "DROP TABLE IF EXISTS facts; "
                "CREATE TABLE files (path TEXT PRIMARY KEY, size INT, changed INT, hash TEXT); "
                "CREATE TABLE sizes "
                "(path TEXT PRIMARY KEY, size INT, changed INT, width INT, height INT); "
                f"CREATE TABLE facts ({', '.join(_COLUMNS)}, PRIMARY KEY (content_hash)); "
                f"PRAGMA user_version = {_VERSION};"
            )
    except sqlite3.Error:
        database.close()
        raise
    return database


def _chunks(paths: Iterable[Path]) -> Iterator[list[Path]]:
    """Images that are about 10 ms of work together, or one: waking a thread for each image costs
    the others a tenth of their time, and nobody wants to wait for many large ones."""
    chunk: list[Path] = []
    size = 0
    for path in paths:
        stamp = _stamp(path)
        chunk.append(path)
        size += stamp[0] if stamp is not None else 0
        if size >= _CHUNK_BYTES or len(chunk) == 16:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def _header_sizes(paths: Sequence[Path]) -> list[tuple[int, int] | None]:
    return [_header_size(path) for path in paths]


def _header_size(path: Path) -> tuple[int, int] | None:
    try:
        header = read_header(path)
    except DatasetError:
        return None
    return header.width, header.height


def _to_row(facts: ImageFacts) -> tuple[object, ...]:
    row = {name: getattr(facts, name, None) for name in _COLUMNS}
    row["phash"] = f"{facts.phash:016x}"  # SQLite's integers have a sign
    if facts.pixels is not None:
        row |= {name: getattr(facts.pixels, name) for name in _PIXELS}
    return tuple(row.values())


def _from_row(row: Sequence[object]) -> ImageFacts:
    values: list[Any] = list(row[: -len(_PIXELS)])
    values[_PHASH] = int(values[_PHASH], 16)
    for place in _SWITCHES:
        values[place] = bool(values[place])
    pixels: Sequence[Any] = row[-len(_PIXELS) :]
    values.append(Pixels(*pixels) if pixels[_SUBJECT] is not None else None)
    return ImageFacts(*values)
