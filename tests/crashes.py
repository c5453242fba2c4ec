"""A process that is killed between two file operations, and what it leaves.

Every operation that changes the disk is counted; at the chosen one, and ever after, :class:`Killed`
is raised, so that no ``finally`` tidies up what a killed process would have left.
"""

from __future__ import annotations

import builtins
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

_OPERATIONS = (
    "replace",
    "rename",
    "link",
    "unlink",
    "symlink",
    "mkdir",
    "rmdir",
    "chmod",
    "write",
)
_WRITING = set("wax+")


class Killed(BaseException):
    """Not an Exception, so that nobody catches it by mistake."""


class _Counter:
    def __init__(self, last: int | None) -> None:
        self.count, self._last = 0, last

    def step(self) -> None:
        if self._last is not None and self.count >= self._last:
            raise Killed
        self.count += 1

    @property
    def is_dead(self) -> bool:
        return self._last is not None and self.count >= self._last


@contextmanager
def _counted(last: int | None) -> Iterator[_Counter]:
    counter = _Counter(last)

    def before(function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **options: Any) -> Any:
            counter.step()
            return function(*args, **options)

        return counted

    class Database(sqlite3.Connection):
        def execute(self, sql: str, *args: Any) -> Any:  # type: ignore[override]
            if sql.startswith(("COMMIT", "ROLLBACK", "VACUUM")):
                counter.step()
            return super().execute(sql, *args)

    real_open, real_connect = builtins.open, sqlite3.connect

    def opened(file: Any, mode: str = "r", *args: Any, **options: Any) -> Any:
        if _WRITING & set(mode):
            counter.step()
        return real_open(file, mode, *args, **options)

    def connect(*args: Any, **options: Any) -> sqlite3.Connection:
        return real_connect(*args, factory=Database, **options)

    patches = [mock.patch.object(os, name, before(getattr(os, name))) for name in _OPERATIONS]
    patches += [mock.patch.object(builtins, "open", opened)]
    patches += [mock.patch.object(sqlite3, "connect", connect)]
    try:
        for patch in patches:
            patch.start()
        yield counter
    finally:
        for patch in patches:
            patch.stop()


def operations(action: Callable[[], object]) -> int:
    """How many operations an action takes that change the disk."""
    with _counted(None) as counter:
        action()
    return counter.count


def killed_at(number: int, action: Callable[[], object]) -> None:
    """Do an action as far as its first ``number`` operations."""
    with _counted(number):
        try:
            action()
        except Killed:
            return
    raise AssertionError(f"took fewer than {number + 1} operations")


def contents(folder: Path) -> dict[str, bytes]:
    """All files below, with their bytes, but those of the journal; links as they are."""
    files = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if name.startswith(".lorasmith"):
            continue
        if path.is_symlink():
            files[name] = b"-> " + os.fsencode(os.readlink(path))
        elif path.is_file():
            files[name] = path.read_bytes()
    return files


def check_every_kill(
    folder: Path, action: Callable[[], object], recover: Callable[[], object]
) -> int:
    """Kill an action at each of its operations: what is left is, once recovered, all old or all
    new, and in between no file is half written.

    Args:
        folder: what the action changes; brought back for each kill.
        recover: what the next process does first.

    Returns:
        how many kills there were.
    """
    before = folder.with_name(f"{folder.name} before")
    shutil.copytree(folder, before, symlinks=True)

    def restore() -> None:
        shutil.rmtree(folder)
        shutil.copytree(before, folder, symlinks=True)

    old = contents(folder)
    total = operations(action)
    new = contents(folder)
    assert old != new
    whole = set(old.values()) | set(new.values())
    for number in range(total):
        restore()
        killed_at(number, action)
        left = contents(folder)
        torn = {name for name, data in left.items() if data not in whole}
        assert not torn, f"half written after {number} operations: {torn}"
        recover()
        left = contents(folder)
        assert left in (old, new), f"neither old nor new after {number} operations"
    return total
