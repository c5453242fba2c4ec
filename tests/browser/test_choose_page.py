"""The page that a bootstrap's drawings are chosen by, from a disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lorasmith.advice.bootstrap.page import write_page
from lorasmith.advice.bootstrap.state import Bootstrap
from tests.browser.conftest import NARROW_TOO, require_open_to_everybody
from tests.unit.advice.bootstrap.made_up import drawing, new_round, started

if TYPE_CHECKING:
    from playwright.sync_api import Page


@pytest.fixture
def boot(tmp_path: Path) -> Bootstrap:
    """In its second round of 12 drawings, of which auto would keep two."""
    boot = started(tmp_path, [drawing(1), drawing(2)])
    boot.now.kept, boot.now.likeness, boot.now.diversity = [1], 0.5, 0.4
    later = [drawing(n, n / 12, source="r01-01.png" if n == 12 else "") for n in range(1, 13)]
    boot.rounds.append(new_round(boot, 2, later))
    boot.now.suggested, boot.now.reasons = [11, 3], {1: "not like enough"}
    write_page(boot)
    return boot


def test_what_is_ticked_becomes_the_command(page: Page, boot: Bootstrap) -> None:
    page.goto(boot.page.as_uri())
    command = page.get_by_label("command", exact=True)
    assert command.text_content() == f"{boot.command} --keep 3,11"
    page.get_by_label("keep drawing 5").check()
    page.locator("#drawings img").nth(2).click()
    assert command.text_content() == f"{boot.command} --keep 5,11"
    page.get_by_role("button", name="None").click()
    assert command.text_content() == f"{boot.command} --keep none"
    page.get_by_role("button", name="As ticked at first").click()
    assert command.text_content() == f"{boot.command} --keep 3,11"


def test_by_keys_alone_and_copied(page: Page, boot: Bootstrap) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto(boot.page.as_uri())
    for key in ("1", "2", "Enter"):
        page.keyboard.press(key)
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Copied").wait_for()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == f"{boot.command} --keep 3,11,12"


def test_it_shows_how_rounds_went_and_is_open_to_everybody(
    new_page: Callable[..., Page], boot: Bootstrap
) -> None:
    page = new_page()
    page.goto(boot.page.as_uri())
    rows = [row.split("\t") for row in page.locator("#trend tr").all_inner_texts()]
    assert rows[1] == ["1", "1", "50%", "40%", "1"]
    assert page.get_by_text("drawn over r01-01.png").is_visible()
    assert page.get_by_text("auto: not like enough").is_visible()
    require_open_to_everybody(page, NARROW_TOO)
