"""Images that belong to another image: masks, control images, previews.

They lie beside it under its name and a mark. OneTrainer and taggui write ``a-masklabel.png`` and
``a-condlabel.png``, EveryDream ``a.mask.png``, segmentation scripts ``a_mask.png``, Civitai's
helpers ``a.preview.png``; others put masks of the same name into a folder ``masks``.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from lorasmith.data.layout import MASK_FOLDERS, FolderSpec, entries_of
from lorasmith.data.pictures import MASK_SUFFIXES, SUFFIXES, glance, readable_suffixes
from lorasmith.errors import DatasetError

Kind = Literal["mask", "control image", "preview"]

# Names that no picture has by itself: what is called so is never trained on.
_SURE: dict[str, Kind] = {"masklabel": "mask", "condlabel": "control image"}
_MARKS: dict[Kind, str] = {
    "mask": r"(?:loss|alpha|seg|sam|face|person|subject|body)?[-_ ]?masks?",
    "control image": r"control(?:net)?|conditioning|cond|depth(?:[-_ ]?map)?|canny|lineart|"
    r"open[-_ ]?pose|normal[-_ ]?map|seg(?:mentation)?",
    "preview": r"previews?|thumb(?:nail|s)?",
}
_NAME = {
    kind: re.compile(rf"(.+?)[-._ ](?:{marks})(?:[-_ ]?\d{{1,2}})?", re.IGNORECASE | re.DOTALL)
    for kind, marks in _MARKS.items()
}
_SURE_NAME = re.compile(rf"(.+?)[-._ ]({'|'.join(_SURE)})", re.IGNORECASE | re.DOTALL)
# Of 255: what differs more between its channels is in colours.
_GREY = 12


@dataclass(frozen=True, slots=True)
class Companion:
    """An image that belongs to another.

    Args:
        path: the file.
        owner: the image that it belongs to; ``None`` where that is gone.
        kind: what it is.
    """

    path: Path
    owner: Path | None
    kind: Kind


def find_companions(images: Sequence[Path], has_caption: Mapping[Path, bool]) -> list[Companion]:
    """Those of a folder's image files that belong to another of them.

    A name alone decides nothing: ``cat_mask.png`` without a ``cat.png`` is a picture, and so is one
    in colours that has a caption of its own. ``-masklabel`` and ``-condlabel`` are never pictures.

    Args:
        images: the files of one folder.
        has_caption: by file.
    """
    owners = _by_name(path for path in images if path.suffix.lower() in SUFFIXES)
    companions = []
    for path in images:
        kind, owner = _kind(path, owners)
        if kind is None or owner == path:
            continue
        sure = _SURE_NAME.fullmatch(path.stem) is not None
        if sure or (owner is not None and not (has_caption.get(path) and _is_coloured(path))):
            companions.append(Companion(path, owner, kind))
    return companions


def masks_in_folders(spec: FolderSpec, images: Sequence[Path]) -> dict[Path, Path]:
    """Masks in a folder ``masks``, or ``mask``, of the images' folder or beside it, by image.

    Beside it they may lie in a folder named like that of the images.

    Raises:
        DatasetError: a folder cannot be read.
    """
    found: dict[Path, Path] = {}
    for name in MASK_FOLDERS:
        beside = spec.path.parent / name
        for folder in (spec.path / name, beside / spec.path.name, beside):
            if folder.is_dir():
                files = mask_files(folder, images)
                pairs = {image: mask_of(image, files) for image in images}
                found = {image: mask for image, mask in pairs.items() if mask} | found
    return found


def mask_files(folder: Path, images: Iterable[Path]) -> dict[str, Path]:
    """The masks in a folder, which may also hold the ``images``, by the names of whom they are for.

    Raises:
        DatasetError: the folder cannot be read.
    """
    own = {path.absolute() for path in images}
    suffixes = readable_suffixes(MASK_SUFFIXES)
    files = [
        path
        for path in entries_of(folder)
        if path.suffix.lower() in suffixes
        and not path.name.startswith(".")
        and path.absolute() not in own
    ]
    marked = {base: path for path in files if (base := _base(path, "mask"))}
    return marked | {stem_of(path): path for path in files}


def mask_of(image: Path, files: Mapping[str, Path]) -> Path | None:
    """That of an image among :func:`mask_files`."""
    return files.get(stem_of(image)) or files.get(unicodedata.normalize("NFC", image.name))


def stem_of(path: Path) -> str:
    """macOS hands out decomposed names, other systems what was written: compare composed."""
    return unicodedata.normalize("NFC", path.stem)


def _kind(path: Path, owners: Mapping[str, Path]) -> tuple[Kind | None, Path | None]:
    sure = _SURE_NAME.fullmatch(stem_of(path))
    if sure:
        return _SURE[sure[2].lower()], owners.get(sure[1])
    for kind in _NAME:
        base = _base(path, kind)
        owner = owners.get(base) if base else None
        if owner is not None:
            return kind, owner
    return None, None


def _base(path: Path, kind: Kind) -> str | None:
    """The name of whom a file of that kind belongs to, if it is named like one."""
    stem = stem_of(path)
    sure = _SURE_NAME.fullmatch(stem)
    if sure and _SURE[sure[2].lower()] == kind:
        return sure[1]
    match = _NAME[kind].fullmatch(stem)
    return match[1] if match else None


def _by_name(images: Iterable[Path]) -> dict[str, Path]:
    """By name without and with its ending: ``a-masklabel.png`` and ``a.jpg.mask.png`` alike."""
    found: dict[str, Path] = {}
    for path in images:
        found.setdefault(stem_of(path), path)
        found.setdefault(unicodedata.normalize("NFC", path.name), path)
    return found


def _is_coloured(path: Path) -> bool:
    try:
        pixels = np.asarray(glance(path).thumbnail, dtype=np.int16)
    except DatasetError:
        return True  # said when it is opened as a picture
    return bool((pixels.max(axis=2) - pixels.min(axis=2)).max() > _GREY)
