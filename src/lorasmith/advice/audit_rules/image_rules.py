"""Rules about single images, and images that are alike; each a function over the inputs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median

from lorasmith.advice.audit.finding import Finding, Rule
from lorasmith.advice.audit.inputs import AuditInputs
from lorasmith.core.text import quantity
from lorasmith.curation.changes.plan import Plan
from lorasmith.curation.collection import CollectionImage
from lorasmith.curation.facts import ImageFacts
from lorasmith.curation.images.convert import PALETTE
from lorasmith.curation.images.converting import Frames, Target, plan_conversions
from lorasmith.curation.images.crop import CropRule
from lorasmith.curation.images.cropping import choose_crops, plan_crops
from lorasmith.curation.pixels import Pixels
from lorasmith.curation.sorting.dedupe import DuplicateGroup, find_duplicates, remove_images
from lorasmith.curation.sorting.duplicates import MAX_DISTANCE
from lorasmith.data.images import parse_colour

BLURRED, VERY_BLURRED = 0.6, 0.8
_BLUR_ABOVE_OTHERS = 0.2  # a style that is soft all over is no fault of its images
JPEG_QUALITY = 50
_SHRUNK = 0.5  # of their size: of images that are shrunk more, JPEG's blocks go
DARK, LIGHT = 0.25, 0.55
BLANK = 0.02
GREY, _COLOURFUL = 0.05, 0.1
_GREY_SHARE, _GREY_IMAGES = 0.1, 8
BORDER = 0.02

_GUIDE = 'The Other LoRA Training Rentry, "Selecting images"'


def unreadable(inputs: AuditInputs) -> Iterator[Finding]:
    for image in inputs.images:
        if problem := inputs.facts[image.path].problem:
            yield Finding(problem, (image.path,))


def same_file(inputs: AuditInputs) -> Iterator[Finding]:
    for same in _by_content(inputs).values():
        if len(same) > 1:
            for group in find_duplicates(inputs.collection, same, exact=True):
                yield _alike(group, "the same file")


def near_duplicates(inputs: AuditInputs) -> Iterator[Finding]:
    different = [same[0] for same in _by_content(inputs).values()]
    for group in find_duplicates(inputs.collection, different, controls=inputs.controls):
        hashes = [inputs.facts[path].phash for path in _paths(group)]
        distance = max((hashes[0] ^ other).bit_count() for other in hashes)
        yield _alike(group, f"nearly the same ({distance} bits of 64 apart)", distance)


def _by_content(inputs: AuditInputs) -> dict[str, list[CollectionImage]]:
    by_content: dict[str, list[CollectionImage]] = defaultdict(list)
    for image in inputs.images:
        if image.path in inputs.usable:
            by_content[inputs.usable[image.path].content_hash].append(image)
    return by_content


def _paths(group: DuplicateGroup) -> tuple[Path, ...]:
    return (group.kept.path, *(image.path for image, _ in group.dropped))


def _alike(group: DuplicateGroup, what: str, distance: float | None = None) -> Finding:
    paths = _paths(group)
    others = "; ".join(f"{image.path.name} would go: {why}" for image, why in group.dropped[:2])
    return Finding(f"{len(paths)} are {what}; {others}", paths, value=distance)


def blurred(inputs: AuditInputs) -> Iterator[Finding]:
    blurs = [facts.blur for facts in inputs.usable.values()]
    usual = median(blurs) if blurs else 0.0
    for path, facts in inputs.usable.items():
        # What is hardly lit or hardly drawn has faint edges for that.
        if _is_blurred(facts, usual) and not is_faint(inputs.pixels[path]):
            what = f"blur {facts.blur:.2f} of 1, {usual:.2f} is usual here"
            yield Finding(what, (path,), value=facts.blur)


def _is_blurred(facts: ImageFacts, usual: float) -> bool:
    return facts.blur > VERY_BLURRED or (
        facts.blur > BLURRED and facts.blur > usual + _BLUR_ABOVE_OTHERS
    )


def is_faint(pixels: Pixels) -> bool:
    """Whether it is so dark, so light or so empty that little else can be said of it."""
    return pixels.lightest < DARK or pixels.darkest > LIGHT or pixels.detail < BLANK


def heavy_jpeg(inputs: AuditInputs) -> Iterator[Finding]:
    scales = {item.image.path: item.placement.scale for item in inputs.items}
    for path, facts in inputs.usable.items():
        if 0 < facts.jpeg_quality < JPEG_QUALITY and scales.get(path, 1.0) > _SHRUNK:
            what = f"JPEG of quality {facts.jpeg_quality}"
            yield Finding(what, (path,), value=facts.jpeg_quality)


def dark(inputs: AuditInputs) -> Iterator[Finding]:
    for path, pixels in inputs.pixels.items():
        if pixels.lightest < DARK and not _is_blank(pixels):
            what = f"98 % of it is darker than {pixels.lightest:.0%} of white"
            yield Finding(what, (path,), value=pixels.lightest)


def light(inputs: AuditInputs) -> Iterator[Finding]:
    for path, pixels in inputs.pixels.items():
        if pixels.darkest > LIGHT and not _is_blank(pixels):
            what = f"98 % of it is lighter than {pixels.darkest:.0%} of white"
            yield Finding(what, (path,), value=pixels.darkest)


def blank(inputs: AuditInputs) -> Iterator[Finding]:
    for path, pixels in inputs.pixels.items():
        if _is_blank(pixels):
            what = f"only {pixels.detail:.1%} of it differs from what is beside it"
            yield Finding(what, (path,), value=pixels.detail)


def _is_blank(pixels: Pixels) -> bool:
    return pixels.detail < BLANK


def grey(inputs: AuditInputs) -> Iterator[Finding]:
    few = [
        path
        for path, pixels in inputs.pixels.items()
        if pixels.chroma < GREY and not _is_blank(pixels)
    ]
    colourful = sum(pixels.chroma > _COLOURFUL for pixels in inputs.pixels.values())
    if len(inputs.usable) < _GREY_IMAGES or len(few) > _GREY_SHARE * len(inputs.usable):
        return
    for path in few:
        what = f"without colour, as {quantity(colourful, 'other')} are not"
        yield Finding(what, (path,), value=inputs.pixels[path].chroma)


def borders(inputs: AuditInputs) -> Iterator[Finding]:
    cropped = {item.image.path for item in inputs.items if item.image.region is not None}
    for path, pixels in inputs.pixels.items():
        if pixels.border > BORDER and path not in cropped:
            what = f"bars or a frame take {pixels.border:.0%} of it"
            yield Finding(what, (path,), value=pixels.border)


def transparent(inputs: AuditInputs) -> Iterator[Finding]:
    colour = inputs.settings.data.background
    for path, facts in inputs.usable.items():
        if facts.transparent:
            yield Finding(f"transparent in places, which are trained as {colour}", (path,))


def odd_files(inputs: AuditInputs) -> Iterator[Finding]:
    for path, facts in inputs.usable.items():
        # A palette is read by all alike.
        reasons = [reason for reason in facts.oddities.split(", ") if reason not in ("", PALETTE)]
        if reasons:
            yield Finding(", ".join(reasons), (path,))


def animations(inputs: AuditInputs) -> Iterator[Finding]:
    for path, facts in inputs.usable.items():
        if facts.frames > 1 and facts.format != "MPO":  # whose others are views for 3D
            what = f"an animation of {facts.frames} frames, of which the first is trained on"
            yield Finding(what, (path,), value=facts.frames)


# Plans that mend.


def trash(inputs: AuditInputs, findings: Sequence[Finding]) -> Plan:
    """The images of the findings into the trash, with their captions and side files."""
    plan = inputs.plan(findings[0].rule)
    reasons = {path: finding.what for finding in findings for path in finding.images}
    images = inputs.of_paths(reasons)
    remove_images(plan, inputs.collection, {image: reasons[image.path] for image in images})
    return plan


def keep_the_best(inputs: AuditInputs, findings: Sequence[Finding]) -> Plan:
    """The first image of each finding stays, the others go into the trash."""
    plan = inputs.plan(findings[0].rule)
    kept = {path: finding.images[0] for finding in findings for path in finding.images[1:]}
    reasons = {
        image: f"as {inputs.name_of(kept[image.path])}, which stays"
        for image in inputs.of_paths(kept)
    }
    remove_images(plan, inputs.collection, reasons)
    return plan


def trim(inputs: AuditInputs, findings: Sequence[Finding]) -> Plan:
    """What is within the borders is recorded as the part to train on; the files stay."""
    plan = inputs.plan(findings[0].rule)
    images = inputs.of_paths(path for finding in findings for path in finding.images)
    rule = CropRule("whole", trim=True)
    crops = choose_crops(plan, images, rule, observer=inputs.observer, controls=inputs.controls)
    plan_crops(plan, inputs.collection, crops, record=True)
    return plan


def _converted(
    background: bool = False, frames: Frames = "refuse"
) -> Callable[[AuditInputs, Sequence[Finding]], Plan]:
    """A plan of files that every trainer reads alike."""

    def plan_it(inputs: AuditInputs, findings: Sequence[Finding]) -> Plan:
        plan = inputs.plan(findings[0].rule)
        images = inputs.of_paths(path for finding in findings for path in finding.images)
        colour = parse_colour(inputs.settings.data.background) if background else None
        plan_conversions(
            plan,
            inputs.collection,
            images,
            Target(background=colour, frames=frames),
            observer=inputs.observer,
            controls=inputs.controls,
        )
        return plan

    return plan_it


IMAGE_RULES: tuple[Rule, ...] = (
    Rule(
        "unreadable",
        "Cannot be read",
        "error",
        unreadable,
        "A run stops at a damaged picture.",
        fix=trash,
    ),
    Rule(
        "same-file",
        "The same file twice",
        "warning",
        same_file,
        "What is there twice counts double, and is the first to be learned by heart.",
        fix=keep_the_best,
        safe=True,
    ),
    Rule(
        "near-duplicates",
        "Nearly the same",
        "warning",
        near_duplicates,
        "Copies weigh double, and are learned by heart; two versions of one drawing may be meant.",
        threshold=MAX_DISTANCE,
        unit="bits of 64 by which perceptual hashes differ at most",
        fix=keep_the_best,
    ),
    Rule(
        "blurred",
        "Blurred",
        "warning",
        blurred,
        "Blur is learned as part of what is shown.",
        _GUIDE,
        BLURRED,
        f"of 1, by the strongest edges at 256 px, and {_BLUR_ABOVE_OTHERS} above the median of "
        f"all; or {VERY_BLURRED}",
        fix=trash,
    ),
    Rule(
        "heavy-jpeg",
        "Heavily compressed",
        "warning",
        heavy_jpeg,
        "JPEG's blocks and rings are learned as texture.",
        threshold=JPEG_QUALITY,
        unit="quality by the file's quantisation tables, below which it is told; not of pictures "
        "that are shrunk to less than half",
        fix=trash,
    ),
    Rule(
        "dark",
        "Very dark",
        "warning",
        dark,
        "There is next to nothing to see, and darkness is learned with it.",
        threshold=DARK,
        unit="of white, which 98 % of the pixels are below",
        fix=trash,
    ),
    Rule(
        "light",
        "Very light",
        "warning",
        light,
        "It is washed out, which is learned with what is shown.",
        threshold=LIGHT,
        unit="of white, which 98 % of the pixels are above",
        fix=trash,
    ),
    Rule(
        "blank",
        "Next to nothing on it",
        "warning",
        blank,
        "A run spends steps on it and learns plain colour.",
        threshold=BLANK,
        unit="of the pixels differ clearly from their neighbours at 48 px",
        fix=trash,
    ),
    Rule(
        "grey",
        "Grey among colours",
        "note",
        grey,
        'Tag it "monochrome", or grey leaks into what is drawn in colours.',
        threshold=GREY,
        unit="of 1 by which the channels of 99 % of the pixels differ at most; told where no more "
        "than a tenth of the pictures are grey",
    ),
    Rule(
        "borders",
        "Bars or a frame",
        "warning",
        borders,
        "Borders are learned as part of the picture, and drawn again.",
        threshold=BORDER,
        unit="of the area",
        fix=trim,
    ),
    Rule(
        "transparent",
        "Transparent",
        "note",
        transparent,
        "What shines through is drawn as well; other trainers show what lies hidden there.",
        fix=_converted(background=True),
    ),
    Rule(
        "file-oddities",
        "Read differently by other programs",
        "note",
        odd_files,
        "Turns by EXIF, colour profiles, CMYK and 16 bits are read by some programs and not by "
        "others, which then train on other pictures than you see.",
        fix=_converted(),
        safe=True,
    ),
    Rule(
        "animation",
        "Animations",
        "note",
        animations,
        "The other frames are not trained on.",
        fix=_converted(frames="first"),
    ),
)
