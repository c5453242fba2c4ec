"""Plans of other formats, and of masks made of images."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from lorasmith.core.errors import DatasetError, Problem
from lorasmith.core.events import Controls, Observer, ignore
from lorasmith.core.files import files_below, is_utf8
from lorasmith.curation.changes.plan import Plan
from lorasmith.curation.collection import Collection, CollectionImage
from lorasmith.curation.images.changes import copy_caption, intact, look_at_each
from lorasmith.curation.images.convert import Oddities, normalised, oddities
from lorasmith.curation.images.image_file import (
    FormatName,
    format_of,
    pillow_name,
    read_image_file,
    suffix_of,
    write_image_file,
)
from lorasmith.curation.images.masks import MaskSource, mask_from, mask_path
from lorasmith.data.decode_memory import decode_memory
from lorasmith.data.images import FOREIGN_SUFFIXES, read_header
from lorasmith.data.scan import CAPTION_SUFFIXES

Frames = Literal["refuse", "first", "all"]


@dataclass(frozen=True, slots=True)
class Target:
    """What images are converted to.

    Args:
        format: ``None`` keeps each file's own, where trainers read it (else PNG).
        background: colour under what is transparent; ``None`` leaves it transparent.
        frames: of an animation: it is left alone and named, its first picture is taken, or all.
        quality: of JPEG, WebP and AVIF, 1 to 100; ``None``: 95, or as it was.
    """

    format: FormatName | None = None
    background: tuple[int, int, int] | None = None
    frames: Frames = "refuse"
    quality: int | None = None


def plan_conversions(
    plan: Plan,
    collection: Collection,
    images: Sequence[CollectionImage],
    target: Target,
    *,
    observer: Observer = ignore,
    controls: Controls | None = None,
) -> None:
    """Bring images into a form that every trainer reads alike: upright, sRGB, 8 bits, RGB or RGBA;
    those that are in it already, in the format that is wanted, stay byte for byte.

    An image under a new name keeps its caption and side files; what it was goes to the trash.

    Raises:
        Stopped: by ``controls``.
    """
    controls = controls or Controls()
    results = look_at_each(plan, images, lambda image: oddities(image.path), observer, controls)
    due = [(image, odd) for image, odd in results if _reasons(image, odd, target)]
    good = set(intact(plan, collection, [image for image, _ in due], observer, controls))
    new_names: set[Path] = set()
    for image, odd in due:
        if image not in good:
            continue
        if odd.frames > 1 and target.frames == "refuse":
            what = f"is an animation of {odd.frames} frames"
            hint = "take its pictures with --frames first or all"
            plan.skipped.append(Problem(str(image.path), what, hint))
            continue
        with plan.together(image.path):
            if odd.frames > 1 and target.frames == "all":
                _plan_frames(plan, image, odd, target)
            else:
                _plan_conversion(plan, image, odd, target, new_names)


def _reasons(image: CollectionImage, odd: Oddities, target: Target) -> list[str]:
    reasons = list(odd.reasons)
    if odd.frames > 1:
        reasons.append("an animation")
    if odd.alpha and target.background is not None:
        reasons.append("transparent")
    if odd.alpha and target.format in ("jpg", "bmp") and target.background is None:
        reasons.append("transparent")
    if target.format is not None and pillow_name(target.format) != odd.format:
        reasons.append(odd.format)
    elif format_of(image.path) != odd.format:
        reasons.append(f"{odd.format} by another name")
    elif image.path.suffix.lower() in FOREIGN_SUFFIXES:
        reasons.append(f"{image.path.suffix.lower()} by name")
    return reasons


def _ending(image: CollectionImage, odd: Oddities, target: Target) -> str:
    if target.format is not None:
        kept = format_of(image.path) == pillow_name(target.format)
        return image.path.suffix if kept else suffix_of(target.format)
    endings = {"PNG": ".png", "JPEG": ".jpg", "WEBP": ".webp", "BMP": ".bmp", "AVIF": ".avif"}
    ending = endings.get(odd.format, ".png")
    if odd.frames > 1 or (ending == ".jpg" and odd.alpha):
        return ".png"
    foreign = image.path.suffix.lower() in FOREIGN_SUFFIXES
    own = format_of(image.path) == odd.format and not foreign
    return image.path.suffix if own else ending


def _plan_conversion(
    plan: Plan, image: CollectionImage, odd: Oddities, target: Target, new_names: set[Path]
) -> None:
    new = image.path.with_suffix(_ending(image, odd, target))
    if new != image.path and (new in new_names or os.path.lexists(new)):
        what = f"would become {new.name}, as another picture is or becomes"
        plan.skipped.append(Problem(str(image.path), what, "rename one of them"))
        return
    new_names.add(new)
    what = f"was {', '.join(_reasons(image, odd, target))}"
    plan.write_file(new, partial(_write, image.path, 0, target), what=what)
    if new == image.path:
        return
    plan.remove(image.path)
    for path in image.files[1:]:  # a.jpg.txt belongs to a.png as a.png.txt
        if path.name.startswith(f"{image.path.name}."):
            plan.move(path, path.with_name(new.name + path.name[len(image.path.name) :]))


def _plan_frames(plan: Plan, image: CollectionImage, odd: Oddities, target: Target) -> None:
    suffix = _ending(image, odd, target)
    digits = max(3, len(str(odd.frames)))
    names = [f"{image.path.stem}_{n + 1:0{digits}}{suffix}" for n in range(odd.frames)]
    frames = [image.path.with_name(name) for name in names]
    if there := next(filter(os.path.lexists, frames), None):
        what = f"one of its frames would become {there.name}, which is there"
        plan.skipped.append(Problem(str(image.path), what, "rename one of them"))
        return
    for number, new in enumerate(frames):
        what = f"frame {number + 1} of {odd.frames} of {image.path.name}"
        plan.write_file(new, partial(_write, image.path, number, target), what=what)
        copy_caption(plan, image, new)
    for path in image.files:
        plan.remove(path)


def _write(source: Path, frame: int, target: Target, temporary: Path) -> None:
    with decode_memory.scope():
        file = normalised(read_image_file(source, frame), target.background)
        write_image_file(file, temporary, target.quality)


def foreign_images(collection: Collection) -> list[CollectionImage]:
    """Images of the collection's folders that the scan leaves out for their endings."""
    owned = {path for image in collection.images for path in image.files}
    owned |= set(collection.masks.values())
    images = []
    for folder in collection.folders:
        for path in files_below(folder, FOREIGN_SUFFIXES):
            if path in owned or not is_utf8(str(path)):
                continue
            root = next(root for root in collection.roots if path.absolute().is_relative_to(root))
            place = path.absolute().parent.relative_to(root).as_posix()
            texts = [path.with_suffix(suffix) for suffix in CAPTION_SUFFIXES]
            caption = next((text for text in texts if text.is_file()), None)
            images.append(CollectionImage(path, "" if place == "." else place, root, caption))
    return images


def plan_masks(
    plan: Plan,
    collection: Collection,
    images: Sequence[CollectionImage],
    source: MaskSource,
    *,
    invert: bool = False,
    overwrite: bool = False,
    observer: Observer = ignore,
    controls: Controls | None = None,
) -> None:
    """A mask beside each image, as ``a-masklabel.png``: from its greys, its transparency, or from
    what stands out from its border. Images with a mask keep it.

    Args:
        invert: black for white.
        overwrite: masks that are there are made anew.

    Raises:
        Stopped: by ``controls``.
    """
    controls = controls or Controls()
    masks = collection.masks
    names = Counter(image.path.with_suffix("") for image in collection.images)
    due = [image for image in images if overwrite or image.path not in masks]
    good = intact(plan, collection, due, observer, controls)
    opaque = 0
    for image in good:
        if source == "alpha" and not _has_alpha(image):
            opaque += 1
            continue
        if names[image.path.with_suffix("")] > 1:
            what = "has the name of another picture, so that their masks cannot be told apart"
            plan.skipped.append(Problem(str(image.path), what, "rename one of them"))
            continue
        path = masks.get(image.path) or mask_path(image.path)
        path = path if path.suffix.lower() == ".png" else mask_path(image.path)
        make = partial(_write_mask, image.path, source, invert)
        with plan.together(image.path):
            plan.write_file(path, make, what=f"mask from its {_WORDS[source]}")
    if opaque:
        what = f"{opaque} of {len(good)} pictures are not transparent, and get no mask"
        plan.warnings.append(Problem("", what))


_WORDS = {"grey": "greys", "alpha": "transparency", "subject": "subject"}


def _has_alpha(image: CollectionImage) -> bool:
    try:
        return read_header(image.path).has_alpha
    except DatasetError:
        return False


def _write_mask(source: Path, kind: MaskSource, invert: bool, temporary: Path) -> None:
    with decode_memory.scope():
        mask_from(source, kind, invert=invert).save(temporary, format="PNG")
