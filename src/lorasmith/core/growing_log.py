"""Logs of JSON lines, read while another process writes them.

What stands in them may be half written, damaged or made up: lines that are no JSON objects are left
out.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from lorasmith.core.files import parse_json

CHUNK = 1 << 22
# Of one line; none that a training writes comes near it.
MOST_LINE = 1 << 26
# Before the place that was read to: what shows that the file was written anew up to there.
TAIL = 64


class GrowingLog:
    """A file of JSON lines that another process appends to, and sometimes cuts back."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: tuple[int, int] = (0, 0)
        self._position = 0
        self._tail = b""
        self._rest = b""

    def read(self) -> tuple[bool, list[dict[str, Any]]]:
        """Whether the file begins anew, so that everything known of it is void; and the objects
        on the lines that are complete since the last call."""
        try:
            with open(self.path, "rb") as file:
                return self._read(file)
        except OSError:
            anew = self._position > 0
            self._forget()
            return anew, []

    def _read(self, file: BinaryIO) -> tuple[bool, list[dict[str, Any]]]:
        status = os.fstat(file.fileno())
        anew = self._is_another(file, (status.st_dev, status.st_ino), status.st_size)
        if anew:
            self._forget()
        self._file = (status.st_dev, status.st_ino)
        file.seek(self._position)
        return anew, [record for line in self._lines(file) for record in _parsed(line)]

    def _is_another(self, file: BinaryIO, identity: tuple[int, int], size: int) -> bool:
        if not self._position:
            return False
        if identity != self._file or size < self._position:
            return True
        file.seek(self._position - len(self._tail))
        return file.read(len(self._tail)) != self._tail

    def _forget(self) -> None:
        self._position, self._tail, self._rest = 0, b"", b""

    def _lines(self, file: BinaryIO) -> Iterator[bytes]:
        while chunk := file.read(CHUNK):
            self._position += len(chunk)
            self._tail = (self._tail + chunk)[-TAIL:]
            *lines, self._rest = (self._rest + chunk).split(b"\n")
            yield from lines
            if len(self._rest) > MOST_LINE:
                self._rest = b""


def _parsed(line: bytes) -> Iterator[dict[str, Any]]:
    try:
        record = parse_json(line.decode("utf-8", "replace"))
    except ValueError:
        return
    if isinstance(record, dict):
        yield record


def last_record(
    path: Path, is_wanted: Callable[[dict[str, Any]], bool], most: int = 1 << 20
) -> dict[str, Any]:
    """The last object that is wanted, from the last ``most`` bytes of a log; empty where there is
    none. For those who need no more of it, and look at many."""
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            for length in (1 << 13, most):
                file.seek(max(0, size - length))
                for line in reversed(file.read().split(b"\n")):
                    for record in _parsed(line):
                        if is_wanted(record):
                            return record
                if length >= size:
                    break
    except OSError:
        pass
    return {}


def number_of(value: Any) -> float | None:
    """A finite number as such, all else as ``None``."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None
