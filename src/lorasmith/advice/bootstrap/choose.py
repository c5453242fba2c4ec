"""Which drawings of a round are worth training on, and which image of the set the LoRA repeats:
rules over numbers, each with its reason. Torch-free.

A drawing is kept where

* nothing is wrong with it (:attr:`.DrawingRecord.defects`);
* it repeats no image of the set, and none of those that are kept with it: its layout is not far
  nearer to theirs than the base model's drawings are to each other (as ``pick`` tells copies);
* it is like the given images: at least half of the way from the base model's drawings, and not much
  less than the likest that is no copy.

Of these, the ones are taken that show what the set lacks: whose caption has the words that the
captions of the set, and of those already taken, have least. Of equals the likest goes first; for a
drawing that is nearly a given image over again teaches nothing. One that began with a kept drawing
takes its place where it is more like the given images, and is left out otherwise.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lorasmith.advice.bootstrap.state import DrawingRecord, Round
from lorasmith.data.captions import split_tags
from lorasmith.measures.verdict import COPY, LIKENESS_GAIN

# On the demo model drawings of a LoRA that has learned a subject from one image are 0.57 to 0.78 of
# the way to it in other poses; of LoRAs that have not, -0.27 to 0.58, four of 32 above a half.
LIKE, OF_THE_LIKEST = 0.5, 0.7

# An image sticks out where so many of the drawings, and at least so many, repeat it.
REPEATED_SHARE, REPEATED_LEAST = 0.25, 3


@dataclass(frozen=True, slots=True)
class Choice:
    """
    Args:
        kept: numbers of drawings, the first taken first.
        reasons: why each of the others is left out, by number.
    """

    kept: tuple[int, ...]
    reasons: Mapping[int, str]


def choose(
    drawings: Sequence[DrawingRecord],
    apart: Sequence[Sequence[float]],
    captions: Sequence[str],
    likeness: Mapping[str, float],
    *,
    most: int,
) -> Choice:
    """
    Args:
        drawings: of a round, measured.
        apart: how far their layouts are from each other, in the unit of
            :attr:`.DrawingRecord.copying`.
        captions: of the set.
        likeness: of the images in the set that drawings began with, by name.
        most: drawings that are kept, those that take the place of others not counted.
    """
    reasons = {one.number: text for one in drawings if (text := _wrong(one))}
    sound = [one for one in drawings if one.number not in reasons]
    least = max(LIKE, OF_THE_LIKEST * max((_likeness(one) for one in sound), default=0.0))
    for one in sound:
        if text := _unlike(one, least, likeness):
            reasons[one.number] = text
    words = Counter(word for caption in captions for word in split_tags(caption))
    waiting = [one for one in sound if one.number not in reasons]
    kept: list[DrawingRecord] = []
    while waiting:
        one = min(waiting, key=lambda each: _rank(each, words))
        waiting.remove(one)
        twin = next((k for k in kept if apart[one.number - 1][k.number - 1] < COPY), None)
        if twin is not None:
            reasons[one.number] = f"nearly the same as {twin.number}"
        elif not one.source and sum(not each.source for each in kept) >= most:
            reasons[one.number] = f"{most} others add more to the set"
        else:
            kept.append(one)
            words.update(split_tags(one.caption))
    return Choice(tuple(one.number for one in kept), dict(sorted(reasons.items())))


def _rank(one: DrawingRecord, words: Mapping[str, int]) -> tuple[float, ...]:
    """Better ones first: those that take a place, then new words, then likeness."""
    return (
        not one.source,
        sum(words.get(word, 0) for word in split_tags(one.caption)),
        -_likeness(one),
        one.number,
    )


def _wrong(one: DrawingRecord) -> str:
    """What speaks against a drawing by itself; "" where nothing does."""
    if one.defects:
        return one.defects[0]
    if one.copying is not None and one.copying < COPY:
        return f"repeats {one.nearest}"
    return ""


def _unlike(one: DrawingRecord, least: float, likeness: Mapping[str, float]) -> str:
    """How it is not like the given images; "" where it is."""
    own = _likeness(one)
    if own < least:
        return f"not like enough: {own:.0%}, of {least:.0%} that it takes"
    if one.source and own <= likeness.get(one.source, 0.0):
        return f"no more like the subject than {one.source}"
    return ""


def _likeness(one: DrawingRecord) -> float:
    return one.likeness or 0.0


def repeated_images(drawings: Sequence[DrawingRecord]) -> dict[str, int]:
    """Images of the set that stick out: by name, how many drawings repeat them."""
    fresh = [one for one in drawings if not one.source]
    counts = Counter(one.nearest for one in fresh if one.copying is not None and one.copying < COPY)
    least = max(REPEATED_LEAST, REPEATED_SHARE * len(fresh))
    return {name: count for name, count in counts.most_common() if count >= least}


def ended_because(rounds: Sequence[Round], most: int) -> str:
    """Why there are no more rounds after these, each with its choice; "" where there are.

    Args:
        most: rounds.
    """
    now, before = rounds[-1], rounds[:-1]
    best = max((one.likeness or 0.0 for one in before), default=None)
    # A LoRA of nothing new draws nothing new; what comes next is another training.
    comparable = best is not None and before[-1].kept
    if comparable and (now.likeness or 0.0) < (best or 0.0) + LIKENESS_GAIN:
        return f"likeness no longer rises ({now.likeness or 0.0:.0%} after {best:.0%})"
    if now.number >= most:
        return f"that was round {now.number} of {most}"
    return ""


def empty_rounds(rounds: Sequence[Round]) -> int:
    """How many of the last rounds before the newest kept nothing."""
    count = 0
    for one in reversed(rounds[:-1]):
        if one.kept:
            break
        count += 1
    return count
