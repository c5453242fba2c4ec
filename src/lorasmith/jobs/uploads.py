"""Files that come into a folder from outside: looked at before they take their name there.

Images are decoded to their end, texts must be text, archives are unpacked by
:mod:`lorasmith.curation.importing.archives`. Nothing that is there already is overwritten.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from lorasmith.core.disk import discard, rename
from lorasmith.core.errors import DatasetError, Problem, UserError
from lorasmith.core.file_names import name_problem
from lorasmith.core.files import read_safetensors_header
from lorasmith.core.text import bytes_text
from lorasmith.curation.importing.archives import SUFFIXES as ARCHIVES
from lorasmith.curation.importing.archives import unpack
from lorasmith.data.images import MASK_SUFFIXES, glance
from lorasmith.jobs.projects import IMG, is_numbered

TEXTS = frozenset({".txt", ".caption", ".json", ".toml", ".csv", ".sh", ".bat", ".ps1", ".cmd"})
WEIGHTS = ".safetensors"
MOST_TEXT = 10_000_000
"""Bytes of a text."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """
    Args:
        files: what is there now.
        problems: files of an archive that were left out, each with why.
    """

    files: list[Path] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def require_name(path: Path) -> None:
    """
    Raises:
        UserError: files with this ending are not taken, or there is one of this name.
    """
    suffix = path.suffix.lower()
    if suffix not in MASK_SUFFIXES | TEXTS | ARCHIVES | {WEIGHTS}:
        what = f"files that end on {suffix or 'nothing'} are not taken"
        hint = "drop pictures, captions, settings, LoRAs (.safetensors) or a zip of them"
        raise UserError.of(path.name, what, hint)
    if suffix not in ARCHIVES and os.path.lexists(path):
        raise UserError.of(path.name, "is there already", "rename one of them")


def take(arrived: Path, path: Path) -> Arrival:
    """Give a file its name, or unpack it beside, once it has proved to be what that name says.

    Args:
        arrived: the file, under a name of its own on the disk of ``path``; it is gone afterwards.

    Raises:
        UserError: it is something else, damaged, or there is one of this name.
        WriteError: the folder cannot be written to.
    """
    suffix = path.suffix.lower()
    try:
        if suffix in ARCHIVES:
            return _unpacked(arrived, path)
        _require_content(arrived, path, suffix)
        _place(arrived, path)
        return Arrival([path])
    finally:
        discard(arrived)


def _require_content(arrived: Path, path: Path, suffix: str) -> None:
    try:
        if suffix in MASK_SUFFIXES:
            glance(arrived)
        elif suffix == WEIGHTS:
            read_safetensors_header(arrived)
        else:
            size = arrived.stat().st_size
            if size > MOST_TEXT:
                raise ValueError(f"a text of {bytes_text(size)} is too long")
            if b"\0" in arrived.read_bytes():
                raise ValueError("it is no text")
    except UserError as error:
        raise DatasetError(Problem(path.name, p.what, p.hint) for p in error.problems) from error
    except ValueError as error:
        raise UserError.of(path.name, str(error), "get it again") from error


def _unpacked(arrived: Path, path: Path) -> Arrival:
    """Its files, in the folders that they have in it, into the folder of ``path``."""
    wanted = MASK_SUFFIXES | TEXTS | {WEIGHTS}
    arrival = Arrival()
    with tempfile.TemporaryDirectory(
        ".lorasmith.tmp", f".{path.stem[:50]}.", path.parent, ignore_cleanup_errors=True
    ) as name:
        folder = Path(name)
        try:
            for problem in unpack(arrived, folder, wanted.__contains__, lambda: None):
                arrival.problems.append(_named(problem, arrived, path))
        except DatasetError as error:
            raise DatasetError(_named(each, arrived, path) for each in error.problems) from error
        folder = _without_wrapping(folder)
        for file in sorted(each for each in folder.rglob("*") if each.is_file()):
            inner = file.relative_to(folder)
            target = path.parent / inner
            try:
                for part in inner.parts:
                    if why := "is hidden" if part.startswith(".") else name_problem(part):
                        raise UserError.of(inner, why)
                _require_content(file, target, file.suffix.lower())
                _require_plain_folders(path.parent, inner)
                target.parent.mkdir(parents=True, exist_ok=True)
                _place(file, target)
                arrival.files.append(target)
            except UserError as error:
                arrival.problems.extend(
                    Problem(inner.as_posix(), p.what, p.hint) for p in error.problems
                )
    return arrival


def _without_wrapping(folder: Path) -> Path:
    """Inside of the one folder that all lies in, if that means nothing to a training: packers put
    one around what they are given."""
    while True:
        entries = list(folder.iterdir())
        if len(entries) != 1 or not entries[0].is_dir():
            return folder
        (only,) = entries
        if only.name in (IMG, "reg") or is_numbered(only.name):
            return folder
        folder = only


def _require_plain_folders(base: Path, inner: Path) -> None:
    """A link that is there already would lead what is unpacked elsewhere."""
    for folder in list(inner.parents)[:-1]:
        place = base / folder
        if place.is_symlink() or (place.exists() and not place.is_dir()):
            raise UserError.of(inner, f"{folder} is there already, and is no folder")


def _place(file: Path, path: Path) -> None:
    if os.path.lexists(path):
        raise UserError.of(path.name, "is there already", "rename one of them")
    os.chmod(file, 0o644)
    rename(file, path)


def _named(problem: Problem, arrived: Path, path: Path) -> Problem:
    """With the name that the user knows."""
    return Problem(problem.where.replace(str(arrived), path.name), problem.what, problem.hint)
