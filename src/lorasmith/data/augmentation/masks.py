"""Loss masks: which parts of an image are learned, from files or the alpha channel.

A mask is an image of the same shape: white is learned, black is not, greys in part. It goes
through the same scaling, crop and mirroring as its image.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import numpy as np
from PIL import Image

from lorasmith.core.errors import DatasetError, Problem
from lorasmith.core.text import shortlist
from lorasmith.data.augmentation.views import View
from lorasmith.data.companions import mask_files, mask_of
from lorasmith.data.decode_memory import decode_memory
from lorasmith.data.images import fit, glance, load_alpha, load_image, read_header
from lorasmith.data.layout import FolderSpec
from lorasmith.data.scan import DatasetImage

# Shapes may differ by rounding when a mask was made of a smaller copy.
MAX_SHAPE_DIFFERENCE = 0.02

_THREADS = 8
_NAMES = 3


@dataclass(frozen=True, slots=True)
class Mask:
    """Where an image's mask is: in a file of its own, or in the image's own ``alpha``."""

    path: Path
    alpha: bool = False


@dataclass(frozen=True, slots=True)
class Masks:
    """What was found; an image without an entry is learned whole.

    ``problems`` forbid training, ``warnings`` do not.
    """

    by_image: dict[Path, Mask]
    problems: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()


def find_masks(
    kind: Literal["off", "alpha", "beside", "folder"],
    folder: Path | None,
    images: Sequence[DatasetImage],
    folders: Sequence[FolderSpec],
    beside: Mapping[Path, Path] = MappingProxyType({}),
) -> Masks:
    """The mask of every image that has one.

    Args:
        kind: "alpha" takes the transparency of the images themselves, "folder" the files of one,
            "beside" those that the scan saw.
        folder: holds masks named like the images, in any image format; beside each other, or in
            folders named like the images' own.
        images: all of the dataset. Regularisation images need no masks.
        folders: that :attr:`.DatasetImage.folder` counts in.
        beside: :attr:`Scan.masks`.
    """
    if kind == "beside":
        return _masks_beside(images, folders, beside)
    if kind == "alpha":
        masks = {p.path: Mask(p.path, alpha=True) for p in images if p.has_alpha}
        if not masks:
            what = "no picture has an alpha channel, so nothing is masked"
            return Masks(masks, (), (Problem("loss.masked", what, 'use "folder", or "off"'),))
        return Masks(masks)
    if kind == "off" or folder is None:
        return Masks({})
    return _masks_in(folder, images, folders)


def _masks_beside(
    images: Sequence[DatasetImage], folders: Sequence[FolderSpec], beside: Mapping[Path, Path]
) -> Masks:
    masks = {p.path: Mask(beside[p.path]) for p in images if p.path in beside}
    train = [p.path for p in images if not folders[p.folder].reg]
    missing = [path for path in train if path not in masks]
    if len(missing) == len(train):
        what = "there is no mask beside any picture"
        hint = "name them like a-masklabel.png, a.mask.png or masks/a.png, or set it to folder"
        return Masks(masks, (Problem("loss.masked", what, hint),))
    return Masks(masks, (), _without_mask("loss.masked", missing, len(train)))


def _without_mask(where: str, missing: Sequence[Path], count: int) -> tuple[Problem, ...]:
    if not missing:
        return ()
    what = f"pictures without a mask, learned whole: {len(missing)} of {count}"
    return (Problem(where, f"{what} ({_names(missing)})", "add their masks"),)


def _masks_in(folder: Path, images: Sequence[DatasetImage], folders: Sequence[FolderSpec]) -> Masks:
    paths = [image.path for image in images]
    try:
        beside = mask_files(folder, paths)
    except DatasetError as error:
        return Masks({}, tuple(error.problems))
    inner = {
        spec.path: mask_files(folder / spec.path.name, paths)
        for spec in folders
        if (folder / spec.path.name).is_dir()
    }
    masks: dict[Path, Mask] = {}
    owners: dict[Path, list[Path]] = {}
    for image in images:
        path = mask_of(image.path, inner.get(folders[image.folder].path, {}))
        path = path or mask_of(image.path, beside)
        if path is not None:
            masks[image.path] = Mask(path)
            owners.setdefault(path, []).append(image.path)
    problems = [
        Problem(
            str(path),
            f"is the mask of {len(users)} pictures of that name ({_names(users)})",
            "put masks into folders named like those of the pictures",
        )
        for path, users in owners.items()
        if len(users) > 1
    ]
    train = [p.path for p in images if not folders[p.folder].reg]
    missing = [path for path in train if path not in masks]
    every = [*beside.values(), *(path for files in inner.values() for path in files.values())]
    unused = [path for path in dict.fromkeys(every) if path not in owners]
    warnings: list[Problem] = []
    if len(missing) == len(train):
        what = f"holds no mask for any of the {len(train)} training pictures"
        problems.append(Problem(str(folder), what, "name each mask like its picture"))
    else:
        warnings += _without_mask(str(folder), missing, len(train))
    if unused:
        what = f"masks without a picture: {len(unused)} ({_names(unused)})"
        warnings.append(Problem(str(folder), what, "name each mask like its picture"))
    return Masks(masks, tuple(problems), tuple(warnings))


def check_masks(masks: Masks, images: Sequence[DatasetImage]) -> list[Problem]:
    """What is wrong with masks: unreadable, of another shape, all black. Decodes each."""
    sizes = {image.path: image.whole_size for image in images}
    with ThreadPoolExecutor(_THREADS) as pool:
        problems = pool.map(
            lambda pair: _problem_of(pair[1], sizes[pair[0]]), masks.by_image.items()
        )
        return [problem for problem in problems if problem is not None]


def _problem_of(mask: Mask, image: tuple[int, int]) -> Problem | None:
    path = mask.path
    if mask.alpha:
        if load_alpha(path).getbbox() is None:
            what = "is transparent all over: as a mask, nothing of it is learned"
            return Problem(str(path), what, "take it out, or paint its alpha channel")
        return None
    try:
        header, look = read_header(path), glance(path)
    except DatasetError as error:
        return error.problems[0]
    shape = header.width * image[1] / (header.height * image[0])
    if abs(shape - 1) > MAX_SHAPE_DIFFERENCE:
        sizes = f"{header.width}x{header.height}, its picture {image[0]}x{image[1]}"
        return Problem(str(path), f"the mask has another shape ({sizes})", "make it of the picture")
    if not np.asarray(look.thumbnail).any():
        return Problem(str(path), "the mask is all black: nothing is learned", "paint it white")
    return None


@contextmanager
def decoded_mask(mask: Mask) -> Iterator[Image.Image]:
    """As :func:`load_mask`; its memory counts (see ``decode_memory``) while the block runs."""
    with decode_memory.scope():
        yield load_mask(mask)


def load_mask(mask: Mask) -> Image.Image:
    """The whole mask, upright, its value in each of three channels; transparent is black.

    Raises:
        DatasetError: the file cannot be read.
    """
    if mask.alpha:
        return load_alpha(mask.path).convert("RGB")
    return load_image(mask.path, "black").convert("L").convert("RGB")


def _names(paths: Iterable[Path]) -> str:
    return shortlist([path.name for path in paths], _NAMES)


def render_mask(mask: Mask, view: View, factor: int = 1) -> np.ndarray:
    """float32 (H / factor, W / factor) in [0, 1]: how much of each place is learned.

    Args:
        factor: pixels to a side of a latent pixel, which gets their mean.

    Raises:
        DatasetError: the mask cannot be decoded.
    """
    with decoded_mask(mask) as whole:
        image = whole if view.region is None else whole.crop(view.region.within(whole.size))
        values = fit(image, view.placement.resized, view.placement.crop)[:, :, 0]
    values = values[:, ::-1] if view.flip else values
    height, width = values.shape
    blocks = values.reshape(height // factor, factor, width // factor, factor)
    return np.asarray(blocks.mean((1, 3), dtype=np.float32) / 255, np.float32)
