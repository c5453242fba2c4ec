"""Lists and ranges of a grid's axes: the examples of the web UI's documentation, and properties."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorasmith.grids.values import numbers, split_list


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1-5", [1, 2, 3, 4, 5]),
        ("1-5 (+2)", [1, 3, 5]),
        ("10-5 (-3)", [10, 7]),
        ("1-3 (+0.5)", [1, 1.5, 2, 2.5, 3]),
        ("1-10 [5]", [1, 3, 5, 7, 10]),
        ("0.0-1.0 [6]", [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
    ],
)
def test_ranges_as_the_web_ui_documents_them(text: str, expected: list[float]) -> None:
    whole = all(isinstance(value, int) for value in expected)
    assert [float(n) for n in numbers(text, whole=whole)] == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("7", [7]),
        ("-3--1", [-3, -2, -1]),
        ("5-1", [5, 4, 3, 2, 1]),
        ("1-1", [1]),
        (" 1 - 3 ( +1 ) ", [1, 2, 3]),
        ("4-9 [1]", [4]),
    ],
)
def test_further_ranges(text: str, expected: list[int]) -> None:
    assert numbers(text, whole=True) == expected


@pytest.mark.parametrize(
    "text",
    ["", "a", "1-", "1-5 (-1)", "1-5 (0)", "1-5 [0]", "0-1000000000000", "1.5", "1e999", "nan"],
)
def test_what_is_no_whole_range_is_told(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        numbers(text, whole=True)


def test_a_range_of_fractions_must_say_its_steps() -> None:
    with pytest.raises(ValueError, match=r"0\.6-1 \(\+0\.2\)"):
        numbers("0.6-1", whole=False)


@given(first=st.integers(-500, 500), last=st.integers(-500, 500), count=st.integers(2, 40))
def test_an_even_spread_is_numpys(first: int, last: int, count: int) -> None:
    found = [float(n) for n in numbers(f"{first}-{last} [{count}]", whole=False)]
    np.testing.assert_allclose(found, np.linspace(first, last, count), atol=1e-9)


@given(first=st.integers(-99, 99), last=st.integers(-99, 99), step=st.integers(1, 20))
def test_whole_steps_are_pythons_range(first: int, last: int, step: int) -> None:
    step = step if last >= first else -step
    found = numbers(f"{first}-{last} ({step:+d})", whole=True)
    assert found == list(range(first, last + (1 if step > 0 else -1), step))


@given(st.text(max_size=40))
def test_no_text_is_too_odd(text: str) -> None:
    for read in (split_list, lambda t: numbers(t, whole=False), lambda t: numbers(t, whole=True)):
        try:
            read(text)
        except ValueError:
            continue


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("darkness, light, green, heat", ["darkness", "light", "green", "heat"]),
        ('darkness,"light, green",heat', ["darkness", "light, green", "heat"]),
        # Its documentation warns of this one; here it means what was meant.
        ('darkness, "light, green", heat', ["darkness", "light, green", "heat"]),
        ('"a ""quote""",b', ['a "quote"', "b"]),
    ],
)
def test_lists_are_lines_of_csv(text: str, expected: list[str]) -> None:
    assert split_list(text) == expected


plain = st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0"), min_size=1, max_size=12)


@given(st.lists(plain.filter(lambda item: item == item.strip()), min_size=1, max_size=6))
def test_lists_written_by_python_are_read_back(items: list[str]) -> None:
    line = io.StringIO()
    csv.writer(line, quoting=csv.QUOTE_ALL, lineterminator="").writerow(items)
    assert split_list(line.getvalue()) == items


@pytest.mark.parametrize("text", ["", "a,,b", ",", '"open'])
def test_lists_with_holes_are_told(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        split_list(text)
