"""What is around every page, and the page that one comes to first."""

from __future__ import annotations

import zipfile
from pathlib import Path

from tests.browser.conftest import NARROW_TOO, Serve, require_open_to_everybody, violations


def test_a_first_visit(serve: Serve, page, workspace: Path) -> None:
    studio = serve(workspace)
    page.goto(studio.page())
    page.get_by_role("heading", name="zorp").wait_for()
    assert page.title().endswith("lorasmith")
    page.get_by_role("link", name="zorp").click()
    page.get_by_role("heading", name="zorp").wait_for()
    assert "project=" in page.url
    page.go_back()
    page.get_by_role("heading", name="Projects").wait_for()


def test_an_empty_workspace_says_how_to_begin(serve: Serve, page, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    page.goto(serve(tmp_path / "empty").page())
    page.get_by_role("heading", name="From a folder of pictures to a LoRA").wait_for()


def test_keys_are_listed_and_dialogs_give_the_focus_back(
    serve: Serve, page, workspace: Path
) -> None:
    page.goto(serve(workspace).page())
    page.get_by_role("heading", name="Projects").wait_for()
    page.get_by_role("button", name="Open a folder").focus()
    page.keyboard.press("?")
    page.get_by_role("dialog", name="Keys").wait_for()
    page.keyboard.press("Escape")
    page.get_by_role("dialog").wait_for(state="detached")
    assert page.evaluate("document.activeElement.textContent").startswith("Open a folder")

    # From there to a report of a bug, which says what is in it before it is saved.
    page.keyboard.press("?")
    page.get_by_role("button", name="Report a bug").click()
    page.get_by_role("row", name="doctor.json").wait_for()
    assert violations(page) == []
    with page.expect_download() as saved:
        page.get_by_role("link", name="Save the zip").click()
    assert "doctor.json" in zipfile.ZipFile(saved.value.path()).namelist()
    page.keyboard.press("Escape")
    page.get_by_role("dialog").wait_for(state="detached")
    assert page.evaluate("document.activeElement.textContent").startswith("Open a folder")


def test_pictures_are_copied_in(serve: Serve, page, workspace: Path) -> None:
    page.goto(serve(workspace).page())
    source = workspace / "zorp" / "dataset"
    files = [str(source / name) for name in ("0.png", "0.txt", "1.png")]
    page.locator("input[type=file]").set_input_files(files)
    page.get_by_label("Name").fill("other")
    page.get_by_role("button", name="Copy 3 files in").click()
    page.wait_for_url("**/dataset?**")
    copied = sorted(path.name for path in (workspace / "other" / "dataset").iterdir())
    assert copied == ["0.png", "0.txt", "1.png"]


def test_what_the_server_refuses_is_said(serve: Serve, page, workspace: Path) -> None:
    page.goto(serve(workspace).page("/run", path="zorp"))
    page.get_by_text("is not a run folder").wait_for()


def test_home_is_open_to_everybody(serve: Serve, page, workspace: Path) -> None:
    page.goto(serve(workspace).page())
    page.get_by_role("heading", name="zorp").wait_for()
    require_open_to_everybody(page, NARROW_TOO)


def test_files_that_are_refused_keep_none_out(serve: Serve, page, workspace: Path) -> None:
    (workspace / "broken.png").write_bytes(b"no picture")
    page.goto(serve(workspace).page())
    files = [str(workspace / "broken.png"), str(workspace / "zorp" / "dataset" / "0.png")]
    page.locator("input[type=file]").set_input_files(files)
    page.get_by_label("Name").fill("some")
    page.get_by_role("button", name="Copy 2 files in").click()
    page.get_by_text("1 of 2 are copied; these are not").wait_for()
    page.get_by_role("button", name="Go on with what was copied").click()
    page.get_by_role("grid", name="Pictures: 1", exact=True).wait_for()
