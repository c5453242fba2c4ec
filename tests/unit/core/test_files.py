"""Files that appear whole or not at all, and what killed processes leave of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lorasmith.core.errors import RunError
from lorasmith.core.files import (
    atomic_folder,
    atomic_path,
    files_below,
    remove_abandoned,
    user_path,
    write_text,
)

WRITER = """
import sys, time
from pathlib import Path
from lorasmith.core.files import atomic_folder, atomic_path

path = Path(sys.argv[1])
with (atomic_folder if sys.argv[2] == "folder" else atomic_path)(path) as temporary:
    (temporary / "part" if temporary.is_dir() else temporary).write_bytes(b"half")
    print("writing", flush=True)
    sys.stdin.readline()
"""


def writer(path: Path, kind: str) -> subprocess.Popen[str]:
    """A process that is half through with writing ``path``."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), kind],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    return process


def hidden(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_of_a_living_process_nothing_is_removed_and_of_a_killed_one_all(
    tmp_path: Path, kind: str
) -> None:
    living, killed = writer(tmp_path / "a", kind), writer(tmp_path / "b", kind)
    assert len(hidden(tmp_path)) == 2
    killed.kill()
    killed.wait()
    remove_abandoned(tmp_path)
    assert [name[:3] for name in hidden(tmp_path)] == [".a."]
    living.communicate("go on\n")
    assert living.returncode == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a"]


def test_the_first_write_into_a_folder_cleans_it_up(tmp_path: Path) -> None:
    process = writer(tmp_path / "lora.safetensors", "file")
    process.kill()
    process.wait()
    assert hidden(tmp_path)
    write_text(tmp_path / "another", "text")
    assert [path.name for path in tmp_path.iterdir()] == ["another"]


def test_other_programs_files_stay(tmp_path: Path) -> None:
    others = [".a.txt.abcd1234.tmp", ".a.tmp", "a.lorasmith.tmp", ".lorasmith.tmp"]
    for name in others:
        (tmp_path / name).write_text("x")
    remove_abandoned(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(others)
    # In a folder that is a run's own they can only be what an earlier version left.
    remove_abandoned(tmp_path, ours=True)
    assert ".a.txt.abcd1234.tmp" not in os.listdir(tmp_path)


def test_two_writers_of_one_name_and_a_third_that_cleans_up(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with atomic_path(path) as one:
        one.write_text("one")
        remove_abandoned(tmp_path)
        with atomic_path(path) as other:
            other.write_text("other")
        assert path.read_text() == "other"
    assert path.read_text() == "one"
    assert [each.name for each in tmp_path.iterdir()] == ["a"]


def test_the_longest_names_that_a_file_can_have(tmp_path: Path) -> None:
    for name in ("n" * 255, "ü" * 127):
        write_text(tmp_path / name, "text")
        assert (tmp_path / name).read_text() == "text"
    with atomic_folder(tmp_path / ("f" * 255)) as folder:
        (folder / "inner").write_text("text")
    assert not hidden(tmp_path)


def write_half(path: Path) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text("half")
        raise ValueError("no")


def test_what_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no"):
        write_half(tmp_path / "a")
    assert not list(tmp_path.iterdir())


def test_a_tilde_of_nobody_stays_as_it_is() -> None:
    """As a shell leaves it; that there is no such folder is for whoever opens it to say."""
    assert user_path("~+a/pictures") == Path("~+a/pictures")
    assert user_path("~/pictures") == Path.home() / "pictures"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such files")
def test_what_is_no_file_is_not_replaced_by_one(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(RunError, match="is no file"):
        write_text(pipe, "text")
    assert pipe.is_fifo()


def test_a_folder_that_goes_while_it_is_looked_through_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("b/2.PT", "a.pt", "gone/3.pt", "b/note.txt", ".hidden/4.pt", ".5.pt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    scandir = os.scandir

    def without_one(path: str | Path) -> object:
        if Path(path).name == "gone":
            raise FileNotFoundError(path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", without_one)
    found = files_below(tmp_path, {".pt"})
    assert [path.relative_to(tmp_path).as_posix() for path in found] == ["a.pt", "b/2.PT"]
    assert files_below(None, {".pt"}) == []
