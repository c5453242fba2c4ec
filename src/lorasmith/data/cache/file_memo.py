"""What is known of files, by path, size and time of change: their hashes above all, which the cache
calls images by."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Any

from lorasmith.core.disk import is_disk_full
from lorasmith.core.errors import DatasetError, RunError
from lorasmith.core.files import parse_json, write_json

# A file written within this time of its reading might be written again without a new time stamp.
_UNSETTLED_NS = 2_000_000_000


class FileMemo:
    """Values by file, in a JSON file; a file that changed since has none.

    Args:
        path: the JSON file, made when something is saved and begun anew if it is damaged;
            ``None`` remembers nothing beyond this object.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._entries = _read(path) if path is not None else {}
        self._changed = False

    def get(self, file: Path) -> Any:
        """The JSON value for ``file`` as it is now, or ``None``.

        Raises:
            DatasetError: the file cannot be found.
        """
        entry = self._entries.get(_name(file))
        return entry[2] if entry is not None and entry[:2] == list(_stamp(file)) else None

    def set(self, file: Path, value: Any) -> None:
        """Remember a value that was just worked out from ``file``."""
        size, changed = _stamp(file)
        if time.time_ns() - changed > _UNSETTLED_NS:
            self._entries[_name(file)] = [size, changed, value]
            self._changed = True

    def save(self) -> None:
        """Write the JSON file, if there is something new.

        Where the disk is full it stays as it was: what is not remembered is worked out again.

        Raises:
            RunError: it cannot be written.
        """
        if self._path is None or not self._changed:
            return
        try:
            write_json(self._path, self._entries)
            self._changed = False
        except RunError as error:
            if not is_disk_full(error):
                raise


def _name(file: Path) -> str:
    return os.path.abspath(file)  # unlike resolve(), keeps symbolic links apart


def _read(path: Path) -> dict[str, list[Any]]:
    with contextlib.suppress(OSError, ValueError):
        value = parse_json(path.read_text("utf-8"))
        if isinstance(value, dict):
            return {k: v for k, v in value.items() if isinstance(v, list) and len(v) == 3}
    return {}


def _stamp(file: Path) -> tuple[int, int]:
    try:
        status = file.stat()
    except OSError as error:
        what = f"cannot be read: {error.strerror}"
        raise DatasetError.of(file, what, "mend or remove it") from error
    return status.st_size, status.st_mtime_ns


_THREADS = 4
_DIGITS = 32  # of 64: enough that no two files meet by chance
# Bytes; a caption is read at once, without the large buffer that an image's file takes.
_FIRST = 16384


def hash_images(paths: Sequence[Path], memo: Path | None = None) -> dict[Path, str]:
    """32 hex digits for each file, from its bytes.

    Args:
        paths: image files.
        memo: a JSON file in which hashes are remembered, so that a second run reads no image.

    Raises:
        DatasetError: a file cannot be read.
        RunError: ``memo`` cannot be written.
    """
    file_memo = FileMemo(memo)
    hashes = {path: file_memo.get(path) for path in dict.fromkeys(paths)}
    unknown = [path for path, value in hashes.items() if not isinstance(value, str)]
    with ThreadPoolExecutor(_THREADS) as pool:
        for path, value in zip(unknown, pool.map(_hash, unknown), strict=True):
            hashes[path] = value
            file_memo.set(path, value)
    file_memo.save()
    return hashes


def hash_bytes(data: bytes) -> str:
    """As :func:`hash_file`, of what would be in the file."""
    return sha256(data).hexdigest()[:_DIGITS]


def hash_file(path: Path) -> str:
    """The first 32 hex digits of SHA-256, for which processors have instructions.

    Raises:
        OSError: it cannot be read.
    """
    with open(path, "rb", buffering=0) as file:
        start = file.read(_FIRST)
        digest = sha256(start)
        if len(start) == _FIRST:
            file_digest(file, lambda: digest)
        return digest.hexdigest()[:_DIGITS]


def _hash(path: Path) -> str:
    try:
        return hash_file(path)
    except OSError as error:
        what = f"cannot be read: {error.strerror}"
        raise DatasetError.of(path, what, "mend or remove it") from error
