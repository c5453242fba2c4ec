"""Advisory locks on files, which the operating system releases even after SIGKILL."""

from __future__ import annotations

import sys
import time
from typing import TextIO

_PATIENCE, _BETWEEN = 0.1, 0.005
"""Seconds for which a lock is tried for, and between two tries."""


def lock_file(file: TextIO, *, shared: bool = False) -> bool:
    """Lock an open file until it is closed; whether that could be done.

    Those who only ask whether it is free share theirs, where the system has shared locks. They have
    it for a moment, and front ends ask all the time: who wants it alone waits for them.
    """
    deadline = time.monotonic() + (0 if shared else _PATIENCE)
    while not _is_locked(file, shared):
        if time.monotonic() >= deadline:
            return False
        time.sleep(_BETWEEN)
    return True


def _is_locked(file: TextIO, shared: bool) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
