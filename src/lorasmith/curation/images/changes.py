"""What all verbs that change images share: looking at many at once, and files that go along."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

from lorasmith.core.errors import DatasetError, Problem
from lorasmith.core.events import Controls, Observer, Progress
from lorasmith.core.files import write_json
from lorasmith.core.text import quantity, shortlist
from lorasmith.curation.changes.plan import Plan
from lorasmith.curation.collection import Collection, CollectionImage
from lorasmith.curation.images.geometry import Geometry
from lorasmith.curation.images.image_file import read_image_file, write_image_file
from lorasmith.data.augmentation.crops import face_box
from lorasmith.data.caption_files import decode
from lorasmith.data.decode_memory import decode_memory
from lorasmith.data.images import MASK_SUFFIXES, Header, read_header
from lorasmith.data.recorded_crops import Region, is_crop_record, read_crop_record

T = TypeVar("T")

# Shapes of an image and its mask may differ by rounding.
_SAME_SHAPE = 0.02
# Latents that other trainers cached beside an image are of the image as it was.
_CACHES = (".npz",)


def look_at_each(
    plan: Plan,
    images: Sequence[CollectionImage],
    look: Callable[[CollectionImage], T],
    observer: Observer,
    controls: Controls,
    what: str = "looking at pictures",
) -> list[tuple[CollectionImage, T]]:
    """``look`` of every image, over all cores; those that it fails for are left out of the plan,
    which names them.

    Raises:
        Stopped: by ``controls``.
    """
    results = []
    pool = ThreadPoolExecutor(os.cpu_count() or 1)

    def attempt(image: CollectionImage) -> T | DatasetError:
        controls.check("stopped; nothing was changed")
        try:
            with decode_memory.scope():
                return look(image)
        except DatasetError as error:
            return error

    try:
        for done, (image, result) in enumerate(
            zip(images, pool.map(attempt, images), strict=True), 1
        ):
            if isinstance(result, DatasetError):
                plan.skipped += result.problems
            else:
                results.append((image, result))
            observer(Progress(what, done, len(images)))
    finally:
        pool.shutdown(cancel_futures=True)
    return results


def intact(
    plan: Plan,
    collection: Collection,
    images: Sequence[CollectionImage],
    observer: Observer,
    controls: Controls,
) -> list[CollectionImage]:
    """Those that decode to their end; the plan names the others. What was looked at before is
    remembered.

    Raises:
        Stopped: by ``controls``.
    """
    facts = collection.measure(images, observer, controls)
    good = []
    for image in images:
        problem = facts[image.path].problem
        if problem:
            plan.skipped.append(Problem(str(image.path), problem))
        else:
            good.append(image)
    return good


def still(image: CollectionImage) -> Header:
    """The header of an image that is no animation.

    Raises:
        DatasetError: it is one, or cannot be read.
    """
    header = read_header(image.path)
    if header.frames > 1:
        what = f"is an animation of {header.frames} frames, which would be lost"
        raise DatasetError.of(image.path, what, "`lorasmith dataset convert --frames` parts it")
    return header


def record_of(image: CollectionImage, size: tuple[int, int]) -> tuple[Path, Region] | None:
    """The crop that is recorded beside an image.

    Raises:
        DatasetError: it is damaged, or of another size.
    """
    path = next((path for path in image.companions if is_crop_record(path)), None)
    return (path, read_crop_record(path, size)) if path is not None else None


def reshape(
    plan: Plan,
    image: CollectionImage,
    geometry: Geometry,
    masks: dict[Path, Path],
    what: str,
    quality: int | None = None,
) -> None:
    """Give an image another shape in its own file, and likewise the pictures that belong to it;
    caches of it go to the trash."""
    plan.write_file(image.path, partial(_write, image.path, geometry, quality), what=what)
    pictures = [path for path in image.companions if path.suffix.lower() in MASK_SUFFIXES]
    if image.path in masks:
        pictures.append(masks[image.path])
    for path in dict.fromkeys(pictures):
        if is_of_shape(plan, path, geometry.whole):
            make = partial(_write, path, geometry, None)
            plan.write_file(path, make, what=f"{what}, with its picture")
    for path in image.companions:
        if path.suffix.lower() in _CACHES:
            plan.remove(path)


def warn_of_faces(plan: Plan, images: Sequence[CollectionImage]) -> None:
    """Of images whose names say where a face is, and which get another shape."""
    names = [image.path.name for image in images if face_box(image.path) is not None]
    if names:
        count = quantity(len(names), "picture", "has")
        what = (
            f"{count} a face in the name, which will not lie there any more ({shortlist(names, 3)})"
        )
        hint = "record the crops instead (--record): then faces move along; or rename them"
        plan.warnings.append(Problem("", what, hint))


def copy_shape(
    plan: Plan,
    image: CollectionImage,
    geometry: Geometry,
    masks: dict[Path, Path],
    target: Path,
    what: str,
    quality: int | None = None,
) -> None:
    """A new image of part of another, or its mirror image, with its mask."""
    plan.write_file(target, partial(_write, image.path, geometry, quality), what=what)
    mask = masks.get(image.path)
    if mask is not None and is_of_shape(plan, mask, geometry.whole):
        beside = mask.name.startswith(image.path.stem) and mask.parent == image.path.parent
        ending = mask.name[len(image.path.stem) :] if beside else mask.suffix
        copy = mask.with_name(f"{target.stem}{ending}")
        make = partial(_write, mask, geometry, None)
        plan.write_file(copy, make, what=f"{what}, with its picture")


def copy_caption(
    plan: Plan, image: CollectionImage, target: Path, change: Callable[[str], str] | None = None
) -> None:
    """The caption of a new image: that of the one it comes from, byte for byte but for what
    ``change`` changes (then in UTF-8).

    Raises:
        DatasetError: the caption cannot be read.
    """
    if image.caption_path is None:
        return
    try:
        data = image.caption_path.read_bytes()
    except OSError as error:
        what = f"the caption cannot be read: {error.strerror}"
        raise DatasetError.of(image.caption_path, what, "mend or remove it") from error
    if change is not None:
        text = decode(data)[0]
        if (changed := change(text)) != text:
            data = changed.encode()
    plan.write_text(target.with_suffix(image.caption_path.suffix), None, data)


def write_record(plan: Plan, path: Path, region: Region, what: str) -> None:
    plan.write_file(path, lambda temporary: write_json(temporary, region.to_json()), what=what)


def is_of_shape(plan: Plan, path: Path, whole: tuple[int, int]) -> bool:
    """Whether a picture that belongs to another has its shape; the plan warns of one that has not,
    or cannot be read: it stays as it is."""
    try:
        header = read_header(path)
    except DatasetError as error:
        plan.warnings += error.problems
        return False
    if abs(header.width * whole[1] / (header.height * whole[0]) - 1) <= _SAME_SHAPE:
        return True
    what = f"has another shape than its picture ({header.width}x{header.height}, "
    what += f"not {whole[0]}x{whole[1]}), and stays as it is"
    plan.warnings.append(Problem(str(path), what, "make it of the picture, or remove it"))
    return False


def _write(source: Path, geometry: Geometry, quality: int | None, temporary: Path) -> None:
    with decode_memory.scope():
        file = read_image_file(source)
        shaped = file.with_image(geometry.apply(file.image), icc=file.icc)
        write_image_file(shaped, temporary, quality)
