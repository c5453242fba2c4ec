"""New captions for images, from wherever: which images get one, and what becomes of captions that
are there."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, get_args

from lorasmith.core.errors import DatasetError, Problem
from lorasmith.core.text import quantity
from lorasmith.curation.changes.plan import Plan
from lorasmith.curation.collection import CollectionImage
from lorasmith.curation.edit.caption_text import CaptionFile, edit_captions
from lorasmith.data.caption_files import read_tables
from lorasmith.data.images import SUFFIXES
from lorasmith.data.layout import FolderSpec

Mode = Literal["if-empty", "append", "prepend", "replace"]
MODES: tuple[Mode, ...] = get_args(Mode)
"""What becomes of a caption that is there: it stays; the new one follows it, or precedes it; or it
goes."""

Join = Callable[[str], str]
"""A caption that is there -> it and the new one."""


class NewCaptions:
    """New captions for images, as changes of a plan.

    Captions in tables (``metadata.jsonl``) are captions too: an image that has one is not empty,
    and where a new one is put to it, both are written into a file of the image's own.

    Args:
        images: those that may get one.
        plan: gets the changes, and names what gets none, such as an image whose caption cannot be
            read.
    """

    def __init__(self, images: Sequence[CollectionImage], mode: Mode, plan: Plan) -> None:
        self._mode = mode
        self._plan = plan
        unreadable: set[Path] = set()
        empty: list[CollectionImage] = []
        captioned: set[Path] = set()
        for image in images:
            try:
                if image.caption:
                    captioned.add(image.path)
                else:
                    empty.append(image)
            except DatasetError as error:
                plan.skipped += error.problems
                unreadable.add(image.path)
        self._tables = captions_in_tables(empty)
        captioned |= self._tables.keys() if mode == "if-empty" else set()
        self.images = self._owners(
            [
                image
                for image in images
                if image.path not in unreadable
                and (mode != "if-empty" or image.path not in captioned)
            ]
        )
        """Those that get a caption: of several that share a caption file the first."""
        if mode == "if-empty":
            counts = Counter(table for _, table in self._tables.values())
            for table, count in counts.items():
                what = f"holds the captions of {quantity(count, 'picture')}, which keep them"
                hint = "--mode append writes both into files of their own"
                plan.warnings.append(Problem(str(table), what, hint))

    def _owners(self, images: Sequence[CollectionImage]) -> list[CollectionImage]:
        owners: dict[Path, CollectionImage] = {}
        for image in images:
            path = image.new_caption_path
            owner = owners.setdefault(path, image)
            if owner is not image:
                what = f"shares {path.name} with {owner.path.name}, whose caption it gets"
                self._plan.warnings.append(Problem(str(image.path), what, "rename one of them"))
        return list(owners.values())

    def write(self, image: CollectionImage, new: str, joined: Join) -> None:
        """Plan a new caption for one of the images.

        Args:
            new: one line, not empty.
            joined: puts it to a caption that is there.
        """
        path = image.new_caption_path
        try:
            before = path.read_bytes() if image.caption_path is not None else None
            if image.path in self._tables and self._mode != "replace":
                text, _ = self._tables[image.path]
                after = f"{edit_captions(text, joined)}\n".encode()
            else:
                after = with_caption(before, new, self._mode, joined)
            self._plan.write_text(path, before, after)
        except OSError as error:
            what = f"the caption cannot be read: {error.strerror}"
            self._plan.skipped.append(Problem(str(path), what, "mend or remove it"))
        except DatasetError as error:
            # What is no text stays; the other pictures get their captions.
            self._plan.skipped += [
                Problem(str(path), f"{one.what}; it is left alone", one.hint)
                for one in error.problems
            ]


def with_caption(before: bytes | None, new: str, mode: Mode, joined: Join) -> bytes:
    """The bytes of a caption file with a new caption; what stays keeps its bytes.

    Args:
        before: of the file; ``None`` without one.
        new: one line, not empty.
        joined: puts it to a caption that is there; called for each line that is one.

    Raises:
        DatasetError: the file is not text, or in broken bytes of its encoding.
    """
    if before is None:
        return f"{new}\n".encode()
    file = CaptionFile.of(before)
    if not file.is_text:
        what = "is not a text file, though it has a caption's name"
        raise DatasetError.of("", what, "remove it, or give it another ending")
    if not file.text.strip() or mode == "replace":
        ending = file.text[len(file.text.rstrip("\r\n")) :] or ("" if file.text else "\n")
        return file.with_text(new + ending)
    return before if mode == "if-empty" else file.with_text(edit_captions(file.text, joined))


def captions_in_tables(images: Sequence[CollectionImage]) -> dict[Path, tuple[str, Path]]:
    """Captions of images without a caption file, and the tables that they stand in."""
    by_folder: dict[Path, list[Path]] = defaultdict(list)
    for image in images:
        by_folder[image.path.parent].append(image.path)
    captions: dict[Path, tuple[str, Path]] = {}
    for folder, paths in by_folder.items():
        others = [path for path in folder.iterdir() if path.suffix.lower() not in SUFFIXES]
        files = sorted(path for path in others if path.is_file())
        captions |= read_tables(FolderSpec(folder), paths, files).captions
    return captions
