"""Names that every system takes, and paths on several drives."""

from __future__ import annotations

import ntpath
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from lorasmith.core import file_names
from lorasmith.core.file_names import (
    common_folder,
    name_problem,
    relative_path,
    safe_stem,
    shell_word,
    whole_path,
)

BAD = (
    *("con", "NUL", "aux.txt", "Com1.safetensors", "lpt9", "com\u00b9", "conin$", "nul .tar.gz"),
    *('a<b', "a>b", "a:b", 'a"b', "a|b", "a?b", "a*b", "a/b", "a\\b", "a\nb", "a\x7fb"),
    *("a.", "a ", "a. ."),
)  # fmt: skip
GOOD = ("a", "console", "com", "com10", "nullable", "a b", "a.b", ".hidden", "猫", "~$a", "a'b")


@pytest.mark.parametrize("name", BAD)
def test_names_that_some_system_refuses_are_told_and_mended(name: str) -> None:
    assert name_problem(name)
    assert not name_problem(safe_stem(name))


@pytest.mark.parametrize("name", GOOD)
def test_good_names_stay(name: str) -> None:
    assert not name_problem(name)


def on_windows(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(file_names, "os", SimpleNamespace(path=ntpath, curdir="."))
    patch.setattr(file_names, "Path", lambda text=".": text)
    patch.setattr(file_names, "sys", SimpleNamespace(platform="win32"))


def test_paths_of_two_drives_have_no_way_to_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    on_windows(monkeypatch)
    assert relative_path("D:\\pictures\\a.png", "D:\\") == "pictures\\a.png"
    assert relative_path("D:\\pictures", "C:\\users") == "D:\\pictures"
    folders: list[str] = ["C:\\a\\b", "C:\\a\\c"]
    assert common_folder(folders) == "C:\\a"  # type: ignore[arg-type, comparison-overlap]
    assert common_folder([*folders, "D:\\a"]) == "."  # type: ignore[list-item, comparison-overlap]


def test_the_common_folder_of_one_is_itself(tmp_path: Path) -> None:
    assert common_folder([tmp_path]) == tmp_path
    assert common_folder([tmp_path / "a", tmp_path / "b"]) == tmp_path


def test_words_are_quoted_for_the_shell_at_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shell_word("a b") == "'a b'"
    on_windows(monkeypatch)
    assert shell_word("C:\\my pictures") == '"C:\\my pictures"'
    assert shell_word("C:\\pictures\\a-1.png") == "C:\\pictures\\a-1.png"
    assert shell_word("a&b") == '"a&b"'
    assert shell_word(os.curdir) == "."


@pytest.mark.parametrize("text", ["a", "/a/b", "/a/../b", "../a", "//a/b", ".", "/a/b..c", "/"])
def test_whole_paths_are_those_of_os(text: str) -> None:
    assert whole_path(Path(text)) == os.path.abspath(Path(text))
