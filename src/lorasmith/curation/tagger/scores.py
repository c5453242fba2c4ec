"""What a tagger said of images, kept beside them: thresholds can be moved later, and captions
checked, without running the model again.

One file for each dataset and model, ``.lorasmith/scores/NAME-FINGERPRINT.sqlite``; scores lie under
the hash of the image's content, so a renamed image keeps its own and a changed one has none. Every
batch is committed: what is there when work is stopped or killed is not lost.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from lorasmith.core.disk import discard
from lorasmith.core.errors import Problem
from lorasmith.core.file_names import relative_path
from lorasmith.core.files import parse_json
from lorasmith.curation.changes.trash import STORE
from lorasmith.curation.tagger.labels import Labels
from lorasmith.data.cache.file_memo import hash_file
from lorasmith.data.recorded_crops import crop_record_beside

if TYPE_CHECKING:
    import numpy as np

FOLDER = "scores"
FLOOR = 0.01
"""Scores below this are not kept, and no threshold is lower: of ten thousand labels a few hundred
are left."""

_VERSION = 1
_TABLES = {
    "model": "name TEXT, labels TEXT, categories TEXT",
    "files": "path TEXT PRIMARY KEY, size INT, changed INT, hash TEXT",
    "scores": "hash TEXT PRIMARY KEY, labels BLOB, scores BLOB",
}


@dataclass(frozen=True, slots=True, eq=False)
class ImageScores:
    """The scores of one image that are not next to nothing.

    Args:
        labels: indices, int32 (n,), rising.
        values: probabilities, float32 (n,).
    """

    labels: np.ndarray
    values: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray) -> ImageScores:
        """From all scores, (labels,)."""
        import numpy as np

        (labels,) = np.nonzero(values >= np.float32(FLOOR))
        return cls(labels.astype(np.int32), values[labels].astype(np.float32))


@dataclass
class Scored:
    """What a tagger says of images.

    Args:
        labels: what the scores are of.
        scores: by image; without those that could not be read.
        problems: of these.
        tagged: contents that the model looked at now; the others were known.
    """

    labels: Labels
    scores: dict[Path, ImageScores] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    tagged: int = 0


class ScoreStore:
    """The scores of one dataset's images by one model; in memory where nothing can be written.

    Args:
        root: the dataset's folder.
        name: the model's.
        fingerprint: changes with what changes its scores.
        labels: kept with the scores, so that they can be read without the model.
    """

    def __init__(self, root: Path, name: str, fingerprint: str, labels: Labels) -> None:
        safe_name = re.sub(r"[^\w.-]+", "_", name)[:80]
        self.labels = labels
        self._root = Path(root).absolute()
        self.path = self._root / STORE / FOLDER / f"{safe_name}-{fingerprint}.sqlite"
        self._database = self._connected(name, labels)

    def __enter__(self) -> ScoreStore:
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()

    def content_hashes(self, images: Iterable[Path]) -> dict[Path, str | Problem]:
        """Of the files as they are now, with the crops that are recorded beside them; remembered by
        size and time of change. In place of that of a file that cannot be read, the problem."""
        rows = self._database.execute("SELECT path, size, changed, hash FROM files")
        known = {path: (size, changed, content) for path, size, changed, content in rows}

        def hashed(image: Path) -> tuple[tuple[int, int, str] | None, str | Problem]:
            try:
                status = image.stat()
                stamp = status.st_size, status.st_mtime_ns
                row = known.get(self._name(image))
                if row is not None and row[:2] == stamp:
                    return None, row[2]
                content = hash_file(image)
            except OSError as error:
                what = f"cannot be read: {error.strerror}"
                return None, Problem(str(image), what, "mend or remove it")
            return (*stamp, content), content

        images = list(images)
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            results = dict(zip(images, pool.map(hashed, images), strict=True))
        new = [(self._name(image), *row) for image, (row, _) in results.items() if row is not None]
        self._write("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?)", new)
        return {image: _with_crop(image, content) for image, (_, content) in results.items()}

    def get(self, content: str) -> ImageScores | None:
        """The scores of the image with this hash."""
        import numpy as np

        try:
            row = self._database.execute(
                "SELECT labels, scores FROM scores WHERE hash = ?", (content,)
            ).fetchone()
        except sqlite3.DatabaseError:  # damaged in the middle
            return None
        if row is None:
            return None
        return ImageScores(np.frombuffer(row[0], "<i4"), np.frombuffer(row[1], "<f4"))

    def put(self, scores: Mapping[str, ImageScores]) -> None:
        """Keep scores, by the hash of the image."""
        rows = [
            (content, one.labels.astype("<i4").tobytes(), one.values.astype("<f4").tobytes())
            for content, one in scores.items()
        ]
        self._write("INSERT OR REPLACE INTO scores VALUES (?, ?, ?)", rows)

    def _name(self, image: Path) -> str:
        return relative_path(os.path.abspath(image), self._root)

    def _write(self, statement: str, rows: Sequence[tuple[object, ...]]) -> None:
        """And commit. What cannot be written is worked out again next time."""
        try:
            self._database.executemany(statement, rows)
            self._database.commit()
        except sqlite3.DatabaseError:  # the disk is full, or another command writes
            self._database.rollback()

    def _connected(self, name: str, labels: Labels) -> sqlite3.Connection:
        for _ in range(2):
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                return _prepared(sqlite3.connect(self.path, timeout=30), name, labels)
            except sqlite3.OperationalError:  # it may not be written to
                break
            except sqlite3.DatabaseError:  # damaged: all of it can be worked out again
                discard(self.path)
            except OSError:
                break
        return _prepared(sqlite3.connect(":memory:"), name, labels)


def kept_scores(images: Mapping[Path, Sequence[Path]]) -> Scored | None:
    """What is known of images by the tagger that has looked at most of them; no model is run.

    Args:
        images: by their dataset's folder.

    Returns:
        ``None`` where no tagger has looked at any.
    """
    by_tagger: dict[str, Scored] = {}
    for root, paths in images.items():
        for store in _stores(root):
            with store:
                scored = by_tagger.setdefault(store.path.name, Scored(store.labels))
                for path, content in store.content_hashes(paths).items():
                    scores = store.get(content) if isinstance(content, str) else None
                    if scores is not None:
                        scored.scores[path] = scores
    best = max(by_tagger.values(), key=lambda scored: len(scored.scores), default=None)
    return best if best is not None and best.scores else None


def _stores(root: Path) -> Iterator[ScoreStore]:
    """Those that a dataset has; without damaged ones, and those of another version."""
    for path in sorted((Path(root) / STORE / FOLDER).glob("*-*.sqlite")):
        name, _, fingerprint = path.stem.rpartition("-")
        with contextlib.suppress(sqlite3.Error, ValueError, TypeError):
            address = f"{path.absolute().as_uri()}?mode=ro"
            with contextlib.closing(sqlite3.connect(address, uri=True)) as database:
                (version,) = database.execute("PRAGMA user_version").fetchone()
                row = database.execute("SELECT labels, categories FROM model").fetchone()
            if version == _VERSION and row is not None:
                names, categories = (tuple(parse_json(text)) for text in row)
                labels = Labels(names, categories, path, "")
                yield ScoreStore(root, name, fingerprint, labels)


def _prepared(database: sqlite3.Connection, name: str, labels: Labels) -> sqlite3.Connection:
    try:
        (version,) = database.execute("PRAGMA user_version").fetchone()
        if version != _VERSION:
            for table, columns in _TABLES.items():
                database.execute(f"DROP TABLE IF EXISTS {table}")
                database.execute(f"CREATE TABLE {table} ({columns})")
            row = name, json.dumps(labels.names), json.dumps(labels.categories)
            database.execute("INSERT INTO model VALUES (?, ?, ?)", row)
            database.execute(f"PRAGMA user_version = {_VERSION}")
            database.commit()
    except sqlite3.Error:
        database.close()
        raise
    return database


def _with_crop(image: Path, content: str | Problem) -> str | Problem:
    record = crop_record_beside(image)
    if record is None or isinstance(content, Problem):
        return content
    try:
        return f"{content}-{hash_file(record)}"
    except OSError as error:
        return Problem(str(record), f"cannot be read: {error.strerror}", "mend or remove it")
