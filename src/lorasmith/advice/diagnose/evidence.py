"""What causes are judged by, and the signs that the measures show."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from statistics import fmean

from lorasmith.advice.audit_rules.contradictions import contradictions
from lorasmith.advice.diagnose.facts import RunFacts
from lorasmith.advice.diagnose.tag_groups import is_negation, question_of
from lorasmith.curation.edit.spelling import bare
from lorasmith.measures.records import FULL, HIGH, LOW, Measures
from lorasmith.measures.strength_grid import StrengthGrid, mean_and_error
from lorasmith.measures.told import CaptionFit, TagReadings
from lorasmith.measures.verdict import COPY, LEAK, LIKE_ENOUGH, WEAKER_LOSS

# A part's best strength counts as another one than 1 from so far away, and from so many standard
# errors.
OFF_FULL, OFF_ERRORS = 0.15, 2.0
# Loss that the best strengths save, of the base's, below which they are no better than full ones.
SAVES = 0.02
# An answer is that of all pictures where the base sees it in so many of them, and so many standard
# errors above the next one.
ALWAYS, ALWAYS_ERRORS = 0.6, 3.0
# A tag is denied where another answer's error is smaller by more than this, in shares of the error
# without a caption.
CLEAR = 0.02


@dataclass(frozen=True, slots=True)
class Sign:
    """
    Args:
        size: 0 (not there) to 1.
        text: what was measured, a clause with its numbers.
    """

    size: float
    text: str = ""


NONE = Sign(0.0)


@dataclass(frozen=True, slots=True)
class Evidence:
    """
    Args:
        facts: of its making.
        measures: its loss, likeness, copying, leak; ``None`` as all that follows where it could not
            be measured.
        grid: its loss at strengths of both parts.
        captions: how well the base understands the captions at each CLIP skip.
        shown: what the base sees in the training pictures.
        drawn: what the base sees in the LoRA's drawings.
    """

    facts: RunFacts
    measures: Measures | None = None
    grid: StrengthGrid | None = None
    captions: CaptionFit | None = None
    shown: TagReadings | None = None
    drawn: TagReadings | None = None


def clamp(value: float) -> float:
    return min(1.0, max(0.0, value))


def burnt(evidence: Evidence) -> Sign:
    """It has to be turned down."""
    one, grid = evidence.measures, evidence.grid
    if one is not None and one.loss[FULL] > 0:
        return Sign(
            1.0, f"it predicts the pictures worse than the base alone ({one.loss[FULL]:+.0%})"
        )
    signs = []
    if one is not None and LOW in one.loss and one.loss[LOW] < one.loss[FULL] - WEAKER_LOSS:
        size = (one.loss[FULL] - one.loss[LOW]) / 0.2
        low, full = f"{one.loss[LOW]:+.0%}", f"{one.loss[FULL]:+.0%}"
        signs.append(
            Sign(0.5 + 0.5 * clamp(size), f"its loss is {low} at strength 0.6, {full} at 1")
        )
    if grid is not None:
        best = grid.optimum()
        if _below(best.unet, best.unet_error) and best.gain < -SAVES:
            text = f"its UNet's part is best at {best.unet:.2f} ± {best.unet_error:.2f}"
            signs.append(Sign(0.5 + clamp((1 - best.unet) / 1.5), text))
    return _largest(signs)


def weak(evidence: Evidence) -> Sign:
    """It has learned too little."""
    one, grid = evidence.measures, evidence.grid
    signs = []
    if one is not None and one.drawn and one.likeness[FULL] < LIKE_ENOUGH and one.loss[FULL] <= 0:
        like = f"{max(0.0, one.likeness[FULL]):.0%}{_error(one, 'likeness')}"
        text = f"its drawings are {like} of the way to the pictures"
        signs.append(Sign(clamp((LIKE_ENOUGH - one.likeness[FULL]) / 0.6), text))
    elif one is not None and not one.drawn and one.loss.get(HIGH, 1.0) <= one.loss[FULL]:
        signs.append(Sign(0.6, "it gets no worse at strength 1.4"))
    if grid is not None:
        best = grid.optimum()
        if (
            best.unet > 1 + OFF_FULL
            and best.gain < -SAVES
            and one is not None
            and one.loss[FULL] < 0
        ):
            text = f"its UNet's part is best at {best.unet:.2f} ± {best.unet_error:.2f}"
            signs.append(Sign(clamp((best.unet - 1) / 0.8), text))
    return _largest(signs)


def text_encoder_burnt(evidence: Evidence) -> Sign:
    """Its text encoder's part alone has to be turned down."""
    grid = evidence.grid
    if grid is None or len(grid.text_encoder) < 2:
        return NONE
    best = grid.optimum()
    if not _below(best.text_encoder, best.text_encoder_error) or best.gain > -SAVES:
        return NONE
    text = (
        f"its text encoder's part is best at {best.text_encoder:.2f} "
        f"± {best.text_encoder_error:.2f}, the UNet's at {best.unet:.2f}"
    )
    return Sign(clamp(0.5 + (1 - best.text_encoder) / 1.5), text)


def copies(evidence: Evidence) -> Sign:
    one = evidence.measures
    if one is None or one.copying is None or one.copying >= 2 * COPY:
        return NONE
    text = (
        f"its drawings are {one.copying:.2f}{_error(one, 'copying', percent=False)} as far from "
        "the nearest picture as pictures from each other"
    )
    return Sign(clamp((2 * COPY - one.copying) / (2 * COPY - 0.2)), text)


def leaks(evidence: Evidence) -> Sign:
    one = evidence.measures
    if one is None or one.plain_moved is None or one.plain_moved < LEAK / 2:
        return NONE
    moved = f"{one.plain_moved:.2f}{_error(one, 'plain_moved', percent=False)}"
    text = f"prompts without the trigger move {moved} times as far as the pictures"
    return Sign(clamp((one.plain_moved - LEAK / 2) / LEAK), text)


def learns_by_heart(evidence: Evidence) -> Sign:
    """Its held-out pictures have gained less than those it was trained on."""
    one = evidence.measures
    if one is None or one.held_out is None:
        return NONE
    gap = one.held_out - one.training
    text = f"held-out pictures gained {-one.held_out:.0%}, training pictures {-one.training:.0%}"
    return Sign(clamp(gap / 0.4), text) if gap > 0.1 else NONE


def wants_skip(evidence: Evidence) -> tuple[int, Sign] | None:
    """The CLIP skip at which the base predicts the pictures best by their captions, if that is
    another than the LoRA was trained at."""
    fit, own = evidence.captions, evidence.facts.clip_skip
    if fit is None or own is None or own not in fit.skips or not fit.errors[0]:
        return None
    best = min(range(len(fit.skips)), key=lambda index: fmean(fit.errors[index]))
    if fit.skips[best] == own:
        return None
    before, after = fit.errors[fit.skips.index(own)], fit.errors[best]
    saved, error = mean_and_error([a - b for a, b in zip(before, after, strict=True)])
    share, part = saved / fmean(before), error / fmean(before)
    if error > 0 and saved < OFF_ERRORS * error:
        return None
    text = (
        f"at CLIP skip {fit.skips[best]} the base alone predicts the pictures better by their "
        f"captions, by {share:.1%} ± {part:.1%} of its error"
    )
    return fit.skips[best], Sign(clamp(saved / error / 4 if error > 0 else 1.0), text)


def _below(best: float, error: float) -> bool:
    return best < 1 - OFF_FULL and (1 - best) > OFF_ERRORS * (error if math.isfinite(error) else 0)


def _error(one: Measures, name: str, *, percent: bool = True) -> str:
    error = one.errors.get(name)
    if error is None:
        return ""
    return f" ± {error:.0%}" if percent else f" ± {error:.2f}"


def _largest(signs: list[Sign]) -> Sign:
    return max(signs, key=lambda sign: sign.size, default=NONE)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the base sees in nearly all pictures.

    Args:
        share: of the pictures in which it sees this.
        errors: standard errors by which it is above the next answer.
    """

    question: str
    tag: str
    share: float
    errors: float


def constant_answers(readings: TagReadings) -> list[Answer]:
    """Of each question the tag that the base sees in all pictures, as far as there is one."""
    answers = []
    for question, tags in readings.groups.items():
        errors = readings.errors[question]
        if len(errors) < 2:
            continue
        means = [fmean(row[n] for row in errors) for n in range(len(tags))]
        first, second = sorted(range(len(tags)), key=means.__getitem__)[:2]
        share = fmean(min(row) == row[first] for row in errors)
        apart, error = mean_and_error([row[second] - row[first] for row in errors])
        sure = apart / error if error > 0 else math.inf
        if share >= ALWAYS and sure >= ALWAYS_ERRORS:
            answers.append(Answer(question, tags[first], share, sure))
    return answers


def questions_said(tag_counts: dict[str, int] | Counter[str]) -> dict[str, int]:
    """By question, captions that answer it (several answers in one count as several)."""
    counts: Counter[str] = Counter()
    for tag, count in tag_counts.items():
        counts[question_of(tag)] += count
    return dict(counts)


@dataclass(frozen=True, slots=True)
class Silence:
    """Captions that say nothing of a question that others answer.

    Args:
        images: whose captions are silent, with what the base sees there.
        share: of the images, over all such questions.
    """

    questions: list[str]
    images: list[tuple[str, str]]
    share: float


def silent_captions(readings: TagReadings) -> Silence:
    asked = Counter(question for tags in readings.tags for question in set(map(question_of, tags)))
    questions = [q for q in readings.groups if asked[q]]
    silent: list[tuple[str, str]] = []
    of: Counter[str] = Counter()
    for question in questions:
        tags, errors = readings.groups[question], readings.errors[question]
        for image, own, row in zip(readings.images, readings.tags, errors, strict=True):
            answered = any(question_of(tag) == question for tag in own)
            best = min(range(len(tags)), key=row.__getitem__)
            if not answered and not is_negation(tags[best]):
                silent.append((image, tags[best]))
                of[question] += 1
    total = len(questions) * len(readings.images)
    return Silence(list(of), silent, len(silent) / total if total else 0.0)


@dataclass(frozen=True, slots=True)
class Disagreement:
    """A tag in a caption where the base clearly sees another answer."""

    image: str
    tag: str
    seen: str


def disagreements(readings: TagReadings) -> tuple[list[Disagreement], float]:
    """And their share of the tags that could be read."""
    found, read = [], 0
    for row_of, (image, own) in enumerate(zip(readings.images, readings.tags, strict=True)):
        for tag in map(bare, own):
            question = question_of(tag)
            tags = readings.groups.get(question, [])
            if tag not in tags:
                continue
            read += 1
            row = readings.errors[question][row_of]
            best = min(range(len(tags)), key=row.__getitem__)
            if row[tags.index(tag)] - row[best] > CLEAR:
                found.append(Disagreement(image, tag, tags[best]))
    return found, len(found) / read if read else 0.0


def denied_tags(readings: TagReadings) -> dict[str, list[str]]:
    """Images by tag: of tags that exclude each other in one caption, those that the base sees less
    there than another answer of the caption."""
    images: dict[str, list[str]] = {}
    for row, (image, own) in enumerate(zip(readings.images, readings.tags, strict=True)):
        names = list(map(bare, own))
        clashing = {question_of(tag) for pair in contradictions(names) for tag in pair}
        for question in clashing & readings.groups.keys():
            tags = readings.groups[question]
            errors = {
                tag: readings.errors[question][row][tags.index(tag)] for tag in names if tag in tags
            }
            for tag in errors:
                if errors[tag] > min(errors.values()):
                    images.setdefault(tag, []).append(image)
    return images


def unasked(readings: TagReadings, tag: str) -> float | None:
    """Share of the LoRA's drawings that show a tag that none asked for; ``None`` where each did or
    it cannot be read."""
    question = question_of(tag)
    tags = readings.groups.get(question, [])
    if tag not in tags:
        return None
    free = [
        row
        for own, row in zip(readings.tags, readings.errors[question], strict=True)
        if not any(question_of(one) == question for one in own)
    ]
    if not free:
        return None
    return fmean(min(row) == row[tags.index(tag)] for row in free)
