"""Hashes of image files: what the cache calls an image by."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b, file_digest
from pathlib import Path

from lorasmith.core.errors import DatasetError
from lorasmith.data.cache.file_memo import FileMemo

_THREADS = 4


def hash_images(paths: Sequence[Path], memo: Path | None = None) -> dict[Path, str]:
    """32 hex digits for each file, from its bytes.

    Args:
        paths: image files.
        memo: a JSON file in which hashes are remembered, so that a second run reads no image.

    Raises:
        DatasetError: a file cannot be read.
        RunError: ``memo`` cannot be written.
    """
    known = FileMemo(memo)
    hashes = {path: known.get(path) for path in dict.fromkeys(paths)}
    unknown = [path for path, value in hashes.items() if not isinstance(value, str)]
    with ThreadPoolExecutor(_THREADS) as pool:
        for path, value in zip(unknown, pool.map(_hash, unknown), strict=True):
            hashes[path] = value
            known.set(path, value)
    known.save()
    return hashes


def _hash(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            return file_digest(file, lambda: blake2b(digest_size=16)).hexdigest()
    except OSError as error:
        what = f"cannot be read: {error.strerror}"
        raise DatasetError.of(path, what, "mend or remove it") from error
