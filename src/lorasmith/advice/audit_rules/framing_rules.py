"""Rules about what training sees of images: buckets, crops, faces, and where subjects are."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

from lorasmith.advice.audit.finding import Finding, Rule
from lorasmith.advice.audit.inputs import AuditInputs
from lorasmith.advice.audit_rules.image_rules import BLURRED, is_faint
from lorasmith.core.text import quantity
from lorasmith.curation.changes.plan import Plan
from lorasmith.curation.facts import ImageFacts
from lorasmith.curation.images.crop import CropRule, largest, window
from lorasmith.curation.images.cropping import Crop, choose_crops, plan_crops
from lorasmith.data.augmentation.crops import FaceBox
from lorasmith.data.buckets import Size
from lorasmith.data.dataset import Item
from lorasmith.data.recorded_crops import Box, crop_record_beside

ENLARGED = 1.3
CROPPED = 0.25
FACE_CUT = 0.1
_LONELY_SHARE, _LONELY_IMAGES = 0.25, 8
SPREAD, _SPREAD_IMAGES = 0.5, 8
SAME_PLACE, _PLACE_SHARE, _PLACE_IMAGES = 0.04, 0.9, 8
_PLAIN = 0.6
SAME_GROUND, _GROUND_SHARE, _GROUND_IMAGES = 12.0, 0.9, 8
UNLIKE, _UNLIKE_TIMES, _UNLIKE_IMAGES = 4.5, 6.0, 12
_NEIGHBOUR = 2  # the second nearest other: two that are alike may both be unlike all others

# What images are compared by: the least spread that each is divided by, as in nearly equal images.
_FEATURES = {
    "brightness": 0.1, "contrast": 0.05, "saturation": 0.1, "chroma": 0.1, "detail": 0.08,
    "flat": 0.1, "blur": 0.08,
}  # fmt: skip
_CLOSE = {"chroma", "detail", "flat"}
_MAD = 1.4826  # of a normal distribution, its standard deviation over its median deviation
# Cells of the 4x4 thumbnail that touch the border.
_RIM_CELLS = [n for n in range(16) if n // 4 in (0, 3) or n % 4 in (0, 3)]

_GUIDE = 'The Other LoRA Training Rentry, "Image size/aspect ratio"'
_VARIETY = 'LoRA Training Tutorial by Haoming, "Preparing Images"'


def too_small(inputs: AuditInputs) -> Iterator[Finding]:
    for item in inputs.items:
        scale = item.placement.scale
        if scale > ENLARGED:
            sizes = _sizes(item.placement.original, item.placement.bucket)
            yield Finding(f"enlarged {scale:.1f} times ({sizes})", (item.image.path,), value=scale)


def _sizes(before: Size, after: Size) -> str:
    return "{}x{} px, trained at {}x{}".format(*before, *after)


def much_cropped(inputs: AuditInputs) -> Iterator[Finding]:
    for item in inputs.items:
        share = item.placement.cropped
        if share > CROPPED:
            sizes = _sizes(item.placement.original, item.placement.bucket)
            yield Finding(f"{share:.0%} is cut off ({sizes})", (item.image.path,), value=share)


def faces_cut(inputs: AuditInputs) -> Iterator[Finding]:
    for item in inputs.items:
        share = _cut_of_face(item)
        if share > FACE_CUT:
            what = f"the crop cuts off {share:.0%} of the face that its name tells of"
            yield Finding(what, (item.image.path,), value=share)


def _cut_of_face(item: Item) -> float:
    """Share of the recorded face's area that training does not see, 0 to 1."""
    place = item.placement
    if item.face is None or not item.face.is_inside(place.original):
        return 0.0
    shown = 1.0
    for axis, (middle, length) in enumerate(
        ((item.face.x, item.face.width), (item.face.y, item.face.height))
    ):
        factor = place.resized[axis] / place.original[axis]
        low, high = (middle - length / 2) * factor, (middle + length / 2) * factor
        seen = min(high, place.crop[axis + 2]) - max(low, place.crop[axis])
        shown *= max(0.0, seen) / (high - low)
    return 1 - shown


def lonely(inputs: AuditInputs) -> Iterator[Finding]:
    """Where most images share buckets, those that are alone in theirs."""
    alone = _alone(inputs)
    if not alone or len(alone) > _LONELY_SHARE * len(inputs.items):
        return
    if len(inputs.items) < _LONELY_IMAGES:
        return
    for item in alone:
        bucket = "{}x{}".format(*item.placement.bucket)
        yield Finding(
            f"the only one in its bucket, {bucket}",
            (item.image.path,),
            severity="warning" if inputs.batch > 1 else "note",
        )


def _alone(inputs: AuditInputs) -> list[Item]:
    counts = _bucket_counts(inputs)
    return [item for item in inputs.items if counts[item.group, item.placement.bucket] == 1]


def _bucket_counts(inputs: AuditInputs) -> Counter[tuple[int, Size]]:
    return Counter((item.group, item.placement.bucket) for item in inputs.items)


def bucket_spread(inputs: AuditInputs) -> Iterator[Finding]:
    counts = _bucket_counts(inputs)
    few = sum(count for count in counts.values() if count < 3)
    share = few / len(inputs.items) if inputs.items else 0.0
    if len(inputs.items) >= _SPREAD_IMAGES and share > SPREAD:
        images = quantity(len(inputs.items), "picture")
        what = f"{images} in {quantity(len(counts), 'bucket')}; {share:.0%} are one or two to each"
        yield Finding(what, value=share)


def unlike_others(inputs: AuditInputs) -> Iterator[Finding]:
    facts = inputs.usable
    if len(facts) < _UNLIKE_IMAGES:
        return
    values = np.array(
        [
            [getattr(inputs.pixels[path] if name in _CLOSE else one, name) for name in _FEATURES]
            for path, one in facts.items()
        ]
    )
    middle = np.median(values, axis=0)
    spread = _MAD * np.median(np.abs(values - middle), axis=0)
    scaled = values / np.maximum(spread, list(_FEATURES.values()))
    distances = cKDTree(scaled).query(scaled, k=_NEIGHBOUR + 1)[0][:, -1]
    usual = float(np.median(distances))
    for (path, one), distance, own in zip(facts.items(), distances, scaled, strict=True):
        told = is_faint(inputs.pixels[path]) or one.blur > BLURRED  # by rules of their own
        if distance > max(UNLIKE, _UNLIKE_TIMES * usual) and not told:
            off = np.abs(own - middle / np.maximum(spread, list(_FEATURES.values())))
            names = [list(_FEATURES)[index] for index in np.argsort(-off)[:2]]
            what = f"{distance:.1f} from the nearest, where {usual:.1f} is usual; by its "
            yield Finding(f"{what}{' and '.join(names)}", (path,), value=float(distance))


def same_place(inputs: AuditInputs) -> Iterator[Finding]:
    """Of images whose subject stands out from a plain ground, how far its box moves."""
    boxes = {
        path: np.frombuffer(one.subject, np.uint8) / 255
        for path, one in inputs.pixels.items()
        if one.subject and one.plain >= _PLAIN
    }
    if len(boxes) < max(_PLACE_IMAGES, _PLACE_SHARE * len(inputs.pixels)):
        return
    spread = float(np.std(list(boxes.values()), axis=0).max())
    if spread < SAME_PLACE:
        what = (
            f"in {quantity(len(boxes), 'picture')} the subject's edges move by {spread:.1%} "
            "of the picture"
        )
        yield Finding(what, value=spread)


def same_ground(inputs: AuditInputs) -> Iterator[Finding]:
    """Of most images the rim has the same colours, and captions do not speak of it."""
    rims = {path: _rim(one) for path, one in inputs.usable.items()}
    if len(rims) < _GROUND_IMAGES:
        return
    values = np.array(list(rims.values()))
    distances = np.abs(values - np.median(values, axis=0)).mean(axis=1)
    share = float((distances <= SAME_GROUND).mean())
    tagged = sum("background" in (item.image.caption or "").lower() for item in inputs.items)
    if share >= _GROUND_SHARE and tagged < share * len(inputs.items):
        what = f"{share:.0%} of {quantity(len(rims), 'picture')} have the same ground, untagged"
        yield Finding(what, value=share)


def _rim(facts: ImageFacts) -> np.ndarray:
    cells = np.frombuffer(facts.colours, np.uint8).reshape(16, 3)
    return cells[_RIM_CELLS].astype(np.float64).ravel()


# Plans that mend: each records which part is to be trained on, and leaves the files.


def crop_to_buckets(inputs: AuditInputs, findings: Sequence[Finding]) -> Plan:
    """The part of the bucket's shape around a face, or what stands out."""
    plan = inputs.plan(findings[0].rule)
    images = inputs.of_paths(path for finding in findings for path in finding.images)
    by_group: dict[int, set[Path]] = defaultdict(set)
    for item in inputs.items:
        by_group[item.group].add(item.image.path)
    for group, paths in by_group.items():
        rule = CropRule("bucket", buckets=inputs.dataset.groups[group].buckets)
        some = [image for image in images if image.path in paths]
        crops = choose_crops(plan, some, rule, observer=inputs.observer, controls=inputs.controls)
        plan_crops(plan, inputs.collection, crops, record=True)
    return plan


def crop_around_faces(inputs: AuditInputs, findings: Sequence[Finding]) -> Plan:
    """The part of the bucket's shape with the face in it."""
    parts = {}
    for item in _items_of(inputs, findings):
        assert item.face is not None
        size = item.placement.original
        parts[item.image.path] = window(size, largest(size, item.placement.bucket), _box(item.face))
    return _recorded(inputs, findings, parts)


def crop_to_company(inputs: AuditInputs, findings: Sequence[Finding]) -> Plan:
    """The part that has the shape of the nearest bucket in which others are."""
    counts = _bucket_counts(inputs)
    parts = {}
    for item in _items_of(inputs, findings):
        size = item.placement.original
        others = [
            bucket for (group, bucket), count in counts.items() if group == item.group and count > 1
        ]
        if others:
            aspect = np.log(size[0] / size[1])
            nearest = min(others, key=lambda one: abs(np.log(one[0] / one[1]) - aspect))
            middle = (size[0] // 2, size[1] // 2, size[0] // 2, size[1] // 2)
            parts[item.image.path] = window(size, largest(size, nearest), middle)
    return _recorded(inputs, findings, parts)


def _items_of(inputs: AuditInputs, findings: Sequence[Finding]) -> list[Item]:
    paths = {path for finding in findings for path in finding.images}
    return [item for item in inputs.items if item.image.path in paths]


def _recorded(inputs: AuditInputs, findings: Sequence[Finding], parts: Mapping[Path, Box]) -> Plan:
    """
    Args:
        parts: boxes in what is used of the images now.
    """
    plan = inputs.plan(findings[0].rule)
    items = {item.image.path: item for item in inputs.items}
    crops = []
    for image in inputs.of_paths(parts):
        region = items[image.path].image.region
        left, top = region.box[:2] if region is not None else (0, 0)
        box = parts[image.path]
        whole = items[image.path].image.whole_size
        moved = (box[0] + left, box[1] + top, box[2] + left, box[3] + top)
        crops.append(Crop(image, whole, moved, crop_record_beside(image.path)))
    plan_crops(plan, inputs.collection, crops, record=True)
    return plan


def _box(face: FaceBox) -> Box:
    left, top = face.x - face.width // 2, face.y - face.height // 2
    return left, top, left + face.width, top + face.height


FRAMING_RULES: tuple[Rule, ...] = (
    Rule(
        "too-small",
        "Smaller than what it is trained at",
        "warning",
        too_small,
        "Enlarging blurs, and the blur is learned; find a larger one, or train at a lower "
        "data.resolution.",
        _GUIDE,
        ENLARGED,
        "times, by which it is enlarged",
    ),
    Rule(
        "much-cropped",
        "Much is cut off",
        "warning",
        much_cropped,
        "What is cut off is not learned, and captions still speak of it.",
        _GUIDE,
        CROPPED,
        "of the area",
        fix=crop_to_buckets,
    ),
    Rule(
        "face-cut",
        "The crop cuts a face",
        "warning",
        faces_cut,
        "Halves of faces are learned as such.",
        threshold=FACE_CUT,
        unit="of the face's area, as the file's name tells of it",
        fix=crop_around_faces,
    ),
    Rule(
        "lonely-bucket",
        "Alone in its bucket",
        "note",
        lonely,
        "It is never in a batch with others: its steps are of itself alone.",
        _GUIDE,
        fix=crop_to_company,
        otherwise="warning in batches of several",
    ),
    Rule(
        "bucket-spread",
        "Too many buckets",
        "note",
        bucket_spread,
        "Pictures that are bucketed too randomly give a worse model; crop them to a few shapes.",
        _GUIDE,
        SPREAD,
        "of the pictures are in buckets of one or two",
    ),
    Rule(
        "unlike-others",
        "Unlike all others",
        "note",
        unlike_others,
        "What does not belong is learned with the rest; it may also be the variety that is wanted.",
        threshold=UNLIKE,
        unit=f"from its second nearest, in spreads of brightness, contrast, colours, detail and "
        f"blur, and {_UNLIKE_TIMES:.0f} times what is usual",
    ),
    Rule(
        "same-place",
        "Always in the same place",
        "note",
        same_place,
        "Place and size are learned with the subject; pictures from near and far, left and right "
        "keep them free.",
        _VARIETY,
        SAME_PLACE,
        f"of the picture's sides: the largest standard deviation of the subject's four edges, over "
        f"{_PLACE_IMAGES} pictures or more with plain grounds",
    ),
    Rule(
        "same-background",
        "Always on the same ground",
        "note",
        same_ground,
        "The ground is learned with the subject; tag it, or add pictures with others.",
        _VARIETY,
        _GROUND_SHARE,
        f"of the pictures, whose rims differ by {SAME_GROUND:.0f} of 255 at most",
    ),
)
