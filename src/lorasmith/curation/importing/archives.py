"""Archives of images (``.zip``, ``.cbz``), unpacked in a guarded way.

An archive may come from anywhere. What would be written outside of its folder, links, what is
encrypted, archives within it, and what claims to be far larger than the archive are refused, each
by name; the rest is unpacked. What is read counts, not what is claimed.
"""

from __future__ import annotations

import os
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

from lorasmith.core.disk import discard, write_error
from lorasmith.core.errors import DatasetError, Problem, UserError
from lorasmith.core.files import free_bytes
from lorasmith.core.text import bytes_text
from lorasmith.data.images import MASK_SUFFIXES

SUFFIXES = frozenset({".zip", ".cbz"})
"""Endings of archives that are read."""
NOT_READ = frozenset({".rar", ".cbr", ".7z", ".cb7", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".zst"})

MOST_ENTRIES = 200_000
MOST_BYTES_OF_ONE = 1_000_000_000
# Images are compressed already: more than this, of anything large, is a bomb. Texts shrink more.
MOST_RATIO, SMALL = 100, 10_000_000
_CHUNK = 1 << 20
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_DRIVE = re.compile(r"[A-Za-z]:")
_ENCRYPTED = 1
# The records at an archive's end, before a comment of 65535 bytes at most (APPNOTE 4.3.14-16).
_END, _END_64 = b"PK\x05\x06", b"PK\x06\x06"
_LONGEST_END = 22 + 0xFFFF + 20 + 56

ZIP_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    NotImplementedError,
    RuntimeError,
    EOFError,
    ValueError,
    LookupError,
    OverflowError,
)


def unpack(
    archive: Path, folder: Path, is_wanted: Callable[[str], bool], check: Callable[[], None]
) -> Iterator[Problem]:
    """Unpack files into a folder, under their names in the archive; what is refused is named.

    Args:
        folder: exists, and is empty.
        is_wanted: told the ending of a file's name, in small letters; others are passed over.
        check: called between files; may raise.

    Raises:
        DatasetError: it is no archive, holds more files than any set of images, or claims to hold
            far more than it can.
        WriteError: the folder cannot be written to.
    """
    try:
        _refuse_many(archive, _claimed_count(archive))
        with zipfile.ZipFile(archive) as file:
            entries = [entry for entry in file.infolist() if not entry.is_dir()]
            _refuse_bomb(archive, entries)
            inner = [entry for entry in entries if _is_archive(entry)]
            for entry in inner:
                what = "is an archive within an archive"
                yield Problem(f"{archive}/{entry.filename}", what, "unpack it yourself")
            entries = [e for e in entries if not _is_archive(e) and is_wanted(_suffix(e))]
            # A text without a letter says nothing.
            entries = [e for e in entries if e.file_size or _suffix(e) in MASK_SUFFIXES]
            _require_room(archive, folder, entries)
            for entry in entries:
                check()
                where = f"{archive}/{entry.filename}"
                reason = _refusal(entry)
                if reason:
                    yield Problem(where, reason)
                else:
                    yield from _unpack_entry(file, entry, folder, where)
    except (*ZIP_ERRORS, OSError) as error:
        reason = (
            error.strerror if isinstance(error, OSError) and error.strerror else "it is damaged"
        )
        what = f"cannot be read as an archive: {reason}"
        raise DatasetError.of(archive, what, "get it again or remove it") from error


def _claimed_count(archive: Path) -> int:
    """How many files its end says that it holds, before the list of them is read; 0 where it says
    nothing."""
    with open(archive, "rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - _LONGEST_END))
        end = file.read(_LONGEST_END)
    place, place_64 = end.rfind(_END), end.rfind(_END_64)
    if place < 0 or len(end) - place < 22:
        return 0
    count = int.from_bytes(end[place + 10 : place + 12], "little")
    if count == 0xFFFF and place_64 >= 0:
        return int.from_bytes(end[place_64 + 32 : place_64 + 40], "little")
    return count


def _refuse_many(archive: Path, count: int) -> None:
    if count > MOST_ENTRIES:
        what = f"holds {count} files; the most is {MOST_ENTRIES}"
        raise DatasetError.of(archive, what, "split it")


def _refuse_bomb(archive: Path, entries: list[zipfile.ZipInfo]) -> None:
    size = archive.stat().st_size
    total = sum(entry.file_size for entry in entries)
    _refuse_many(archive, len(entries))
    if total > SMALL and total > MOST_RATIO * size:
        what = f"has {bytes_text(size)} and claims to hold {bytes_text(total)}, as bombs do"
        raise DatasetError.of(archive, what, "remove it")


def _require_room(archive: Path, folder: Path, entries: list[zipfile.ZipInfo]) -> None:
    needed, free = sum(entry.file_size for entry in entries), free_bytes(folder)
    if needed > free:
        what = f"needs {bytes_text(needed)} in {folder.parent}, where {bytes_text(free)} are free"
        raise DatasetError.of(archive, what, "set TMPDIR to a folder with more space")


def _suffix(entry: zipfile.ZipInfo) -> str:
    return PurePosixPath(entry.filename.replace("\\", "/")).suffix.lower()


def _is_archive(entry: zipfile.ZipInfo) -> bool:
    return _suffix(entry) in SUFFIXES | NOT_READ


def _refusal(entry: zipfile.ZipInfo) -> str:
    """Why a file is not unpacked; "" if it is."""
    name = entry.filename.replace("\\", "/")
    parts = PurePosixPath(name).parts
    if name.startswith("/") or _DRIVE.match(name):
        return "has an absolute name"
    if ".." in parts:
        return "would be written outside of its folder (..)"
    if stat.S_ISLNK(entry.external_attr >> 16):
        return "is a link"
    if entry.flag_bits & _ENCRYPTED:
        return "is encrypted"
    if entry.compress_type not in _METHODS:
        return "is compressed in a way that is not read"
    if not entry.file_size:
        return "is empty (0 bytes)"
    if entry.file_size > MOST_BYTES_OF_ONE:
        return f"claims to have {bytes_text(entry.file_size)}"
    if entry.file_size > SMALL and entry.file_size > MOST_RATIO * max(1, entry.compress_size):
        return f"claims to be {entry.file_size // max(1, entry.compress_size)} times what it takes"
    return ""


def _unpack_entry(
    file: zipfile.ZipFile, entry: zipfile.ZipInfo, folder: Path, where: str
) -> Iterator[Problem]:
    name = PurePosixPath(entry.filename.replace("\\", "/"))
    target = folder.joinpath(*name.parts)
    exists = False
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with file.open(entry) as source, open(target, "xb") as sink:
            exists = True
            remaining = entry.file_size
            while chunk := source.read(min(_CHUNK, remaining + 1)):
                remaining -= len(chunk)
                if remaining < 0:
                    raise zipfile.BadZipFile("longer than it claims")
                sink.write(chunk)
        return
    except FileExistsError:
        yield Problem(where, "has the name of another file in it")
    except NotADirectoryError:
        yield Problem(where, "lies in a folder that is a file")
    except ZIP_ERRORS:
        yield Problem(where, "is damaged")
    except OSError as error:
        if exists:
            discard(target)
            raise _no_room(folder, error) from error
        yield Problem(where, f"cannot be unpacked: {error.strerror}")
    if exists:
        discard(target)


def _no_room(folder: Path, error: OSError) -> UserError:
    return write_error(folder, error, "set TMPDIR to a folder with more space")
