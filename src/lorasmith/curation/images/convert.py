"""What trainers expect of an image, and what differs from it: turned by EXIF, 16 bits, CMYK, a
palette, another colour profile than sRGB, transparency, an animation."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from PIL import ExifTags, Image, ImageCms

from lorasmith.core.errors import DatasetError, Problem
from lorasmith.curation.images.image_file import ImageFile
from lorasmith.data.images import DECODER_ERRORS, open_image, read_header, to_rgb

_SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
TURNED, PALETTE = "turned by EXIF", "in a palette"
_PNG_BITS = 24  # where a PNG file says how many bits a channel has


@dataclass(frozen=True, slots=True)
class Oddities:
    """What in a file is not as trainers expect it, from its header.

    Args:
        format: Pillow's name ("JPEG").
        reasons: in words ("CMYK"); none of a file that is as it should be.
        frames: more than 1 of an animation.
        alpha: it has transparency, perhaps used nowhere.
    """

    format: str
    reasons: tuple[str, ...]
    frames: int = 1
    alpha: bool = False


def oddities(path: Path) -> Oddities:
    """
    Raises:
        DatasetError: it cannot be read.
    """
    read_header(path)  # says well what is wrong
    try:
        with open(path, "rb") as file, open_image(file) as image:
            frames = int(getattr(image, "n_frames", 1))
            reasons = tuple(_reasons(image, path))
            name = "JPEG" if image.format == "MPO" else str(image.format)
            frames = 1 if image.format == "MPO" else frames  # its others are views for 3D
            return Oddities(name, reasons, frames, image.has_transparency_data)
    except DECODER_ERRORS as error:
        problem = Problem(str(path), f"cannot be read ({error})", "get it again or remove it")
        raise DatasetError(problem) from error


def _reasons(image: Image.Image, path: Path) -> Sequence[str]:
    # Of a PNG without EXIF before its pixels, Pillow would decode all of these to look behind them.
    has_exif = image.format != "PNG" or {"exif", "Raw profile type exif"} & image.info.keys()
    orientation = image.getexif().get(ExifTags.Base.Orientation, 1) if has_exif else 1
    icc = image.info.get("icc_profile")
    return file_oddities(path, image.format or "", image.mode, orientation, icc)


def file_oddities(
    path: Path, image_format: str, mode: str, orientation: int, icc: bytes | None
) -> tuple[str, ...]:
    """What in a file is not as trainers expect it, in words, from what its header says.

    Args:
        image_format: Pillow's name ("PNG").
        mode: Pillow's.
        orientation: EXIF's.
        icc: the colour profile.

    Raises:
        OSError: the file cannot be read.
    """
    reasons = []
    if orientation in range(2, 9):
        reasons.append(TURNED)
    if mode.startswith(("I", "F")) or (image_format == "PNG" and _bits_of_png(path) == 16):
        reasons.append("of 16 bits")
    elif mode == "CMYK":
        reasons.append("CMYK")
    elif mode == "P":
        reasons.append(PALETTE)
    if icc and not is_srgb(icc):
        reasons.append("in another colour profile")
    return tuple(reasons)


def _bits_of_png(path: Path) -> int:
    with open(path, "rb") as file:
        head = file.read(_PNG_BITS + 1)
    return head[_PNG_BITS] if len(head) > _PNG_BITS else 8


def normalised(file: ImageFile, background: tuple[int, int, int] | None = None) -> ImageFile:
    """The image in sRGB, 8 bits a channel, as RGB, or as RGBA where it is transparent.

    Args:
        background: colour that transparent parts get; ``None`` leaves them transparent.
    """
    image = to_srgb(file.image, file.icc)
    if image.has_transparency_data and background is None:
        image = image.convert("RGBA")
    elif image.mode != "RGB" or image.has_transparency_data:
        image = to_rgb(image, background or (255, 255, 255))
    return file.with_image(image)


def to_srgb(image: Image.Image, icc: bytes | None) -> Image.Image:
    """Colours of a profile as sRGB has them (perceptual intent, by LittleCMS); unchanged where the
    profile is sRGB's own, damaged, or of other channels than the image has."""
    if not icc or is_srgb(icc):
        return image
    if image.mode == "P" or (image.has_transparency_data and image.mode != "RGBA"):
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    alpha = image.getchannel("A") if image.mode == "RGBA" else None
    colours = image.convert("RGB") if alpha is not None else image
    if colours.mode not in ("RGB", "CMYK", "L"):
        return image
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        result = ImageCms.profileToProfile(colours, profile, _SRGB, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return image
    assert result is not None
    if alpha is not None:
        result.putalpha(alpha)
    result.info.pop("icc_profile", None)
    return result


@lru_cache(maxsize=64)
def is_srgb(icc: bytes) -> bool:
    """Whether a profile calls itself sRGB, or cannot be read and so is of no use."""
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        return "srgb" in ImageCms.getProfileDescription(profile).lower()
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return True
