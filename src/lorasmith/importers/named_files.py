"""The files and folders that another trainer's file names, and which of them may be opened.

On a command line those are whatever its user can read. A program that reads a file for somebody
else, such as the studio for a page, says with :func:`opening_by` which they are.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path

from lorasmith.core.errors import SettingsError, UserError
from lorasmith.core.files import user_path

_resolve: ContextVar[Callable[[str], Path]] = ContextVar("_resolve", default=user_path)


@contextlib.contextmanager
def opening_by(resolve: Callable[[str], Path]) -> Iterator[None]:
    """While the block runs, nothing that a file names is looked at but by ``resolve``.

    Args:
        resolve: the place of what a file names; raises UserError where it may not be opened.
    """
    token = _resolve.set(resolve)
    try:
        yield
    finally:
        _resolve.reset(token)


def named_path(text: str | Path) -> Path:
    """Where a file or folder is that a file names; ``~`` is the home folder.

    Raises:
        SettingsError: it may not be opened.
    """
    try:
        return _resolve.get()(str(user_path(text)))
    except UserError as error:
        raise SettingsError(error.problems) from error
