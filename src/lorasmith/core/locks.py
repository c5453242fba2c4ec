"""Advisory locks on files, which the operating system releases even after SIGKILL."""

from __future__ import annotations

import sys
from typing import TextIO


def lock_file(file: TextIO, *, shared: bool = False) -> bool:
    """Lock an open file until it is closed; whether that could be done at once.

    Those who only ask whether it is free share theirs, where the system has shared locks.
    """
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
