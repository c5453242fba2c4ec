"""The page of LoRA files: found, looked at, resized and merged, by clicks and by keys."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.browser.conftest import require_open_to_everybody
from tests.studio.test_lora_files import SCRIPT, write_lora

if TYPE_CHECKING:
    from playwright.sync_api import Page

# The process with torch begins on a busy machine.
PATIENCE = 90_000


@pytest.fixture
def files(serve, page: Page, workspace: Path) -> Page:
    folder = workspace / "loras"
    folder.mkdir()
    write_lora(folder / "a.safetensors", ss_training_comment=SCRIPT)
    write_lora(folder / "b.safetensors", seed=1)
    shutil.copy(workspace / "zorp" / "dataset" / "0.png", folder / "a.png")
    page.set_default_timeout(PATIENCE)
    page.goto(serve(workspace).page("/files"))
    page.get_by_role("gridcell", name="a, ").wait_for()
    return page


def test_resize_and_merge_with_the_figures_before(files: Page, workspace: Path) -> None:
    page, folder = files, workspace / "loras"
    page.get_by_role("gridcell", name="a, ").click()
    page.get_by_role("table").get_by_role("row", name="IN04").wait_for()
    page.get_by_text(re.compile("^Metadata")).click()
    page.get_by_text("<script>alert(1)</script>␛[31m⟨U+202E⟩gnp").last.wait_for()
    require_open_to_everybody(page)

    page.get_by_role("tab", name="Resize").click()
    page.get_by_label("--rank", exact=True).fill("2")
    page.get_by_role("button", name="Work out the figures").click()
    figures = page.get_by_role("region", name="Figures")
    figures.get_by_text("energy kept", exact=True).wait_for()
    assert not (folder / "a-resized.safetensors").exists()
    assert page.locator(".command code").inner_text().endswith("--rank 2")
    require_open_to_everybody(page)
    page.get_by_role("button", name="Write a-resized.safetensors").click()
    page.get_by_role("button", name="Show a-resized.safetensors").click()
    page.get_by_role("gridcell", name="a-resized").wait_for()
    assert (folder / "a-resized.safetensors").is_file()

    page.get_by_role("gridcell", name="a, ").click()
    page.get_by_role("gridcell", name="b, ").click(modifiers=["Control"])
    page.get_by_role("tab", name="Merge").click()
    sources = page.get_by_label("A[:WEIGHT] B[:WEIGHT]…")
    sources.fill(sources.input_value().replace("b.safetensors:1", "b.safetensors:0.5"))
    page.get_by_role("button", name="Work out the figures").click()
    figures.get_by_text("a (1), b (0.5)").wait_for()
    page.get_by_role("button", name="Write b-merged.safetensors").click()
    page.get_by_role("button", name="Show b-merged.safetensors").wait_for()
    assert (folder / "b-merged.safetensors").is_file()


def test_keys_alone(files: Page, workspace: Path) -> None:
    page = files
    for number in range(2000):
        shutil.copy(workspace / "loras" / "a.safetensors", workspace / f"c{number:04}.safetensors")
    page.reload()
    page.get_by_text(re.compile("2,002 files")).wait_for()
    assert page.get_by_role("gridcell").count() < 100
    page.keyboard.press("/")
    page.keyboard.type("loras/")
    page.get_by_text(re.compile("^2 files")).wait_for()
    page.keyboard.press("Enter")
    page.keyboard.press("End")
    page.keyboard.press("r")
    page.get_by_role("tab", name="Resize", selected=True).wait_for()
    page.get_by_label("--rank", exact=True).focus()
    page.keyboard.type("nothing")
    page.keyboard.press("Enter")
    page.get_by_role("alert").get_by_text("is not a whole number").wait_for()
