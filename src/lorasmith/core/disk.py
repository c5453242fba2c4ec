"""Files that are replaced and removed, though others hold them, and what a system's refusals mean.

On Windows what a program has open can neither be replaced nor removed, and virus scanners,
OneDrive and the search index open every new file for moments. Whatever changes names goes through
here, and waits for them.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import sys
import time
from collections.abc import Callable
from pathlib import Path

from lorasmith.core.errors import Problem, RunError, WriteError

PATIENCE = 4.0
"""Seconds that a file may be held by others."""

# Windows' numbers: sharing and lock violation, a file that is mapped. Access is denied for many
# reasons, one of them that somebody holds the file.
_HELD = frozenset({32, 33, 1224})
_DENIED = 5
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
# SQLite's numbers: the disk is full, and that it could not be read or written, which a full one is.
_FULL_OF_SQLITE = frozenset({10, 13})
_FIRST_WAIT, _LONGEST_WAIT = 0.01, 0.5
# Characters of a path that Windows takes where nobody has switched on longer ones.
_LONGEST_PATH = 259


def replace_file(source: Path, target: Path) -> None:
    """Give ``source`` the name ``target``, in place of what may be there.

    Raises:
        OSError: it cannot be done, or others hold one of them for longer than :data:`PATIENCE`.
    """
    _patiently(lambda: os.replace(source, target), source, target)


def rename(source: Path, target: Path) -> None:
    """Give a file or a folder another name, which on Windows must be free.

    Raises:
        OSError: as :func:`replace_file`.
    """
    _patiently(lambda: os.rename(source, target), source, target)


def remove_file(path: Path) -> None:
    """Remove a file, if it is there.

    Raises:
        OSError: as :func:`replace_file`.
    """
    with contextlib.suppress(FileNotFoundError):
        _patiently(lambda: os.unlink(path), path)


def remove_folder(path: Path) -> None:
    """Remove a folder with all that is in it.

    Raises:
        OSError: as :func:`replace_file`; some of it may be gone.
    """
    _patiently(lambda: shutil.rmtree(path), path)


def discard(path: Path) -> None:
    """Remove a file or a folder that is of no use. What cannot be removed stays, and is no reason
    to end anything."""
    with contextlib.suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            remove_folder(path)
        else:
            remove_file(path)


def is_same_file(one: Path, other: Path) -> bool:
    """Whether two paths lead to one file, as where letters' cases count for nothing; not if either
    is not there."""
    try:
        return one.samefile(other)
    except OSError:
        return False


def changed_ns(path: str | Path) -> int:
    """When a file or folder was changed last, in nanoseconds since 1970; 0 of what is not there."""
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return 0


def _patiently(change: Callable[[], None], *paths: Path) -> None:
    wait, waited = _FIRST_WAIT, 0.0
    while True:
        try:
            return change()
        except OSError as error:
            if waited >= PATIENCE or not _may_be_held(error, paths):
                raise
        time.sleep(wait)
        waited += wait
        wait = min(2 * wait, _LONGEST_WAIT)


def _may_be_held(error: OSError, paths: tuple[Path, ...]) -> bool:
    number = getattr(error, "winerror", None)  # On Windows alone.
    if number == _DENIED:
        return not any(map(_is_read_only, paths))
    return number in _HELD


def _is_read_only(path: Path) -> bool:
    try:
        return not os.lstat(path).st_mode & stat.S_IWRITE
    except OSError:
        return False


def is_full(error: BaseException | None) -> bool:
    """Whether something failed because a disk is full, or a quota is used up."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _FULL:
            return True
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in _FULL_OF_SQLITE:
            return True
        error = error.__cause__
    return False


def write_error(path: Path, error: OSError, then: str = "run again") -> WriteError:
    """The operating system's reason, and what to do.

    Args:
        then: what to do when the cause is mended.
    """
    number = getattr(error, "winerror", None)
    length = max(len(os.path.abspath(path)), len(str(error.filename or "")))
    if error.errno in _FULL:
        what = "the disk is full; nothing was overwritten"
        hint = "free some space (`lorasmith doctor` looks at the disks)"
    elif number in _HELD:
        what = "cannot be written: another program has it open"
        hint = "close what shows or uses it (a viewer, a web UI that has loaded it), or wait for a "
        hint += "virus scanner or OneDrive"
    elif number == _DENIED:
        what = "cannot be written: it is read-only, or another program has it open"
        hint = "mend its permissions, close what shows or uses it, or choose another folder"
    elif sys.platform == "win32" and error.errno == errno.ENOENT and length > _LONGEST_PATH:
        what = f"cannot be written: {length} characters are too long a path for Windows"
        hint = "choose a shorter folder or name, or switch on long paths (`lorasmith doctor` says "
        hint += "how)"
    else:
        what = f"cannot be written: {error.strerror}"
        hint = "mend its permissions, or choose another folder"
    return WriteError(Problem(str(path), what, f"{hint}, and {then}"))


def is_disk_full(error: RunError) -> bool:
    """Whether something could not be written for want of space."""
    cause = error.__cause__
    return isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT)
