from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorasmith.data.regularization import match_repeats


def step_by_step(train: int, repeats: list[int]) -> list[int]:
    """One use at a time, as sd-scripts registers them."""
    uses = [0] * len(repeats)
    first = True
    while sum(uses) < train and repeats:
        for index, own in enumerate(repeats):
            uses[index] += own if first else 1
            if sum(uses) >= train:
                break
        first = False
    return uses


# Worked by hand.
@pytest.mark.parametrize(
    ("train", "repeats", "uses"),
    [(5, [1, 1], [3, 2]), (240, [1] * 100, [3] * 40 + [2] * 60), (3, [2, 2, 2], [2, 2, 0]),
     (4, [2, 2, 2], [2, 2, 0]), (10, [], []), (0, [1], [0]), (7, [3, 1], [5, 2])],
)  # fmt: skip
def test_known_counts(train: int, repeats: list[int], uses: list[int]) -> None:
    assert match_repeats(train, repeats) == uses


@given(st.integers(0, 300), st.lists(st.integers(1, 9), max_size=12))
def test_as_registered_one_by_one(train: int, repeats: list[int]) -> None:
    assert match_repeats(train, repeats) == step_by_step(train, repeats)
