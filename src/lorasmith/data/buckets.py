"""Aspect-ratio buckets: which sizes there are, and how an image is laid into one.

Sizes and choice as in sd-scripts (``library/model_util.py`` and ``train_util.py``), so that a
dataset tuned for it is cropped the same here. An image always covers its bucket and is cropped;
it is never padded.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from lorasmith.core.errors import Problem, SettingsError

Size = tuple[int, int]  # width, height, px


@dataclass(frozen=True, slots=True)
class Placement:
    """How one image becomes a bucket's image: resize to ``resized``, cut out ``crop``.

    Args:
        bucket: width and height that training sees, px.
        resized: width and height after scaling, px; covers the bucket.
        crop: left, top, right, bottom within ``resized``, px.
        original: width and height of the upright file, px.
    """

    bucket: Size
    resized: Size
    crop: tuple[int, int, int, int]
    original: Size

    @property
    def scale(self) -> float:
        """Resized over original; above 1 the image is enlarged."""
        width, height = self.original
        return max(self.resized[0] / width, self.resized[1] / height)

    @property
    def cropped(self) -> float:
        """Share of the image's area that is cut away, 0..1."""
        return 1 - (self.bucket[0] * self.bucket[1]) / (self.resized[0] * self.resized[1])

    def size_condition(self, *, flipped: bool = False) -> tuple[int, int, int, int, int, int]:
        """SDXL's six numbers: original height, width, crop top, left, target height, width.

        Original size before any scaling, crop within the resized image (Podell et al. 2023,
        section 2.2). Of a flipped image the right-hand margin is the left one.
        """
        left, top, right, _ = self.crop
        if flipped:
            left = self.resized[0] - right
        width, height = self.original
        return height, width, top, left, self.bucket[1], self.bucket[0]


@dataclass(frozen=True, slots=True)
class Buckets:
    """The sizes that images are brought to.

    Args:
        sizes: sorted; a single one without bucketing.
        area: no bucket has more pixels than this.
        step: every side is a multiple of it, px.
        upscale: ``False``: small images keep their size (``sizes`` is then not used).
        notes: settings that were changed to fit, for the user.
    """

    sizes: tuple[Size, ...]
    area: int
    step: int
    upscale: bool = True
    notes: tuple[Problem, ...] = ()


def bucket_sizes(
    width: int,
    height: int,
    *,
    min: int,  # noqa: A002 - the setting's name
    max: int,  # noqa: A002
    step: int,
) -> list[Size]:
    """Every bucket for a resolution, sorted.

    The largest square of that area, then for each width from ``min`` to ``max`` the greatest height
    that stays within the area, and the transposes.

    Args:
        width: of the training resolution, px.
        height: of the training resolution, px.
        min: smallest side, px, rounded down to ``step``.
        max: largest side, px, rounded up to ``step``.
        step: px.
    """
    area = width * height
    low = _floor(min, step) or step
    high = _floor(max + step - 1, step)
    square = _floor(math.isqrt(area), step)
    sizes = {(square, square)}
    for side in range(low, high + 1, step):
        other = _floor(area // side, step)
        if low <= other:
            other = other if other <= high else high
            sizes |= {(side, other), (other, side)}
    return sorted(sizes)


def plan_buckets(
    width: int,
    height: int,
    *,
    enabled: bool = True,
    min: int | None = None,  # noqa: A002 - the setting's name
    max: int | None = None,  # noqa: A002
    step: int | None = None,
    upscale: bool = True,
    multiple: int = 8,
) -> Buckets:
    """Buckets from settings, with what is not given chosen and what does not fit rounded.

    Args:
        width: training resolution, px; rounded to the nearest multiple of ``step``.
        height: as ``width``.
        enabled: ``False`` gives the one size (width, height), rounded to ``multiple`` only.
        min: smallest side, px; default half the resolution's smaller side.
        max: largest side, px; default twice the resolution's larger side.
        step: px; default 64, less (about an eighth of the resolution) where images are small.
        upscale: whether images below the resolution are enlarged.
        multiple: what the model needs every side to be a multiple of, px.

    Raises:
        SettingsError: ``step`` does not suit the model, or min and max leave out the resolution.
    """
    if step is None:
        eighth = int(2 ** round(math.log2(_smaller(width, height) / 8)))
        step = _floor(_smaller(64, eighth), multiple) or multiple
    if step < 1 or step % multiple:
        what = f"{step} does not suit the model, whose pictures come in steps of {multiple}"
        raise SettingsError.of("buckets.step", what, f"write {_nearest(step, multiple)}")
    notes = []
    unit = step if enabled else multiple
    rounded = _nearest(width, unit), _nearest(height, unit)
    if rounded != (width, height):
        what = f"{width}x{height} is not in steps of {unit}; {rounded[0]}x{rounded[1]} is used"
        notes.append(Problem("data.resolution", what))
        width, height = rounded
    area = width * height
    if not enabled:
        return Buckets(((width, height),), area, unit, True, tuple(notes))
    low = _floor(_smaller(width, height) // 2, step) or step if min is None else min
    high = 2 * (width if width > height else height) if max is None else max
    notes += _check_range(width, height, low, high, step)
    if not upscale and (min is not None or max is not None):
        what = "have no effect without upscaling: a bucket is then the picture's own size"
        notes.append(Problem("buckets.min, buckets.max", what, "leave them out"))
    sizes = bucket_sizes(width, height, min=low, max=high, step=step)
    return Buckets(tuple(sizes), area, step, upscale, tuple(notes))


def place(width: int, height: int, buckets: Buckets) -> Placement:
    """The bucket for an image of that size, and how it is scaled and cropped (centred) into it.

    With upscaling: the bucket of exactly that size if there is one, else the one whose aspect ratio
    differs least. Without: see :func:`_place_without_upscaling`.
    """
    assert width >= 1
    assert height >= 1
    if not buckets.upscale:
        return _place_without_upscaling(width, height, buckets)
    aspect = width / height
    if (width, height) in buckets.sizes:
        bucket = (width, height)
    else:
        bucket = min(buckets.sizes, key=lambda size: abs(size[0] / size[1] - aspect))
    return _cover(width, height, bucket)


def _place_without_upscaling(width: int, height: int, buckets: Buckets) -> Placement:
    """Shrink to the area if larger, then floor both sides to the step by cropping.

    Of the shrunken sizes with one side a multiple of the step, the one nearest in aspect ratio is
    taken, and of equals the largest. (sd-scripts tries only the side rounded down, and so gives
    1050x1080 a 960x960 bucket at 1024, where 1024x1024 fits.) An image that is smaller than one
    step is enlarged to it.
    """
    step, area = buckets.step, buckets.area
    if width < step or height < step:
        size = _floor(width, step) or step, _floor(height, step) or step
        return _cover(width, height, _within(size, area, step))
    if width * height <= area:
        bucket = _floor(width, step), _floor(height, step)
        return _centre(width, height, (width, height), bucket)
    aspect = width / height
    target = math.sqrt(area * aspect), math.sqrt(area / aspect)
    candidates = set()
    for up in (0, step):
        w = _floor(round(target[0]), step) + up
        h = _floor(round(target[1]), step) + up
        candidates |= {(w, _floor(round(w / aspect), step)), (_floor(round(h * aspect), step), h)}
    fitting = [
        (w, h)
        for w, h in candidates
        if w >= step and h >= step and w * h <= area and w <= width and h <= height
    ]
    if not fitting:  # longer than the area allows even at one step's height
        sides = (_floor(int(side), step) or step for side in target)
        fitting = [_within((next(sides), next(sides)), area, step)]
    bucket = min(fitting, key=lambda s: (abs(s[0] / s[1] - aspect), -s[0] * s[1], s))
    return _cover(width, height, bucket)


def _within(size: Size, area: int, step: int) -> Size:
    """``size`` with its longer side cut so that it fits the area."""
    width, height = size
    if width >= height:
        return min(width, _floor(area // height, step)), height
    return width, min(height, _floor(area // width, step))


def _cover(width: int, height: int, bucket: Size) -> Placement:
    """Scale so that the image just covers the bucket; integer arithmetic, halves rounded up."""
    bucket_width, bucket_height = bucket
    if width * bucket_height > bucket_width * height:  # wider than the bucket: match the height
        resized = (2 * width * bucket_height + height) // (2 * height), bucket_height
    else:
        resized = bucket_width, (2 * height * bucket_width + width) // (2 * width)
    return _centre(width, height, resized, bucket)


def _centre(width: int, height: int, resized: Size, bucket: Size) -> Placement:
    left, top = (resized[0] - bucket[0]) // 2, (resized[1] - bucket[1]) // 2
    crop = (left, top, left + bucket[0], top + bucket[1])
    return Placement(bucket, resized, crop, (width, height))


def _check_range(width: int, height: int, low: int, high: int, step: int) -> list[Problem]:
    """Notes on rounding; raises when the range leaves out the resolution itself."""
    smaller, larger = (width, height) if width < height else (height, width)
    rounded_low = _floor(low, step) or step
    rounded_high = _floor(high + step - 1, step)
    problems = []
    if rounded_low > smaller:
        what = f"{low} is above the resolution {width}x{height}"
        problems.append(Problem("buckets.min", what, f"write at most {smaller}"))
    if rounded_high < larger:
        what = f"{high} is below the resolution {width}x{height}"
        problems.append(Problem("buckets.max", what, f"write at least {larger}"))
    if problems:
        raise SettingsError(problems)
    notes = []
    for name, value, rounded in (("min", low, rounded_low), ("max", high, rounded_high)):
        if value != rounded:
            notes.append(Problem(f"buckets.{name}", f"{value} is not in steps; {rounded} is used"))
    return notes


def _floor(value: int, step: int) -> int:
    return value // step * step


def _nearest(value: int, step: int) -> int:
    rounded = (2 * value + step) // (2 * step) * step
    return rounded if rounded else step


def _smaller(a: int, b: int) -> int:
    # `min` is an argument's name here, as users know it.
    return a if a < b else b
