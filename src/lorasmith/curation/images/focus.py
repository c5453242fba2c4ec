"""Where the subject of a picture is: by what stands out from its border.

A drawing or photograph of one subject has its ground along the border. What differs from the
border in colour, and where there are edges, is taken for the subject; no model is needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from PIL import Image, ImageFilter
from scipy import ndimage

from lorasmith.curation.images.trim import find_border
from lorasmith.data.buckets import Size
from lorasmith.data.recorded_crops import Box

_TO_XYZ = np.array([
    (0.4124, 0.3576, 0.1805), (0.2126, 0.7152, 0.0722), (0.0193, 0.1192, 0.9505)
], np.float32)  # fmt: skip
# The picture is looked at so small, px of the longer side: details would be noise.
_SIDE = 96
_LOOK = 384  # and for bars and frames so small
# The border: so much of each side, of the shorter side.
_RIM = 0.06
# Colours that a ground is made of, at most.
_GROUND_COLOURS = 6
# In Lab (L to 100): below it a colour is the ground's own, as noise and soft shades are.
_NEAR = 5.0
# Of the greatest saliency: what counts as subject.
_SHARE = 0.35
# A part belongs to the subject if it has so much of the largest part's weight; or less, if it is so
# near to it, of the longer side.
_PART, _NEAR_PART = 0.5, 0.12
_REACH = 0.08


@dataclass(frozen=True)
class Saliency:
    """How much each place stands out, 0..1.

    Args:
        values: float32 (h, w), a small picture of the whole.
        size: width and height of the picture, px.
    """

    values: np.ndarray
    size: Size

    @cached_property
    def mask(self) -> np.ndarray:
        """bool (h, w): the subject's parts; nothing where nothing stands out."""
        values = self.values
        if values.max() < 1e-6:
            return np.zeros(values.shape, bool)
        salient = values >= max(_SHARE * float(values.max()), _otsu(values))
        labels, count = ndimage.label(salient, np.ones((3, 3)))
        weights = ndimage.sum_labels(values, labels, range(1, count + 1))
        largest = labels == 1 + int(weights.argmax())
        reach = max(1, round(_REACH * max(values.shape)))
        rows, columns = np.flatnonzero(largest.any(1)), np.flatnonzero(largest.any(0))
        near = np.zeros(values.shape, bool)
        near[
            max(0, rows[0] - reach) : rows[-1] + reach + 1,
            max(0, columns[0] - reach) : columns[-1] + reach + 1,
        ] = True
        shares = weights / weights.max()
        touching = np.isin(np.arange(1, len(weights) + 1), labels[near])
        parts = (shares >= _PART) | (touching & (shares >= _NEAR_PART))
        return np.isin(labels, np.flatnonzero(parts) + 1)

    def subject(self) -> Box | None:
        """The box around the subject, px of the picture; ``None`` where nothing stands out."""
        rows, columns = np.flatnonzero(self.mask.any(1)), np.flatnonzero(self.mask.any(0))
        if not len(rows):
            return None
        height, width = self.values.shape
        across, down = self.size[0] / width, self.size[1] / height
        return (
            int(columns[0] * across),
            int(rows[0] * down),
            min(self.size[0], round((columns[-1] + 1) * across)),
            min(self.size[1], round((rows[-1] + 1) * down)),
        )


def find_saliency(image: Image.Image) -> Saliency:
    """What stands out from the border, by colour and by edges; bars and frames do not count.

    Args:
        image: RGB.
    """
    reduced = image.reduce(max(1, max(image.size) // _LOOK))
    left, top, right, bottom = find_border(reduced)
    inner = reduced.crop((left, top, right, bottom))
    values = _salient(inner)
    across, down = values.shape[1] / inner.width, values.shape[0] / inner.height
    bars = (
        (round(top * down), round((reduced.height - bottom) * down)),
        (round(left * across), round((reduced.width - right) * across)),
    )
    return Saliency(np.pad(values, bars), image.size)


def _salient(image: Image.Image) -> np.ndarray:
    """float32 (h, w), 0..1."""
    factor = _SIDE / max(image.size)
    small = max(8, round(image.width * factor)), max(8, round(image.height * factor))
    reduced = image.resize(small, Image.Resampling.BOX) if small != image.size else image
    soft = reduced.filter(ImageFilter.GaussianBlur(0.7))
    lab = to_lab(np.asarray(soft, np.float32) / 255)
    difference = _from_ground(lab)
    edges = _edges(lab)
    # An edge alone may be the ground's own, as of stripes and grass; a plain shirt has no edges.
    rim = _rim_mask(lab.shape[0], lab.shape[1])
    edges = np.clip(edges - float(np.quantile(edges[rim], 0.9)), 0, None)
    values = _scaled(difference) + 0.35 * _scaled(edges)
    values = ndimage.uniform_filter(values, 2 * round(0.02 * _SIDE) + 1, mode="nearest")
    return _scaled(values * _from_edge(values.shape))


def to_lab(srgb: np.ndarray) -> np.ndarray:
    """CIE L*a*b* (L 0..100) of sRGB 0..1 by its definition, IEC 61966-2-1 and white D65."""
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    xyz = linear @ _TO_XYZ.T / _TO_XYZ.sum(1)
    root = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz * (29 / 6) ** 2 / 3 + 4 / 29)
    x, y, z = np.moveaxis(root, -1, 0)
    return np.stack((116 * y - 16, 500 * (x - y), 200 * (y - z)), -1).astype(np.float32)


def _from_ground(lab: np.ndarray) -> np.ndarray:
    """float32 (h, w): distance of each colour to the nearest of the border's."""
    rim = lab[_rim_mask(lab.shape[0], lab.shape[1])]
    centres, shares, spreads = _clusters(rim)
    nearest = np.full(lab.shape[:2], np.inf, np.float32)
    for centre, share, spread in zip(centres, shares, spreads, strict=True):
        if share >= 0.02:  # Less is a part of the subject that touches the border.
            distance = np.sqrt(((lab - centre) ** 2).sum(-1)) - 1.5 * spread
            nearest = np.minimum(nearest, distance)
    return np.clip(nearest - _NEAR, 0, None)


def _clusters(colours: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """k-means, begun at the colours farthest from each other: always the same result."""
    centres = [np.median(colours, axis=0)]
    for _ in range(_GROUND_COLOURS - 1):
        distances = np.min([((colours - centre) ** 2).sum(-1) for centre in centres], axis=0)
        if distances.max() < _NEAR**2:
            break
        centres.append(colours[int(distances.argmax())])
    places = np.stack(centres)
    for _ in range(8):
        nearest = ((colours[:, None] - places[None]) ** 2).sum(-1).argmin(1)
        places = np.stack([
            colours[nearest == k].mean(0) if (nearest == k).any() else places[k]
            for k in range(len(places))
        ])  # fmt: skip
    nearest = ((colours[:, None] - places[None]) ** 2).sum(-1).argmin(1)
    counts = np.bincount(nearest, minlength=len(places))
    spreads = np.array([
        np.sqrt(((colours[nearest == k] - places[k]) ** 2).sum(-1).mean()) if counts[k] else 0.0
        for k in range(len(places))
    ])  # fmt: skip
    return places, counts / counts.sum(), spreads


def _rim_mask(height: int, width: int) -> np.ndarray:
    depth = max(1, round(_RIM * min(height, width)))
    rim = np.ones((height, width), bool)
    rim[depth : height - depth, depth : width - depth] = False
    return rim


def _edges(lab: np.ndarray) -> np.ndarray:
    padded = np.pad(lab, ((1, 1), (1, 1), (0, 0)), mode="edge")
    across = padded[1:-1, 2:] - padded[1:-1, :-2]
    down = padded[2:, 1:-1] - padded[:-2, 1:-1]
    return np.sqrt((across**2 + down**2).sum(-1))


def _from_edge(shape: tuple[int, ...]) -> np.ndarray:
    """Slightly less at the border, where subjects seldom end."""
    rows = 1 - np.abs(np.linspace(-1, 1, shape[0], dtype=np.float32))[:, None] ** 4
    columns = 1 - np.abs(np.linspace(-1, 1, shape[1], dtype=np.float32))[None] ** 4
    return 0.5 + 0.5 * np.minimum(rows, columns)


def _scaled(values: np.ndarray) -> np.ndarray:
    """To 0..1 by a value that few places exceed."""
    most = float(np.quantile(values, 0.98))
    most = most if most > 1e-6 else float(values.max())
    return np.clip(values / most, 0, 1).astype(np.float32) if most > 1e-6 else values * 0


def _otsu(values: np.ndarray) -> float:
    """The threshold that parts values 0..1 best into two groups."""
    counts, edges = np.histogram(values, 64, (0, 1))
    weights = np.cumsum(counts)
    means = np.cumsum(counts * (edges[:-1] + edges[1:]) / 2)
    total, sum_ = weights[-1], means[-1]
    with np.errstate(divide="ignore", invalid="ignore"):
        between = (sum_ * weights - total * means) ** 2 / (weights * (total - weights))
    return float(edges[1 + int(np.nanargmax(np.where(np.isfinite(between), between, -1)))])
