"""What is measured of images, once."""

from __future__ import annotations

from dataclasses import dataclass

from lorasmith.data.images import Header


@dataclass(frozen=True, slots=True)
class Pixels:
    """
    Args:
        darkest, lightest: brightness, 0 to 1, that 2 % of the pixels are below, and above.
        chroma: difference of the channels that 1 % of the pixels exceed, 0 to 1; a grey has none.
        detail: share of the pixels that clearly differ from their neighbours.
        flat: share of the pixels that are as their neighbours.
        plain: share of the rim that is of its middle colour.
        subject: left, top, right, bottom of what is not of that colour, in shares of 255; empty
            where nothing is.
        border: share of the area that is bars or a frame, 0 to 1.
    """

    darkest: float
    lightest: float
    chroma: float
    detail: float
    flat: float
    plain: float
    subject: bytes
    border: float


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What decoding an image once gave.

    Args:
        problem: why it cannot be used, or "".
        hint: what to do then.
        width: px, upright.
        height: px, upright.
        file_bytes: size of the file.
        format: Pillow's name ("PNG").
        frames: more than 1 of an animation.
        content_hash: 32 hex digits, from the file's bytes.
        transparent: some pixel lets the background through.
        phash: 64-bit perceptual hash.
        colours: 48 numbers 0..255, a 4x4 RGB thumbnail.
        greys: 576 numbers 0..255, a 24x24 thumbnail without colour.
        blur: 0 sharp to 1 blurred, from the strongest edges.
        brightness: mean, 0 to 1.
        contrast: standard deviation of brightness, 0 to 1.
        saturation: mean of HSV's, 0 to 1.
        oddities: what trainers do not expect of a file, in words with commas ("CMYK").
        jpeg_quality: 1 to 100, from the quantisation tables; 0 of other formats.
        has_alpha: there is an alpha channel or a transparent colour, perhaps used nowhere.
        warning: something odd that does not keep it from being used, or "".
        pixels: what only a closer look shows; ``None`` where nobody has asked for that yet.
    """

    problem: str
    width: int
    height: int
    file_bytes: int
    format: str
    frames: int
    content_hash: str
    transparent: bool
    phash: int
    colours: bytes
    greys: bytes
    blur: float
    brightness: float
    contrast: float
    saturation: float
    hint: str = ""
    oddities: str = ""
    jpeg_quality: int = 0
    has_alpha: bool = False
    warning: str = ""
    pixels: Pixels | None = None

    @property
    def header(self) -> Header:
        """As the file's header says, of one that can be used."""
        return Header(
            self.width, self.height, self.has_alpha, self.frames, self.warning, self.format
        )
