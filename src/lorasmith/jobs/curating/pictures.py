"""One picture in all that is known of it: crop, mask, bucket; and crops and masks recorded, which
training and exports apply."""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path

from PIL import Image
from pydantic import BaseModel

from lorasmith.core.errors import DatasetError
from lorasmith.curation.changes.plan import Plan
from lorasmith.curation.collection import CollectionImage
from lorasmith.curation.images.changes import write_record
from lorasmith.data.buckets import Buckets, Placement, Size, place, plan_buckets
from lorasmith.data.images import DECODER_ERRORS, open_image
from lorasmith.data.recorded_crops import (
    Region,
    crop_record_path,
    is_crop_record,
    read_crop_record,
)
from lorasmith.data.scan import MIN_SIDE
from lorasmith.jobs.curating.changes import ChangesRecord, Part, answer
from lorasmith.jobs.curating.open_dataset import OpenDataset
from lorasmith.jobs.runs.records import ProblemRecord

MASK_BYTES = 3_000_000
"""The most that a mask's PNG may have."""


class PlacementRecord(BaseModel):
    """How an image becomes its bucket's, px; see :class:`.buckets.Placement`.

    Args:
        crop: left, top, right, bottom of what is used, in the whole upright image.
        scale: above 1 it is enlarged.
        cropped: share of the area that is cut away, 0 to 1.
    """

    bucket: tuple[int, int]
    resized: tuple[int, int]
    crop: tuple[int, int, int, int]
    scale: float
    cropped: float


class PictureRecord(BaseModel):
    """
    Args:
        width, height: px, upright; 0 of what cannot be read.
        file_bytes: size of the file.
        version: of the file.
        mask: its path, with the version in ``mask_version``; "" where there is none.
        crop: the recorded one: left, top, right, bottom in px.
        crop_problem: why what is recorded does not hold.
        placement: at the resolution that was asked for.
    """

    name: str
    path: str
    width: int
    height: int
    file_bytes: int
    version: str
    mask: str
    mask_version: str
    crop: tuple[int, int, int, int] | None
    crop_problem: ProblemRecord | None
    placement: PlacementRecord | None


class BucketsRecord(BaseModel):
    """
    Args:
        version: of the listing whose images ``of`` are.
        sizes: width and height of those that are used, the fullest first.
        counts: images in each.
        of: for each image the place of its bucket in ``sizes``; -1 of what cannot be read.
        scales: for each image, above 1 where it is enlarged.
    """

    version: str
    sizes: list[tuple[int, int]]
    counts: list[int]
    of: list[int]
    scales: list[float]


def picture(dataset: OpenDataset, name: str, resolution: Size) -> PictureRecord:
    """
    Raises:
        DatasetError: there is no such image.
    """
    image = dataset.image(name)
    size = dataset.size_of(image) or (0, 0)
    mask = dataset.collection.masks.get(image.path)
    region, problem = None, None
    try:
        region = _region(image, size)
    except DatasetError as error:
        problem = ProblemRecord.of(error.problems[0])
    placement = None
    if size[0] and size[1]:
        placement = _placement(size, region, plan_buckets(*resolution))
    try:
        file_bytes = image.path.stat().st_size
    except OSError:
        file_bytes = 0
    return PictureRecord(
        name=name,
        path=str(image.path),
        width=size[0],
        height=size[1],
        file_bytes=file_bytes,
        version=dataset.version_of(image.path),
        mask=str(mask) if mask is not None else "",
        mask_version=dataset.version_of(mask) if mask is not None else "",
        crop=region.box if region is not None else None,
        crop_problem=problem,
        placement=placement,
    )


def buckets(dataset: OpenDataset, resolution: Size, *, upscale: bool = True) -> BucketsRecord:
    """The bucket of each image, crops that are recorded applied.

    Raises:
        SettingsError: the resolution is none.
    """
    plan = plan_buckets(*resolution, upscale=upscale)
    placed = cache(partial(_place, plan))
    placements: list[Placement | None] = []
    sizes = dataset.sizes()
    for image in dataset.images:
        size = sizes.get(image.path)
        try:
            region = _region(image, size) if size is not None else None
        except DatasetError:
            region = None
        placements.append(placed(region.shape if region else size) if size else None)
    used: dict[Size, int] = {}
    for one in placements:
        if one is not None:
            used[one.bucket] = used.get(one.bucket, 0) + 1
    order = sorted(used, key=lambda bucket: (-used[bucket], bucket))
    places = {bucket: number for number, bucket in enumerate(order)}
    return BucketsRecord(
        version=dataset.version,
        sizes=order,
        counts=[used[bucket] for bucket in order],
        of=[places[one.bucket] if one is not None else -1 for one in placements],
        scales=[round(one.scale, 3) if one is not None else 0.0 for one in placements],
    )


def record_crops(
    dataset: OpenDataset,
    crops: Sequence[tuple[str, tuple[int, int, int, int] | None]],
    part: Part,
) -> ChangesRecord:
    """Write down which part of images is used; the files stay whole.

    Args:
        crops: names, and left, top, right, bottom in px of the upright image; ``None`` takes what
            is recorded away.

    Raises:
        DatasetError: an image is not there, or a box does not lie in it.
    """

    def work_out() -> Plan:
        verb = "crop recorded" if any(box for _, box in crops) else "crop removed"
        plan = Plan(f"{verb}: {crops[0][0] if len(crops) == 1 else len(crops)}", [dataset.root])
        for name, box in crops:
            image = dataset.image(name)
            with plan.together(image.path):
                _plan_crop(dataset, plan, image, box)
        return plan

    return answer(dataset, ("crops", *crops), work_out, part)


def record_mask(dataset: OpenDataset, name: str, png: str, part: Part) -> ChangesRecord:
    """Give an image a loss mask: white is learned, black is not.

    Args:
        png: the mask in base64, of the image's shape; "" takes it away.

    Raises:
        DatasetError: there is no such image, or what came is no PNG of its shape.
    """
    from lorasmith.curation.images.masks import mask_path  # with SciPy

    image = dataset.image(name)
    present = dataset.collection.masks.get(image.path)

    def work_out() -> Plan:
        plan = Plan(f"mask {'painted' if png else 'removed'}: {name}", [dataset.root])
        with plan.together(image.path):
            if not png and present is not None:
                plan.remove(present)
            if png:
                mask = _decoded(name, png, dataset.size_of(image) or (0, 0))
                own = present if present is not None and present.suffix == ".png" else None
                target = own or mask_path(image.path)
                if present is not None and present != target:
                    plan.remove(present)
                plan.write_file(target, partial(_save, mask), what="mask")
        if plan.skipped:
            raise DatasetError(plan.skipped)
        return plan

    return answer(dataset, ("mask", name, hash(png)), work_out, part)


def _plan_crop(
    dataset: OpenDataset,
    plan: Plan,
    image: CollectionImage,
    box: tuple[int, int, int, int] | None,
) -> None:
    record = next((path for path in image.companions if is_crop_record(path)), None)
    if box is None:
        if record is not None:
            plan.remove(record)
        return
    name = dataset.name_of(image)
    size = dataset.size_of(image)
    if size is None:
        raise DatasetError.of(name, "cannot be read", "mend or remove it")
    left, top, right, bottom = box
    inside = 0 <= left < right <= size[0] and 0 <= top < bottom <= size[1]
    if not inside or min(right - left, bottom - top) < MIN_SIDE:
        what = f"{left}, {top}, {right}, {bottom} is no part of a picture of {size[0]}x{size[1]}"
        raise DatasetError.of(name, what, f"its sides are {MIN_SIDE} px or more")
    stem = image.path.with_suffix("")
    shared = sum(other.path.with_suffix("") == stem for other in dataset.images) > 1
    path = record or crop_record_path(image.path, shared=shared)
    write_record(plan, path, Region(box, size), f"part of {right - left}x{bottom - top}")


def _region(image: CollectionImage, size: Size) -> Region | None:
    record = next((path for path in image.companions if is_crop_record(path)), None)
    return read_crop_record(record, size) if record is not None else None


def _place(plan: Buckets, size: Size) -> Placement:
    return place(*size, plan)


def _placement(size: Size, region: Region | None, plan: Buckets) -> PlacementRecord:
    used = region.shape if region is not None else size
    one = place(*used, plan)
    left, top = region.box[:2] if region is not None else (0, 0)
    across, down = used[0] / one.resized[0], used[1] / one.resized[1]
    crop = (
        left + round(one.crop[0] * across),
        top + round(one.crop[1] * down),
        left + round(one.crop[2] * across),
        top + round(one.crop[3] * down),
    )
    return PlacementRecord(
        bucket=one.bucket, resized=one.resized, crop=crop, scale=one.scale, cropped=one.cropped
    )


def _decoded(name: str, png: str, size: Size) -> Image.Image:
    """
    Raises:
        DatasetError: it is no PNG, or of another shape.
    """
    hint = "paint it again"
    if len(png) > MASK_BYTES * 4 // 3:
        raise DatasetError.of(name, "the mask is far too large", hint)
    try:
        data = base64.b64decode(png, validate=True)
        with open_image(io.BytesIO(data)) as image:
            if image.format != "PNG":
                raise DatasetError.of(name, "the mask is no PNG", hint)
            if image.size != size:
                what = "the mask has {}x{} px, the picture {}x{}".format(*image.size, *size)
                raise DatasetError.of(name, what, hint)
            return image.convert("L")
    except (binascii.Error, *DECODER_ERRORS) as error:
        raise DatasetError.of(name, f"the mask is no PNG: {error}", hint) from error


def _save(mask: Image.Image, path: Path) -> None:
    mask.save(path, format="PNG")
