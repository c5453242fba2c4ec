"""What docs/prompts.md shows can be written, and says it of the right step."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lorasmith.prompts.parse import parse_prompt
from lorasmith.prompts.wildcards import Wildcards

PAGE = (Path(__file__).parents[2] / "docs" / "prompts.md").read_text(encoding="utf-8")
WRITTEN = [
    piece.replace(r"\|", "|")
    for row in re.findall(r"^\| (`.*`) \|", PAGE, re.MULTILINE)
    for piece in re.findall(r"`([^`]+)`", row)
]


def test_there_are_examples() -> None:
    assert len(WRITTEN) > 20


@pytest.mark.parametrize("written", WRITTEN)
def test_what_it_shows_is_read(written: str) -> None:
    drawn = Wildcards().expand(written, 1)
    prompt = parse_prompt(drawn)
    assert bool(prompt.loras) == ("<lora" in written)
    assert ("{" in written) == (drawn != written or "{" in drawn) or "lbw" in written


@pytest.mark.parametrize(
    ("written", "before", "after"),
    [
        ("a [cat:dog:0.5]", "a cat", "a dog"),
        ("a star [on fire:0.25]", "a star ", "a star on fire"),
        ("a star [on fire::5]", "a star on fire", "a star "),
    ],
)
def test_what_it_says_of_steps(written: str, before: str, after: str) -> None:
    assert written in WRITTEN
    (part,) = parse_prompt(written).parts
    first, last = (part.sections(step, 20)[0] for step in (0, 19))
    assert "".join(each.text for each in first) == before
    assert "".join(each.text for each in last) == after
