"""Requests that change the images of a dataset: crop, resize, split, flip, convert, masks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from lorasmith.config.values import Size, UserPath
from lorasmith.core.errors import Problem, SettingsError, UserError
from lorasmith.core.events import Controls, Notice, Observer
from lorasmith.core.text import quantity
from lorasmith.jobs.dataset.changes import FolderChangeRequest
from lorasmith.jobs.request import JobRequest, option

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lorasmith.curation.changes.plan import Plan
    from lorasmith.curation.collection import Collection, CollectionImage
    from lorasmith.curation.images.crop import CropRule
    from lorasmith.curation.images.cropping import Crop

QUALITY = "Of JPEG, WebP and AVIF files, 1 to 100; by itself they are written as they were"


def command_of(request: JobRequest) -> str:
    """What the history says of a request: its verb and options, without folders."""
    words = [request.verb.removeprefix("dataset ")]
    for name in type(request).model_fields:
        value = getattr(request, name)
        if name in ("folders", "dry_run", "preview") or not request.given(name):
            continue
        flag = f"--{name.replace('_', '-')}"
        if value is True:
            words.append(flag)
        elif value not in (False, None, ""):
            shown = "x".join(map(str, value)) if isinstance(value, tuple) else str(value)
            words.append(f"{flag} {shown}")
    return " ".join(words)


def _sides(size: Any) -> tuple[int, int]:
    return size if isinstance(size, tuple) else (size, size)


class CropRequest(FolderChangeRequest):
    """Crop the pictures in DIR: square, to the shape of buckets, or around what they show.

    Masks are cropped with their pictures. With --record the files stay as they are: what is to be
    kept is written beside each, and training and `dataset export` use that part alone.
    """

    verb: ClassVar = "dataset crop"

    to: Literal["square", "bucket", "aspect", "subject", "box", "recorded", "whole"] = option(
        "square",
        "What is kept: the largest square; the shape of the bucket that it goes to; the nearest of "
        "--aspects; what stands out from the border; the box that a file beside it names; the "
        "recorded crop; all of it",
    )
    focus: str = option(
        "auto",
        "Where a square or bucket lies: auto (a face, else the subject), center, subject, face, "
        "top, bottom, left, right, or a point as shares of width and height, as in 0.5,0.3",
        metavar="PLACE",
    )
    aspects: str = option(
        "1:1,2:3,3:2", "Shapes that --to aspect may give, as width:height", metavar="W:H,..."
    )
    resolution: Size = option(
        512,
        "Size to train at, in pixels: for buckets, and for --resize",
        kind="size",
        metavar="N|WxH",
    )
    resize: bool = option(False, "Shrink what is kept to the size that training sees")
    upscale: bool = option(False, "Let --resize enlarge small pictures, too")
    margin: float = option(
        0.05, "Around a subject or box, as a share of its sides", metavar="X", ge=0, le=2
    )
    trim: bool = option(False, "Cut off borders first: bars of films, frames, margins of scans")
    tolerance: int = option(
        12, "By which the colours of a border may differ, of 255", metavar="N", ge=0, le=128
    )
    record: bool = option(False, "Write the crops down beside the pictures, and leave these whole")
    preview: UserPath | None = option(
        None, "Draw a sheet of what would be kept, before anything is changed", metavar="FILE.png"
    )
    faces: UserPath | None = option(
        None,
        "What finds faces: a cascade of OpenCV (.xml) or YuNet (.onnx)",
        metavar="FILE",
        default_text="OpenCV's own cascade, where it is installed",
    )
    quality: int | None = option(None, QUALITY, metavar="N", ge=1, le=100)

    def plan(self, observer: Observer, controls: Controls) -> Plan:
        from lorasmith.curation.images.cropping import choose_crops, plan_crops
        from lorasmith.curation.images.faces import face_finder

        rule = self.rule()
        find_faces = face_finder(self.faces) if rule.looks else None
        if rule.focus == "face" and find_faces is None:
            what = "there is nothing that finds faces"
            hint = "name a cascade or YuNet's .onnx with --faces, or use --focus subject"
            raise UserError.of("focus", what, hint)
        plan, collection, images = open_images(self, observer, controls)
        crops = choose_crops(
            plan, images, rule, find_faces=find_faces, observer=observer, controls=controls
        )
        if self.preview is not None:
            _draw_sheet(self.preview, crops, observer)
        plan_crops(
            plan,
            collection,
            crops,
            record=self.record,
            fitted=self.fitted() if self.resize else None,
            quality=self.quality,
            observer=observer,
            controls=controls,
        )
        return plan

    def rule(self) -> CropRule:
        """
        Raises:
            SettingsError: with all options that cannot be meant.
        """
        from lorasmith.curation.images.crop import CropRule, parse_aspects, parse_focus
        from lorasmith.data.buckets import plan_buckets

        problems = list(self._idle())
        focus: Any = "auto"
        try:
            focus = parse_focus(self.focus)
        except ValueError as error:
            problems.append(Problem("focus", str(error)))
        aspects: tuple[tuple[int, int], ...] = ()
        try:
            aspects = parse_aspects(self.aspects)
        except ValueError as error:
            problems.append(Problem("aspects", str(error), "write them like 1:1,2:3,3:2"))
        if problems:
            raise SettingsError(problems)
        width, height = _sides(self.resolution or 512)
        buckets = plan_buckets(width, height) if self.to == "bucket" else None
        return CropRule(self.to, focus, buckets, self.margin, self.trim, self.tolerance, aspects)

    def _idle(self) -> list[Problem]:
        """Options that would do nothing."""
        shaped = self.to in ("square", "bucket", "aspect")
        sized = self.to in ("square", "bucket")
        idle = [
            ("focus", shaped, "--to square, bucket or aspect"),
            ("aspects", self.to == "aspect", "--to aspect"),
            ("faces", shaped or self.to == "subject", "--to square, bucket, aspect or subject"),
            ("margin", self.to in ("subject", "box"), "--to subject or box"),
            ("resolution", self.to == "bucket" or self.resize, "--to bucket or --resize"),
            ("resize", not self.record, "crops that are carried out, not with --record"),
            ("resize", sized, "--to square or bucket; else use `dataset resize`"),
            ("upscale", self.resize, "--resize"),
            ("trim", self.to not in ("box", "recorded"), "crops that look for themselves"),
            ("tolerance", self.trim, "--trim"),
            ("quality", not self.record, "crops that are carried out, not with --record"),
            ("record", self.to != "recorded", "crops that are not recorded yet"),
        ]
        problems = [
            Problem(name, f"is for {what}")
            for name, useful, what in idle
            if self.given(name) and getattr(self, name) and not useful
        ]
        if self.to == "whole" and not self.trim:
            problems.append(Problem("to", "whole pictures are kept whole", "add --trim"))
        return problems

    def fitted(self) -> Callable[[tuple[int, int]], tuple[int, int]]:
        from lorasmith.curation.images.cropping import SizeRule, to_buckets
        from lorasmith.data.buckets import plan_buckets

        width, height = _sides(self.resolution or 512)
        if self.to == "square":
            return SizeRule(longest=min(width, height), upscale=self.upscale).fitted
        return to_buckets(plan_buckets(width, height), upscale=self.upscale)


def open_images(
    request: FolderChangeRequest, observer: Observer, controls: Controls
) -> tuple[Plan, Collection, list[CollectionImage]]:
    """The plan to be filled, the collection, and the images that the filter takes."""
    from lorasmith.curation.changes.plan import Plan
    from lorasmith.curation.collection import open_collection
    from lorasmith.curation.filter import parse_filter

    takes = parse_filter(request.where)
    collection = open_collection(request.folders, observer=observer)
    images = takes.select(collection, observer, controls)
    return Plan(command_of(request), collection.roots), collection, images


# More would be a sheet that no viewer opens.
_SHEET_COLUMNS, _MOST_ON_SHEET = 5, 300


def _draw_sheet(path: Path, crops: Sequence[Crop], observer: Observer) -> None:
    from lorasmith.core.files import atomic_path
    from lorasmith.curation.images.cropping import crop_cells
    from lorasmith.sampling.contact_sheet import contact_sheet

    if not crops:
        return
    cells = crop_cells(crops[:_MOST_ON_SHEET])
    rows = [cells[at : at + _SHEET_COLUMNS] for at in range(0, len(cells), _SHEET_COLUMNS)]
    with atomic_path(path) as part:
        contact_sheet(rows).save(part, format="PNG")
    first = f"the first {len(cells)} of " if len(crops) > len(cells) else ""
    text = f"{path} shows what would be kept of {first}{quantity(len(crops), 'picture')}"
    observer(Notice("info", text))


class ResizePicturesRequest(FolderChangeRequest):
    """Resize the pictures in DIR, in their own shape, with their masks and recorded crops.

    As training does it: by area averaging to shrink, by Lanczos to grow. Training resizes to its
    buckets by itself; this saves disk space and decoding.
    """

    verb: ClassVar = "dataset resize"

    longest: int | None = option(None, "Longest side, in pixels", metavar="N", ge=16, le=32768)
    shortest: int | None = option(None, "Shortest side, in pixels", metavar="N", ge=16, le=32768)
    megapixels: float | None = option(
        None, "Area, in millions of pixels", metavar="X", gt=0, le=178
    )
    scale: float | None = option(None, "Factor on both sides", metavar="X", gt=0, le=16)
    upscale: bool = option(False, "Enlarge smaller pictures, too")
    quality: int | None = option(None, QUALITY, metavar="N", ge=1, le=100)

    def plan(self, observer: Observer, controls: Controls) -> Plan:
        from lorasmith.curation.images.cropping import SizeRule, plan_sizes

        names = ("longest", "shortest", "megapixels", "scale")
        given = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        if len(given) != 1:
            what = "one of --longest, --shortest, --megapixels and --scale says the new size"
            raise SettingsError.of(next(iter(given), "longest"), what, "give exactly one")
        if self.scale is not None and self.scale > 1 and not self.upscale:
            raise SettingsError.of("scale", "a factor above 1 enlarges", "add --upscale")
        plan, collection, images = open_images(self, observer, controls)
        rule = SizeRule(**given, upscale=self.upscale)
        plan_sizes(
            plan,
            collection,
            images,
            rule,
            quality=self.quality,
            observer=observer,
            controls=controls,
        )
        return plan


class SplitRequest(FolderChangeRequest):
    """Part large pictures in DIR into tiles, each with the caption and its part of the mask.

    a.png becomes a_tile1.png, a_tile2.png, …; it goes to the trash itself, unless --keep. Of a
    picture with a recorded crop only that part is used.
    """

    verb: ClassVar = "dataset split"

    size: Size = option(
        None,
        "Tiles of this size, as few as cover the picture, in pixels",
        kind="size",
        metavar="N|WxH",
    )
    tiles: str = option("", "So many tiles: 4, or columns x rows: 2x3", metavar="N|CxR")
    overlap: float = option(
        0.0, "Share of a tile that its neighbour shows too", metavar="X", ge=0, le=0.9
    )
    least: int = option(
        0, "Pictures with no side longer than this stay whole", metavar="PX", unit="pixels", ge=0
    )
    keep: bool = option(False, "Leave the pictures beside their tiles")
    quality: int | None = option(None, QUALITY, metavar="N", ge=1, le=100)

    def plan(self, observer: Observer, controls: Controls) -> Plan:
        from lorasmith.curation.images.copies import TileRule, plan_tiles

        if (self.size is None) == (not self.tiles):
            what = "either --size or --tiles says how pictures are parted"
            raise SettingsError.of("tiles", what, "give one of them")
        grid = count = None
        if self.tiles:
            parts = self.tiles.lower().replace("×", "x").split("x")
            numbers = [int(part) if part.strip().isdecimal() else 0 for part in parts]
            if len(numbers) > 2 or not all(1 <= number <= 100 for number in numbers):
                what = f"{self.tiles!r} is neither a number of tiles nor columns x rows"
                raise SettingsError.of("tiles", what, "write it like 4 or 2x3")
            grid = (numbers[0], numbers[1]) if len(numbers) == 2 else None
            count = numbers[0] if grid is None else None
        plan, collection, images = open_images(self, observer, controls)
        size = _sides(self.size) if self.size is not None else None
        plan_tiles(
            plan,
            collection,
            images,
            TileRule(size, grid, count, self.overlap),
            keep=self.keep,
            least=self.least,
            quality=self.quality,
            observer=observer,
            controls=controls,
        )
        return plan


class FlipRequest(FolderChangeRequest):
    """Put a mirror image beside each picture in DIR: a_flip.png, with mask and caption.

    In its caption `left` and `right` change places. Pictures that have a mirror image already are
    passed over. Training can mirror by itself (augment.flip), without captions knowing.
    """

    verb: ClassVar = "dataset flip"

    quality: int | None = option(None, QUALITY, metavar="N", ge=1, le=100)

    def plan(self, observer: Observer, controls: Controls) -> Plan:
        from lorasmith.curation.images.copies import plan_flips

        plan, collection, images = open_images(self, observer, controls)
        plan_flips(
            plan, collection, images, quality=self.quality, observer=observer, controls=controls
        )
        return plan


class ConvertPicturesRequest(FolderChangeRequest):
    """Bring the pictures in DIR into a form that every trainer reads alike.

    Upright, sRGB, 8 bits a channel, no palette, no CMYK; GIF and TIFF become PNG. Pictures that are
    so already stay byte for byte. With --to also into another format.
    """

    verb: ClassVar = "dataset convert"
    other_names: ClassVar = {"data.background": "background"}

    to: Literal["png", "jpg", "webp", "bmp", "avif"] | None = option(
        None, "Format of all pictures", default_text="each keeps its own"
    )
    quality: int | None = option(
        None, "Of JPEG, WebP and AVIF files, 1 to 100", metavar="N", ge=1, le=100, default_text="95"
    )
    background: str = option(
        "",
        "Colour under what is transparent, as in white or #808080",
        metavar="COLOUR",
        default_text="it stays transparent; white in JPEG",
    )
    frames: Literal["refuse", "first", "all"] = option(
        "refuse", "Of animations: leave them alone and say so, take the first picture, or take all"
    )

    def plan(self, observer: Observer, controls: Controls) -> Plan:
        from lorasmith.curation.images.converting import (
            Target,
            foreign_images,
            plan_conversions,
        )
        from lorasmith.data.images import parse_colour

        background = parse_colour(self.background) if self.background else None
        plan, collection, images = open_images(self, observer, controls)
        foreign = [] if self.where else foreign_images(collection)
        plan_conversions(
            plan,
            collection,
            [*images, *foreign],
            Target(self.to, background, self.frames, self.quality),
            observer=observer,
            controls=controls,
        )
        return plan


class MasksRequest(FolderChangeRequest):
    """Make a mask for each picture in DIR: what is white in it is learned, what is black is not.

    a-masklabel.png lies beside a.png, where loss.masked = "beside" and OneTrainer look for it.
    Pictures that have a mask keep it.
    """

    verb: ClassVar = "dataset masks"

    source: Literal["subject", "alpha", "grey"] = option(
        "subject",
        "What masks are made of: what stands out from the border; the transparency; the picture in "
        "greys, to paint over",
        flag="from",
    )
    invert: bool = option(False, "Black for white")
    overwrite: bool = option(False, "Make masks anew that are there")

    def plan(self, observer: Observer, controls: Controls) -> Plan:
        from lorasmith.curation.images.converting import plan_masks

        plan, collection, images = open_images(self, observer, controls)
        plan_masks(
            plan,
            collection,
            images,
            self.source,
            invert=self.invert,
            overwrite=self.overwrite,
            observer=observer,
            controls=controls,
        )
        return plan
