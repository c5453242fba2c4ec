"""Measuring images: what :class:`.ImageFacts` says of each, from decoding it once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from lorasmith.core.errors import DatasetError
from lorasmith.curation.facts import ImageFacts, Pixels
from lorasmith.curation.images.convert import file_oddities
from lorasmith.curation.pixels import joined_bytes, jpeg_quality, measure_pixels
from lorasmith.data.cache.file_memo import hash_file
from lorasmith.data.images import Glance, glance

# Half a percent of the pixels, those with the strongest edges, says how sharp an image is: a flat
# drawing has few edges, and they are sharp.
_SHARPEST = 0.005
_SHARP = 90.0
_DETAIL = 256  # px; blur is measured at this size, to which JPEGs are decoded at little cost

_GREYS = (24, 24)
_LEVELS = np.arange(256) / 255

_HASH_PIXELS = 32
# The first eight rows of the discrete cosine transform (type II) of 32 numbers.
_LOW_FREQUENCIES = 2.0 * np.cos(
    np.pi * np.arange(8)[:, None] * (2 * np.arange(_HASH_PIXELS) + 1) / (2 * _HASH_PIXELS)
)


@dataclass(frozen=True, slots=True)
class _Decoded:
    """What was seen of a file, and is still to be measured."""

    path: Path
    file_bytes: int
    content_hash: str
    glance: Glance
    oddities: str


def measure_image(path: Path, *, closely: bool = False) -> ImageFacts:
    """As :func:`measure_images`, of one."""
    return measure_images([path], closely=closely)[0]


def measure_images(
    paths: Sequence[Path], content_hashes: Sequence[str] = (), *, closely: bool = False
) -> list[ImageFacts]:
    """Decode images and measure them; one that cannot be decoded has a ``problem``.

    Args:
        content_hashes: where they are known, "" of one that is not.
        closely: with :attr:`ImageFacts.pixels`.
    """
    hashes = content_hashes or [""] * len(paths)
    looks = [_decoded(path, content) for path, content in zip(paths, hashes, strict=True)]
    measured = iter(_measured([one for one in looks if isinstance(one, _Decoded)], closely))
    return [next(measured) if isinstance(one, _Decoded) else one for one in looks]


def _decoded(path: Path, content_hash: str) -> _Decoded | ImageFacts:
    size = 0
    try:
        size = path.stat().st_size
        content_hash = content_hash or hash_file(path)
        image = glance(path, detail=_DETAIL)
        odd = file_oddities(path, image.header.format, image.mode, image.orientation, image.icc)
    except OSError as error:
        return _unusable(f"it cannot be read: {error.strerror}", "", size, content_hash)
    except DatasetError as error:
        problem = error.problems[0]
        return _unusable(problem.what, problem.hint, size, content_hash)
    return _Decoded(path, size, content_hash, image, ", ".join(odd))


def _measured(looks: Sequence[_Decoded], closely: bool) -> list[ImageFacts]:
    """Of several at once: thumbnails are so small that each call takes longer to begin than to
    work, and threads would wait for one another at every one of them."""
    thumbnails = [look.glance.thumbnail for look in looks]
    greys = [thumbnail.convert("L") for thumbnail in thumbnails]
    pixels: Sequence[Pixels | None] = [None] * len(looks)
    if closely:
        pixels = measure_pixels([look.path for look in looks], thumbnails)
    hashes, saturations = perceptual_hashes(greys), _saturations(thumbnails)
    facts = []
    for number, (look, grey) in enumerate(zip(looks, greys, strict=True)):
        image, header = look.glance, look.glance.header
        brightness, contrast = _light(grey)
        extent = (0, 0, *image.extent)
        facts.append(
            ImageFacts(
                "",
                header.width,
                header.height,
                look.file_bytes,
                header.format,
                header.frames,
                look.content_hash,
                image.transparent,
                hashes[number],
                image.thumbnail.resize((4, 4), Image.Resampling.BOX).tobytes(),
                grey.resize(_GREYS, Image.Resampling.BILINEAR, extent).tobytes(),
                _blur(image.bands) if image.bands is not None else 0.0,
                brightness,
                contrast,
                saturations[number],
                "",
                look.oddities,
                jpeg_quality(image.quantisation),
                header.has_alpha,
                header.warning,
                pixels[number],
            )
        )
    return facts


def _unusable(problem: str, hint: str, file_bytes: int, content_hash: str) -> ImageFacts:
    return ImageFacts(
        problem, 0, 0, file_bytes, "", 1, content_hash, False, 0, b"", b"", 0, 0, 0, 0, hint=hint
    )


def perceptual_hashes(greys: Sequence[Image.Image]) -> list[int]:
    """Of each 64 bits, equal to imagehash's ``phash``: which of an image's 64 lowest frequencies
    are above their median. Of near duplicates 0 to 6 bits differ, of different images about 32.

    Args:
        greys: mode "L".
    """
    side = (_HASH_PIXELS, _HASH_PIXELS)
    small = joined_bytes([grey.resize(side, Image.Resampling.LANCZOS) for grey in greys])
    pixels = small.reshape(-1, *side).astype(np.float64)
    frequencies = (_LOW_FREQUENCIES @ pixels @ _LOW_FREQUENCIES.T).reshape(-1, 64)
    ordered = np.sort(frequencies)  # np.median takes six times as long
    bits = frequencies > (ordered[:, 31:32] + ordered[:, 32:33]) / 2
    return [int.from_bytes(row.tobytes(), "big") for row in np.packbits(bits, axis=1)]


def _light(grey: Image.Image) -> tuple[float, float]:
    """Mean and standard deviation of brightness, 0 to 1."""
    values = np.array(grey.histogram(), np.float64)
    share = values / values.sum()
    mean = float(share @ _LEVELS)
    return mean, float(np.sqrt(share @ (_LEVELS - mean) ** 2))


def _blur(bands: Image.Image) -> float:
    """exp(-edge / 90), where half a percent of the pixels differs more from the four around it.

    Args:
        bands: four groups of rows, one below the other.
    """
    pixels = np.asarray(bands, np.int16).reshape(4, bands.height // 4, bands.width)
    if min(pixels.shape[1:]) < 3:
        return 0.0
    edges = pixels[:, :-2, 1:-1] + pixels[:, 2:, 1:-1]
    edges += pixels[:, 1:-1, :-2]
    edges += pixels[:, 1:-1, 2:]
    edges -= 4 * pixels[:, 1:-1, 1:-1]
    strengths = np.abs(edges, out=edges).ravel()
    weaker = strengths.size - 1 - int(_SHARPEST * strengths.size)
    return float(np.exp(-int(np.partition(strengths, weaker)[weaker]) / _SHARP))


def _saturations(images: Sequence[Image.Image]) -> list[float]:
    """Means of HSV's saturation of RGB images, 0 to 1."""
    if not images:
        return []
    red, green, blue = joined_bytes(images).reshape(-1, 3).T
    high = np.maximum(np.maximum(red, green), blue).astype(np.float32)
    low = np.minimum(np.minimum(red, green), blue).astype(np.float32)
    values = (high - low) / np.maximum(high, 1)
    ends = np.cumsum([image.width * image.height for image in images])
    return [float(part.mean()) for part in np.split(values, ends[:-1])]
