"""What is measured of a round's drawings, by the features that ``pick`` compares images by.

* *Likeness*: how far a drawing's content is from that of the given images, as a share of the way
  that the base model's drawings of the same prompts and seeds are from them: 0 is theirs, 1 as like
  as the given images are to each other.
* *Copying*: how far its layout is from the nearest image of the set, as a share of how far the base
  model's drawings are from their nearest.
* *Diversity*: mean distance of the drawings' contents from each other, as a share of that between
  the base model's.
* *Defects*: no picture at all; far from everything that the base draws and from what was given.

The base model's distances are those of the first round, so that rounds compare.
"""

from __future__ import annotations

from pathlib import Path
from statistics import fmean

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from lorasmith.advice.bootstrap.choose import Choice, choose, repeated_images
from lorasmith.advice.bootstrap.material import Material, load
from lorasmith.advice.bootstrap.state import (
    BaseDistances,
    Bootstrap,
    caption_beside,
    images_of,
    kept_records,
)
from lorasmith.data.images import load_image
from lorasmith.measures.features import (
    FeatureExtractor,
    ImageFeatures,
    MiddleBlock,
    distances,
    mean_within,
    nearest,
)
from lorasmith.measures.records import finite
from lorasmith.measures.verdict import COPY
from lorasmith.training.objective import build_objective

# Standard deviation of an image's levels (0 to 255) below which there is nothing on it.
BLANK = 4.0
# Times as far from everything known as the base model's drawings are from their nearest.
STRANGE = 2.0


def measure_round(boot: Bootstrap, material: Material) -> Choice:
    """Measure the newest round's drawings; says which "auto" would keep."""
    one, options = boot.now, boot.options
    model = load(material.models[0], options)
    schedule = build_objective(material.suited, model).schedule
    look = FeatureExtractor(model, MiddleBlock(model, schedule)).look
    images = [load_image(boot.drawing(one, drawing)) for drawing in one.drawings]
    size = images[0].size
    given_paths, kept_paths = images_of(boot.given_folder), images_of(boot.drawn_folder)
    given = look([fitted(path, size) for path in given_paths])
    kept = [look([fitted(path, size)]) for path in kept_paths]
    drawn = look(images)
    fresh = [n for n, drawing in enumerate(one.drawings) if not drawing.source]
    base = look([load_image(boot.base_drawing(one, one.drawings[n])) for n in fresh])
    if boot.base is None:
        boot.base = base_distances(base, given)
    known = boot.base
    likeness = likeness_of(drawn, given, known)
    in_set = ImageFeatures.cat([given, *kept])
    names = [path.name for path in (*given_paths, *kept_paths)]
    to_set = distances(drawn.layout, in_set.layout) / known.layout
    strange = nearest(drawn.content, ImageFeatures.cat([base, in_set]).content) / known.nearest
    for n, (drawing, image) in enumerate(zip(one.drawings, images, strict=True)):
        drawing.likeness = round(finite(likeness[n]), 4)
        row = to_set[n].clone()
        if drawing.source in names:  # It is meant to be like the one that it began with.
            row[names.index(drawing.source)] = float("inf")
        place = int(row.argmin())
        drawing.nearest, drawing.copying = names[place], round(finite(row[place]), 4)
        drawing.defects = defects_of(image, float(strange[n]))
    one.likeness = round(fmean(one.drawings[n].likeness or 0.0 for n in fresh), 4)
    spread = mean_within(drawn.content[torch.tensor(fresh)])
    one.diversity = round(spread / known.spread, 4) if known.spread else None
    one.repeated = repeated_images(one.drawings)
    one.copies = sum((one.drawings[n].copying or 1.0) < COPY for n in fresh)
    apart = (distances(drawn.layout, drawn.layout) / known.layout).tolist()
    before = {name: record.likeness or 0.0 for name, record in kept_records(boot).items()}
    captions = [caption_beside(path) for path in (*given_paths, *kept_paths)]
    return choose(one.drawings, apart, captions, before, most=options.keep_most)


def base_distances(base: ImageFeatures, given: ImageFeatures) -> BaseDistances:
    """What the base model's drawings are measured by."""
    return BaseDistances(
        content=finite(distances(base.content, given.content).mean()),
        nearest=finite(nearest(base.content).mean()),
        spread=finite(mean_within(base.content)),
        layout=finite(nearest(base.layout).mean()),
    )


def likeness_of(drawn: ImageFeatures, given: ImageFeatures, base: BaseDistances) -> Tensor:
    """(A,) of drawings to the given images."""
    within = mean_within(given.content)
    room = base.content - within
    away = distances(drawn.content, given.content).mean(1)
    # A base model that draws the subject already leaves nothing to come nearer by.
    return (base.content - away) / room if room > 0 else torch.ones(len(away))


def fitted(path: Path, size: tuple[int, int]) -> Image.Image:
    """An image of the set at the drawings' size, cropped where its shape is another."""
    image = load_image(path)
    return image if image.size == size else ImageOps.fit(image, size, Image.Resampling.LANCZOS)


def defects_of(image: Image.Image, strange: float) -> list[str]:
    """
    Args:
        strange: how far its content is from everything known, in the base model's own distances.
    """
    if np.asarray(image).std(axis=(0, 1)).max() < BLANK:
        return ["there is nothing on it"]
    if strange > STRANGE:
        return [f"like nothing else ({strange:.1f} times as far as the base model's drawings)"]
    return []
