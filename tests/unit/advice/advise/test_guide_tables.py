"""Every row of the guides' tables is there, with its numbers, and something is made of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from lorasmith.advice.advise.guide_tables import (
    CATEGORIES,
    STARTING,
    TABLES,
    GuideTable,
    guides_page,
)

Rows = list[dict[str, str]]


def guide_tables() -> Iterator[tuple[str, Rows]]:
    """By title, the rows by column."""
    text = (Path(__file__).parent / "guide_tables.md").read_text(encoding="utf-8")
    for title, body in re.findall(r"^## (.+)\n\n((?:\|.*\n?)+)", text, re.MULTILINE):
        lines = [[c.strip() for c in line.strip("|").split("|")] for line in body.splitlines()]
        yield title, [dict(zip(lines[0], cells, strict=True)) for cells in lines[2:]]


GUIDES = dict(guide_tables())


def test_the_tables_are_read() -> None:
    assert len(GUIDES) == 15
    assert sum(map(len, GUIDES.values())) == 105


def test_every_category_is_there_with_its_ranks_and_types() -> None:
    rows = GUIDES["Character difficulty"]
    assert [row["Category"] for row in rows] == list(CATEGORIES)
    for row in rows:
        category = CATEGORIES[row["Category"]]
        assert category.ranks == row["Ranks"].rstrip("?")
        types = {"LoRA-LierLa": "lora", "LyCORIS-LoKR": "lokr", "LyCORIS-LoHa": "loha"}
        names = [types[name] for name in row["Training type"].split(", ") if name in types]
        assert list(category.types) == names


def test_every_starting_setting_is_there_with_its_numbers() -> None:
    rows = GUIDES["Starting settings"]
    assert [row["Category"] for row in rows] == list(STARTING)
    for row in rows:
        start = STARTING[row["Category"]]
        assert start.images[0] == _numbers(row["Images"])[0]
        assert start.images[1] == (None if "+" in row["Images"] else _numbers(row["Images"])[1])
        ranks = _numbers(row["Net Dim/Rank"])
        assert list(start.ranks) == [ranks[0], ranks[-1]]
        assert start.alpha == row["Alpha"]
        assert start.regularization == row["Regularization"]
        assert list(start.resolution) == _numbers(row["Resolution"])
        assert [start.unet_lr or "Adaptive"] == [_rate(row["Unet LR"])]
        assert [start.text_encoder_lr or "Adaptive"] == [_rate(row["TE LR"])]
        assert start.steps == (
            None if row["Total Steps"] == "TBD" else _numbers(row["Total Steps"])[0]
        )


def _numbers(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", text)]


def _rate(text: str) -> float | str:
    return text if text == "Adaptive" else float(text)


OTHERS = [title for title in GUIDES if title not in ("Character difficulty", "Starting settings")]


def test_no_other_table_is_left_out() -> None:
    assert [table.title for table in TABLES] == OTHERS


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.title)
def test_every_row_is_there_with_what_it_says(table: GuideTable) -> None:
    rows = GUIDES[table.title]
    first = next(iter(rows[0]))
    assert [row.name for row in table.rows] == [row[first] for row in rows]
    assert [row.says for row in table.rows] == [row[table.column] for row in rows]


def test_something_is_made_of_every_row() -> None:
    for table in TABLES:
        for row in table.rows:
            assert row.here, f"{table.title}: {row.name}"
            assert len(row.here) < 100


def test_the_page_says_what_is_made_of_every_row() -> None:
    page = Path(__file__).parents[4] / "docs" / "advise.md"
    assert guides_page() in page.read_text(encoding="utf-8")
