"""What folders of images hold: images, their captions and what else lies beside them.

Opening reads no caption and no image; captions are read when they are asked for, sizes come from
headers, and what takes decoding is measured once (see :mod:`lorasmith.curation.facts_store`).
"""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
import sys
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lorasmith.core.errors import DatasetError, Problem
from lorasmith.core.events import Controls, Notice, Observer, ignore
from lorasmith.core.file_names import whole_path
from lorasmith.core.files import is_utf8
from lorasmith.curation.changes.journal import NAME as JOURNAL
from lorasmith.curation.changes.journal import UNFINISHED, WAIT, Journal, unfinished_text
from lorasmith.curation.changes.trash import STORE
from lorasmith.curation.facts import ImageFacts
from lorasmith.curation.facts_store import FactsStore
from lorasmith.data.caption_files import read_caption
from lorasmith.data.captions import split_tags
from lorasmith.data.companions import find_companions, masks_in_folders, stem_of
from lorasmith.data.images import FOREIGN_SUFFIXES, MASK_SUFFIXES, SUFFIXES
from lorasmith.data.layout import (
    REG_NAMES,
    FolderSpec,
    is_cache,
    is_mask_folder,
    natural_key,
    not_utf8,
)
from lorasmith.data.recorded_crops import crop_record_of, crop_records, is_crop_record
from lorasmith.data.scan import CAPTION_SUFFIXES, caption_of, captions_by_stem
from lorasmith.formats.run_paths import BOOTSTRAP_FILE, RUN_FILES, is_drawn_folder

_NUMBERED = re.compile(r"\d+_.*", re.DOTALL)
# Folders of kohya_ss' layout that hold no training images.
_OTHER_FOLDERS = frozenset(("log", "logs", "mdl", "model", "models"))


@dataclass(eq=False, slots=True)
class CollectionImage:
    """One image file.

    Args:
        path: the file.
        folder: relative to its dataset's root, with ``/``; "" at the root.
        root: of its dataset.
        caption_path: its caption file, or ``None``.
        companions: files that belong to it and move with it: masks, side-cars, caches.
    """

    path: Path
    folder: str
    root: Path
    caption_path: Path | None = None
    companions: tuple[Path, ...] = ()
    # By hand, as a cached property would give each of ten thousand images a dictionary.
    _caption: str | None = field(default=None, init=False, repr=False)
    _tags: list[str] | None = field(default=None, init=False, repr=False)

    @property
    def caption(self) -> str:
        """As training reads it: lines stripped, without empty ones; "" where there is none. Read
        once.

        Raises:
            DatasetError: the file cannot be read.
        """
        if self._caption is None:
            self._caption = self._read_caption()
        return self._caption

    def _read_caption(self) -> str:
        if self.caption_path is None:
            return ""
        try:
            return read_caption(self.caption_path).text
        except OSError as error:
            what = f"the caption cannot be read: {error.strerror}"
            raise DatasetError.of(self.caption_path, what, "mend or remove it") from error

    @property
    def tags(self) -> list[str]:
        """Of the caption's first line."""
        if self._tags is None:
            # Most stand in many captions: of ten thousand they take 14 MB less so.
            self._tags = list(map(sys.intern, split_tags(self.caption)))
        return self._tags

    @property
    def is_read(self) -> bool:
        """Whether its caption could be read, and was."""
        return self._caption is not None

    def take_texts(self, other: CollectionImage) -> None:
        """What another one for the same caption file knows of it."""
        self._caption, self._tags = other._caption, other._tags

    def forget_texts(self) -> None:
        """The caption's file is another now."""
        self._caption = self._tags = None

    @property
    def new_caption_path(self) -> Path:
        """Where a caption would be written."""
        return self.caption_path or self.path.with_suffix(".txt")

    @property
    def files(self) -> list[Path]:
        """The image and all that moves with it."""
        captions = [self.caption_path] if self.caption_path is not None else []
        return [self.path, *captions, *self.companions]


@dataclass
class Collection:
    """
    Args:
        folders: as they were given.
        roots: the datasets' folders, each of which has its journal in ``.lorasmith``.
        images: in natural order, folder by folder.
        masks: those that lie beside the images or in folders of masks, by image.
    """

    folders: tuple[Path, ...]
    roots: tuple[Path, ...]
    images: list[CollectionImage]
    masks: dict[Path, Path] = field(default_factory=dict)
    _stores: dict[Path, FactsStore] = field(default_factory=dict, repr=False)

    @property
    def root(self) -> Path:
        """The first dataset's."""
        return self.roots[0]

    def sizes(self, images: Sequence[CollectionImage] | None = None) -> dict[Path, tuple[int, int]]:
        """Upright width and height in px, from headers; without images that have none.

        Args:
            images: those that are asked about, where these are not all.
        """
        return {
            path: size
            for root, images in self._by_root(images)
            for path, size in self._store(root).sizes([image.path for image in images]).items()
        }

    def remembered(self) -> dict[Path, ImageFacts]:
        """What is remembered of the images as they are now; nothing is decoded."""
        facts = {image.path: self._store(image.root).known(image.path) for image in self.images}
        return {path: one for path, one in facts.items() if one is not None}

    def measure(
        self,
        images: Sequence[CollectionImage] | None = None,
        observer: Observer = ignore,
        controls: Controls | None = None,
        *,
        closely: bool = False,
    ) -> dict[Path, ImageFacts]:
        """What decoding the images gives; of those that are not remembered yet.

        Args:
            closely: with :attr:`.ImageFacts.pixels`.

        Raises:
            Stopped: by ``controls``; what was measured is remembered.
        """
        facts: dict[Path, ImageFacts] = {}
        for root, some in self._by_root(images):
            paths = [image.path for image in some]
            facts |= self._store(root).measure(paths, observer, controls, closely=closely)
        return facts

    def reread_facts(self) -> None:
        """What is remembered of images is read again: another process may have measured some."""
        self._stores.clear()

    def _by_root(
        self, images: Sequence[CollectionImage] | None = None
    ) -> Iterator[tuple[Path, list[CollectionImage]]]:
        by_root: dict[Path, list[CollectionImage]] = defaultdict(list)
        for image in self.images if images is None else images:
            by_root[image.root].append(image)
        yield from by_root.items()

    def _store(self, root: Path) -> FactsStore:
        if root not in self._stores:
            self._stores[root] = FactsStore(root)
        return self._stores[root]


def dataset_root(folder: Path) -> Path:
    """The folder whose ``.lorasmith`` a dataset's journal is in: where there is one already, at
    most two levels up; else above ``N_name`` folders, and above their ``img``."""
    folder = Path(os.path.abspath(folder))
    for place in (folder, *folder.parents[:2]):
        if (place / STORE / JOURNAL).is_file():
            return place
    numbered = _NUMBERED.fullmatch(folder.name) is not None
    folder = folder.parent if numbered else folder
    inner = folder.name.casefold() in ("img", *REG_NAMES)
    return folder.parent if inner and (numbered or _has_numbered(folder)) else folder


def measure_files(
    paths: Iterable[Path], observer: Observer = ignore, controls: Controls | None = None
) -> dict[Path, ImageFacts]:
    """As :meth:`Collection.measure`, of image files wherever they lie.

    Raises:
        Stopped: by ``controls``; what was measured is remembered.
    """
    by_folder: dict[Path, list[Path]] = defaultdict(list)
    for path in paths:
        by_folder[path.parent].append(path)
    by_root: dict[Path, list[Path]] = defaultdict(list)
    for folder, some in by_folder.items():
        by_root[dataset_root(folder)] += some
    facts: dict[Path, ImageFacts] = {}
    for root, some in by_root.items():
        facts |= FactsStore(root).measure(some, observer, controls)
    return facts


def _has_numbered(folder: Path) -> bool:
    return folder.is_dir() and any(_NUMBERED.fullmatch(path.name) for path in folder.iterdir())


def open_collection(
    folders: Path | str | Sequence[Path | str],
    *,
    extension: str = "auto",
    observer: Observer = ignore,
) -> Collection:
    """The images of folders and of all folders in them; without regularisation images, masks,
    runs, and the logs and models of kohya_ss' layout, unless one of these is named itself. What a
    killed command left half done is finished first.

    Args:
        folders: in kohya's layout or plain.
        extension: of caption files, with or without its dot; "auto" takes ``.txt``, else
            ``.caption``.
        observer: told what was finished.

    Raises:
        DatasetError: a folder is not there, or cannot be read.
    """
    given = [folders] if isinstance(folders, Path | str) else list(folders)
    suffixes = CAPTION_SUFFIXES if extension == "auto" else ("." + extension.lower().lstrip("."),)
    problems = [
        Problem(str(path), "is not a folder" if Path(path).exists() else "does not exist")
        for path in given
        if not Path(path).is_dir()
    ]
    images: dict[str, CollectionImage] = {}
    masks: dict[Path, Path] = {}
    roots: dict[Path, None] = {}
    if not problems:
        finish_interrupted(map(Path, given), observer)
    for folder in map(Path, given if not problems else ()):
        root = dataset_root(folder)
        roots[root] = None
        for place, names in _walk(_images_folder(folder), problems, observer):
            found, its_masks = _images_in(place, names, root, suffixes, problems)
            masks |= its_masks
            for image in found:
                images.setdefault(whole_path(image.path), image)
    if problems:
        raise DatasetError(problems)
    return Collection(tuple(map(Path, given)), tuple(roots), list(images.values()), masks)


def finish_interrupted(folders: Iterable[Path], observer: Observer = ignore) -> None:
    """Finish what a killed command left half done in the datasets of folders, before they are read.

    Args:
        observer: told what was finished.

    Raises:
        DatasetError: it cannot be finished.
        WriteError: a folder cannot be written to.
    """
    for root in dict.fromkeys(map(dataset_root, folders)):
        if text := _finished(root):
            observer(Notice("info", text))


def _finished(root: Path) -> str:
    """What to say of what was finished in a dataset; "" where there was nothing."""
    path = Path(root) / STORE / JOURNAL
    if not path.is_file():
        return ""
    try:
        with contextlib.closing(sqlite3.connect(path, timeout=WAIT)) as database:
            states = {state for (state,) in database.execute("SELECT state FROM entries")}
    except sqlite3.DatabaseError:  # Who changes something says so.
        return ""
    if states.isdisjoint(UNFINISHED):
        return ""
    with Journal(root, make=False) as journal:
        return unfinished_text(journal.recovered)


def _images_folder(folder: Path) -> Path:
    """Within kohya_ss' layout, the folder of training images."""
    inner = folder / "img"
    return inner if _has_numbered(inner) else folder


def _walk(
    folder: Path, problems: list[Problem], observer: Observer
) -> Iterator[tuple[Path, list[str]]]:
    """Folders with the names of their files, in natural order; names that are not UTF-8 are told
    and left out."""

    def complain(error: OSError) -> None:
        problems.append(Problem(str(error.filename), f"cannot be read: {error.strerror}"))

    for place, inner, names in os.walk(folder, onerror=complain):
        # What a run or a bootstrap drew is no dataset; a bootstrap's own is one by itself.
        if place != str(folder) and (set(RUN_FILES) <= set(names) or BOOTSTRAP_FILE in names):
            inner.clear()
            continue
        special = _special_files(place)
        names[:] = [name for name in names if name not in special]
        kept = (
            name
            for name in inner
            if is_utf8(name) and is_dataset_folder(name) and not is_drawn_folder(Path(place, name))
        )
        odd = [name for name in (*inner, *names) if not is_utf8(name)]
        for name in odd:
            observer(Notice("warning", str(not_utf8(Path(place, name)))))
        inner[:] = sorted(kept, key=natural_key)
        yield Path(place), sorted(set(names) - set(odd), key=natural_key)


def _special_files(folder: str) -> set[str]:
    """Pipes, sockets and devices, which would be read for ever."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        return {
            entry.name
            for entry in entries
            if not (entry.is_file(follow_symlinks=False) or entry.is_symlink() or entry.is_dir())
        }
    return set()


def is_dataset_folder(name: str) -> bool:
    """Whether a folder of this name within a dataset holds images of it."""
    folded = name.casefold()
    return not (
        name.startswith(".")
        or is_cache(Path(name))
        or is_mask_folder(name)
        or folded in REG_NAMES
        or folded in _OTHER_FOLDERS
    )


def _masks_in_folders(
    folder: Path, images: Sequence[Path], problems: list[Problem]
) -> dict[Path, Path]:
    try:
        return masks_in_folders(FolderSpec(folder), images)
    except DatasetError as error:
        problems += error.problems
        return {}


def _images_in(
    folder: Path,
    names: Sequence[str],
    root: Path,
    suffixes: Sequence[str],
    problems: list[Problem],
) -> tuple[list[CollectionImage], dict[Path, Path]]:
    files = [folder / name for name in names if not name.startswith(".")]
    candidates: list[Path] = []
    others: list[Path] = []
    for path in files:
        (candidates if path.suffix.lower() in SUFFIXES else others).append(path)
    captions = captions_by_stem(others, suffixes)
    texts = {path: caption_of(path, captions) for path in candidates}
    maskable = candidates + [path for path in others if path.suffix.lower() in MASK_SUFFIXES]
    companions = find_companions(maskable, {path for path, text in texts.items() if text})
    belonging = {one.path for one in companions}
    masks = {
        one.owner: one.path
        for one in reversed(companions)
        if one.kind == "mask" and one.owner is not None
    }
    by_owner: dict[Path, list[Path]] = defaultdict(list)
    for one in companions:
        if one.owner is not None:
            by_owner[one.owner].append(one.path)
    images = [path for path in candidates if path not in belonging]
    for image, mask in _masks_in_folders(folder, images, problems).items():
        # Beside the root it may be another dataset's; beside the folder, another image's as well.
        if Path(os.path.abspath(mask)).is_relative_to(root):
            masks.setdefault(image, mask)
            if mask.parent.parent == folder or mask.parent.name == folder.name:
                by_owner[image].append(mask)
    owners = {unicodedata.normalize("NFC", path.name): path for path in images}
    # Of a.png and a.jpg, a.json belongs to the first.
    stems: dict[str, Path] = {}
    for path in images:
        stems.setdefault(stem_of(path), path)
    records = crop_records(others)
    record_owners = {crop_record_of(path, records): path for path in reversed(images)}
    own_captions = {path for path in texts.values() if path is not None}
    for file in others:
        if file in own_captions or file in belonging:
            continue
        if file.suffix.lower() in FOREIGN_SUFFIXES:  # a picture of its own: a.gif beside a.png
            continue
        # a.jpg.txt and a.jpg.json before a.txt, a.json, a.npz, a_sdxl.npz.
        stem = stem_of(file)
        owner = owners.get(stem) or stems.get(stem) or stems.get(stem.removesuffix("_sdxl"))
        if is_crop_record(file):
            owner = record_owners.get(file)
        if owner is not None:
            by_owner[owner].append(file)
    relative = os.path.relpath(os.path.abspath(folder), root)
    place = "" if relative == "." else Path(relative).as_posix()
    return [
        CollectionImage(path, place, root, texts[path], tuple(by_owner.get(path, ())))
        for path in images
    ], masks
