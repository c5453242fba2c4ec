"""Every filter of docs/dataset-filter.md is one, and the page names all there is."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest
from tests.unit.curation.in_memory import collection, image

from lorasmith.core.terminal import problem_lines
from lorasmith.curation.filter import parse_filter
from lorasmith.curation.filter_language.grammar import FilterError
from lorasmith.curation.filter_language.words import FLAGS, KEYS

PAGE = (Path(__file__).parents[2] / "docs" / "dataset-filter.md").read_text(encoding="utf-8")
NO_FILTERS = (
    *("lorasmith dataset", "--where FILTER", "re", ".lorasmith", "hat", "red hat", "\\(", "\\)"),
    *("(", ")", "kp", "mp", "kb", "gb", "mb", "kib", "mib", "<", "<=", ">", ">=", "=", "!="),
    *("not", "and", "or", "*", "?", '"', "'", "blur"),
)


def filters() -> list[str]:
    """In code spans of the text and its tables, and the left column of the examples."""
    text = re.sub(r"```.*?```", "", PAGE, flags=re.DOTALL)
    spans = [span for span in re.findall(r"`([^`]+)`", text) if span not in NO_FILTERS]
    examples = PAGE.partition("```text\n")[2].partition("```")[0]
    lines = [re.split(r" {3,}", line)[0] for line in examples.splitlines()]
    return [*dict.fromkeys(spans), *lines]


IMAGES = collection([image("a.png", "hat, zorp"), image("b.png", "")])


@pytest.mark.parametrize("text", filters())
def test_its_filters_are_filters(text: str) -> None:
    parse_filter(text).select(IMAGES)


def test_its_keys_are_all_there_are() -> None:
    words = {word for text in filters() for word in re.findall(r"[\w]+:|\w+", text)}
    assert {f"{key}:" for key in KEYS} | set(FLAGS) <= words


def test_precedence_is_as_it_says() -> None:
    plain, bracketed = "tag:a or tag:b not tag:c", "tag:a or (tag:b and (not tag:c))"
    assert plain in PAGE
    assert bracketed in PAGE
    assert parse_filter(plain).node == parse_filter(bracketed).node


def test_the_mistake_that_it_shows() -> None:
    with pytest.raises(FilterError) as info:
        parse_filter("tag:hat tga:dog", "--where")
    assert click.unstyle(problem_lines(info.value.problems)) in PAGE
