"""What to change next time, and what could not be judged. Torch-free."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lorasmith.core.text import quantity
from lorasmith.measures.records import FULL, Measures

# How often an image is shown in a whole run that learns: the guides' settings come to about 100.
USES_ENOUGH = 60
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
        held_out: images that were held out and are measured.
        images: training images.
        trigger: "" for none, and then ``no_trigger`` says why.
        regularised: whether there are regularisation images.
        captions_alone: whether captions without the trigger are all the plain prompts there are.
        state: of the run, as in :class:`~.status.Status`.
        drawings: of each kind, for each snapshot.
        changed: what is not as it was when the run began.
        lr: the learning rate that was set.
    """

    labels: tuple[str, ...]
    epochs: tuple[int | None, ...] = ()
    uses: tuple[float | None, ...] = ()
    held_out: int = 0
    images: int = 1
    trigger: str = ""
    no_trigger: str = ""
    regularised: bool = False
    captions_alone: bool = False
    state: str = "done"
    drawings: int = FEW_DRAWINGS
    changed: tuple[str, ...] = ()
    lr: float = 1e-4


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
    wanted = min(RAISE_MOST, max(2, round(1 / max(learned, 0.01))))
    uses = facts.uses[-1] if facts.uses else None
    if facts.state not in ("done", "trouble"):
        return "The run has not ended; let it go on (lorasmith train --resume) and ask again."
    if uses is not None and uses < USES_ENOUGH:
        epochs = facts.epochs[-1] if facts.epochs else None
        many = f", so train.epochs = {wanted * epochs}" if epochs else ""
        return (
            f"Train longer: each picture was shown {uses:.0f} times, where about 100 are usual; "
            f"try {wanted} times as many epochs{many}."
        )
    return (
        f"Raise the learning rate: try {wanted} times as much "
        f"(optimizer.lr = {facts.lr * wanted:.2g})."
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
        advice.append("Regularisation pictures (--reg) keep plain prompts as they are.")
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
            f"There is no trigger word ({facts.no_trigger}), so whether plain prompts change is "
            "not judged. For a style that is as it should be."
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
