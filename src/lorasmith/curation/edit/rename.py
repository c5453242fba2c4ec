"""Other names for images, with everything that lies beside them under their names."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence, Set
from functools import partial
from pathlib import Path

from lorasmith.core.errors import DatasetError, Problem, collect_problems
from lorasmith.core.file_names import LONGEST_STEM, name_problem
from lorasmith.core.files import files_below
from lorasmith.core.text import quantity
from lorasmith.curation.changes.plan import Plan
from lorasmith.curation.collection import Collection, CollectionImage
from lorasmith.curation.edit.plan_edit import warn_of_files
from lorasmith.data.caption_files import read_tables
from lorasmith.data.companions import masks_in_folders, stem_of
from lorasmith.data.images import SUFFIXES
from lorasmith.data.layout import REG_NAMES, FolderSpec, entries_of
from lorasmith.data.scan import CAPTION_SUFFIXES

_FEWEST_DIGITS = 3
# As the web UI's preprocessing names its texts: number of the image, of its part, and its name.
_NUMBERED_TEXT = re.compile(r"\d+-\d+-(.+)", re.DOTALL)


def plan_rename(
    collection: Collection,
    images: Sequence[CollectionImage],
    prefix: str,
    command: str,
    *,
    start: int = 1,
    digits: int | None = None,
) -> Plan:
    """``prefix_001.png`` and so on, in the collection's order, through all of its folders.

    Captions, masks and other side files go with their images. Images of one name (``a.png`` and
    ``a.jpg``) get numbers of their own; the caption that they share, each a copy.

    Args:
        images: of the collection.
        digits: of the number; ``None`` for three, or as many as the last one needs.

    Raises:
        DatasetError: the prefix cannot be part of a file's name.
    """
    _check_prefix(prefix)
    plan = Plan(command, collection.roots)
    width = digits or max(_FEWEST_DIGITS, len(str(start + len(images) - 1)))
    masks = _masks(images, plan)
    moves: dict[Path, Path] = {}
    for number, image in enumerate(images, start):
        new_stem = f"{prefix}_{number:0{width}}"
        mask = masks.get(image.path)
        with plan.together(image.path):
            for file in dict.fromkeys([*image.files, *([mask] if mask is not None else [])]):
                target = file.with_name(_new_name(file.name, image.path, new_stem))
                if file not in moves:
                    moves[file] = target
                    plan.move(file, target)
                elif file == image.caption_path:
                    plan.write_text(target, None, file.read_bytes())
    _warn_of_tables(plan, images, moves)
    _warn_of_reg(plan, collection, {stem_of(image.path) for image in images})
    return plan


def plan_trim_digits(
    collection: Collection, images: Sequence[CollectionImage], command: str
) -> Plan:
    """Texts that the web UI's preprocessing numbered, as ``00012-0-name.txt``, get the names of
    the images ``name.png`` beside them.

    Args:
        images: of the collection.
    """
    plan = Plan(command, collection.roots)
    of_crops: list[Path] = []
    strays: list[Path] = []
    stems = {(image.path.parent, stem_of(image.path)) for image in images}
    all_stems = {(image.path.parent, stem_of(image.path)) for image in collection.images}
    for folder in dict.fromkeys(image.path.parent for image in images):
        for file in collect_problems(plan.problems, partial(entries_of, folder)) or []:
            match = _NUMBERED_TEXT.fullmatch(stem_of(file))
            if match is None or file.suffix.lower() not in CAPTION_SUFFIXES:
                continue
            if (folder, stem_of(file)) in all_stems:
                of_crops.append(file)
            elif (folder, match[1]) in stems:
                plan.move(file, file.with_name(f"{match[1]}{file.suffix}"))
            elif (folder, match[1]) not in all_stems:
                strays.append(file)
    warn_of_files(plan, of_crops, "has a picture of this very name, and keeps it")
    warn_of_files(plan, strays, "has no picture of the name without its digits")
    return plan


def _check_prefix(prefix: str) -> None:
    if what := name_problem(prefix):
        pass
    elif not prefix or prefix != prefix.strip():
        what = f"{prefix!r} is empty, or has spaces at an end"
    elif prefix.startswith((".", "-")):
        what = f"a name that begins with {prefix[0]!r} is hidden, or taken for an option"
    elif len(os.fsencode(prefix)) > LONGEST_STEM:
        what = (
            f"it is longer than {LONGEST_STEM} bytes, and a name of 255 has numbers and endings too"
        )
    if what:
        raise DatasetError(Problem("prefix", what, "choose another, such as zorp"))


def _new_name(name: str, image: Path, stem: str) -> str:
    """Of a file that belongs to an image: the image's name in it exchanged, where it stands as a
    word; ``mask_a.png`` has it behind a mark."""
    for old, new in ((image.name, f"{stem}{image.suffix}"), (image.stem, stem)):
        if name.startswith(old):
            return new + name[len(old) :]
    word = re.search(rf"(?<![^\W_]){re.escape(image.stem)}(?![^\W_])", name)
    if word is None:
        return f"{stem}-{name}"
    return name[: word.start()] + stem + name[word.end() :]


def _masks(images: Sequence[CollectionImage], plan: Plan) -> dict[Path, Path]:
    """Masks in folders of their own, by image."""
    masks: dict[Path, Path] = {}
    for folder, paths in _by_folder(images):
        find = partial(masks_in_folders, FolderSpec(folder), paths)
        masks |= collect_problems(plan.problems, find) or {}
    return masks


def _warn_of_tables(plan: Plan, images: Sequence[CollectionImage], moves: dict[Path, Path]) -> None:
    for folder, paths in _by_folder(images):
        others = [path for path in entries_of(folder) if path not in moves and path.is_file()]
        tables = read_tables(FolderSpec(folder), paths, others)
        for file, count in tables.files.items():
            what = f"it names {quantity(count, 'picture')} by their present names"
            plan.warnings.append(Problem(str(file), what, "its captions will be found no more"))


def _warn_of_reg(plan: Plan, collection: Collection, stems: Set[str]) -> None:
    """Of regularisation images that are paired with others by their names."""
    for root in collection.roots:
        for folder in (root / name for name in REG_NAMES):
            files = files_below(folder, SUFFIXES) if folder.is_dir() else []
            count = sum(1 for file in files if stem_of(file) in stems)
            if count:
                what = f"{quantity(count, 'picture')} there are called as pictures that are renamed"
                hint = "if they belong together, rename them likewise, with the same --start"
                plan.warnings.append(Problem(str(folder), what, hint))


def _by_folder(images: Sequence[CollectionImage]) -> Iterator[tuple[Path, list[Path]]]:
    folders: dict[Path, list[Path]] = {}
    for image in images:
        folders.setdefault(image.path.parent, []).append(image.path)
    yield from folders.items()
