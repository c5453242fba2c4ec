"""From one drawing to a LoRA on the Bootstrap page: two rounds, on very short trainings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lorasmith.advice.bootstrap.state import Bootstrap
from lorasmith.demo.character import write_training_set
from tests.browser.conftest import NARROW_TOO, Serve, require_open_to_everybody

if TYPE_CHECKING:
    from playwright.sync_api import Page

SHORT = (
    *("train.steps=1", "adapter.rank=2", "log.tensorboard=false", "sample.every_epochs=0"),
    *("sample.at_start=false", "preservation.enabled=false"),
)
PIECE = 120_000
"""Milliseconds that a job may take on a computer that is busy."""


@pytest.mark.slow
def test_two_rounds_from_one_drawing_to_a_lora(tmp_path: Path, serve: Serve, page: Page) -> None:
    """By clicks, then by keys alone; the studio is killed while a job is at work."""
    write_training_set(tmp_path / "data", images=1, regularisation=0)
    (image,) = (tmp_path / "data" / "img").rglob("*.png")
    workspace = tmp_path / "work"
    workspace.mkdir()
    server = serve(workspace)
    page.goto(server.page("/bootstrap"))
    page.locator("input[type=file]").first.set_input_files([image, image.with_suffix(".txt")])
    page.get_by_label("Name").fill("mine")
    page.get_by_role("button", name="Copy 2 files in").click()
    page.get_by_text("1 of 1 chosen").wait_for()
    assert page.get_by_role("button", name="Begin").is_disabled()
    page.get_by_text("More options").click()
    given = {"--trigger": "zorp", "--drawings": "2", "--redraw": "0", "--steps": "1", "--cfg": "1"}
    for flag, value in given.items():
        page.get_by_label(flag, exact=True).fill(value)
    page.get_by_label("--rounds", exact=True).fill("many")
    page.get_by_role("alert").wait_for()
    page.get_by_label("--rounds", exact=True).fill("2")
    page.get_by_label("--set", exact=True).fill("\n".join(SHORT))
    page.get_by_text("Trains 1 step, draws 2 pictures").wait_for(timeout=PIECE)
    require_open_to_everybody(page)
    assert not (workspace / "mine" / "bootstrap").exists(), "what only looks writes nothing"
    page.get_by_role("button", name="Begin").click()

    drawings = page.get_by_role("listbox", name="Drawings").get_by_role("option")
    bar = page.get_by_role("region", name="What is kept")
    bar.wait_for(timeout=PIECE)
    assert drawings.count() == 2
    bar.get_by_role("button", name="None", exact=True).click()
    drawings.nth(1).click()
    caption = page.get_by_label("Caption: what it is trained with")
    caption.fill("waving <b>hat</b>")
    caption.press("Enter")
    page.get_by_role("option", name="2: zorp, waving <b>hat</b>", selected=True).wait_for()
    assert "--keep 2" in bar.inner_text()
    require_open_to_everybody(page, NARROW_TOO)
    page.set_viewport_size({"width": 1280, "height": 800})
    bar.get_by_role("button", name="Keep 1 and go on").click()
    page.get_by_role("region", name="What it does").wait_for()
    server.kill()

    folder = workspace / "mine" / "bootstrap" / "zorp"
    server = serve(workspace)
    page.goto(server.page("/bootstrap"))
    page.get_by_role("link", name="zorp", exact=True).click()
    page.get_by_text("round 2 of 2").wait_for(timeout=PIECE)
    bar.wait_for(timeout=PIECE)
    page.get_by_text("round 1, 2", exact=True).wait_for()
    kept = folder / "dataset" / "1_zorp-drawn" / "r01-02.txt"
    assert kept.read_text(encoding="utf-8") == "zorp, waving <b>hat</b>\n"
    page.keyboard.press("n")
    page.keyboard.press("g")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    page.get_by_role("dialog", name="Drawing 2").wait_for()
    page.keyboard.press("b")
    page.get_by_role("dialog", name="Drawing 2: the base model alone").wait_for()
    page.keyboard.press("Space")
    page.keyboard.press("Escape")
    page.get_by_text("1 drawing of 2 marked.").wait_for()
    for key, marked in (("2", "0 drawings"), ("a", ""), ("n", "0 drawings"), ("1", "1 drawing")):
        page.keyboard.press(key)
        page.get_by_text(f"{marked} of 2 marked.").wait_for()
    page.reload()
    page.get_by_text("1 drawing of 2 marked.").wait_for()
    page.keyboard.press("Control+Enter")

    result = page.get_by_role("region", name="The result")
    result.wait_for(timeout=PIECE)
    boot = Bootstrap.load(folder)
    assert [one.kept for one in boot.rounds] == [[2], [1]]
    assert (boot.stage, boot.results) == ("done", ["runs/zorp/zorp.safetensors"])
    require_open_to_everybody(page)
    page.get_by_role("button", name="Round 1: its drawings").click()
    page.get_by_role("option", name="2: zorp, waving <b>hat</b>", selected=True).wait_for()
    result.get_by_role("link", name="The dataset").click()
    page.get_by_text("3 pictures").first.wait_for()
