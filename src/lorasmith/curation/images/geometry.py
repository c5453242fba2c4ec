"""One change of an image's shape, done alike to the masks that lie beside it."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image

from lorasmith.data.buckets import Size
from lorasmith.data.images import fit, to_rgb
from lorasmith.data.recorded_crops import Box, Region


@dataclass(frozen=True, slots=True)
class Geometry:
    """
    Args:
        whole: width and height of the upright image that it is made for, px.
        box: the part that is kept; ``None`` is the whole.
        size: what that is resized to, px; ``None`` leaves it.
        flip: mirrored left to right at last.
    """

    whole: Size
    box: Box | None = None
    size: Size | None = None
    flip: bool = False

    @property
    def result(self) -> Size:
        """Width and height afterwards, px."""
        if self.size is not None:
            return self.size
        box = self.box
        return (box[2] - box[0], box[3] - box[1]) if box is not None else self.whole

    @property
    def changes(self) -> bool:
        return self.flip or self.result != self.whole

    def apply(self, image: Image.Image) -> Image.Image:
        """Of the image itself, or of a mask of it at another scale; in its own mode, as far as
        resizing allows.

        Args:
            image: upright.
        """
        if self.box is not None and self.box != (0, 0, *self.whole):
            image = image.crop(Region(self.box, self.whole).within(image.size))
        before = Geometry(self.whole, self.box).result
        if self.size is not None and self.size != before:
            scale = [self.size[n] / before[n] for n in (0, 1)]
            # A mask at half the size stays at half the size.
            sides = (max(1, round(image.size[n] * scale[n])) for n in (0, 1))
            own_size = self.size if image.size == before else (next(sides), next(sides))
            image = resized(image, own_size)
        return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if self.flip else image


def resized(image: Image.Image, size: Size) -> Image.Image:
    """As training scales images: by area averaging to shrink, by Lanczos to grow. Palettes become
    RGB, black and white becomes grey; transparent colours count by their opacity."""
    import numpy as np

    if image.mode == "P" or image.mode == "1" or image.mode.startswith(("I", "F")):
        if image.has_transparency_data:
            image = image.convert("RGBA")
        elif image.mode == "1":
            image = image.convert("L")
        else:
            image = to_rgb(image, (255, 255, 255))
    if image.mode == "RGB":
        return Image.fromarray(fit(image, size, (0, 0, *size)))
    if image.mode == "L":
        levels = fit(image.convert("RGB"), size, (0, 0, *size))
        return Image.fromarray(np.ascontiguousarray(levels[:, :, 0]))
    return image.resize(size, Image.Resampling.LANCZOS)
