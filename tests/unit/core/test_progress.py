"""What is seen of long work: whole counts at any width, lines where there is no terminal."""

from __future__ import annotations

import io
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorasmith.core.progress import FIRST_LINE, LONGEST_PAUSE, ProgressView, TextConsole

CONTROL = re.compile(r"\x1b\[[\d;?]*[A-Za-z]|\r")


def drawn(width: int, **shown: object) -> list[str]:
    """The lines of a terminal of this width."""
    file = io.StringIO()
    view = ProgressView(TextConsole(file=file, force_terminal=True, width=width))
    view.show(**shown)  # type: ignore[arg-type]
    view.close()
    return [line for line in CONTROL.sub("\n", file.getvalue()).split("\n") if line.strip()]


NUMBERS = ["loss 0.0821", "lr 0.0001", "12.3 samples/s"]


@pytest.mark.parametrize("width", [40, 60, 80, 100, 160])
@pytest.mark.parametrize(
    ("what", "done", "total"),
    [
        ("training", 75, 640),
        ("drawing pictures", 123456, 999999),
        ("encoding captions", 0, 9),
        ("hashing, MB", 6938, 6938),
    ],
)
def test_counts_and_time_are_whole_at_every_width(
    width: int, what: str, done: int, total: int
) -> None:
    lines = drawn(width, what=what, done=done, total=total, numbers=NUMBERS)
    assert lines
    for line in lines:
        assert len(line) < width
        assert f"{done}/{total}" in line
        assert line.rstrip().endswith("left")


def test_what_gives_way_first() -> None:
    wide, usual, narrow = (
        drawn(width, what="training", done=75, total=4800, numbers=NUMBERS)[-1]
        for width in (120, 80, 60)
    )
    assert all(number in wide for number in NUMBERS)
    assert wide.count("━") == 24
    assert all(number in usual for number in NUMBERS)  # With a shorter bar.
    assert "loss 0.0821" in narrow
    assert "training" in narrow


@settings(max_examples=60, deadline=None)
@given(
    width=st.integers(35, 120),
    done=st.integers(0, 10**6),
    more=st.integers(0, 10**6),
    numbers=st.lists(st.text("abc 0.", min_size=1, max_size=20), max_size=3),
)
def test_no_line_is_cut(width: int, done: int, more: int, numbers: list[str]) -> None:
    for line in drawn(
        width, what="looking at pictures", done=done, total=done + more, numbers=numbers
    ):
        assert f"{done}/{(done + more) or '?'}" in line
        assert len(line) < width


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def piped(seconds: int, total: int, numbers: list[str] | None = None) -> list[str]:
    """Lines of work of one unit a second, in a file."""
    file, clock = io.StringIO(), Clock()
    view = ProgressView(TextConsole(file=file, width=80), clock=clock)
    for second in range(seconds + 1):
        clock.now = 1000.0 + second
        view.show("drawing pictures", second, total, numbers or [])
    view.end("drawing pictures")
    view.close()
    assert "\x1b" not in file.getvalue()
    return file.getvalue().splitlines()


def test_lines_without_a_terminal_tell_rate_and_time_left() -> None:
    lines = piped(200, 640)
    assert lines == [
        "drawing pictures  10/640 (1%)  1/s  10:30 left",
        "drawing pictures  20/640 (3%)  1/s  10:20 left",
        "drawing pictures  40/640 (6%)  1/s  10:00 left",
        "drawing pictures  80/640 (12%)  1/s  9:20 left",
        "drawing pictures  140/640 (21%)  1/s  8:20 left",
        "drawing pictures  200/640 (31%)  1/s  7:20 left",
    ]


def test_short_work_has_no_lines() -> None:
    assert piped(int(FIRST_LINE) - 1, int(FIRST_LINE) - 1) == []


def test_long_work_has_a_last_line() -> None:
    lines = piped(3600, 3600, ["loss 0.1"])
    assert lines[-1] == "drawing pictures  3600/3600 in 1:00:00"
    assert lines[1].endswith("left  loss 0.1")
    assert 3600 / LONGEST_PAUSE <= len(lines) <= 3600 / LONGEST_PAUSE + 4


def test_the_rate_of_a_resumed_run_is_of_what_it_did_itself() -> None:
    file, clock = io.StringIO(), Clock()
    view = ProgressView(TextConsole(file=file, width=80), clock=clock)
    view.show("training", 5000, 6000)
    clock.now += 20
    view.show("training", 5010, 6000)
    view.close()
    assert file.getvalue() == "training  5010/6000 (83%)  2 s each  33:00 left\n"


def test_what_is_done_before_the_first_step_is_not_its_time() -> None:
    """As the images that are drawn before a training begins."""
    file, clock = io.StringIO(), Clock()
    view = ProgressView(TextConsole(file=file, width=80), clock=clock)
    view.show("training", 0, 600)
    clock.now += 90
    view.show("training", 0, 600)
    clock.now += 20
    view.show("training", 10, 600)
    view.close()
    assert file.getvalue().splitlines()[-1] == "training  10/600 (1%)  2 s each  19:40 left"
