"""Names and paths of files such as every system takes, so that a folder can be copied to any."""

from __future__ import annotations

import os
import re
import shlex
import sys
import unicodedata
from collections.abc import Iterable
from pathlib import Path

# What some system takes in no name.
_FORBIDDEN = re.compile(r'[\x00-\x1f\x7f<>:"/\\|?*]')
# What Windows keeps for devices, whatever the ending.
_RESERVED = re.compile(
    r"(?:con|prn|aux|nul|conin\$|conout\$|(?:com|lpt)[0-9\u00b9\u00b2\u00b3]) *(?:\..*)?",
    re.IGNORECASE | re.DOTALL,
)
# Bytes of a name without its ending; a mask's mark and an ending still fit into 255.
LONGEST_STEM = 200


def name_problem(name: str) -> str:
    """Why some system takes no file or folder of that name, as in "'a:' …"; empty of a good one."""
    if match := _FORBIDDEN.search(name):
        return f"{match[0]!r} cannot be in a file's name everywhere"
    if _RESERVED.fullmatch(name):
        return f"{name!r} is a name that Windows keeps for itself"
    if name.endswith((" ", ".")):
        return f"{name!r} ends with a space or a dot, which Windows leaves out"
    return ""


def new_name_problem(name: str, longest: int = LONGEST_STEM) -> str:
    """Why nothing that is made should be called so; empty of a good name, without its ending.

    Args:
        longest: bytes.
    """
    problem = name_problem(name) if name.strip() else "it is empty"
    if not problem and name.startswith((".", "-", "~", " ")):
        problem = f"it begins with {name[0]!r}"
    if not problem and len(os.fsencode(name)) > longest:
        problem = f"it is longer than {longest} bytes"
    return problem


def safe_stem(stem: str) -> str:
    """A name without ending that can be written everywhere: no signs that a system refuses, no
    dash in front, not a device's, not too long."""
    stem = re.sub(rf"{_FORBIDDEN.pattern}+", "_", unicodedata.normalize("NFC", stem)).strip(" .")
    stem = os.fsencode(stem)[:LONGEST_STEM].decode("utf-8", "ignore").strip(" .")
    if not stem or stem.startswith("-") or _RESERVED.fullmatch(stem):
        stem = f"_{stem}"
    return stem


def folded(name: str) -> str:
    """As file systems compare that do not tell capitals apart."""
    return unicodedata.normalize("NFC", name).casefold()


def relative_path(path: str | Path, start: str | Path = os.curdir) -> str:
    """``path`` as seen from ``start``; whole where it lies on another drive of Windows."""
    try:
        return os.path.relpath(path, start)
    except ValueError:
        return os.path.abspath(path)


def whole_path(path: Path) -> str:
    """As ``os.path.abspath``, at a tenth of its time where nothing is to be done: a ``Path`` has no
    other detours than ``..``."""
    text = str(path)
    if os.sep == "/" and text.startswith("/") and ".." not in text:
        return text
    return os.path.abspath(text)


def common_folder(folders: Iterable[Path]) -> Path:
    """The folder that holds them all, a single one itself; ``Path()`` of several drives."""
    try:
        return Path(os.path.commonpath([os.path.abspath(folder) for folder in folders]))
    except ValueError:
        return Path()


def shell_word(word: str | Path) -> str:
    """As it is written in a shell: of Windows, whose two take double quotes alike, or of others."""
    text = str(word)
    if sys.platform == "win32":
        plain = re.fullmatch(r"[\w@%+=:,./\\-]+", text) is not None
        return text if plain else f'"{text}"'
    return shlex.quote(text)
