from __future__ import annotations

import pytest

from lorasmith.core.errors import Problem, UserError, collect_each, collect_problems


def half(number: int) -> int:
    if number % 2:
        raise UserError.of(number, "is odd")
    return number // 2


def test_problems_are_collected_and_the_others_go_on() -> None:
    problems: list[Problem] = []
    assert collect_problems(problems, lambda: half(3)) is None
    assert collect_problems(problems, lambda: half(4)) == 2
    assert problems == [Problem("3", "is odd")]


def test_all_items_are_tried() -> None:
    assert collect_each(half, [2, 4]) == [1, 2]
    with pytest.raises(UserError) as caught:
        collect_each(half, [1, 2, 3])
    assert [problem.where for problem in caught.value.problems] == ["1", "3"]
