"""Images that belong to another image: masks, control images, previews.

They lie beside it under its name and a mark. OneTrainer and taggui write ``a-masklabel.png`` and
``a-condlabel.png``, EveryDream ``a.mask.png``, segmentation scripts ``a_mask.png``, Civitai's
helpers ``a.preview.png``; others put masks of the same name into a folder ``masks``.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lorasmith.core.errors import DatasetError
from lorasmith.data.images import MASK_SUFFIXES, SUFFIXES, glance, readable_suffixes
from lorasmith.data.layout import FolderSpec, entries_of, is_mask_folder

if TYPE_CHECKING:
    import numpy as np

Kind = Literal["mask", "control image", "preview"]

# What else must be true of an image for its name to be believed: nothing; that it is not both in
# colours and captioned; that it is not in colours; that it is black and white, without a caption.
Proof = Literal["none", "no caption", "grey", "stencil"]

# Names that no image has by itself: what is called so is never trained on.
_SURE: dict[str, Kind] = {"masklabel": "mask", "condlabel": "control image"}
# What stands behind the owner's name, after a separator.
_MARKS: dict[Kind, str] = {
    "mask": r"(?:(?:loss|alpha|seg|sam|face|person|subject|body|head|hair|object|foreground|"
    r"background|binary|inpaint(?:ing)?|matte|image)?[-_ ]?)?masks?|alpha|matte|trimap",
    "control image": r"control(?:net)?|conditioning|cond|depth(?:[-_ ]?map)?|canny|lineart|"
    r"open[-_ ]?pose|normal[-_ ]?map|seg(?:mentation)?",
    "preview": r"previews?|thumb(?:nail|s)?",
}
_NUMBER = r"(?:[-_ ]?\d{1,2})?"
_MARK = {
    kind: re.compile(rf"(?:{marks}|[(\[](?:{marks})[)\]]){_NUMBER}", re.IGNORECASE)
    for kind, marks in _MARKS.items()
}
_ANY_MASK = re.compile(rf"[a-z]+[-_ ]masks?{_NUMBER}", re.IGNORECASE)
_GLUED = re.compile(r"(.+?)masks?", re.IGNORECASE | re.DOTALL)
# mask_a.png; and zorp_mask_00001_.png, as ComfyUI numbers what is saved as zorp_mask.
_BEFORE = re.compile(r"(?:(.+?)([-._ ]))?masks?([-._ ])(.+)", re.IGNORECASE | re.DOTALL)
# What mask_0001.png may be the mask of, before the number.
_PLAIN_NAMES = ("image", "img", "picture", "photo", "frame", "ComfyUI")
# Whether a name in small letters can mean any of it, at a tenth of the cost of asking what.
_MAYBE = re.compile("|".join(["mask", *_SURE, *_MARKS.values()]))
_SURE_NAME = re.compile(rf"(.+?)[-._ ]({'|'.join(_SURE)})", re.IGNORECASE | re.DOTALL)
_SEPARATORS = "-._ "
# Of 255: what differs more between its channels is in colours.
_GREY = 12
# Of the pixels of a stencil: at most so many are neither near black nor near white.
_BETWEEN, _DARK, _LIGHT = 0.2, 64, 191


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


def may_be_companion(name: str) -> bool:
    """Whether :func:`find_companions` has to look at a file of this name; most names say no."""
    return _MAYBE.search(name.casefold()) is not None


def find_companions(images: Sequence[Path], captioned: Container[Path]) -> list[Companion]:
    """Those of a folder's image files that belong to another of them.

    A name alone decides nothing: ``cat_mask.png`` without a ``cat.png`` is an image, if there is
    more in it than black and white, and so is one in colours that has a caption of its own.
    ``-masklabel`` and ``-condlabel`` are never images.

    Args:
        images: the files of one folder.
        captioned: those that have a caption.
    """
    # Most folders have none, and thousands of names.
    some = [path for path in images if may_be_companion(path.name)]
    if not some:
        return []
    owners = _by_name(path for path in images if path.suffix.lower() in SUFFIXES)
    companions = (_companion(path, owners, path in captioned) for path in some)
    return [companion for companion in companions if companion is not None]


def _companion(path: Path, owners: Mapping[str, Path], captioned: bool) -> Companion | None:
    meanings = list(_meanings(stem_of(path)))
    for kind, base, proof in meanings:
        owner = owners.get(base)
        if owner is not None and owner != path and _is_proved(path, proof, captioned):
            return Companion(path, owner, kind)
    for kind, _, proof in meanings:
        if proof == "none":
            return Companion(path, None, kind)
        if kind == "mask" and proof != "stencil" and _is_proved(path, "stencil", captioned):
            return Companion(path, None, kind)
    return None


def _is_proved(path: Path, proof: Proof, captioned: bool) -> bool:
    if proof == "none" or (proof == "no caption" and not captioned):
        return True
    if proof == "stencil":
        return not captioned and _is_stencil(path)
    return not _is_coloured(path)


def masks_in_folders(spec: FolderSpec, images: Sequence[Path]) -> dict[Path, Path]:
    """Masks in a folder ``masks``, or ``mask``, of the images' folder or beside it, by image.

    Beside it they may lie in a folder named like that of the images.

    Raises:
        DatasetError: a folder cannot be read.
    """
    masks: dict[Path, Path] = {}
    inside, beside = _mask_folders(spec.path), _mask_folders(spec.path.parent)
    namesakes = [folder / spec.path.name for folder in beside]
    for folder in (*inside, *namesakes, *beside):
        if folder.is_dir() and not folder.samefile(spec.path):
            files = mask_files(folder, images)
            pairs = {image: mask_of(image, files) for image in images}
            masks = {image: mask for image, mask in pairs.items() if mask} | masks
    return masks


def _mask_folders(folder: Path) -> list[Path]:
    try:
        return [folder / name for name in sorted(os.listdir(folder)) if is_mask_folder(name)]
    except OSError:  # The one above need not be readable.
        return []


def mask_files(folder: Path, images: Iterable[Path]) -> dict[str, Path]:
    """The masks in a folder, which may also hold the ``images``, by the names of whom they are for.

    Raises:
        DatasetError: the folder cannot be read.
    """
    image_paths = {path.absolute() for path in images}
    suffixes = readable_suffixes(MASK_SUFFIXES)
    files = [
        path
        for path in entries_of(folder)
        if path.suffix.lower() in suffixes
        and not path.name.startswith(".")
        and path.absolute() not in image_paths
    ]
    marked: dict[str, Path] = {}
    for path in files:
        for kind, base, _ in _meanings(stem_of(path)):
            if kind == "mask":
                marked.setdefault(base, path)
    return marked | {stem_of(path): path for path in files}


def mask_of(image: Path, files: Mapping[str, Path]) -> Path | None:
    """That of an image among :func:`mask_files`."""
    return files.get(stem_of(image)) or files.get(unicodedata.normalize("NFC", image.name))


def stem_of(path: Path) -> str:
    """macOS hands out decomposed names, other systems what was written: compare composed."""
    name = path.name
    dot = name.rfind(".")  # As path.stem has it, at half the cost: it is asked for many times.
    return unicodedata.normalize("NFC", name[:dot] if 0 < dot < len(name) - 1 else name)


def _meanings(stem: str) -> Iterator[tuple[Kind, str, Proof]]:
    """What a name may say: the kind, whom it belongs to, and what must be true besides."""
    if sure := _SURE_NAME.fullmatch(stem):
        yield _SURE[sure[2].lower()], sure[1], "none"
        return
    for base, mark in _splits(stem):
        for kind, pattern in _MARK.items():
            if pattern.fullmatch(mark):
                yield kind, base, "no caption"
        if _ANY_MASK.fullmatch(mark):
            yield "mask", base, "grey"
    if before := _BEFORE.fullmatch(stem):
        first, *separators, rest = before.groups()
        bases = [f"{first}{separator}{rest}" for separator in separators] if first else [rest]
        bases += [] if first else [f"{name}{separators[1]}{rest}" for name in _PLAIN_NAMES]
        for base in bases:
            yield "mask", base, "grey"
    if glued := _GLUED.fullmatch(stem):
        yield "mask", glued[1], "stencil"


def _splits(stem: str) -> Iterator[tuple[str, str]]:
    """Into a name and a mark, with one separator or more between, or a bracket; the longest name
    first. It may itself end in one: ComfyUI_00001__mask."""
    for end in range(len(stem) - 1, 0, -1):
        if stem[end] in _SEPARATORS:
            mark = stem[end:].lstrip(_SEPARATORS)
        elif stem[end] in "([":
            mark = stem[end:]
        else:
            continue
        yield stem[:end], mark


def _by_name(images: Iterable[Path]) -> dict[str, Path]:
    """By name without and with its ending: ``a-masklabel.png`` and ``a.jpg.mask.png`` alike."""
    by_name: dict[str, Path] = {}
    for path in images:
        by_name.setdefault(stem_of(path), path)
        by_name.setdefault(unicodedata.normalize("NFC", path.name), path)
    return by_name


def _is_coloured(path: Path) -> bool:
    pixels = _pixels(path)
    return pixels is None or bool((pixels.max(axis=2) - pixels.min(axis=2)).max() > _GREY)


def _is_stencil(path: Path) -> bool:
    """Black and white, but for soft edges."""
    pixels = _pixels(path)
    if pixels is None or _is_coloured(path):
        return False
    between = (pixels[..., 0] > _DARK) & (pixels[..., 0] < _LIGHT)
    return float(between.mean()) <= _BETWEEN


def _pixels(path: Path) -> np.ndarray | None:
    import numpy as np  # seldom needed, and most who list a folder need nothing else of it

    try:
        return np.asarray(glance(path).thumbnail, dtype=np.int16)
    except DatasetError:
        return None  # said when it is opened as an image
