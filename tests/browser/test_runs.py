"""Runs: their list, and one with its curves, samples and words, also while it is written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from tests.browser.conftest import NARROW_TOO, Serve, require_open_to_everybody, until
from tests.made_up_runs import metrics_line, write_run


@pytest.fixture
def run(workspace: Path) -> Path:
    """One with samples of two prompts at three times; beside it another of another rate."""
    for name, rate in (("first", "3e-4"), ("second", "1e-3")):
        folder = write_run(workspace / "zorp" / "runs" / name, **{"optimizer.lr": rate})
        for number, path in enumerate(sorted((folder / "samples").iterdir())):
            Image.new("RGB", (64, 64), (40 * number, 90, 120)).save(path)
    return workspace / "zorp" / "runs" / "first"


def test_the_list_leads_to_a_run(serve: Serve, page, run: Path, workspace: Path) -> None:
    page.goto(serve(workspace).page("/run", project=str(workspace / "zorp")))
    page.get_by_role("row", name="second").wait_for()
    page.get_by_role("main").get_by_role("link", name="first").click()
    page.get_by_role("heading", name="first").wait_for()
    page.get_by_role("main").get_by_text("step 20 of 40").wait_for()
    page.get_by_text("the loss is nan at step 12").wait_for()


def test_what_may_become_a_run_stands_in_the_place_of_runs(
    serve: Serve, page, workspace: Path
) -> None:
    studio = serve(workspace)
    page.goto(studio.page("/run"))
    page.get_by_text("There are no runs here yet").wait_for()
    training = {"data": str(workspace / "zorp" / "dataset"), "hold": True, "title": "soon"}
    values = {"model.path": "demo"}
    assert page.request.post(studio.page("/api/jobs"), data=training | {"values": values}).ok
    page.get_by_role("list", name="At work, and waiting").get_by_text("soon").wait_for()
    page.get_by_text("There are no runs here yet").wait_for(state="detached")


def test_samples_by_keys(serve: Serve, page, run: Path, workspace: Path) -> None:
    page.goto(serve(workspace).page("/run", path=str(run)))
    grid = page.get_by_role("grid")
    grid.get_by_role("button", name="base model, a cat").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    at = "document.activeElement.getAttribute('aria-label')"
    assert page.evaluate(at) == "epoch 1, a <b>dog</b>"
    assert grid.locator("b").count() == 0  # A prompt is text, whatever it holds.
    page.keyboard.press("Enter")
    large = page.get_by_role("dialog")
    large.locator(".large:focus").wait_for()
    shown = large.locator("img")
    assert "epoch 1" in str(shown.get_attribute("alt"))
    page.keyboard.press("ArrowDown")
    page.get_by_role("heading", name="epoch 2").wait_for()
    page.keyboard.press(" ")
    page.get_by_role("heading", name="base model").wait_for()
    page.keyboard.press("Escape")
    large.wait_for(state="detached")
    assert page.evaluate(at) == "epoch 1, a <b>dog</b>"
    page.keyboard.press("Enter")
    large.wait_for()
    page.go_back()
    large.wait_for(state="detached")


def test_a_run_is_renamed_put_into_the_trash_and_brought_back(
    serve: Serve, page, run: Path, workspace: Path
) -> None:
    page.goto(serve(workspace).page("/run", path=str(run)))
    page.get_by_role("button", name="Rename the run").click()
    name = page.get_by_role("textbox", name="Name")
    name.fill("second")
    page.get_by_role("button", name="Rename", exact=True).click()
    page.get_by_text("second is there already").wait_for()
    name.fill("third")
    page.get_by_role("button", name="Rename", exact=True).click()
    page.get_by_role("heading", name="third").wait_for()
    page.get_by_role("button", name="Put the run into the trash").click()
    page.get_by_role("heading", name="Runs").wait_for()
    page.get_by_role("row", name="third").wait_for(state="detached")
    page.get_by_role("button", name="Undo").click()
    page.get_by_role("row", name="third").wait_for()
    assert (run.with_name("third") / "third-000001.safetensors").is_file()


def test_what_pick_keeps_is_seen(serve: Serve, page, run: Path, workspace: Path) -> None:
    (run / "pick").mkdir()
    keep = {"label": "epoch 2", "step": 20}
    verdict = {"keep": keep, "summary": "Keep epoch 2, which is well trained: it is like them."}
    (run / "pick" / "verdict.json").write_text(json.dumps(verdict), encoding="utf-8")
    page.goto(serve(workspace).page("/run"))
    page.get_by_role("row", name="first").get_by_text("keep epoch 2").wait_for()
    page.get_by_role("main").get_by_role("link", name="first").click()
    page.get_by_text("Keep epoch 2, which is well trained.").wait_for()
    page.get_by_role("rowheader", name="epoch 2 step 20 keep").wait_for()
    page.get_by_role("tab", name="Files").click()
    (kept,) = page.get_by_role("listitem").filter(has_text="keep").all_text_contents()
    assert "first-000002.safetensors" in kept


def test_a_run_that_goes_on_is_followed(serve: Serve, page, run: Path, workspace: Path) -> None:
    page.goto(serve(workspace).page("/run", path=str(run)))
    page.get_by_role("main").get_by_text("step 20 of 40").wait_for()
    image = run / "samples" / "00000030-00-7.png"
    Image.new("RGB", (64, 64)).save(image)
    saved = {"event": "SampleSaved", "path": str(image), "step": 30, "prompt": "a cat", "seed": 7}
    with open(run / "events.jsonl", "a", encoding="utf-8") as file:
        file.write(json.dumps(saved) + "\n")
    with open(run / "metrics.jsonl", "a", encoding="utf-8") as file:
        file.writelines(map(metrics_line, range(21, 31)))
    page.get_by_role("main").get_by_text("step 30 of 40").wait_for()
    page.get_by_role("button", name="epoch 3, a cat").wait_for()


def test_two_runs_are_compared(serve: Serve, page, run: Path, workspace: Path) -> None:
    page.goto(serve(workspace).page("/run", path=str(run)))
    page.get_by_label("Lay another run over").select_option("second")
    page.get_by_role("button", name="loss, smoothed of second").wait_for()
    page.reload()
    page.get_by_role("button", name="loss, smoothed of second").wait_for()
    page.get_by_role("tab", name="Settings").click()
    other = page.get_by_label("Compared with")
    other.select_option(str(run.parent / "second"))
    row = page.get_by_role("row", name="optimizer.lr")
    row.get_by_text("0.001").wait_for()


def test_curves_by_keys(serve: Serve, page, run: Path, workspace: Path) -> None:
    page.goto(serve(workspace).page("/run", path=str(run)))
    chart = page.get_by_role("img", name="Loss over the steps")
    chart.locator("canvas").wait_for()
    before = chart.locator("canvas").screenshot()
    chart.focus()
    page.keyboard.press("+")
    page.keyboard.press("ArrowLeft")
    assert chart.locator("canvas").screenshot() != before
    page.keyboard.press("0")
    until(page, lambda: chart.locator("canvas").screenshot() == before)
    page.get_by_role("tab", name="Loss").focus()
    page.keyboard.press("ArrowRight")
    page.get_by_role("button", name="lr/unet").wait_for()


def test_runs_are_open_to_everybody(serve: Serve, page, run: Path, workspace: Path) -> None:
    studio = serve(workspace)
    page.goto(studio.page("/run"))
    page.get_by_role("main").get_by_role("link", name="first").wait_for()
    require_open_to_everybody(page, NARROW_TOO)
    page.goto(studio.page("/run", path=str(run)))
    page.get_by_role("button", name="base model, a cat").wait_for()
    require_open_to_everybody(page, NARROW_TOO)
    page.get_by_role("button", name="base model, a cat").click()
    page.get_by_role("dialog").wait_for()
    require_open_to_everybody(page)
