"""Plans of crops and of other sizes: chosen by looking at the images, then carried out or recorded
beside them."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from lorasmith.core.canvas import font_of
from lorasmith.core.errors import DatasetError, Problem
from lorasmith.core.events import Controls, Observer, ignore
from lorasmith.core.text import quantity, shortlist
from lorasmith.curation.changes.plan import Plan
from lorasmith.curation.collection import Collection, CollectionImage
from lorasmith.curation.images.boxes import find_box
from lorasmith.curation.images.changes import (
    intact,
    look_at_each,
    record_of,
    reshape,
    still,
    warn_of_faces,
    write_record,
)
from lorasmith.curation.images.crop import (
    CropRule,
    FindFaces,
    box_around,
    choose_crop,
    crop_of_size,
    shape_of,
)
from lorasmith.curation.images.geometry import Geometry
from lorasmith.data.buckets import Buckets, Size, place
from lorasmith.data.images import decoded_image
from lorasmith.data.recorded_crops import (
    Box,
    Region,
    crop_record_path,
    is_crop_record,
    read_crop_record,
)
from lorasmith.data.scan import MIN_SIDE

_NAMES = 3
# Of the sheet: what is cut off shows so much, over this grey.
_DIMMED, _SHADE = 0.3, 160
_FRAME = (255, 0, 128)
_LINE = 15  # px


@dataclass(frozen=True, slots=True)
class Crop:
    """What is kept of one image.

    Args:
        whole: width and height of the upright image, px.
        box: the part of it; the whole where there is nothing to cut.
        record: the file in which a crop of it is recorded, if there is one.
        known: ``False`` where a box or record should say what is kept, and there is none.
        decoded: all of the image was read to choose it, so that it is known to be whole.
    """

    image: CollectionImage
    whole: Size
    box: Box
    record: Path | None = None
    known: bool = True
    decoded: bool = False


def choose_crops(
    plan: Plan,
    images: Sequence[CollectionImage],
    rule: CropRule,
    *,
    find_faces: FindFaces | None = None,
    observer: Observer = ignore,
    controls: Controls | None = None,
) -> list[Crop]:
    """The part of each image that a rule keeps; what cannot be read is left out of the plan.

    Raises:
        Stopped: by ``controls``.
    """

    def look(image: CollectionImage) -> Crop:
        header = still(image)
        size = (header.width, header.height)
        if rule.shape == "recorded":
            record = record_of(image, size)
            box = record[1].box if record is not None else (0, 0, *size)
            return Crop(image, size, box, record[0] if record else None, record is not None)
        path = next((path for path in image.companions if is_crop_record(path)), None)
        if rule.shape == "box":
            given_box = find_box(image.path, size)
            if given_box is None:
                return Crop(image, size, (0, 0, *size), path, known=False)
            return Crop(image, size, box_around(size, given_box, rule.margin), path)
        if not rule.looks:
            return Crop(image, size, crop_of_size(size, rule), path)
        if rule.shape != "subject" and not rule.trim and shape_of(size, rule) == size:
            return Crop(image, size, (0, 0, *size), path)
        with decoded_image(image.path) as rgb:
            box = choose_crop(rgb, rule, find_faces)
        return Crop(image, size, box, path, decoded=True)

    results = look_at_each(plan, images, look, observer, controls or Controls())
    crops = [crop for _, crop in results]
    missing = [crop.image.path.name for crop in crops if not crop.known]
    if missing:
        kind = "a recorded crop" if rule.shape == "recorded" else "a box beside it"
        what = f"{quantity(len(missing), 'picture', 'has')} no {kind[2:]}"
        plan.warnings.append(Problem("", f"{what} and stay whole ({shortlist(missing, _NAMES)})"))
    return crops


def plan_crops(
    plan: Plan,
    collection: Collection,
    crops: Sequence[Crop],
    *,
    record: bool = False,
    fitted: Callable[[Size], Size] | None = None,
    quality: int | None = None,
    observer: Observer = ignore,
    controls: Controls | None = None,
) -> None:
    """Cut the images, with their masks, or write down what would be cut.

    Args:
        record: the files stay; what is kept stands beside them.
        fitted: the size that a part of some size is brought to, px.
        quality: of JPEG, WebP and AVIF; ``None`` as they were.

    Raises:
        Stopped: by ``controls``.
    """
    small = [crop for crop in crops if min(Region(crop.box, crop.whole).shape) < MIN_SIDE]
    for crop in small:
        what = "would be cropped to {}x{} px".format(*Region(crop.box, crop.whole).shape)
        hint = f"leave it out; the least is {MIN_SIDE} px"
        plan.skipped.append(Problem(str(crop.image.path), what, hint))
    crops = [crop for crop in crops if crop not in small]
    if record:
        _plan_records(plan, collection, crops)
        return
    geometries = {
        crop.image.path: Geometry(crop.whole, crop.box, fitted(shape) if fitted else None)
        for crop in crops
        for shape in [Region(crop.box, crop.whole).shape]
    }
    changed = [crop for crop in crops if geometries[crop.image.path].changes]
    unknown = [crop.image for crop in changed if not crop.decoded]
    whole = set(intact(plan, collection, unknown, observer, controls or Controls()))
    masks = collection.masks
    warn_of_faces(plan, [crop.image for crop in changed])
    for crop in changed:
        if crop.decoded or crop.image in whole:
            geometry = geometries[crop.image.path]
            with plan.together(crop.image.path):
                reshape(plan, crop.image, geometry, masks, _words(geometry), quality)
                if crop.record is not None:
                    plan.remove(crop.record)


def _words(geometry: Geometry) -> str:
    width, height = geometry.result
    cut = Geometry(geometry.whole, geometry.box).result != geometry.whole
    verb = "cropped" if cut else "resized"
    was = "{}x{}".format(*geometry.whole)
    return f"{verb} to {width}x{height} (was {was})"


def _plan_records(plan: Plan, collection: Collection, crops: Sequence[Crop]) -> None:
    names = Counter(image.path.with_suffix("") for image in collection.images)
    for crop in crops:
        shared = names[crop.image.path.with_suffix("")] > 1
        record = crop.record or crop_record_path(crop.image.path, shared=shared)
        region = Region(crop.box, crop.whole)
        if region.shape == crop.whole:
            if crop.record is not None:
                plan.remove(crop.record)
            continue
        if crop.record is not None and _same_record(crop.record, region):
            continue
        words = "{}x{} of {}x{}".format(*region.shape, *crop.whole)
        with plan.together(crop.image.path):
            write_record(plan, record, region, f"records the crop {words}")


def _same_record(path: Path, region: Region) -> bool:
    try:
        return read_crop_record(path, region.size) == region
    except DatasetError:
        return False


def to_buckets(buckets: Buckets, *, upscale: bool = False) -> Callable[[Size], Size]:
    """The size of the bucket that an image of some size goes to; smaller images stay as they are,
    unless they are to be enlarged."""

    def fitted(size: Size) -> Size:
        bucket = place(*size, buckets).bucket
        enlarged = bucket[0] > size[0] or bucket[1] > size[1]
        return size if enlarged and not upscale else bucket

    return fitted


@dataclass(frozen=True, slots=True)
class SizeRule:
    """To which size images are brought, keeping their shape; exactly one is given.

    Args:
        longest, shortest: of the sides, px.
        megapixels: of the area.
        scale: factor on both sides.
        upscale: whether smaller images are enlarged.
    """

    longest: int | None = None
    shortest: int | None = None
    megapixels: float | None = None
    scale: float | None = None
    upscale: bool = False

    def fitted(self, size: Size) -> Size:
        """The size that an image of this size gets, px."""
        width, height = size
        if self.longest is not None:
            factor = self.longest / max(size)
        elif self.shortest is not None:
            factor = self.shortest / min(size)
        elif self.megapixels is not None:
            factor = math.sqrt(self.megapixels * 1e6 / (width * height))
        else:
            assert self.scale is not None
            factor = self.scale
        if factor >= 1 and not self.upscale:
            return size
        return max(1, round(width * factor)), max(1, round(height * factor))


def plan_sizes(
    plan: Plan,
    collection: Collection,
    images: Sequence[CollectionImage],
    rule: SizeRule,
    *,
    quality: int | None = None,
    observer: Observer = ignore,
    controls: Controls | None = None,
) -> None:
    """Bring images to another size, with their masks and recorded crops.

    Raises:
        Stopped: by ``controls``.
    """
    controls = controls or Controls()

    def look(image: CollectionImage) -> tuple[Size, tuple[Path, Region] | None]:
        header = still(image)
        size = (header.width, header.height)
        return size, record_of(image, size)

    results = look_at_each(plan, images, look, observer, controls)
    changed = [
        (image, size, record) for image, (size, record) in results if rule.fitted(size) != size
    ]
    good = set(intact(plan, collection, [image for image, _, _ in changed], observer, controls))
    masks = collection.masks
    warn_of_faces(plan, [image for image, _, _ in changed])
    for image, size, record in changed:
        if image not in good:
            continue
        geometry = Geometry(size, None, rule.fitted(size))
        with plan.together(image.path):
            reshape(plan, image, geometry, masks, _words(geometry), quality)
            if record is not None:
                path, region = record
                moved = Region(region.within(geometry.result), geometry.result)
                write_record(plan, path, moved, "its recorded crop, at the new size")


def crop_cells(crops: Sequence[Crop], side: int = 160) -> list[Image.Image]:
    """Each image small, what is cut off it dimmed, its name and what is left below.

    Args:
        side: of the longer side, px.
    """
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        return list(pool.map(partial(_cell, side=side), crops))


def _cell(crop: Crop, side: int) -> Image.Image:
    factor = side / max(crop.whole)
    size = max(1, round(crop.whole[0] * factor)), max(1, round(crop.whole[1] * factor))
    try:
        with decoded_image(crop.image.path) as image:
            small = image.resize(size, Image.Resampling.BOX)
    except DatasetError:  # of which only the header was read so far; named when it is to change
        small = Image.new("RGB", size, "grey")
    left, top, right, bottom = Region(crop.box, crop.whole).within(size)
    share = np.full((size[1], size[0], 1), _DIMMED, np.float32)
    share[top:bottom, left:right] = 1
    pixels = np.asarray(small, np.float32) * share + _SHADE * (1 - share)
    shown = Image.fromarray(pixels.astype(np.uint8))
    if crop.box != (0, 0, *crop.whole):
        ImageDraw.Draw(shown).rectangle((left, top, right - 1, bottom - 1), outline=_FRAME, width=2)
    cell = Image.new("RGB", (side, size[1] + 2 * _LINE), "white")
    cell.paste(shown, ((side - size[0]) // 2, 0))
    draw, font = ImageDraw.Draw(cell), font_of(_LINE - 3)
    name = crop.image.path.stem
    while len(name) > 1 and draw.textlength(name, font) > side:
        name = f"{name[:-2]}…"
    shape = "{}x{}".format(*Region(crop.box, crop.whole).shape)
    for number, text in enumerate((name, shape)):
        draw.text(
            (side / 2, size[1] + number * _LINE), text, fill="#333333", font=font, anchor="ma"
        )
    return cell
