"""Which drawings are kept, which images stick out, and when rounds end."""

from __future__ import annotations

import pytest
from tests.unit.advice.bootstrap.made_up import drawing

from lorasmith.advice.bootstrap.choose import (
    Choice,
    choose,
    empty_rounds,
    ended_because,
    repeated_images,
)
from lorasmith.advice.bootstrap.state import DrawingRecord, Round

FAR = 1.0


def chosen(drawings: list[DrawingRecord], most: int = 6, **more: object) -> Choice:
    apart = [[FAR] * len(drawings) for _ in drawings]
    for one, other, value in more.pop("near", ()):  # type: ignore[attr-defined]
        apart[one - 1][other - 1] = apart[other - 1][one - 1] = value
    captions = more.pop("captions", ["zorp"])
    likeness = more.pop("likeness", {})
    return choose(drawings, apart, captions, likeness, most=most)  # type: ignore[arg-type]


def test_likest_first_and_no_more_than_asked_for() -> None:
    choice = chosen([drawing(1, 0.6), drawing(2, 0.8), drawing(3, 0.7)], most=2)
    assert choice.kept == (2, 3)
    assert choice.reasons == {1: "2 others add more to the set"}


@pytest.mark.parametrize(
    ("odd", "reason"),
    [
        (drawing(2, defects=["there is nothing on it"]), "there is nothing on it"),
        (drawing(2, 0.99, copying=0.2, nearest="r01-03.png"), "repeats r01-03.png"),
        (drawing(2, 0.3), "not like enough: 30%, of 56% that it takes"),
        (drawing(2, 0.55), "not like enough: 55%, of 56% that it takes"),
    ],
)
def test_what_speaks_against_a_drawing(odd: DrawingRecord, reason: str) -> None:
    choice = chosen([drawing(1, 0.8), odd])
    assert choice.kept == (1,)
    assert choice.reasons == {2: reason}


def test_half_of_the_way_is_the_least() -> None:
    choice = chosen([drawing(1, 0.52), drawing(2, 0.49)])
    assert choice.kept == (1,)
    assert choice.reasons == {2: "not like enough: 49%, of 50% that it takes"}


def test_a_copy_is_no_measure_of_what_is_like() -> None:
    copy = drawing(1, 1.0, copying=0.1)
    assert chosen([copy, drawing(2, 0.55)]).kept == (2,)


def test_of_two_that_are_alike_one_is_kept() -> None:
    choice = chosen([drawing(1, 0.7), drawing(2, 0.8)], near=[(1, 2, 0.3)])
    assert choice.kept == (2,)
    assert choice.reasons == {1: "nearly the same as 2"}


def test_what_the_set_lacks_goes_before_what_is_likest() -> None:
    drawings = [
        drawing(1, 0.9, caption="zorp, smile, forest"),
        drawing(2, 0.8, caption="zorp, frown, beach"),
        drawing(3, 0.7, caption="zorp, frown, snow"),
    ]
    choice = chosen(drawings, most=2, captions=["zorp, smile, forest"])
    assert choice.kept == (2, 3)
    # What is kept counts as the set does: of two that say the same, one goes last.
    drawings[2] = drawing(3, 0.7, caption="zorp, frown, beach")
    assert chosen(drawings, captions=["zorp, smile"]).kept == (2, 1, 3)


@pytest.mark.parametrize(("likeness", "kept"), [(0.8, (2, 1)), (0.7, (1,)), (0.6, (1,))])
def test_a_drawing_over_a_kept_one_must_be_better(likeness: float, kept: tuple[int, ...]) -> None:
    again = drawing(2, likeness, source="r01-04.png")
    choice = chosen([drawing(1, 0.7), again], likeness={"r01-04.png": 0.7}, most=1)
    assert choice.kept == kept
    if 2 not in kept:
        assert choice.reasons[2] == "no more like the subject than r01-04.png"


def test_an_image_that_many_drawings_repeat_sticks_out() -> None:
    near = [drawing(n, copying=0.2, nearest="r01-01.png") for n in (1, 2, 3)]
    far = [drawing(n, copying=0.9, nearest="zorp.png") for n in range(4, 13)]
    assert repeated_images([*near, *far]) == {"r01-01.png": 3}
    assert repeated_images(near[:2]) == {}, "two may be chance"
    more = [drawing(n, copying=0.9) for n in range(13, 17)]
    assert repeated_images([*near, *far, *more]) == {}, "less than a quarter"
    again = [drawing(n, copying=0.1, nearest="a.png", source="b.png") for n in (1, 2, 3)]
    assert repeated_images(again) == {}, "what begins with a kept image is meant to be like it"


def rounds(*likeness: float, kept: list[list[int]] | None = None) -> list[Round]:
    choices = kept or [[1]] * len(likeness)
    return [
        Round(number, likeness=value, kept=choice)
        for number, (value, choice) in enumerate(zip(likeness, choices, strict=True), 1)
    ]


def test_rounds_end_when_likeness_no_longer_rises() -> None:
    assert ended_because(rounds(0.4), 4) == ""
    assert ended_because(rounds(0.4, 0.6), 4) == ""
    assert ended_because(rounds(0.4, 0.42), 4) == "likeness no longer rises (42% after 40%)"
    assert ended_because(rounds(0.4, 0.6, 0.5), 4) == "likeness no longer rises (50% after 60%)"
    assert ended_because(rounds(0.1, 0.3, 0.5), 3) == "that was round 3 of 3"


def test_a_round_that_kept_nothing_is_followed_by_a_longer_one() -> None:
    assert ended_because(rounds(0.2, 0.2, kept=[[], [1]]), 4) == ""
    assert empty_rounds(rounds(0.2, 0.2, 0.3, kept=[[], [], [1]])) == 2
    assert empty_rounds(rounds(0.2, 0.2, 0.3, kept=[[1], [], [1]])) == 1
    assert empty_rounds(rounds(0.2)) == 0
