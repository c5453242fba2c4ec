"""The page of arguments is what the program does."""

from __future__ import annotations

from pathlib import Path

from lorasmith.importers.reference import arguments_page
from lorasmith.importers.sd_scripts.table import ARGUMENTS

PAGE = Path(__file__).parents[3] / "docs" / "sd-scripts-arguments.md"


def test_the_page_is_fresh() -> None:
    what = "run `lorasmith convert-config --arguments > docs/sd-scripts-arguments.md`"
    assert PAGE.read_text(encoding="utf-8") == arguments_page(), what


def test_the_page_holds_every_argument() -> None:
    page = arguments_page()
    assert all(f"| `--{name}` |" in page for name in ARGUMENTS)
