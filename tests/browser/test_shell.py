"""What is around every page, and the page that one comes to first."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path
from urllib.parse import urlsplit

from tests.browser.conftest import NARROW_TOO, WIDTH, Serve, require_open_to_everybody, violations
from tests.made_up_runs import write_run


def test_a_first_visit(serve: Serve, page, workspace: Path) -> None:
    studio = serve(workspace)
    page.goto(studio.page())
    page.get_by_role("heading", name="zorp").wait_for()
    assert page.title().endswith("lorasmith")
    page.get_by_role("link", name="zorp").click()
    page.get_by_role("heading", name="zorp").wait_for()
    page.wait_for_url(lambda url: "project=" in url)
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
    # What is said meanwhile is to be seen, and put away.
    report = page.get_by_role("dialog", name="Report a bug")
    report.get_by_role("button", name="Copy the command").click()
    report.get_by_role("button", name="Put away").click()
    report.get_by_role("button", name="Put away").wait_for(state="detached")
    with page.expect_download() as saved:
        page.get_by_role("link", name="Save the zip").click()
    assert "doctor.json" in zipfile.ZipFile(saved.value.path()).namelist()
    page.keyboard.press("Escape")
    page.get_by_role("dialog").wait_for(state="detached")
    assert page.evaluate("document.activeElement.textContent").startswith("Open a folder")


def test_one_is_shown_around_by_arrow_keys(serve: Serve, page, workspace: Path) -> None:
    from playwright.sync_api import expect

    page.goto(serve(workspace).page())
    note = page.get_by_role("dialog")
    expect(page.get_by_role("heading", name="Projects")).to_be_visible()
    expect(note).to_have_count(0)
    page.get_by_role("button", name="Show me around").click()
    onward = note.get_by_role("button", name="Next")
    expect(note.get_by_role("button", name="Try the demo")).to_be_visible()
    expect(onward).to_be_disabled()

    # What the demo makes.
    shutil.copytree(workspace / "zorp", workspace / "demo")
    write_run(workspace / "demo" / "runs" / "zorp")
    expect(onward).to_be_enabled()
    require_open_to_everybody(page, NARROW_TOO)
    page.set_viewport_size({"width": WIDTH, "height": 800})
    page.keyboard.press("Escape")
    expect(note).to_have_count(0)
    expect(page.get_by_text("Two minutes through the pages")).to_have_count(0)

    page.keyboard.press("?")
    keys = page.get_by_role("dialog", name="Keys")
    keys.get_by_role("button", name="Show me around").click()
    places = ("/", *["/dataset"] * 3, "/train", "/run", "/compare", "/draw", "/files")
    for number, place in enumerate(places, 1):
        expect(note).to_contain_text(f"{number} of {len(places)}")
        expect(page.locator(".tour-about")).to_be_visible()
        assert urlsplit(page.url).path == place
        if place == "/run":
            page.wait_for_url(lambda url: "runs%2Fzorp" in url)
            page.reload()
            expect(note).to_be_focused()
            page.keyboard.press("ArrowLeft")
            expect(note).to_contain_text("Settings and plan")
            page.keyboard.press("ArrowRight")
            expect(note).to_contain_text("Curves and samples")
            # Whoever goes elsewhere is led back.
            page.get_by_role("link", name="Prompts").click()
            note.get_by_role("button", name="Go there").click()
            page.wait_for_url("**/run?**")
        page.keyboard.press("ArrowRight")
    expect(note).to_have_count(0)


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


def test_files_are_copied_again_after_all_were_refused(serve: Serve, page, workspace: Path) -> None:
    page.goto(serve(workspace).page())
    page.route(
        "**/api/files?**", lambda route: route.fulfill(status=422, json={"detail": "no"}), times=1
    )
    picture = workspace / "zorp" / "dataset" / "0.png"
    page.locator("input[type=file]").set_input_files(str(picture))
    copying = page.get_by_role("button", name="Copy 1 file in")
    copying.click()
    page.get_by_role("alert").wait_for()
    # The project that was made for it is there, and takes it.
    copying.click()
    page.wait_for_url("**/dataset?**")
    assert (workspace / "pictures" / "dataset" / "0.png").is_file()
