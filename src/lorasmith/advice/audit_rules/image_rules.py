"""Rules about single images; each a function over the inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median

import numpy as np

from lorasmith.advice.audit.finding import Finding, Rule
from lorasmith.advice.audit.inputs import AuditInputs
from lorasmith.core.errors import DatasetError
from lorasmith.core.text import quantity
from lorasmith.curation.changes.plan import Plan
from lorasmith.curation.facts import ImageFacts, Pixels
from lorasmith.curation.images.convert import PALETTE
from lorasmith.curation.images.converting import Frames, Target, plan_conversions
from lorasmith.curation.images.crop import CropRule
from lorasmith.curation.images.cropping import choose_crops, plan_crops
from lorasmith.curation.sorting.dedupe import remove_images
from lorasmith.data.images import decoded_image, parse_colour
from lorasmith.data.scan import size_problem

_BLUR = "blur 1"
_BLUR_SIDE = 256  # px of the shorter side, as blur is measured when a folder is opened
_SHARPEST = 0.002  # of the pixels: what is small may be all that is drawn
_SHARP = 90.0
BLURRED, VERY_BLURRED = 0.6, 0.8
_BLUR_ABOVE_OTHERS = 0.2  # a style that is soft all over is no fault of its images
JPEG_QUALITY, _VERY_HEAVY = 50, 25
# Of images that are shrunk to less of their size JPEG's blocks go; the worst outlast a half.
_SHRUNK, _SHRUNK_MORE = 0.5, 0.3
DARK, LIGHT = 0.25, 0.72
_ONE_SHADE = 0.03  # between the darkest and the lightest pixels
BLANK = 0.02
GREY, _COLOURFUL = 0.05, 0.1
_GREY_SHARE, _GREY_IMAGES = 0.1, 8
BORDER = 0.02

_GUIDE = 'The Other LoRA Training Rentry, "Selecting images"'


def unreadable(inputs: AuditInputs) -> Iterator[Finding]:
    for image in inputs.images:
        facts = inputs.facts[image.path]
        if problem := facts.problem or size_problem(facts.width, facts.height):
            yield Finding(problem, (image.path,))


def blurred(inputs: AuditInputs) -> Iterator[Finding]:
    blurs = [facts.blur for facts in inputs.usable.values()]
    usual = median(blurs) if blurs else 0.0
    # What is hardly lit or hardly drawn has faint edges for that.
    soft = {
        path: facts.content_hash
        for path, facts in inputs.usable.items()
        if _is_blurred(facts, usual) and not is_faint(inputs.pixels[path])
    }
    # What was measured is a part of the rows; where that is sky, something sharp may be below. Not
    # where all are soft: there is no sky on most.
    again = set(soft.values()) if usual <= BLURRED else set()
    known = inputs.looks.get(_BLUR, sorted(again)) if again else {}
    new = {key: _whole_blur(path) for path, key in soft.items() if key in again - known.keys()}
    if new:
        inputs.looks.put(_BLUR, new)
    for path, key in soft.items():
        blur = min(inputs.usable[path].blur, (known | new).get(key, 1.0))
        if blur > BLURRED:
            than = f", {usual:.2f} is usual here" if blur > usual else ""
            yield Finding(f"blur {blur:.2f} of 1{than}", (path,), value=blur)


def _whole_blur(path: Path) -> float:
    """0 sharp to 1 blurred: exp(-edge / 90), where a fifth of a percent of all pixels differs more
    from the four around it. 0 of what cannot be decoded.

    :attr:`.ImageFacts.blur` is the same of half a percent, from an eighth of the rows.
    """
    try:
        with decoded_image(path) as image:
            small = image.convert("L").reduce(max(1, min(image.size) // _BLUR_SIDE))
    except DatasetError:
        return 0.0
    pixels = np.asarray(small, np.int16)
    if min(pixels.shape) < 3:
        return 0.0
    around = pixels[:-2, 1:-1] + pixels[2:, 1:-1] + pixels[1:-1, :-2] + pixels[1:-1, 2:]
    strengths = np.abs(around - 4 * pixels[1:-1, 1:-1]).ravel()
    weaker = strengths.size - 1 - int(_SHARPEST * strengths.size)
    return float(np.exp(-int(np.partition(strengths, weaker)[weaker]) / _SHARP))


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
        scale = scales.get(path, 1.0)
        shows = scale > (_SHRUNK_MORE if facts.jpeg_quality < _VERY_HEAVY else _SHRUNK)
        if 0 < facts.jpeg_quality < JPEG_QUALITY and shows:
            what = f"JPEG of quality {facts.jpeg_quality}"
            yield Finding(what, (path,), value=facts.jpeg_quality)


def dark(inputs: AuditInputs) -> Iterator[Finding]:
    for path, pixels in inputs.pixels.items():
        if pixels.lightest < DARK and not _is_one_shade(pixels):
            what = f"98 % of it is darker than {pixels.lightest:.0%} of white"
            yield Finding(what, (path,), value=pixels.lightest)


def light(inputs: AuditInputs) -> Iterator[Finding]:
    for path, pixels in inputs.pixels.items():
        if pixels.darkest > LIGHT and not _is_one_shade(pixels):
            what = f"98 % of it is lighter than {pixels.darkest:.0%} of white"
            yield Finding(what, (path,), value=pixels.darkest)


def blank(inputs: AuditInputs) -> Iterator[Finding]:
    for path, pixels in inputs.pixels.items():
        if _is_blank(pixels):
            what = f"only {pixels.detail:.1%} of it differs from what is beside it"
            yield Finding(what, (path,), value=pixels.detail)


def _is_blank(pixels: Pixels) -> bool:
    """Without what shows so little for being dark or light."""
    lit = pixels.lightest >= DARK and pixels.darkest <= LIGHT
    return pixels.detail < BLANK and (lit or _is_one_shade(pixels))


def _is_one_shade(pixels: Pixels) -> bool:
    return pixels.lightest - pixels.darkest < _ONE_SHADE


def grey(inputs: AuditInputs) -> Iterator[Finding]:
    few = [
        path
        for path, pixels in inputs.pixels.items()
        if pixels.chroma < GREY and not is_faint(pixels)
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


def trim(inputs: AuditInputs, findings: Sequence[Finding]) -> Plan:
    """What is within the borders is recorded as the part to train on; the files stay."""
    plan = inputs.plan(findings[0].rule)
    images = inputs.of_paths(path for finding in findings for path in finding.images)
    rule = CropRule("whole", trim="reduced")  # As they are measured.
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
        f"that are shrunk to half or less; below {_VERY_HEAVY}, to {_SHRUNK_MORE:.0%}",
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
