"""What is said of rounds, in words. Torch-free."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from lorasmith.advice.bootstrap.choose import ended_because
from lorasmith.advice.bootstrap.state import Bootstrap, Round
from lorasmith.core.text import quantity


def round_text(one: Round) -> str:
    """A line on what a round's drawings are like."""
    parts = [f"round {one.number}: likeness {one.likeness or 0.0:.0%}"]
    if one.diversity is not None:
        parts.append(f"as varied as {one.diversity:.0%} of the base model's drawings")
    parts += [f"{name} {sticks_out(count)}" for name, count in one.repeated.items()]
    return "; ".join(parts)


def sticks_out(count: int) -> str:
    """Of an image of the set that so many drawings repeat."""
    return f"sticks out: {quantity(count, 'drawing')} repeat it"


def round_notes(one: Round, given: Collection[str]) -> Iterator[str]:
    """What became of images of the set in a round, or will when something is chosen: those that
    stick out, and those that better ones took the places of.

    Args:
        given: names of the images that were given.
    """
    for name, count in one.repeated.items():
        if name in one.purged:
            end = ", and it was taken out of the set"
        elif name in given:
            end = "; it was given, and stays: what is kept thins it out"
        else:
            end = "; it leaves the set with the choice" if one.kept is None else ""
        yield f"{name} {sticks_out(count)}{end}"
    for name in one.replaced:
        yield f"{name} gave its place to a better one that began with it"


def last_choice(boot: Bootstrap) -> str:
    """Why the choice that a bootstrap waits for will be its last; "" where another round comes."""
    if boot.stage != "choose":
        return ""
    return ended_because(boot.rounds, boot.options.rounds)


def trend(rounds: Sequence[Round]) -> str:
    """Whether the newest round's drawings are better than those before; "" where there is nothing
    to compare, or they are better in both measures."""
    measured = [one for one in rounds if one.likeness is not None]
    if len(measured) < 2:
        return ""
    *before, now = measured
    worse = []
    for name in ("likeness", "diversity"):
        best = max((getattr(one, name) or 0.0 for one in before), default=0.0)
        value = getattr(now, name)
        if value is not None and value <= best:
            worse.append(f"{name} {value:.0%} after {best:.0%}")
    if not worse:
        return ""
    return f"round {now.number} is no better in {' and '.join(worse)}"
