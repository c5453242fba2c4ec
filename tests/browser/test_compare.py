"""The page Compare: a run's epochs by strengths, drawn, looked at, voted on and taken away."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from lorasmith.adapters.file import save_lora
from lorasmith.adapters.network import AdapterNetwork
from lorasmith.models.load import load_model
from tests.browser.conftest import Serve, require_open_to_everybody
from tests.made_up_runs import write_run

if TYPE_CHECKING:
    from playwright.sync_api import Page

# The process that draws begins on a busy machine.
PATIENCE = 90_000


@pytest.fixture
def run(workspace: Path) -> Path:
    """A run of four epochs, of which pick keeps the third."""
    drawn = {"sample.steps": "1", "sample.cfg": "1", "sample.size": "32"}
    prompts = json.dumps(["zorp, <b>standing</b>"])
    folder = workspace / "zorp" / "runs" / "zorp"
    write_run(folder, **{"captions.trigger": "zorp", "sample.prompts": prompts}, **drawn)
    network = AdapterNetwork.create(load_model("demo").adapter_roots(), rank=1)
    for epoch in (1, 2, 3, 4):
        path = folder / f"zorp-{epoch:06}.safetensors"
        # Other bytes, so that each epoch has pictures of its own.
        state = {name: tensor + 0.05 * epoch for name, tensor in network.state_dict().items()}
        save_lora(path, state, {"ss_steps": str(10 * epoch)})
    states = [(10, "under"), (20, "under"), (30, "well"), (40, "over")]
    verdict = {
        "summary": "keep epoch 3: it is well trained",
        "keep": {"step": 30},
        "snapshots": [{"step": step, "state": state} for step, state in states],
    }
    (folder / "pick").mkdir()
    (folder / "pick" / "verdict.json").write_text(json.dumps(verdict))
    return folder


def test_epochs_by_strengths_to_a_verdict(
    serve: Serve, page: Page, run: Path, workspace: Path, tmp_path: Path
) -> None:
    page.set_default_timeout(PATIENCE)
    server = serve(workspace)
    page.goto(server.page("/run", path=str(run)))
    page.get_by_role("link", name="Compare epochs × strengths").click()
    page.get_by_label("Strengths", exact=True).fill("0.6,1")
    page.get_by_role("button", name="Queue it").click()
    page.get_by_role("button", name="Open the grid").click()

    grid = page.get_by_role("grid")
    page.get_by_role("link", name="PNG").wait_for()
    assert grid.get_by_role("gridcell").locator("img").count() == 8
    grid.focus()
    page.keyboard.press("Space")
    page.keyboard.press("End")
    page.keyboard.press("Space")
    page.keyboard.press("Enter")
    beside = page.get_by_role("dialog", name="2 pictures beside each other")
    beside.get_by_text("epoch 4", exact=True).wait_for()
    page.keyboard.press("ArrowDown")
    beside.get_by_text("LoRA strength 1").wait_for()
    page.keyboard.press("Escape")

    page.keyboard.press("v")
    vote = page.get_by_role("dialog", name="Which is better?")
    for number in range(12):
        vote.get_by_text(f"{number} of 12").wait_for()
        vote.get_by_alt_text("The right one").wait_for()
        told = vote.inner_text()
        assert "epoch" not in told
        assert "<b>standing</b>" in told
        if number == 6:
            page.keyboard.press("Backspace")
            vote.get_by_text("5 of 12").wait_for()
            page.keyboard.press("ArrowLeft")
            vote.get_by_text("6 of 12").wait_for()
            require_open_to_everybody(page)
        page.keyboard.press(["ArrowLeft", "ArrowRight", "ArrowDown"][number % 3])
    vote.get_by_text("Every pair has a vote").wait_for()
    page.keyboard.press("Escape")

    votes = page.get_by_role("region", name="Votes")
    votes.get_by_text(re.compile("after 12 votes")).wait_for()
    votes.get_by_text("keep epoch 3: it is well trained").wait_for()
    assert "keep" in votes.get_by_role("row", name="epoch 3").inner_text()
    assert "overtrained" in votes.get_by_role("row", name="epoch 4").inner_text()
    page.reload()
    votes.get_by_text(re.compile("after 12 votes")).wait_for()
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    require_open_to_everybody(page)

    with page.expect_download() as saved:
        page.get_by_role("link", name="PNG").click()
    assert saved.value.suggested_filename == "zorp-grid.png"
    with Image.open(saved.value.path()) as sheet:
        assert sheet.width > 4 * 32
    page.get_by_role("main").get_by_role("link", name="Compare").click()
    page.get_by_role("link", name=re.compile("Epoch \\(4\\) × LoRA strength \\(2\\)")).wait_for()
    require_open_to_everybody(page)
