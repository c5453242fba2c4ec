"""Files that other programs hold for moments, as on Windows, and what is said of those held on."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.windows import DENIED, SHARING, refusal

from lorasmith.core import disk
from lorasmith.core.disk import discard, remove_file, rename, replace_file, write_error
from lorasmith.core.errors import WriteError
from lorasmith.core.files import atomic_folder, atomic_path, write_text

CHANGES: dict[str, tuple[str, Callable[[Path, Path], None]]] = {
    "replace": ("replace", replace_file),
    "rename": ("rename", rename),
    "remove": ("unlink", lambda source, target: remove_file(source)),
    "discard a file": ("unlink", lambda source, target: discard(source)),
}


def held(patch: pytest.MonkeyPatch, name: str, times: int, number: int = SHARING) -> list[Any]:
    """The function of ``os`` refuses the first ``times``; its calls."""
    real, calls = getattr(os, name), []

    def function(path: Any, *args: Any, **more: Any) -> None:
        calls.append(path)
        if len(calls) <= times:
            raise refusal(number, str(path))
        real(path, *args, **more)

    patch.setattr(os, name, function)
    patch.setattr(disk, "time", SimpleNamespace(sleep=lambda seconds: None))
    return calls


@pytest.mark.parametrize("number", [DENIED, SHARING, 33, 1224])
@pytest.mark.parametrize("change", CHANGES)
def test_what_is_held_for_a_moment_is_changed_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str, number: int
) -> None:
    source, target = tmp_path / "a", tmp_path / "b"
    source.write_bytes(b"new")
    name, function = CHANGES[change]
    calls = held(monkeypatch, name, 3, number)
    function(source, target)
    assert len(calls) == 4
    assert not source.exists()
    assert target.exists() == (name != "unlink")


def test_what_is_written_waits_for_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_text(tmp_path / "a", "old")
    held(monkeypatch, "replace", 2)
    write_text(tmp_path / "a", "new")
    assert (tmp_path / "a").read_text(encoding="utf-8") == "new"
    held(monkeypatch, "rename", 2)
    with atomic_folder(tmp_path / "folder"):
        pass
    assert (tmp_path / "folder").is_dir()


def test_what_is_held_on_is_said_with_who_may_hold_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "lora.safetensors"
    path.write_bytes(b"old")
    waits: list[float] = []
    held(monkeypatch, "replace", 10_000)
    monkeypatch.setattr(disk, "time", SimpleNamespace(sleep=waits.append))
    with pytest.raises(WriteError, match=r"lora\.safetensors.*another program.*web UI"):
        write_text(path, "new")
    assert disk.PATIENCE <= sum(waits) < disk.PATIENCE + 1
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == [path.name]


def test_what_is_read_only_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    path.chmod(0o444)
    calls = held(monkeypatch, "replace", 10_000, DENIED)
    with pytest.raises(WriteError, match="read-only"):
        write_text(path, "new")
    assert len(calls) == 1


def test_other_refusals_are_not_waited_for(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        replace_file(tmp_path / "none", tmp_path / "b")
    remove_file(tmp_path / "none")  # it is not there, as was wished


def test_what_cannot_be_discarded_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a").touch()
    held(monkeypatch, "unlink", 10_000)
    discard(folder / "a")
    discard(folder)
    assert (folder / "a").exists()
    monkeypatch.undo()
    discard(folder)
    assert not folder.exists()


def test_a_path_that_is_too_long_for_windows_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / ("folder" * 30) / ("name" * 30)
    error = FileNotFoundError(errno.ENOENT, "No such file or directory", str(path))
    assert "too long" not in str(write_error(path, error))
    monkeypatch.setattr(disk, "sys", SimpleNamespace(platform="win32"))
    assert f"{len(str(path))} characters are too long a path" in str(write_error(path, error))
    assert "too long" not in str(write_error(tmp_path, FileNotFoundError(errno.ENOENT, "gone")))


@pytest.mark.usefixtures("on_windows")
def test_files_and_folders_are_written_by_windows_rules(tmp_path: Path) -> None:
    for text in ("one", "two"):
        write_text(tmp_path / "a", text)
    with atomic_folder(tmp_path / "folder") as folder:
        (folder / "part").touch()
    with atomic_path(tmp_path / "b") as path:
        path.write_bytes(b"three")
    assert sorted(os.listdir(tmp_path)) == ["a", "b", "folder"]


@pytest.mark.usefixtures("on_windows")
def test_the_rules_of_windows_hold_in_these_tests(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"1")
    with open(path, "rb") as file:
        for change in (os.unlink, lambda p: os.replace(p, tmp_path / "b")):
            with pytest.raises(PermissionError):
                change(path)
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fsync(file.fileno())
    with pytest.raises(OSError, match="Windows keeps"):
        (tmp_path / "aux.txt").touch()
    os.unlink(path)
