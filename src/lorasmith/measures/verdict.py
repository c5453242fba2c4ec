"""Under-, well- or overtrained, which snapshot to keep, and what to change next time: rules over
measures. Torch-free.

A snapshot is *overtrained* where any of these signs shows:

* **weaker is better**: at strength 0.6 its loss is lower, or its drawings are more alike, than at
  1.0. A LoRA that has to be turned down is burnt; the guides to LoRA training say so, and this is
  their test with numbers in place of eyes.
* **spoilt**: it predicts the images worse than the base model without it.
* **leaks**: prompts without the trigger move nearly as far as the training images do. An adapter
  that learned what the word means moves them far less.
* **copies**: its drawings of tags that no training image combines are far nearer to a training
  image than these are to each other.
* **held-out loss rises**: it is clearly above that of an earlier snapshot, image by image.

Else it is *undertrained* while its drawings are not like the training images yet, or, where none
were drawn, while more strength would cost next to nothing. Else it is *well trained*.

The numbers below were chosen on the embedded world, where a classifier tells what drawings show;
benchmarks/pick.md has the runs and how far they agree.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Literal

from lorasmith.core.text import quantity
from lorasmith.measures.records import FULL, HIGH, LOW, Measures

State = Literal["under", "well", "over"]

# Where most drawings show the whole subject it is 0.86 or more; below 0.82, at most half of them.
LIKE_ENOUGH = 0.85
# Of the base model's loss. Trained snapshots lose 0.1 or more of it at strength 1.4; those that
# have learned little lose nothing, as more of them does no harm yet.
STRENGTH_ROOM = 0.08
# Loss and likeness at 0.6 against 1.0: below this, it may be chance.
WEAKER_LOSS, WEAKER_LIKENESS = 0.02, 0.1
# At 1 the word makes no difference. Runs that leak nothing stay below 0.65 to their end; where one
# plain image in ten shows the subject it is 0.83, and from 0.93 on it is half of them.
LEAK = 0.9
# Drawings that are not copies are as far from the nearest training image as these from each
# other, 0.75 or more; those of a run on five images that repeats them, 0.3.
COPY = 0.45
# A rise of the held-out loss counts from this share of the base model's, and from as many standard
# errors of the images' differences.
RISE, RISE_ERRORS = 0.02, 2.0
# Losses nearer than this are the same; the earlier snapshot has the less to unlearn.
TIE = 0.03
# A run gains no more when so many snapshots in a row were no better than the one to keep. One may
# be chance: of few drawings, or of the steps just before it.
PATIENCE = 2
# What still counts as a gain where nothing is well trained yet. The loss is of fixed noise, so that
# even small steps down are real; likeness is of a few drawings.
GAIN, LIKENESS_GAIN = 0.01, 0.05

# The share of the usual showings of an image from which a run was not too short.
ENOUGH = 0.6
# Of what is missing. A likeness this small after a run of usual length wants larger steps.
RAISE_MOST, LOWER_BY = 10, 4
# Fewer held-out images tell a trend, but not one snapshot from the next.
FEW_HELD_OUT = 4
FEW_DRAWINGS = 4


@dataclass(frozen=True, slots=True)
class Facts:
    """What advice needs to know of a run.

    Args:
        labels: of the snapshots, as people call them.
        epochs: that they stand after, where known.
        uses: how often each training image had been shown by then, where known.
        usual_uses: how often a run of usual length shows each of so many.
        held_out: images that were held out and are measured.
        images: training images.
        trigger: "" for none.
        regularised: whether there are regularisation images.
        captions_alone: whether captions without the trigger are all the plain prompts there are.
        state: of the run, as in :class:`lorasmith.training.runs.control.Status`.
        drawings: of each kind, for each snapshot.
        changed: what is not as it was when the run began.
        lr: the learning rate that was set.
    """

    labels: tuple[str, ...]
    epochs: tuple[int | None, ...] = ()
    uses: tuple[float | None, ...] = ()
    usual_uses: float = 100.0
    held_out: int = 0
    images: int = 1
    trigger: str = ""
    regularised: bool = False
    captions_alone: bool = False
    state: str = "done"
    drawings: int = FEW_DRAWINGS
    changed: tuple[str, ...] = ()
    lr: float = 1e-4


@dataclass(frozen=True, slots=True)
class SnapshotVerdict:
    """A snapshot's state and why, a sentence for each sign."""

    state: State
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """
    Args:
        judged: of each snapshot, in order.
        keep: which, as an index.
        run_is: "well" when the run has a well-trained snapshot, else what it is on the whole.
        summary: what to keep and why, a few sentences.
        advice: what to do next time.
        limits: what could not be judged, and why.
    """

    judged: tuple[SnapshotVerdict, ...]
    keep: int
    run_is: State
    summary: str
    advice: tuple[str, ...]
    limits: tuple[str, ...]


def judge(measures: Sequence[Measures], facts: Facts) -> Verdict:
    """The verdict on a run's snapshots, at least one, in the order of training."""
    verdicts = tuple(
        judge_one(now, measures[:number], facts.labels) for number, now in enumerate(measures)
    )
    states = [one.state for one in verdicts]
    keep = choose(measures, states)
    run_is = run_state(states, keep)
    return Verdict(
        verdicts,
        keep,
        run_is,
        summarise(measures, verdicts, keep, facts),
        advise(measures, states, keep, facts),
        limits_of(measures, facts),
    )


def judge_one(now: Measures, before: Sequence[Measures], labels: Sequence[str]) -> SnapshotVerdict:
    """One snapshot, given the earlier ones."""
    over = [text for sign in OVER for text in [sign(now)] if text]
    over += held_out_rises(now, before, labels)
    if over:
        return SnapshotVerdict("over", tuple(over))
    under = not_learned(now)
    if under:
        return SnapshotVerdict("under", (under,))
    return SnapshotVerdict("well", (learned(now),))


def weaker_is_better(now: Measures) -> str:
    """The guides' test: a LoRA should work at strength 1."""
    signs = []
    if LOW in now.loss and now.loss[LOW] < now.loss[FULL] - WEAKER_LOSS:
        signs.append(f"its loss is lower at strength {LOW} than at {FULL}")
    if LOW in now.likeness and now.likeness[LOW] > now.likeness[FULL] + WEAKER_LIKENESS:
        signs.append(f"its drawings are better at strength {LOW} than at {FULL}")
    return " and ".join(signs)


def degraded(now: Measures) -> str:
    if now.loss[FULL] <= 0:
        return ""
    return "it predicts the pictures worse than the base model alone: the weights are ruined"


def leaks(now: Measures) -> str:
    if now.plain_moved is None or now.plain_moved < LEAK:
        return ""
    if max(abs(now.loss[FULL]), abs(now.training)) < RISE:  # Of next to nothing, all moves alike.
        return ""
    return f"prompts without the trigger move too ({now.plain_moved:.1f} times as far as with it)"


def memorised(now: Measures) -> str:
    if now.copying is None or now.copying >= COPY:
        return ""
    return (
        f"its drawings repeat training pictures (they are {now.copying:.1f} times as far from the "
        "nearest as these are from each other)"
    )


OVER: tuple[Callable[[Measures], str], ...] = (degraded, weaker_is_better, leaks, memorised)
"""Signs that a snapshot shows by itself; "" where it does not."""


def held_out_rises(now: Measures, before: Sequence[Measures], labels: Sequence[str]) -> list[str]:
    """Against the best earlier snapshot, each held-out image against itself."""
    if now.held_out is None or not before:
        return []
    best = min(range(len(before)), key=lambda n: before[n].loss[FULL])
    rises = [
        loss - earlier
        for loss, earlier in zip(now.by_picture, before[best].by_picture, strict=True)
    ]
    error = stdev(rises) / math.sqrt(len(rises)) if len(rises) > 1 else math.inf
    rise = fmean(rises)
    if rise < max(RISE, RISE_ERRORS * error):
        return []
    return [f"its held-out loss is {rise:.0%} of the base model's above that of {labels[best]}"]


def not_learned(now: Measures) -> str:
    """Why it is undertrained; "" if it is not."""
    if now.drawn:
        if now.likeness[FULL] >= LIKE_ENOUGH:
            return ""
        helps = now.likeness.get(HIGH, -math.inf) > now.likeness[FULL]
        stronger = " (more strength helps)" if helps else ""
        return f"its drawings are {_like(now)} of the way to the training pictures{stronger}"
    # What has no strength does not tell how much room there is.
    if now.loss.get(HIGH, math.inf) - now.loss[FULL] >= STRENGTH_ROOM:
        return ""
    return f"strength {HIGH} costs it next to nothing: there is room for more training"


def learned(now: Measures) -> str:
    signs = (
        [f"its drawings are {_like(now)} of the way to the training pictures"] if now.drawn else []
    )
    kind = "held-out loss" if now.held_out is not None else "loss on the training pictures"
    signs.append(f"{kind} {now.loss[FULL]:+.0%}")
    if now.plain_moved is not None:
        signs.append(f"plain prompts move {now.plain_moved:.1f} times as far")
    return ", ".join(signs)


def _like(now: Measures) -> str:
    return f"{max(0.0, now.likeness[FULL]):.0%}"


def choose(measures: Sequence[Measures], states: Sequence[State]) -> int:
    """Of the well-trained the earliest with about the lowest loss; else the most that was learned
    before it went wrong; else, of overtrained ones, the earliest with about the fewest signs."""
    well = [n for n, state in enumerate(states) if state == "well"]
    if well:
        return _earliest_best(well, lambda n: measures[n].loss[FULL], _tie(measures))
    under = [n for n, state in enumerate(states) if state == "under"]
    if under:
        return max(under, key=lambda n: _progress(measures[n]))
    # The less a LoRA does beside its subject, the more can be saved by turning it down.
    return _earliest_best(range(len(states)), lambda n: _harm(measures[n]), TIE)


def nothing_gained(measures: Sequence[Measures], states: Sequence[State], keep: int) -> bool:
    """Whether the last :data:`PATIENCE` snapshots are no better than those before, nor on their way
    to something better.

    A lower loss is on the way, but not of overtrained ones: theirs falls by what should not be
    learned.
    """
    first = len(measures) - PATIENCE
    if first < 1 or (keep >= first and states[keep] != "under"):
        return False
    before = measures[:first]
    later = [
        one for one, state in zip(measures[first:], states[first:], strict=True) if state != "over"
    ]
    if states[keep] == "well":
        return not any(one.loss[FULL] < measures[keep].loss[FULL] - _tie(measures) for one in later)
    lowest = min(one.loss[FULL] for one in before) - GAIN
    likest = max(one.likeness.get(FULL, 0.0) for one in before) + LIKENESS_GAIN
    return not any(one.loss[FULL] < lowest or one.likeness.get(FULL, 0.0) > likest for one in later)


def _progress(one: Measures) -> float:
    return one.likeness[FULL] if one.drawn else -one.loss[FULL]


def _harm(one: Measures) -> float:
    leak = one.plain_moved or 0.0
    burnt = max(0.0, one.loss[FULL] - one.loss.get(LOW, math.inf))
    return max(0.0, one.loss[FULL]) + burnt + leak


def _tie(measures: Sequence[Measures]) -> float:
    """Losses nearer than this are the same. An embedding gains a tenth of the loss where a LoRA
    gains most of it: of what has no strength it is a share of what was gained."""
    if any(LOW in one.loss for one in measures):
        return TIE
    return TIE * max(0.0, -min(one.loss[FULL] for one in measures))


def _earliest_best(numbers: Sequence[int], cost: Callable[[int], float], tie: float) -> int:
    lowest = min(cost(number) for number in numbers)
    return next(number for number in numbers if cost(number) <= lowest + tie)


def run_state(states: Sequence[State], keep: int) -> State:
    """What the run is on the whole: "well" if there is something good to keep, else what its end
    is."""
    return "well" if states[keep] == "well" else states[-1]


WORDS: dict[State, str] = {"under": "undertrained", "well": "well trained", "over": "overtrained"}


def summarise(
    measures: Sequence[Measures], verdicts: Sequence[SnapshotVerdict], keep: int, facts: Facts
) -> str:
    """The verdict in a few sentences."""
    best, labels = verdicts[keep], facts.labels
    text = [f"Keep {labels[keep]}, which is {WORDS[best.state]}: {'; '.join(best.reasons)}."]
    if best.state == "over":
        text[0] = f"All snapshots are overtrained; {labels[keep]} is the least: "
        text[0] += f"{'; '.join(best.reasons)}."
    later = [n for n in range(keep + 1, len(verdicts)) if verdicts[n].state == "over"]
    if later and best.state != "over":
        first = verdicts[later[0]]
        text.append(f"From {labels[later[0]]} on it is overtrained: {'; '.join(first.reasons)}.")
    elif best.state == "under":
        text.append("Nothing in this run has learned enough.")
    elif best.state == "well" and keep < len(verdicts) - 1:
        text.append("What comes after it is as good and no better.")
    return " ".join(text)


def advise(
    measures: Sequence[Measures], states: Sequence[str], keep: int, facts: Facts
) -> tuple[str, ...]:
    """Sentences; none where a run needs no change."""
    if states[keep] == "under" and states[-1] == "under":
        return (_more(measures[keep], facts),)
    if states[0] == "over" or (states[keep] == "under" and "over" in states):
        return _gentler(measures, states, keep, facts)
    advice = []
    if "over" in states[keep:]:
        end = facts.epochs[keep] if facts.epochs else None
        stop = f"train.epochs = {end}" if end else f"the steps of {facts.labels[keep]}"
        advice.append(f"Next time {stop} is enough at this learning rate.")
        advice += _against_leaks(measures[-1], facts)
    return tuple(advice)


def _more(last: Measures, facts: Facts) -> str:
    learned = last.likeness[FULL] if last.drawn else -last.loss[FULL]
    factor = min(RAISE_MOST, max(2, round(1 / max(learned, 0.01))))
    uses = facts.uses[-1] if facts.uses else None
    if facts.state not in ("done", "trouble"):
        return "The run has not ended; let it go on (lorasmith train --resume) and ask again."
    if uses is not None and uses < ENOUGH * facts.usual_uses:
        epochs = facts.epochs[-1] if facts.epochs else None
        many = f", so train.epochs = {factor * epochs}" if epochs else ""
        return (
            f"Train longer: each picture was shown {uses:.0f} times, where about "
            f"{facts.usual_uses:.0f} are usual; try {factor} times as many epochs{many}."
        )
    return (
        f"Raise the learning rate: try {factor} times as much "
        f"(optimizer.lr = {facts.lr * factor:.2g})."
    )


def _gentler(
    measures: Sequence[Measures], states: Sequence[str], keep: int, facts: Facts
) -> tuple[str, ...]:
    ruined = any(one.loss[FULL] > 0 for one in measures)
    advice = []
    if states[keep] == "under" and not ruined:
        gap = f"between {facts.labels[keep]} and {facts.labels[states.index('over')]}"
        advice.append(
            f"Somewhere {gap} it may be right: save more often, and halve the learning rate "
            f"(optimizer.lr = {facts.lr / 2:.2g})."
        )
    elif ruined or measures[0].plain_moved is None:
        advice.append(
            f"Lower the learning rate to a quarter (optimizer.lr = {facts.lr / LOWER_BY:.2g}): "
            "it goes wrong before anything useful is learned."
        )
    else:
        advice.append("Save more often and train less: the first snapshot is too late already.")
    if not ruined:
        advice += _against_leaks(measures[-1], facts)
    return tuple(advice)


def _against_leaks(last: Measures, facts: Facts) -> list[str]:
    advice = []
    if last.plain_moved is not None and not facts.regularised and last.plain_moved > 0.5:
        advice.append(
            "A larger preservation.share, or regularisation pictures (--reg), keep plain prompts "
            "as they are."
        )
    if last.copying is not None and last.copying < 0.5:
        advice.append(f"More pictures than {facts.images} keep it from repeating them.")
    return advice


def limits_of(measures: Sequence[Measures], facts: Facts) -> tuple[str, ...]:
    """What the verdict does not know."""
    limits = [
        f"Since the training began, {what} changed: the measures are of what is there now."
        for what in facts.changed
    ]
    if not facts.held_out:
        limits.append(
            "No pictures are held out, so the loss is that of training pictures, with the adapter "
            "and without: it falls for ever and cannot say when to stop; the other measures do. "
            "Hold some out with validation.split."
        )
    elif facts.held_out < FEW_HELD_OUT:
        limits.append(
            f"Only {quantity(facts.held_out, 'picture', 'is')} held "
            "out: their loss tells a trend, not one "
            "snapshot from the next."
        )
    if not facts.trigger:
        limits.append(
            "There is no trigger word, so whether plain prompts change is not judged. For a style "
            "that is as it should be."
        )
    elif facts.captions_alone:
        limits.append(
            "Whether plain prompts change is judged by captions without the trigger alone, which "
            "are close to the subject. Prompts of other things (--plain) or regularisation "
            "pictures tell more."
        )
    if not all(one.drawn for one in measures):
        limits.append("With a single training picture, drawings are not compared with it.")
    elif facts.drawings < FEW_DRAWINGS:
        limits.append(
            f"With {facts.drawings} drawings of each kind, likeness is mostly chance: a snapshot "
            "may well be named wrongly. Ask with more (--pictures)."
        )
    words = {
        "running": "The run goes on; ask again when it has new snapshots.",
        "stopped": "The run was stopped before its end.",
        "killed": "The run was killed before its end; what it saved until then is judged.",
        "trouble": "The run ended in trouble; `lorasmith control` on its folder says which.",
    }
    if facts.state in words:
        limits.append(words[facts.state])
    return tuple(limits)
