"""Opening, decoding and fitting image files, with Pillow.

Everything that can be wrong with a file ends in a :class:`DatasetError` that names it and says what
it is, whatever Pillow raises for it. Sizes are always those of the upright image, after EXIF.
"""

from __future__ import annotations

import errno
import importlib
import importlib.util
import os
import stat
import struct
import warnings
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import IO, TYPE_CHECKING

from PIL import Image, ImageColor, UnidentifiedImageError

from lorasmith.core.errors import DatasetError, Problem
from lorasmith.data.decode_memory import decode_memory, decoded_bytes

if TYPE_CHECKING:
    import numpy as np

# What damaged files make Pillow's decoders raise; the list comes from its fuzzers' findings.
DECODER_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    EOFError,
    RuntimeError,
    ArithmeticError,
    MemoryError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)

# Pillow warns from half of its limit on (89 megapixels), which a good camera reaches; twice that it
# refuses, and so do we.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
# What it says besides (of damaged EXIF, say) names no file; what matters we say ourselves.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".avif", ".jxl"})
MASK_SUFFIXES = SUFFIXES | {".tif", ".tiff", ".gif"}
# Pictures, too, but no training images before they are converted.
FOREIGN_SUFFIXES = frozenset({".gif", ".tif", ".tiff", ".heic", ".heif", ".psd", ".jp2", ".jfif"})

# Pillow's plugins for those. It knows forty more, goes by the content alone, and one of them (EPS)
# hands the file to Ghostscript as a program.
_PLUGINS = {
    "PNG": "PIL.PngImagePlugin", "JPEG": "PIL.JpegImagePlugin", "WEBP": "PIL.WebPImagePlugin",
    "BMP": "PIL.BmpImagePlugin", "AVIF": "PIL.AvifImagePlugin", "JXL": "pillow_jxl",
    "TIFF": "PIL.TiffImagePlugin", "GIF": "PIL.GifImagePlugin",
}  # fmt: skip
_NEEDS_DECODER = {"WEBP": "PIL._webp", "AVIF": "PIL._avif"}

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ORIENTATION_TAG = 0x0112
_ROWS_IN_CACHE = 32  # rows worked on at a time: what a processor's cache holds


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says of its image before a pixel is decoded.

    Args:
        width: of the upright image, px.
        height: of the upright image, px.
        has_alpha: there is an alpha channel or a transparent colour (perhaps used nowhere).
        frames: more than 1 for an animation, of which the first is used.
        warning: something odd that does not keep the image from being used, or "".
        format: Pillow's name ("PNG").
    """

    width: int
    height: int
    has_alpha: bool
    frames: int = 1
    warning: str = ""
    format: str = ""


@cache
def readable_formats() -> tuple[str, ...]:
    """Pillow's names of the formats that are read here, and that it can decode."""
    for name, plugin in _PLUGINS.items():
        needs = _NEEDS_DECODER.get(name, plugin)
        if importlib.util.find_spec(needs) is not None:
            importlib.import_module(plugin)
    return tuple(name for name in _PLUGINS if name in Image.OPEN)


def readable_suffixes(suffixes: frozenset[str] = SUFFIXES) -> frozenset[str]:
    """Those of ``suffixes`` that this Pillow, with its plugins, can decode."""
    formats = readable_formats()
    return frozenset(suffix for suffix in suffixes if Image.EXTENSION.get(suffix) in formats)


def open_image(file: Path | IO[bytes]) -> Image.Image:
    """The one place where Pillow opens a file: by the formats that are read here, and no others.

    Its pixels are decoded by ``load()``. Close it, best by ``with``.

    Raises:
        OSError: it is no image of these formats (``UnidentifiedImageError``), or cannot be read.
        Other errors of :data:`DECODER_ERRORS`: it is damaged.
    """
    return Image.open(file, formats=readable_formats())


@contextmanager
def decoded_image(path: Path, background: str = "white") -> Iterator[Image.Image]:
    """As :func:`load_image`; its memory counts (see ``decode_memory``) while the block runs."""
    with decode_memory.scope():
        yield load_image(path, background)


def read_header(path: Path) -> Header:
    """Size and kind of the image, from the first bytes of the file.

    Raises:
        DatasetError: it cannot be opened or is no image.
    """
    with _opened(path) as image:
        return _header_of(image)


def _header_of(image: Image.Image) -> Header:
    orientation, warning = _orientation(image)
    width, height = image.size
    if orientation >= 5:
        width, height = height, width
    frames = int(getattr(image, "n_frames", 1))
    alpha = image.has_transparency_data
    return Header(width, height, alpha, frames, warning, image.format or "")


def load_image(path: Path, background: str = "white") -> Image.Image:
    """The whole image, upright, in RGB, its transparent parts laid on ``background``.

    Args:
        background: a colour as CSS writes it ("white", "#808080").

    Raises:
        DatasetError: the file cannot be read, is truncated, or ``background`` is no colour.
    """
    colour = parse_colour(background)
    with _opened(path) as image:
        orientation, _ = _orientation(image)
        decode_memory.take(decoded_bytes(image))
        image.load()
        rgb = to_rgb(image, colour)
        return rgb.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else rgb


def load_upright(path: Path, frame: int = 0, least: int = 0) -> tuple[Image.Image, Image.Image]:
    """The whole image, upright, in its own mode; and as the file has it, with all that it says.

    Args:
        frame: of an animation, from 0.
        least: px of both sides that are enough: a JPEG is then decoded smaller, and quicker.

    Raises:
        DatasetError: as :func:`load_image`.
    """
    with _opened(path) as image:
        orientation, _ = _orientation(image)
        if least:
            image.draft(image.mode, (least, least))
        decode_memory.take(decoded_bytes(image))
        if frame:
            image.seek(frame)
        image.load()
        with suppress(*DECODER_ERRORS):
            image.getexif()  # while the file is open
        turn = _UPRIGHT.get(orientation)
        return image.transpose(turn) if turn is not None else image, image


def load_alpha(path: Path) -> Image.Image:
    """The image's transparency, upright, mode "L": 255 is opaque, as is all of one without.

    Raises:
        DatasetError: as :func:`load_image`.
    """
    with _opened(path) as image:
        orientation, _ = _orientation(image)
        decode_memory.take(decoded_bytes(image))
        image.load()
        alpha = Image.new("L", image.size, 255)
        if image.has_transparency_data:
            alpha = image.convert("RGBA").getchannel("A")
        return alpha.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else alpha


@dataclass(frozen=True, slots=True)
class Glance:
    """A small look at an image that was decoded to its end.

    Args:
        thumbnail: RGB, on white, upright, its shorter side 64 to 128 px (smaller images as
            they are), its longer 8192 at most.
        extent: width and height of the whole in px of the thumbnail, whose last column and row
            may be of a part of a pixel.
        transparent: some pixel really lets the background through.
        header: size and kind.
        bands: an eighth of the file's rows, mode "L", in four groups of equal height one below
            the other; none unless asked for.
        mode: Pillow's, of the file.
        orientation: EXIF's, 1 to 8; 1 is upright.
        icc: the colour profile, if there is one.
        quantisation: a JPEG's tables, by number.
    """

    thumbnail: Image.Image
    extent: tuple[float, float]
    transparent: bool
    header: Header
    bands: Image.Image | None = None
    mode: str = "RGB"
    orientation: int = 1
    icc: bytes | None = None
    quantisation: Mapping[int, Sequence[int]] = field(default_factory=dict)


def glance(path: Path, *, detail: int = 0) -> Glance:
    """Decode all of the file, keeping only a thumbnail; JPEGs at an eighth of the cost.

    Args:
        detail: px that the shorter side of the image has at least for ``bands``, and less than
            twice as many; smaller images stay as they are. 0 for no bands.

    Raises:
        DatasetError: as :func:`load_image`.
    """

    with _opened(path) as image:
        header, mode = _header_of(image), image.mode
        quantisation = dict(getattr(image, "quantization", None) or {})
        side = max(128, detail)
        image.draft("RGB", (side, side))  # JPEG only: still reads every block, so finds truncation
        decode_memory.take(decoded_bytes(image))
        image.load()
        factor = max(1, min(image.size) // 64)
        # Each side by itself, as a line may be millions of pixels long.
        factors = max(factor, image.width // 4096), max(factor, image.height // 4096)
        transparent = False
        if image.has_transparency_data:
            alpha = image.convert("RGBA").getchannel("A")
            transparent = alpha.histogram()[255] < alpha.width * alpha.height
        # Box-reduced first: all that follows is then over a hundredth of the pixels.
        direct = image.mode in ("RGB", "L", "RGBA")
        small = image.reduce(factors) if direct else to_rgb(image, (255, 255, 255)).reduce(factors)
        bands = _bands(image, detail) if detail else None
        thumbnail, orientation = to_rgb(small, (255, 255, 255)), _orientation(image)[0]
        turn = _UPRIGHT.get(orientation)
        extent = image.width / factors[0], image.height / factors[1]
        return Glance(
            thumbnail if turn is None else thumbnail.transpose(turn),
            extent if orientation < 5 else (extent[1], extent[0]),
            transparent,
            header,
            bands,
            mode,
            orientation,
            image.info.get("icc_profile") or None,
            quantisation,
        )


def _bands(image: Image.Image, detail: int) -> Image.Image:
    """Four groups of rows, evenly over the height, halved as often as ``detail`` allows, one below
    the other; each at least three rows, if it has them."""
    factor = 1
    while min(image.size) >= 2 * factor * detail:
        factor *= 2
    rows = min(image.height, factor * max(3, image.height // factor // 32))
    # Together at once: a picture that is halved in parts takes most of its time to begin.
    bands = Image.new("L", (image.width, 4 * rows))
    for number in range(4):
        top = (image.height - rows) * number // 3
        band = to_rgb(image.crop((0, top, image.width, top + rows)), (255, 255, 255))
        bands.paste(band.convert("L"), (0, number * rows))
    return bands.reduce(factor) if factor > 1 else bands


def fit(
    image: Image.Image, resized: tuple[int, int], crop: tuple[int, int, int, int]
) -> np.ndarray:
    """Resize, then crop: area averaging to shrink, Lanczos to grow.

    Args:
        image: RGB.
        resized: width and height, px.
        crop: left, top, right, bottom within the resized image, px.

    Returns:
        uint8 array (bottom - top, right - left, 3).
    """
    import numpy as np

    width, height = resized
    left, top, right, bottom = crop
    assert 0 <= left < right <= width, (resized, crop)
    assert 0 <= top < bottom <= height, (resized, crop)
    if (width, height) == image.size:
        pixels = np.asarray(image)
    elif width <= image.width and height <= image.height:
        pixels = _shrink(np.asarray(image), width, height)
    else:
        pixels = np.asarray(image.resize(resized, Image.Resampling.LANCZOS))
    return np.ascontiguousarray(pixels[top:bottom, left:right])


def to_rgb(image: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    """Any Pillow mode to RGB; 16-bit greys are scaled, where Pillow alone would clip them."""
    if image.mode.startswith(("I", "F")):
        import numpy as np

        values = np.asarray(image, dtype=np.float32)
        scale = 255 / 65535 if values.size and values.max() > 255 else 1.0
        image = Image.fromarray((values * scale + 0.5).clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        ground = Image.new("RGBA", layer.size, (*background, 255))
        return Image.alpha_composite(ground, layer).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def parse_colour(name: str) -> tuple[int, int, int]:
    try:
        return ImageColor.getrgb(name)[:3]
    except ValueError as error:
        problem = Problem(
            "data.background", f"{name!r} is not a colour", 'write it like "white" or "#808080"'
        )
        raise DatasetError(problem) from error


def _shrink(pixels: np.ndarray, width: int, height: int) -> np.ndarray:
    """Exact area average (H, W, 3) -> (height, width, 3), uint8.

    Pillow's box filter takes or leaves whole pixels, which shows as uneven lines at ratios just
    above 1; here a pixel on a border is shared between both sides by its covered fraction.
    """
    import numpy as np

    rows = _shrink_rows(pixels.reshape(pixels.shape[0], -1), height)
    turned = rows.reshape(height, pixels.shape[1], 3).transpose(1, 0, 2)
    columns = _shrink_rows(np.ascontiguousarray(turned).reshape(pixels.shape[1], -1), width)
    means = columns.reshape(width, height, 3).transpose(1, 0, 2)
    return (means + 0.5).astype(np.uint8)


def _shrink_rows(values: np.ndarray, count: int) -> np.ndarray:
    """Area average of (H, N) to float32 (count, N), count <= H."""
    import numpy as np

    height = values.shape[0]
    if count == height:
        return values.astype(np.float32)
    edges = np.arange(count + 1) * (height / count)
    begins, ends = edges[:-1], edges[1:]
    first = begins.astype(np.int64)
    averages = np.zeros((count, values.shape[1]), np.float32)
    taps = []
    for offset in range(-(-height // count) + 1):
        row = first + offset
        covered = np.minimum(ends, row + 1) - np.maximum(begins, row)
        weights = np.clip(covered, 0, None) * (count / height)
        taps.append((np.minimum(row, height - 1), weights.astype(np.float32)[:, None]))
    for begin in range(0, count, _ROWS_IN_CACHE):
        part = slice(begin, begin + _ROWS_IN_CACHE)
        for row, weight in taps:
            averages[part] += values[row[part]] * weight[part]
    return averages


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """The file opened by Pillow, its errors (while open, too) turned into DatasetErrors."""
    path = Path(path)
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise DatasetError.of(path, "is not a regular file", "remove it")
        with decode_memory.scope(), open(path, "rb") as file, open_image(file) as image:
            _refuse_empty_claim(image, os.fstat(file.fileno()).st_size)
            yield image
    except DECODER_ERRORS as error:
        raise DatasetError(Problem(str(path), *_explain(path, error))) from error


# Of a hundred megapixels, even PNG of one colour takes a byte for 8 300 pixels at most.
_LARGE, _EMPTY = 89_000_000, 10_000


def _refuse_empty_claim(image: Image.Image, size: int) -> None:
    """A header that claims a huge image with next to nothing behind it would be decoded into the
    memory and time of one."""
    width, height = image.size
    if width * height > max(_LARGE, _EMPTY * size):
        raise Image.DecompressionBombError


_CONVERT = "convert it to PNG or remove it"
_HEIC = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1"})
_FROM_HEIC = "save it as JPEG where it comes from, or: heif-convert photo.heic photo.jpg"
# Beginnings of other kinds of image and page that people give the endings of images.
_OTHER_KINDS = {
    b"%!": "a PostScript program (EPS)", b"\xc5\xd0\xd3\xc6": "a PostScript program (EPS)",
    b"%PDF": "a PDF document", b"8BPS": "a Photoshop document (PSD)", b"<svg": "an SVG drawing",
    b"gimp xcf": "a GIMP document (XCF)", b"\0\0\1\0": "an icon (ICO)",
    b"II*\0\x10\0\0\0CR": "a camera's raw file", b"\0\0\0\x0cjP  ": "a JPEG 2000 image",
    b"qoif": "a QOI image", b"DDS ": "a DDS texture", b"v/1\1": "an OpenEXR image",
}  # fmt: skip


def _explain(path: Path, error: BaseException) -> tuple[str, str]:
    """What is wrong with the file and what to do, from Pillow's or the system's error."""
    if isinstance(error, Image.DecompressionBombError):
        return (
            "it claims more megapixels than it holds, or more than 178, as decompression bombs do",
            "shrink or remove it",
        )
    if isinstance(error, MemoryError):
        return "there is not enough memory to decode it", "shrink it"
    if isinstance(error, OSError) and error.errno is not None:
        return _explain_system(path, error)
    with open(path, "rb") as file:
        head = file.read(512)
    if not head:
        return "the file is empty (0 bytes)", "remove it or put the picture back"
    if not isinstance(error, UnidentifiedImageError):
        if "truncated" in str(error).lower() or isinstance(error, EOFError):
            return "it is truncated: the file ends before the picture", "get it again or remove it"
        return f"it is damaged and cannot be decoded ({error})", "get it again or remove it"
    if head.lstrip()[:1] == b"<" and b"svg" not in head:
        return "it is a web page, not a picture", "download the picture itself"
    if head.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer, not the picture", "run git lfs pull"
    for start, name in _OTHER_KINDS.items():
        if head.startswith(start):
            return f"it is {name}, whatever its ending; that is not read here", _CONVERT
    if head[4:8] == b"ftyp" and head[8:12] in _HEIC:
        return "it is a HEIC photo, as iPhones take them; that is not read here", _FROM_HEIC
    if b"\0" not in head and all(byte >= 32 or byte in b"\t\r\n" for byte in head):
        return "it is text, not a picture", "remove it or give it the right ending"
    return "it is not a picture that Pillow can read", _CONVERT


def _explain_system(path: Path, error: OSError) -> tuple[str, str]:
    if error.errno == errno.ELOOP:
        return "it is a symbolic link that leads back to itself", "remove it"
    if error.errno == errno.ENOENT and path.is_symlink():
        return f"it is a symbolic link to nothing ({path.readlink()})", "mend or remove it"
    if error.errno in (errno.EACCES, errno.EPERM):
        return "you may not read it (permission denied)", "mend its permissions"
    return f"it cannot be read: {error.strerror}", "mend or remove it"


def _orientation(image: Image.Image) -> tuple[int, str]:
    """EXIF orientation 1..8 and a warning; damaged EXIF counts as upright.

    A PNG's EXIF behind the pixels is not looked for: Pillow would decode the image to reach it.
    """
    if image.format == "PNG" and not {"exif", "Raw profile type exif"} & image.info.keys():
        return 1, ""
    try:
        value = image.getexif().get(_ORIENTATION_TAG, 1)
    except DECODER_ERRORS:
        return 1, "its EXIF data is damaged; it is taken as upright"
    if value in range(1, 9):
        return int(value), ""
    if value == 0:  # written by some cameras for "unknown"
        return 1, ""
    return 1, f"its EXIF orientation {value!r} does not exist; it is taken as upright"
