"""An image with all that its file says, and its way back into a file.

An image is read upright and in its own mode, so that cropping a palette, a 16-bit grey or a
transparent image loses nothing. What goes along into the new file: generation text and other PNG
text, EXIF (its orientation set to upright), XMP, the colour profile, resolution. JPEG files are
written with the quantisation tables that they came with, which loses least; PNG, BMP and lossless
WebP lose nothing. Thumbnails inside of EXIF go: they would show the picture as it was.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from PIL import ExifTags, Image, JpegImagePlugin
from PIL.PngImagePlugin import PngInfo

from lorasmith.core.disk import write_error
from lorasmith.core.errors import Problem, RunError, UserError
from lorasmith.data.image_texts import CHUNK
from lorasmith.data.images import DECODER_ERRORS, load_upright

FormatName = Literal["png", "jpg", "webp", "bmp", "avif"]
_FORMATS: dict[str, str] = {
    ".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".jfif": "JPEG", ".webp": "WEBP",
    ".bmp": "BMP", ".avif": "AVIF", ".jxl": "JXL", ".tif": "TIFF", ".tiff": "TIFF",
}  # fmt: skip
# Modes that a format keeps as they are; others go through one of these that holds all of it.
_MODES: dict[str, tuple[str, ...]] = {
    "PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16", "I"),
    "JPEG": ("L", "RGB", "CMYK"),
    "WEBP": ("RGB", "RGBA"),
    "BMP": ("1", "L", "P", "RGB"),
    "AVIF": ("RGB", "RGBA"),
    "JXL": ("RGB", "RGBA", "L", "LA"),
    "TIFF": ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"),
}
DEFAULT_QUALITY = 95
_ORIENTATION = ExifTags.Base.Orientation
_COMMENT = ExifTags.Base.UserComment


@dataclass(frozen=True)
class ImageFile:
    """
    Args:
        image: upright, in the file's own mode.
        format: Pillow's name ("PNG").
        exif: with orientation 1, or without any.
        texts: PNG text, by its key; XMP among them.
        icc: the colour profile, or ``None``.
        xmp: of other formats.
        options: how Pillow is told to write it as it was: quantisation tables, ``lossless``.
    """

    image: Image.Image
    format: str
    exif: Image.Exif
    texts: dict[str, str] = field(default_factory=dict)
    icc: bytes | None = None
    xmp: bytes | None = None
    options: dict[str, Any] = field(default_factory=dict)

    def with_image(self, image: Image.Image, *, icc: bytes | None = None) -> ImageFile:
        """The same file with another image; of other colours, with their profile."""
        return replace(self, image=image, icc=icc)


def read_image_file(path: Path, frame: int = 0) -> ImageFile:
    """
    Args:
        frame: of an animation, from 0.

    Raises:
        DatasetError: it cannot be read, or is damaged.
    """
    image, original = load_upright(path, frame)
    info = original.info
    options: dict[str, Any] = {}
    if original.format in ("JPEG", "MPO"):
        options["qtables"] = getattr(original, "quantization", None)
        options["subsampling"] = JpegImagePlugin.get_sampling(original)
        options["progressive"] = bool(info.get("progressive"))
    if original.format == "WEBP":
        options["lossless"] = _is_lossless_webp(path)
    if "dpi" in info:
        options["dpi"] = info["dpi"]
    texts = {
        key: value for key, value in getattr(original, "text", {}).items() if isinstance(value, str)
    }
    xmp = info.get("xmp")
    return ImageFile(
        image,
        "JPEG" if original.format == "MPO" else str(original.format),
        _upright_exif(original),
        texts,
        info.get("icc_profile") or None,
        xmp if isinstance(xmp, bytes) else None,
        options,
    )


def write_image_file(
    file: ImageFile, path: Path, quality: int | None = None, *, ending: str = ""
) -> None:
    """Write it to ``path`` (not atomically: the journal and exports do that), in the format that
    the ending says.

    Args:
        quality: of JPEG, WebP and AVIF, 1 to 100; ``None``: as the file came where it had this
            format, else 95.
        ending: of the name that the file will have, where ``path`` is a temporary one.

    Raises:
        UserError: it cannot be written so.
    """
    name = _FORMATS[(ending or path.suffix).lower()]
    image = for_format(file.image, name)
    same = file.format == name and image.mode == file.image.mode
    options = dict(file.options) if same and quality is None else {}
    if "dpi" in file.options and name in ("PNG", "JPEG", "TIFF", "BMP"):
        options["dpi"] = file.options["dpi"]
    if name in ("JPEG", "WEBP", "AVIF") and not options.get("qtables"):
        options.pop("qtables", None)
        options.pop("subsampling", None)
        options["quality"] = quality or DEFAULT_QUALITY
        if name == "JPEG":
            options["subsampling"] = 0  # colours at full resolution: lines of drawings stay sharp
    if _kind(image.mode) != _kind(file.image.mode):
        file = replace(file, icc=None)  # it describes other channels
    options |= _said(file, name)
    if image.info.keys() - {"transparency"}:  # Pillow would write some of it unasked
        image = image.copy()
        image.info = {k: v for k, v in image.info.items() if k == "transparency"}
    try:
        image.save(path, format=name, **options)
    except OSError as error:
        if error.errno is not None:
            raise write_error(path, error) from error
        raise _cannot(path, error) from error
    except DECODER_ERRORS as error:
        raise _cannot(path, error) from error


def _kind(mode: str) -> str:
    return "CMYK" if mode == "CMYK" else "grey" if mode[0] in "1LIF" else "RGB"


def for_format(image: Image.Image, name: str) -> Image.Image:
    """In a mode that the format holds, with as little lost as can be: transparent parts of an
    image that gets none become white."""
    modes = _MODES[name]
    opaque = name in ("JPEG", "BMP")
    if image.mode in modes and not (opaque and image.has_transparency_data):
        return image
    if image.has_transparency_data:
        if "RGBA" in modes:
            return image.convert("RGBA")
        layer = image.convert("RGBA")
        ground = Image.new("RGBA", layer.size, (255, 255, 255, 255))
        return Image.alpha_composite(ground, layer).convert("RGB")
    if image.mode in ("1", "L") and "L" in modes:
        return image.convert("L")
    return image.convert("RGB")


def suffix_of(name: FormatName) -> str:
    return f".{name}"


def pillow_name(name: FormatName) -> str:
    """Pillow's name for a format."""
    return _FORMATS[suffix_of(name)]


def format_of(path: Path) -> str:
    """Pillow's name for the format that a name's ending asks for; "" for another file's."""
    return _FORMATS.get(path.suffix.lower(), "")


def _said(file: ImageFile, name: str) -> dict[str, Any]:
    """What the file says besides its pixels, as the format takes it."""
    options: dict[str, Any] = {}
    if file.icc and name != "BMP":
        options["icc_profile"] = file.icc
    exif, worth_writing = file.exif, len(file.exif) > 0
    if name == "PNG":
        if file.texts or file.xmp:
            options["pnginfo"] = _png_texts(file)
    elif name in ("JPEG", "WEBP", "AVIF", "JXL", "TIFF"):
        if CHUNK in file.texts:
            exif, worth_writing = _with_comment(exif, file.texts[CHUNK]), True
        xmp = file.xmp or file.texts.get("XML:com.adobe.xmp", "").encode()
        if xmp and name in ("JPEG", "WEBP", "AVIF"):
            options["xmp"] = xmp
    if worth_writing and name != "BMP":
        options["exif"] = exif.tobytes()
    return options


def _png_texts(file: ImageFile) -> PngInfo:
    info = PngInfo()
    for key, text in file.texts.items():
        latin = all(ord(letter) < 256 for letter in text)
        if latin and key != "XML:com.adobe.xmp":
            info.add_text(key, text, zip=len(text) > 10_000)
        else:
            info.add_itxt(key, text)
    if file.xmp and "XML:com.adobe.xmp" not in file.texts:
        info.add_itxt("XML:com.adobe.xmp", file.xmp.decode("utf-8", errors="replace"))
    return info


def _with_comment(exif: Image.Exif, text: str) -> Image.Exif:
    """Generation text where the web UI puts it in a JPEG: the comment, in UTF-16."""
    copy = Image.Exif()
    if len(exif):
        copy.load(exif.tobytes())
    copy.get_ifd(ExifTags.IFD.Exif)[_COMMENT] = b"UNICODE\0" + text.encode("utf-16-be")
    return copy


def _upright_exif(image: Image.Image) -> Image.Exif:
    try:
        exif = image.getexif()
        exif.tobytes()
    except DECODER_ERRORS:
        return Image.Exif()  # damaged: a reader would only stumble over it again
    if _ORIENTATION in exif:
        exif[_ORIENTATION] = 1
    return exif


def _is_lossless_webp(path: Path) -> bool:
    with open(path, "rb") as file:
        head = file.read(4096)
    return b"VP8L" in head[12:]


def _cannot(path: Path, error: BaseException) -> UserError:
    what = f"cannot be written as {path.suffix.lstrip('.').upper()} ({error})"
    return RunError(Problem(str(path), what, "choose another format"))
