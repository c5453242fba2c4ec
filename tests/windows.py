"""Windows' rules about files, on Linux: what a program must not do there raises here, too.

A file that this process has open or mapped is neither replaced, renamed nor removed; what is there
is not renamed over; nothing is flushed to disk that is open for reading alone; no file gets a name
that Windows does not take. ``python -m pytest -p tests.windows ...`` runs any tests so; the fixture
``on_windows`` one of them. What other programs hold is not stood in for, nor another file system.
"""

from __future__ import annotations

import errno
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lorasmith.core.file_names import name_problem

DENIED, SHARING = 5, 32
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
# Below these names are looked at: system files may have any.
_OURS = tuple(os.path.realpath(path) for path in (tempfile.gettempdir(), "/dev/shm"))
_state = SimpleNamespace(strict=False, hooked=False)


def refusal(number: int, path: str) -> PermissionError:
    """As Windows raises it."""
    error = PermissionError(errno.EACCES, "The process cannot access the file", path)
    error.winerror = number  # type: ignore[attr-defined]
    return error


def open_paths() -> set[str]:
    """What this process has open or mapped, folders left out."""
    paths = set()
    for handle in os.listdir("/proc/self/fd"):
        try:
            paths.add(os.readlink(f"/proc/self/fd/{handle}"))
        except OSError:
            continue
    maps = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace")
    paths |= {line.split(maxsplit=5)[5] for line in maps.splitlines() if line.count("/")}
    return {path for path in paths if path.startswith("/") and not os.path.isdir(path)}


def _hook(event: str, args: tuple[Any, ...]) -> None:
    if not _state.strict or event not in ("os.rename", "os.remove", "open", "os.mkdir"):
        return
    path = args[0]
    if not isinstance(path, str | os.PathLike):
        return
    if event in ("os.rename", "os.remove"):
        _state.strict = False
        try:
            names = [
                os.path.realpath(os.fspath(name)) for name in args[: 1 + (event[3:] == "rename")]
            ]
            held = open_paths()
            busy = [one for one in names if one in held]
            inside = [one for one in held if one.startswith(names[0] + "/")]
        finally:
            _state.strict = True
        if busy or inside:
            raise refusal(SHARING, (busy or inside)[0])
    new = args[1] if event == "os.rename" else path if event != "os.remove" else None
    if event == "open" and not (args[2] & _WRITING):
        new = None
    if new is None or not os.path.realpath(new).startswith(_OURS):
        return
    if problem := name_problem(os.path.basename(os.fspath(new))):
        raise OSError(errno.EINVAL, problem, new)


def _rename(source: Any, target: Any, **more: Any) -> None:
    if os.path.lexists(target) and not os.path.samefile(source, target):
        raise FileExistsError(errno.EEXIST, "Cannot create a file when that file already exists")
    _real_rename(source, target, **more)


def _fsync(handle: int) -> None:
    import fcntl

    if fcntl.fcntl(handle, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
        raise OSError(errno.EBADF, "Bad file descriptor")
    _real_fsync(handle)


_real_rename, _real_fsync = os.rename, os.fsync


def begin(patch: pytest.MonkeyPatch) -> None:
    """Rules hold until ``patch`` is undone and :func:`end` is called."""
    if os.name == "nt":  # They hold in any case.
        return
    if not _state.hooked:
        sys.addaudithook(_hook)  # It cannot be taken away again.
        _state.hooked = True
    windows = SimpleNamespace(**{**vars(sys), "platform": "win32"})
    patch.setattr("lorasmith.core.files.sys", windows)
    patch.setattr("lorasmith.core.disk.PATIENCE", 0.0)
    patch.setattr(os, "rename", _rename)
    patch.setattr(os, "fsync", _fsync)
    _state.strict = True


def end() -> None:
    _state.strict = False


@pytest.fixture
def on_windows() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        begin(patch)
        try:
            yield
        finally:
            end()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Of each test, where this module is loaded as a plugin."""
    with pytest.MonkeyPatch.context() as patch:
        begin(patch)
        try:
            return (yield)
        finally:
            end()
