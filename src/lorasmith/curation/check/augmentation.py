"""What augmentation makes of a dataset's images, and what is odd or wrong about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lorasmith.config.sections.augment import AugmentSettings
from lorasmith.core.errors import Problem
from lorasmith.core.text import quantity, shortlist
from lorasmith.data.augmentation.views import AugmentedViews
from lorasmith.data.dataset import Dataset, Item

# Crops that enlarge an image more than this teach its blur.
ENLARGED_WORTH_SAYING = 1.25

_NAMES = 3


@dataclass(frozen=True, slots=True)
class AugmentationCount:
    """What training sees besides the images themselves; images that are not used don't count.

    Args:
        mirrored: half of the uses of each image.
        views: different ones of all images that the cache keeps, mirror images included; where
            nothing is cached, those that come in equal shares.
        random: of these, drawn at random.
        fresh: random views are drawn anew in every use.
        sliced: images that are cut into slices.
        slices: of all of them.
        faces: images with a known face that crops go around; ``None`` where none is asked for.
        masked: images with a loss mask.
        images: that are used.
    """

    mirrored: bool
    views: int
    random: int
    fresh: bool
    sliced: int
    slices: int
    faces: int | None
    masked: int
    pictures: int

    def __str__(self) -> str:
        """One sentence; "" where there is nothing to say."""
        parts = []
        if self.mirrored or self.random or self.slices:
            kind = (
                "of which the random ones are drawn anew in every use" if self.fresh else "cached"
            )
            parts.append(f"{self.views} views of {quantity(self.pictures, 'picture')}, {kind}")
        if self.random:
            parts.append(f"{self.random} at random")
        if self.slices:
            parts.append(
                f"{self.slices} slices of {quantity(self.sliced, 'large picture')}, "
                "one in every second use"
            )
        if self.mirrored:
            parts.append("half of them mirrored")
        if self.faces is not None:
            parts.append(f"crops around the face in {self.faces} of {self.pictures}")
        if self.masked:
            parts.append(f"masks for {self.masked} of {self.pictures}")
        return "; ".join(parts)


def count_augmentation(dataset: Dataset) -> AugmentationCount:
    """What :class:`AugmentationCount` says, of a dataset."""
    used = [item for item in dataset.items if item.repeats]
    views = [dataset.views_of(item) for item in used]
    faces = [item.face is not None for item in used if _crops_faces(dataset, item)]

    def both_ways(each: AugmentedViews) -> int:
        return 2 if each.augmentation.flip else 1

    return AugmentationCount(
        any(each.augmentation.flip for each in views),
        sum(len(set(each.all())) for each in views),
        sum(both_ways(each) * each.varied for each in views),
        any(each.augmentation.variants == "fresh" for each in views),
        sum(each.sliced > 0 for each in views),
        sum(both_ways(each) * each.sliced for each in views),
        sum(faces) if faces else None,
        sum(item.mask is not None for item in used),
        len(used),
    )


def wrong_faces(dataset: Dataset) -> list[Problem]:
    """Faces that do not lie in their image, where crops are to go around them."""
    return [
        Problem(
            str(item.image.path),
            f"the face in its name ({face.width}x{face.height} around {face.x}, {face.y}) does not "
            f"lie in the picture of {item.image.width}x{item.image.height}",
            "correct the last four numbers, or rename it",
        )
        for item in dataset.items
        if _crops_faces(dataset, item)
        and (face := item.face) is not None
        and not face.is_inside((item.image.width, item.image.height))
    ]


def _crops_faces(dataset: Dataset, item: Item) -> bool:
    return dataset.augmentation_of(item).face_crop is not None


def _only_crops(a: AugmentSettings) -> bool:
    return a.random_crop and not a.colour and a.face_crop is None


def odd_augmentation(dataset: Dataset) -> list[Problem]:
    """Augmentation that does nothing, or harm, to these images."""
    used = [item for item in dataset.items if item.repeats]
    return [*_faceless(dataset, used), *_uncut(dataset, used), *_blurred(dataset, used)]


def _faceless(dataset: Dataset, used: Sequence[Item]) -> list[Problem]:
    face_items = [item for item in used if not item.reg and _crops_faces(dataset, item)]
    faceless = [item.image.path for item in face_items if item.face is None]
    if not faceless:
        return []
    count = len(face_items)
    what = f"names that tell of no face: {len(faceless)} of {count} ({_names(faceless)})"
    if len(faceless) == count:
        what = "has no effect: no file's name tells of a face"
    hint = "name them like girl_0250_0180_0090_0110.png: middle x, y, width, height of the face"
    return [Problem("augment.face_crop", what, hint)]


def _uncut(dataset: Dataset, used: Sequence[Item]) -> list[Problem]:
    views, problems = [dataset.views_of(item) for item in used], []
    sliced = [each for each in views if each.augmentation.slices]
    if sliced and not any(each.sliced for each in sliced):
        what = "has no effect: no picture is large enough for that many slices"
        hint = "raise it, or leave it out: the pictures are used whole"
        problems.append(Problem("augment.slices", what, hint))
    cropped = [each for each in views if _only_crops(each.augmentation)]
    if cropped and not any(each.varied for each in cropped):
        what = "has no effect: nothing of the pictures stands over their buckets"
        problems.append(Problem("augment.random_crop", what, "set augment.zoom, such as 1.3"))
    return problems


def _blurred(dataset: Dataset, used: Sequence[Item]) -> list[Problem]:
    zooms = {
        item.image.path: item.placement.scale * a.zoom
        for item in used
        if (a := dataset.augmentation_of(item)).random_crop and a.zoom > 1
    }
    worst = [path for path, zoom in zooms.items() if zoom > ENLARGED_WORTH_SAYING]
    if not worst:
        return []
    most = max(zooms[path] for path in worst)
    names = _names(worst)
    what = f"enlarges {quantity(len(worst), 'picture')} by up to {most:.2g} times ({names})"
    return [Problem("augment.zoom", what, "use larger pictures or a smaller zoom: blur is learned")]


def _names(paths: Sequence[Path]) -> str:
    return shortlist([f"{path.parent.name}/{path.name}" for path in paths], _NAMES)
