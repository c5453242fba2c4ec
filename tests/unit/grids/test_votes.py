"""Votes between two drawings: their order, and what they say."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path

import pytest
from tests.made_up_grids import EPOCHS_BY_STRENGTHS, write_grid

from lorasmith.core.errors import RunError
from lorasmith.grids.record import DrawnAxis, DrawnCell, DrawnGrid, read_grid
from lorasmith.grids.votes import (
    VOTES,
    Pair,
    Vote,
    axes_asked,
    cast,
    pairs,
    read_votes,
    tally,
    wilson,
    without_vote,
)


def in_memory(*sizes: int) -> DrawnGrid:
    axes = tuple(
        DrawnAxis("", f"axis {number}", tuple(f"{number}.{n}" for n in range(size)), (None,) * size)
        for number, size in enumerate(sizes)
    )
    places = [()]
    for size in sizes:
        places = [(*place, n) for place in places for n in range(size)]
    cells = tuple(
        DrawnCell(
            place,
            tuple(axis.values[n] for axis, n in zip(axes, place, strict=True)),
            "",
            Path("cells", f"{'-'.join(map(str, place))}.png"),
        )
        for place in places
    )
    return DrawnGrid(Path(), "", axes, cells)


def some_grid(chance: random.Random) -> tuple[DrawnGrid, tuple[int, ...]]:
    count = chance.randint(1, 3)
    grid = in_memory(*(chance.randint(1, 5) for _ in range(count)))
    return grid, tuple(sorted(chance.sample(range(count), chance.randint(1, count))))


@pytest.mark.parametrize("case", range(40))
def test_every_pair_comes_once_and_all_places_equally_often(case: int) -> None:
    chance = random.Random(case)
    grid, axes = some_grid(chance)
    seed = chance.randrange(1000)
    order = list(pairs(grid, axes, seed))
    assert order == list(pairs(grid, axes, seed))

    def rest(cell: DrawnCell) -> list[int]:
        return [at for number, at in enumerate(cell.place) if number not in axes]

    expected = {
        frozenset((one.place, other.place))
        for one in grid.cells
        for other in grid.cells
        if one.place != other.place and rest(one) == rest(other)
    }
    assert Counter(frozenset((p.left.place, p.right.place)) for p in order) == Counter(expected)

    seen = Counter({tuple(cell.place[axis] for axis in axes): 0 for cell in grid.cells})
    for pair in order:
        for cell in (pair.left, pair.right):
            seen[tuple(cell.place[axis] for axis in axes)] += 1
        # One round and the next: of an odd number each waits once.
        assert max(seen.values()) - min(seen.values()) <= 2


def test_other_seeds_have_other_orders_and_sides() -> None:
    grid = in_memory(6, 2)
    firsts = {
        (pair.left.place, pair.right.place)
        for seed in range(30)
        for pair in [next(pairs(grid, (0,), seed))]
    }
    assert len(firsts) > 15
    left = sum(p.left.place[0] < p.right.place[0] for s in range(20) for p in pairs(grid, (0,), s))
    assert 0.4 < left / (20 * 30) < 0.6


def test_equal_pictures_and_missing_ones_are_not_asked_about(tmp_path: Path) -> None:
    write_grid(tmp_path, EPOCHS_BY_STRENGTHS, missing=[(0, 0), (0, 1)])
    places = {c.place[0] for p in pairs(read_grid(tmp_path), (0,), 1) for c in (p.left, p.right)}
    assert places == {1, 2, 3}
    # Epoch 0 is the same picture at all strengths.
    record = json.loads((tmp_path / "grid.json").read_text())
    record["cells"][5]["digest"] = record["cells"][1]["digest"]
    (tmp_path / "grid.json").write_text(json.dumps(record))
    asked = list(pairs(read_grid(tmp_path), (1,), 1))
    assert {pair.left.place[0] for pair in asked} == {2, 3}


@pytest.mark.parametrize("case", range(40))
def test_a_tally_counts_every_vote_once_on_each_side(case: int) -> None:
    chance = random.Random(case)
    grid, axes = some_grid(chance)
    votes = [
        Vote(0, pair.left, pair.right, chance.choice(["left", "right", "equal"]))
        for pair in pairs(grid, axes, case)
        if chance.random() < 0.7
    ]
    counted = tally(grid, axes, votes)
    decided = [vote for vote in votes if vote.answer != "equal"]
    assert counted.votes == len(votes)
    assert sum(one.wins for one in counted.standings) == len(decided)
    assert sum(one.losses for one in counted.standings) == len(decided)
    assert sum(one.ties for one in counted.standings) == 2 * (len(votes) - len(decided))
    for one in counted.standings:
        assert (one.share is None) == (one.votes == 0)
        if one.share is not None:
            assert 0 <= one.low <= one.share <= one.high <= 1
    # Whoever sat on the other side: all the same.
    swap = {"left": "right", "right": "left", "equal": "equal"}
    turned = [Vote(0, vote.right, vote.left, swap[vote.answer]) for vote in votes]  # type: ignore
    assert tally(grid, axes, turned) == counted


def test_who_is_liked_better_comes_out_ahead() -> None:
    grid = in_memory(5, 3)
    chance = random.Random(3)

    def answer(pair: Pair) -> Vote:
        better = "left" if pair.left.place[0] > pair.right.place[0] else "right"
        sure = chance.random() < 0.9
        return Vote(0, pair.left, pair.right, better if sure else "equal")  # type: ignore

    first = [answer(pair) for pair in pairs(grid, (0,), 7)]
    few = tally(grid, (0,), first[:6])
    assert "may still be chance" in few.summary or few.leader is None
    votes = [answer(pair) for seed in range(3) for pair in pairs(grid, (0,), seed)]
    counted = tally(grid, (0,), votes)
    shares = [one.share for one in counted.standings]
    assert shares == sorted(shares)  # type: ignore
    assert counted.leader == 4
    assert tally(grid, (0,), []).summary == "no votes yet"
    # Asked about another axis, they say nothing: both stand at the same place of it.
    assert tally(grid, (1,), votes).votes == 0


def test_wilson() -> None:
    # Newcombe (1998), Statistics in Medicine 17, table I, method 3.
    assert wilson(81 / 263, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert wilson(0, 20) == pytest.approx((0, 0.1611), abs=1e-4)


def test_votes_lie_beside_the_grid_and_are_taken_back(tmp_path: Path) -> None:
    grid = read_grid(write_grid(tmp_path, EPOCHS_BY_STRENGTHS))
    order = list(pairs(grid, (0,), 5))
    for pair, answer in zip(order, ("left", "right", "equal"), strict=False):
        cast(grid, 5, pair, answer)  # type: ignore
    ballot = read_votes(grid)
    assert [vote.answer for vote in ballot.votes] == ["left", "right", "equal"]
    assert list(without_vote(order, 5, ballot.votes)) == order[3:]
    assert list(without_vote(order, 6, ballot.votes)) == order
    cast(grid, 5, order[1], None)
    cast(grid, 5, order[0], "equal")
    ballot = read_votes(grid)
    assert Counter(vote.answer for vote in ballot.votes) == {"equal": 2}
    assert next(without_vote(order, 5, ballot.votes)) == order[1]
    line = json.loads((tmp_path / VOTES).read_text().splitlines()[1])
    assert set(line["left"]["labels"]) == {"Epoch", "LoRA strength"}


def test_votes_stay_when_the_grid_grows_and_fall_with_their_pictures(tmp_path: Path) -> None:
    grid = read_grid(write_grid(tmp_path, {"Epoch": ["epoch 1", "epoch 2", "epoch 3"]}))
    for pair in pairs(grid, (0,), 0):
        cast(grid, 0, pair, "left")
    # The first three images are those of before, below a new axis.
    axes = {"Epoch": ["epoch 1", "epoch 2", "epoch 3"], "Seed": ["1", "2"]}
    grown = read_grid(write_grid(tmp_path, axes))
    assert tally(grown, (0,), read_votes(grown).votes).votes == 3
    (tmp_path / "cells" / "cell.000000000001.png").unlink()
    ballot = read_votes(read_grid(tmp_path))
    assert (len(ballot.votes), ballot.lost) == (1, 2)


def test_lines_that_say_nothing_are_left_out(tmp_path: Path) -> None:
    grid = read_grid(write_grid(tmp_path, EPOCHS_BY_STRENGTHS))
    pair = next(pairs(grid, (0,), 0))
    odd = b'nonsense\n{"seed": 1}\n[]\n\xff\xfe\n{"seed": 1e400, "better": null}\n'
    (tmp_path / VOTES).write_bytes(odd + b'{"seed": 0, "left": {"fi')
    cast(grid, 0, pair, "left")
    assert [vote.answer for vote in read_votes(grid).votes] == ["left"]


def test_what_is_asked_about_by_itself(tmp_path: Path) -> None:
    grid = read_grid(write_grid(tmp_path / "a", {"Seed": ["1"], **EPOCHS_BY_STRENGTHS}))
    assert axes_asked(grid) == (1,)
    assert axes_asked(grid, ["lora STRENGTH", "epoch"]) == (1, 2)
    other = read_grid(write_grid(tmp_path / "b", {"Prompt": ["a", "b"], "CFG scale": ["3", "7"]}))
    assert axes_asked(other) == (1,)
    with pytest.raises(RunError, match="no axis"):
        axes_asked(other, ["epoch"])
