"""Which files a browser may name: those in the workspace and in the folders allowed at start.

Every path that comes with a request goes through :meth:`Roots.resolve`; what it returns is real,
without symbolic links, and inside.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable
from pathlib import Path

from lorasmith.core.errors import UserError
from lorasmith.core.file_names import name_problem

_WINDOWS_DRIVE = re.compile(r"[A-Za-z]:")
_LONGEST_PATH = 4096


class OutsideError(UserError):
    """A path that leads out of the folders that the studio may open."""


class Roots:
    """The folders that may be opened.

    Args:
        workspace: what relative paths are relative to; the first root.
        allowed: more roots.
        windows: how paths are written here; by itself, as the system has it.
    """

    def __init__(
        self, workspace: Path, allowed: Iterable[Path] = (), *, windows: bool | None = None
    ) -> None:
        self._windows = sys.platform == "win32" if windows is None else windows
        self.workspace = Path(os.path.realpath(workspace))
        self.folders = list(
            dict.fromkeys([self.workspace, *(Path(os.path.realpath(path)) for path in allowed)])
        )

    def __contains__(self, path: Path) -> bool:
        return any(path.is_relative_to(folder) for folder in self.folders)

    def leads_inside(self, path: Path) -> bool:
        """Whether a path is inside when its links are followed."""
        return Path(os.path.realpath(path)) in self

    def resolve(self, text: str) -> Path:
        """The real place of a path, absolute or relative to the workspace; it need not exist.

        Raises:
            OutsideError: it leads out, by whatever way, or is written as no path of a file is.
        """
        if problem := self._form_problem(text):
            raise OutsideError.of(_shown(text), problem, "give a path inside the workspace")
        try:
            path = Path(os.path.realpath(self.workspace / text))
        except (OSError, ValueError) as error:
            raise OutsideError.of(_shown(text), f"cannot be read as a path: {error}") from error
        if path not in self:
            what = "lies outside of the folders that the studio may open"
            hint = "start the studio with --allow and the folder, or copy it into the workspace"
            raise OutsideError.of(_shown(text), what, hint)
        return path

    def resolve_new(self, folder: str, name: str) -> Path:
        """The place of a file that a request wants to write; ``name`` is a plain name.

        Raises:
            OutsideError: as :meth:`resolve`.
            UserError: the name is such as some system takes none of, or hidden.
        """
        problem = "is empty" if not name else name_problem(name)
        if not problem and name.startswith("."):
            problem = "begins with a dot, which hides files"
        if not problem and len(os.fsencode(name)) > 255:
            problem = "is longer than 255 bytes"
        if problem:
            raise UserError.of(_shown(name), f"is no name for a file: {problem}", "rename it")
        place = self.resolve(folder)
        self.refuse_state(place)
        path = place / name
        if path.is_symlink():
            raise OutsideError.of(_shown(name), "is a symbolic link", "remove it first")
        return path

    def refuse_state(self, path: Path) -> None:
        """
        Raises:
            OutsideError: a request would write into the studio's own files, or hidden ones.
        """
        root = max((f for f in self.folders if path.is_relative_to(f)), key=lambda f: len(f.parts))
        if any(part.startswith(".") for part in path.relative_to(root).parts):
            what = "is in a hidden folder, which the studio keeps for programs"
            raise OutsideError.of(_shown(str(path)), what, "choose another folder")

    def _form_problem(self, text: str) -> str:
        """Why a text is no path here, before any file system is asked; empty of a good one."""
        if not text:
            return "is empty"
        if "\0" in text:
            return "holds a NUL character"
        if len(text) > _LONGEST_PATH:
            return f"is longer than {_LONGEST_PATH} characters"
        # A share of another computer: Windows would connect to it, and log on.
        if text.startswith(("\\\\", "//", "\\/", "/\\")):
            return "is the address of a share (UNC)"
        if self._windows:
            rest = text[2:] if _WINDOWS_DRIVE.match(text) else text
            if ":" in rest:
                return "names a stream of a file (:)"
            if _WINDOWS_DRIVE.match(text) and not rest.startswith(("/", "\\")):
                return "is relative to the current folder of a drive"
            bad = [part for part in re.split(r"[\\/]", rest) if part not in ("", ".", "..")]
            return next((problem for part in bad if (problem := name_problem(part))), "")
        if _WINDOWS_DRIVE.match(text) or "\\" in text:
            return "is written as on Windows"
        return ""


def _shown(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:200]}…"
