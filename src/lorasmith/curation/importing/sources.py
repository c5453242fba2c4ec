"""Where images are imported from: folders, single files, archives; what there is in them."""

from __future__ import annotations

import os
import stat
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from lorasmith.core.errors import DatasetError, Problem
from lorasmith.core.events import Controls
from lorasmith.core.files import is_utf8
from lorasmith.curation.importing import archives
from lorasmith.curation.sidecars import read as sidecars
from lorasmith.curation.sidecars.text_files import read_bytes
from lorasmith.data.images import MASK_SUFFIXES, SUFFIXES
from lorasmith.data.layout import is_cache, is_mask_folder, natural_key, not_utf8
from lorasmith.data.recorded_crops import is_crop_record

_HERE = PurePosixPath()


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A file to import.

    Args:
        path: where it lies now.
        place: its folder within its source.
    """

    path: Path
    place: PurePosixPath = _HERE

    def read(self, most: int) -> bytes:
        """
        Raises:
            DatasetError: it cannot be read, or has more bytes.
        """
        return read_bytes(self.path, most)


@dataclass
class Sources:
    """What lies in all sources together. Archives are unpacked into a folder that goes with this.

    Args:
        images: by name and place those that may be imported.
        files: side-cars and tables.
        records: of crops.
        masks: images in folders of masks.
        named: side-cars and tables that were given by name, not come upon.
        problems: what was refused or cannot be read.
        others: how many other files there are, by ending.
    """

    images: list[FileEntry] = field(default_factory=list)
    files: list[FileEntry] = field(default_factory=list)
    records: list[FileEntry] = field(default_factory=list)
    masks: list[FileEntry] = field(default_factory=list)
    named: set[Path] = field(default_factory=set)
    problems: list[Problem] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)
    _unpacked: dict[Path, Path] = field(default_factory=dict, repr=False)
    _temporary: list[tempfile.TemporaryDirectory[str]] = field(default_factory=list, repr=False)

    def shown(self, text: str | Path) -> str:
        """A path, or a text with paths, as the user knows them: within their archives."""
        text = str(text)
        for folder, archive in self._unpacked.items():
            text = text.replace(str(folder), str(archive))
        return text

    def told(self, problem: Problem) -> Problem:
        return replace(problem, where=self.shown(problem.where), what=self.shown(problem.what))


def list_sources(
    paths: Sequence[Path], without: Path | None = None, controls: Controls | None = None
) -> Sources:
    """The files of sources, folder by folder in natural order; each once.

    Args:
        paths: folders (with all in them), images, side-cars and archives.
        without: a folder that is passed over, where it lies in one of them.

    Raises:
        DatasetError: a source is not there, or an archive cannot be read.
        Stopped: by ``controls``.
    """
    controls = controls or Controls()
    sources = Sources()
    problems: list[Problem] = []
    places: set[Path] = set()
    for path in paths:
        try:
            for entry in _entries(path, sources, without, controls):
                place = Path(os.path.abspath(entry.path))
                if place not in places:
                    places.add(place)
                    _sort_in(entry, sources)
        except DatasetError as error:
            problems += error.problems
    if problems:
        raise DatasetError(problems)
    return sources


def _entries(
    path: Path, sources: Sources, without: Path | None, controls: Controls
) -> Iterator[FileEntry]:
    suffix = path.suffix.lower()
    if path.is_dir():
        yield from _walk(path, sources, without, controls)
    elif not path.exists():
        raise DatasetError.of(path, "does not exist", "correct the path")
    elif suffix in archives.SUFFIXES:
        yield from _unpacked(path, sources, controls)
    elif suffix in archives.NOT_READ:
        what = f"archives of this kind ({suffix}) are not read"
        raise DatasetError.of(path, what, "unpack it, and import the folder")
    elif suffix in SUFFIXES:
        yield FileEntry(path)
        for beside in _listed(path.parent, sources):
            stem = beside.name.casefold()
            if beside.suffix.lower() in sidecars.SUFFIXES and stem.startswith(
                f"{path.stem.casefold()}."
            ):
                yield FileEntry(beside)
    elif suffix in sidecars.SUFFIXES and path.is_file():
        sources.named.add(path)
        yield FileEntry(path)
    else:
        what = "is neither a folder, a picture, a side-car nor an archive"
        raise DatasetError.of(path, what, "give the folder that it is in")


def _walk(
    folder: Path, sources: Sources, without: Path | None, controls: Controls
) -> Iterator[FileEntry]:
    def complain(error: OSError) -> None:
        what = f"cannot be read: {error.strerror}"
        sources.problems.append(Problem(str(error.filename), what))

    without_place = Path(os.path.abspath(without)) if without is not None else None
    for place, inner, names in os.walk(folder, onerror=complain):
        controls.check()
        here = Path(place)
        inner[:] = [
            name
            for name in sorted(inner, key=natural_key)
            if not name.startswith(".")
            and not is_cache(Path(name))
            and Path(os.path.abspath(here / name)) != without_place
        ]
        relative = PurePosixPath(here.relative_to(folder).as_posix())
        for name in sorted(names, key=natural_key):
            path = here / name
            if name.startswith("."):
                continue
            if not is_utf8(str(path)):
                sources.problems.append(not_utf8(path))
            elif path.suffix.lower() in archives.SUFFIXES:
                yield from _unpacked_inside(path, relative, sources, controls)
            else:
                yield FileEntry(path, relative)


def _unpacked_inside(
    path: Path, place: PurePosixPath, sources: Sources, controls: Controls
) -> Iterator[FileEntry]:
    """Of an archive that was come upon: it does not keep the others from being imported."""
    try:
        for entry in _unpacked(path, sources, controls):
            yield FileEntry(entry.path, place / path.stem / entry.place)
    except DatasetError as error:
        sources.problems += error.problems


def _unpacked(path: Path, sources: Sources, controls: Controls) -> Iterator[FileEntry]:
    temporary = tempfile.TemporaryDirectory(prefix="lorasmith-")
    folder = Path(temporary.name)
    sources._temporary.append(temporary)
    sources._unpacked[folder] = path
    suffixes = MASK_SUFFIXES | sidecars.SUFFIXES

    def is_wanted(suffix: str) -> bool:
        sources.others[suffix] += suffix not in suffixes
        return suffix in suffixes

    sources.problems += archives.unpack(path, folder, is_wanted, controls.check)
    yield from _walk(folder, sources, None, controls)


def _listed(folder: Path, sources: Sources) -> list[Path]:
    try:
        return sorted(folder.iterdir(), key=lambda path: natural_key(path.name))
    except OSError as error:
        sources.problems.append(Problem(str(folder), f"cannot be read: {error.strerror}"))
        return []


def _sort_in(entry: FileEntry, sources: Sources) -> None:
    suffix = entry.path.suffix.lower()
    with suppress(OSError):
        if not stat.S_ISREG(entry.path.stat().st_mode):
            sources.problems.append(Problem(str(entry.path), "is not a regular file"))
            return
    if is_crop_record(entry.path):
        sources.records.append(entry)
    elif suffix in sidecars.SUFFIXES:
        sources.files.append(entry)
    elif suffix not in MASK_SUFFIXES:
        sources.others[suffix or entry.path.name] += 1
    elif is_mask_folder(entry.path.parent.name):
        sources.masks.append(entry)
    else:
        sources.images.append(entry)
