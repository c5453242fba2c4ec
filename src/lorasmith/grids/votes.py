"""Votes between two drawings of a grid, which do not say what they are: which two come next, on
which side each stands, and what the votes say. Torch-free.

Two drawings that are voted on have the same place on all axes but those that are asked about: of
epochs, the same prompt, seed and strength. The votes lie in the grid's folder, one a line, and say
which images they were of: a grid that is drawn anew with more on its axes keeps them, and a LoRA
that was trained anew begins without any.
"""

from __future__ import annotations

import errno
import json
import math
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from lorasmith.core.disk import write_error
from lorasmith.core.errors import RunError
from lorasmith.core.files import parse_json
from lorasmith.core.rng import python_rng
from lorasmith.core.text import quantity, word_list
from lorasmith.grids.record import DrawnCell, DrawnGrid

VOTES = "votes.jsonl"
Answer = Literal["left", "right", "equal"]
Item = tuple[str, ...]
"""What stands at the axes that are asked about."""

# What a LoRA is judged along, the first that a grid has; else the first that is no matter of what
# is drawn.
_ASKED = ("epoch", "lora", "strength", "unet", "te", "lbw", "checkpoint")
_DRAWN = ("prompt", "negative", "sr", "triggers", "seed", "size")
_MOST_BYTES = 1 << 25
_MOST_NAMED = 3
# Of the normal distribution: 95 of 100 lie within it.
_Z = 1.96


@dataclass(frozen=True, slots=True)
class Pair:
    """Two drawings, as they stand beside each other."""

    left: DrawnCell
    right: DrawnCell


@dataclass(frozen=True, slots=True)
class Vote:
    """
    Args:
        seed: of the order in which pairs were shown.
        answer: which is better; ``None`` of one that was taken back.
    """

    seed: int
    left: DrawnCell
    right: DrawnCell
    answer: Answer | None


@dataclass(frozen=True, slots=True)
class Ballot:
    """The votes of a grid.

    Args:
        votes: that stand, in the order in which they were cast.
        lost: how many were of images that the grid no longer has.
    """

    votes: tuple[Vote, ...]
    lost: int = 0


@dataclass(frozen=True, slots=True)
class Standing:
    """What the votes say of one place along the axes that are asked about.

    Args:
        share: of its votes that it won, an equal one half; ``None`` without votes.
        low, high: within which the share lies for 95 of 100 such samples of votes (Wilson).
    """

    item: Item
    wins: int = 0
    losses: int = 0
    ties: int = 0
    share: float | None = None
    low: float = 0.0
    high: float = 1.0

    @property
    def votes(self) -> int:
        return self.wins + self.losses + self.ties


@dataclass(frozen=True, slots=True)
class Tally:
    """
    Args:
        axes: numbers of those that are asked about.
        standings: in the order of the grid.
        votes: that count here.
        leader: the index of the standing with the largest share; ``None`` without votes, or where
            several have it.
        clear: the leader's share is above all others' beyond chance: its interval is.
    """

    axes: tuple[int, ...]
    standings: tuple[Standing, ...]
    votes: int
    leader: int | None
    clear: bool

    @property
    def summary(self) -> str:
        """A sentence."""
        if not self.votes:
            return "no votes yet"
        count = quantity(self.votes, "vote")
        best = max(one.share for one in self.standings if one.share is not None)
        first = [", ".join(one.item) for one in self.standings if one.share == best]
        if len(first) > _MOST_NAMED:
            return f"{count}, and none leads"
        sure = "" if self.clear else ", which may still be chance"
        leads = f"{word_list(first)} {'leads' if len(first) == 1 else 'lead'}"
        return f"{leads} with {best:.0%} after {count}{sure}"


def axes_asked(grid: DrawnGrid, names: Sequence[str] = ()) -> tuple[int, ...]:
    """The numbers of the axes that are asked about.

    Args:
        names: titles or types; by itself the epoch, else what comes next to it.

    Raises:
        RunError: the grid has no such axis.
    """
    if names:
        return tuple(sorted({grid.axis(name) for name in names}))
    kinds = [axis.name for axis in grid.axes]
    for name in _ASKED:
        if name in kinds:
            return (kinds.index(name),)
    others = [number for number, name in enumerate(kinds) if name not in _DRAWN]
    return (others[0] if others else 0,)


def pairs(grid: DrawnGrid, axes: Sequence[int], seed: int) -> Iterator[Pair]:
    """Every pair that can be voted on, once, in an order and with sides that the seed fixes.

    It goes by rounds, in each of which every place along the asked axes comes once (the circle
    method of tournaments): after any number of votes all have been seen about equally often.

    Args:
        axes: numbers of those that are asked about.
    """
    cells = {(_item(cell, axes), _rest(cell, axes)): cell for cell in grid.cells}
    items = list(dict.fromkeys(item for item, _ in cells))
    rests = list(dict.fromkeys(rest for _, rest in cells))
    chance = python_rng(seed, "votes")
    chance.shuffle(items)
    chance.shuffle(rests)
    for turn in range(len(rests)):
        for number, (one, other) in enumerate(_meetings(items)):
            rest = rests[(number + turn) % len(rests)]
            both = [cells.get((one, rest)), cells.get((other, rest))]
            if chance.random() < 0.5:
                both.reverse()
            left, right = both
            if left is None or right is None or left.file is None or right.file is None:
                continue
            if left.file != right.file:
                yield Pair(left, right)


def _meetings(items: list[Item]) -> Iterator[tuple[Item, Item]]:
    """All pairs of the items, by rounds in which each comes at most once."""
    circle: list[Item | None] = [*items, *([None] * (len(items) % 2))]
    size = len(circle)
    for _ in range(size - 1):
        for place in range(size // 2):
            one, other = circle[place], circle[size - 1 - place]
            if one is not None and other is not None:
                yield one, other
        circle = [circle[0], circle[-1], *circle[1:-1]]


def _item(cell: DrawnCell, axes: Sequence[int]) -> Item:
    return tuple(cell.labels[number] for number in axes)


def _rest(cell: DrawnCell, axes: Sequence[int]) -> tuple[int, ...]:
    return tuple(place for number, place in enumerate(cell.place) if number not in axes)


def without_vote(all_pairs: Iterable[Pair], seed: int, votes: Sequence[Vote]) -> Iterator[Pair]:
    """Those pairs that have no vote of this seed yet."""
    voted = {_key(vote.left, vote.right) for vote in votes if vote.seed == seed}
    return (pair for pair in all_pairs if _key(pair.left, pair.right) not in voted)


def _key(one: DrawnCell, other: DrawnCell) -> frozenset[tuple[int, ...]]:
    return frozenset((one.place, other.place))


def tally(grid: DrawnGrid, axes: Sequence[int], votes: Sequence[Vote]) -> Tally:
    """What the votes say of each place along some axes; those between two drawings that stand at
    the same one say nothing."""
    items = list(dict.fromkeys(_item(cell, axes) for cell in grid.cells))
    wins, losses, ties = (dict.fromkeys(items, 0) for _ in range(3))
    count = 0
    for vote in votes:
        left, right = _item(vote.left, axes), _item(vote.right, axes)
        if left == right or vote.answer is None:
            continue
        count += 1
        if vote.answer == "equal":
            ties[left] += 1
            ties[right] += 1
        else:
            better, worse = (left, right) if vote.answer == "left" else (right, left)
            wins[better] += 1
            losses[worse] += 1
    standings = tuple(_standing(item, wins[item], losses[item], ties[item]) for item in items)
    shares = [-1.0 if one.share is None else one.share for one in standings]
    best = max(shares, default=-1.0)
    leader = shares.index(best) if best >= 0 and shares.count(best) == 1 else None
    others = [share for number, share in enumerate(shares) if number != leader]
    clear = leader is not None and standings[leader].low > max([0.5, *others])
    return Tally(tuple(axes), standings, count, leader, clear)


def _standing(item: Item, wins: int, losses: int, ties: int) -> Standing:
    count = wins + losses + ties
    if not count:
        return Standing(item)
    share = (wins + ties / 2) / count
    return Standing(item, wins, losses, ties, share, *wilson(share, count))


def wilson(share: float, count: int) -> tuple[float, float]:
    """Wilson's interval for a share of ``count`` votes, at 95 %."""
    square = _Z * _Z / count
    middle = (share + square / 2) / (1 + square)
    half = _Z / (1 + square) * math.sqrt(share * (1 - share) / count + square / (4 * count))
    return max(0.0, middle - half), min(1.0, middle + half)


# As they lie on disk


def cast(grid: DrawnGrid, seed: int, pair: Pair, answer: Answer | None) -> Vote:
    """Write a vote down; ``None`` takes back that on the same pair.

    Raises:
        WriteError: the folder cannot be written to.
    """
    record = {
        "time": round(time.time(), 3),
        "seed": seed,
        "left": _told(grid, pair.left),
        "right": _told(grid, pair.right),
        "better": answer,
    }
    path = grid.folder / VOTES
    # Behind a line that was cut off, on a line of its own; empty ones are none.
    data = f"\n{json.dumps(record, ensure_ascii=False)}\n".encode("utf-8", "replace")
    try:
        # In one piece, at the end as it is then: several pages may vote.
        with open(path, "ab", buffering=0) as file:
            if file.write(data) < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError as error:
        raise write_error(path, error) from error
    return Vote(seed, pair.left, pair.right, answer)


def _told(grid: DrawnGrid, cell: DrawnCell) -> dict[str, Any]:
    titles = [axis.title for axis in grid.axes]
    return {
        "file": cell.file.name if cell.file is not None else "",
        "labels": dict(zip(titles, cell.labels, strict=True)),
    }


def read_votes(grid: DrawnGrid) -> Ballot:
    """The votes that stand. Of several on one pair with one seed, the last; a line that cannot be
    read, such as one that was cut off, is left out.

    Raises:
        RunError: the file cannot be read, or is larger than votes are.
    """
    path = grid.folder / VOTES
    try:
        with open(path, "rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except FileNotFoundError:
        return Ballot(())
    except OSError as error:
        raise RunError.of(
            path, f"cannot be read: {error.strerror}", "mend its permissions"
        ) from error
    if len(data) > _MOST_BYTES:
        raise RunError.of(path, f"is larger than {_MOST_BYTES >> 20} MB", "put it away")
    by_file: dict[str, list[DrawnCell]] = {}
    for cell in grid.cells:
        if cell.file is not None:
            by_file.setdefault(cell.file.name, []).append(cell)
    standing: dict[tuple[int, frozenset[tuple[int, ...]]], Vote] = {}
    gone: dict[str, bool] = {}
    for line in data.splitlines():
        try:
            record = parse_json(line)
            seed, answer = int(record["seed"]), record["better"]
            left, right = (_found(grid, record[side], by_file) for side in ("left", "right"))
            names = sorted(str(record[side]["file"]) for side in ("left", "right"))
        except (ValueError, TypeError, LookupError, AttributeError, OverflowError):
            continue
        if answer is not None and answer not in get_args(Answer):
            continue
        if left is None or right is None:
            gone[json.dumps([seed, *names])] = answer is not None
            continue
        key = (seed, _key(left, right))
        standing.pop(key, None)
        if answer is not None:
            standing[key] = Vote(seed, left, right, answer)
    return Ballot(tuple(standing.values()), sum(gone.values()))


def _found(
    grid: DrawnGrid, told: dict[str, Any], by_file: dict[str, list[DrawnCell]]
) -> DrawnCell | None:
    """The cell that a vote was on: of those with this image, that with most of its labels."""
    labels = told["labels"]

    def alike(cell: DrawnCell) -> int:
        each = zip(grid.axes, cell.labels, strict=True)
        return sum(labels.get(axis.title) == label for axis, label in each)

    return max(by_file.get(str(told["file"]), ()), key=alike, default=None)
