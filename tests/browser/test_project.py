"""One project from end to end above every page, and prompts that are kept."""

from __future__ import annotations

import re
from pathlib import Path

from tests.browser.conftest import NARROW_TOO, Serve, fits, require_open_to_everybody


def test_the_line_above_and_prompts_that_are_kept(serve: Serve, page, workspace: Path) -> None:
    from playwright.sync_api import expect

    project = workspace / "zorp"
    studio = serve(workspace)
    page.goto(studio.page("/dataset", path=str(project / "dataset")))
    line = page.get_by_role("navigation", name="From images to a LoRA")
    following = line.locator("[aria-current=step]")
    expect(following).to_contain_text("Next: Audit not looked yet")
    (project / "dataset" / "1.txt").unlink()
    expect(following).to_contain_text("Captions 1 missing")
    (project / "dataset" / "1.txt").write_text("zorp", encoding="utf-8")
    expect(following).to_contain_text("Audit")
    following.focus()
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("panel=Findings"))

    # Its project is remembered where a page is about none.
    page.goto(studio.page("/prompts"))
    expect(following).to_contain_text("Audit")
    page.get_by_role("button", name="New file of wildcards…").last.focus()
    page.keyboard.press("Enter")
    page.get_by_label("Name").fill("colours")
    page.keyboard.press("Enter")
    text = page.get_by_role("textbox", name="colours")
    text.fill("red\nred\n")
    shown = page.get_by_role("list", name="Prompts as they are drawn")
    page.get_by_role("textbox", name="Prompt to try it in").fill("a __colours__ hat")
    expect(shown.get_by_text("a red hat")).to_have_count(8)
    require_open_to_everybody(page, NARROW_TOO)
    page.set_viewport_size({"width": 1280, "height": 800})
    assert fits(page)

    # What another program wrote meanwhile is not lost, nor what was written here.
    file = workspace / "wildcards" / "colours.txt"
    assert "red" not in file.read_text(encoding="utf-8")
    (workspace / "new").write_text("blue\n", encoding="utf-8")
    (workspace / "new").replace(file)
    page.get_by_text("It was changed elsewhere meanwhile").wait_for()
    page.reload()
    expect(text).to_have_value("red\nred\n")
    text.press("Control+s")
    page.get_by_text("It was changed elsewhere meanwhile").wait_for()
    assert file.read_text(encoding="utf-8") == "blue\n"
    page.get_by_role("button", name="Save mine over it").click()
    page.get_by_text("Saved.").wait_for()
    assert file.read_text(encoding="utf-8") == "red\nred\n"

    shown.get_by_role("button", name="Draw with seed 3").click()
    page.wait_for_url(re.compile("/draw"))
    prompt = page.get_by_role("textbox", name="Prompt", exact=True)
    expect(prompt).to_have_value("__colours__")
    page.get_by_text(f"--wildcard-dir {workspace}/wildcards").wait_for()
    page.go_back()
    page.get_by_role("button", name="To Train: 8 sample prompts").click()
    expect(page.get_by_label("sample.prompts").first).to_have_value(re.compile("red\nred"))
