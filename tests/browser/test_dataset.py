"""The page about a dataset, as somebody works on it: by clicks, by keys alone, in two tabs."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from PIL import Image

from tests.browser.conftest import Serve, fits, until, violations

CAPTIONS = ("zorp, hat, smile", "zorp, hat", "zorp, standing", "zorp, sitting, smile")


@pytest.fixture
def folder(workspace: Path) -> Path:
    images = workspace / "zorp" / "dataset"
    for number, text in enumerate(CAPTIONS):
        Image.new("RGB", (96, 64), (200, 50 * number, 40)).save(images / f"{number}.png")
        (images / f"{number}.txt").write_text(f"{text}\n", encoding="utf-8")
    return images


def texts(folder: Path) -> list[str]:
    return [
        (folder / f"{number}.txt").read_text("utf-8").rstrip("\n")
        for number in range(len(CAPTIONS))
    ]


def open_page(serve: Serve, page, workspace: Path, **query: object) -> None:
    page.goto(serve(workspace).page("/dataset", path="zorp", **query))
    cell(page, 0).locator("img").wait_for()


SCROLL = """grid => new Promise((done) => {
    grid.addEventListener("scroll", () => done(), { once: true });
    grid.scrollBy(0, 900);
})"""


def cell(page, index: int):
    return page.get_by_role("gridcell").nth(index)


def shows(page, count: int) -> None:
    page.get_by_role("grid", name=f"Pictures: {count}", exact=True).wait_for()


def filter_is(page, text: str) -> None:
    field = page.get_by_role("combobox", name="Filter")
    until(page, lambda: field.input_value() == text)


def test_clicks_on_tags_filter(serve: Serve, page, workspace: Path, folder: Path) -> None:
    open_page(serve, page, workspace)
    page.get_by_role("option", name="hat:").click()
    shows(page, 2)
    page.wait_for_url(lambda url: "tag%3Ahat" in url)
    smile = page.get_by_role("option", name="smile: 1 of the 2 shown, 2 of all")
    smile.click(modifiers=["Alt"])
    shows(page, 1)
    filter_is(page, "tag:hat -tag:smile")
    page.get_by_role("option", name="smile:").click()
    shows(page, 1)
    filter_is(page, "tag:hat tag:smile")
    # As many as before, and another one.
    page.get_by_role("gridcell", name="0.png").click()
    page.get_by_role("button", name="Show all").click()
    shows(page, 4)
    page.get_by_role("gridcell", name="0.png", selected=True).wait_for()
    page.get_by_role("option", name="standing:").click()
    shows(page, 1)
    assert page.get_by_role("gridcell", selected=True).count() == 0


def test_filters_are_completed_and_their_mistakes_said(
    serve: Serve, page, workspace: Path, folder: Path
) -> None:
    open_page(serve, page, workspace)
    field = page.get_by_role("combobox", name="Filter")
    field.press_sequentially("tag:si")
    page.get_by_role("option", name="sitting 1").wait_for()
    field.press("ArrowDown")
    field.press("Enter")
    shows(page, 1)
    filter_is(page, "tag:sitting")
    cell(page, 0).click()
    field.fill("tag:nothing")
    page.get_by_text("The filter takes no picture").wait_for()
    field.fill("tag:hat")
    shows(page, 2)
    assert field.evaluate("field => field === document.activeElement")
    field.fill("(tag:hat")
    page.get_by_text("this bracket is not closed").wait_for()
    shows(page, 2)
    field.press("Escape")
    field.press("Escape")
    shows(page, 4)


def test_an_edit_is_seen_before_it_is_done_and_taken_back(
    serve: Serve, page, workspace: Path, folder: Path
) -> None:
    open_page(serve, page, workspace, panel="Edit", where="tag:hat")
    page.get_by_role("combobox", name="Add a tag: tag").fill("red wings")
    page.get_by_role("list", name="Tags whose counts change").get_by_text("0 → 2").wait_for()
    assert page.locator("ins").all_text_contents() == ["red wings", "red wings"]
    page.get_by_text(
        f"lorasmith dataset edit {folder} --add 'red wings' --where tag:hat"
    ).wait_for()
    assert texts(folder) == list(CAPTIONS)
    page.get_by_role("button", name="Change 2 captions").click()
    page.get_by_text("Done: 2 files changed").wait_for()
    assert texts(folder)[:2] == ["zorp, hat, smile, red wings", "zorp, hat, red wings"]
    page.get_by_role("button", name="Undo: edit").click()
    page.get_by_text("Taken back: edit").wait_for()
    assert texts(folder) == list(CAPTIONS)


def test_a_session_by_keys_alone(serve: Serve, page, workspace: Path, folder: Path) -> None:
    open_page(serve, page, workspace)
    page.keyboard.press("/")
    page.keyboard.type("tag:zorp")
    page.keyboard.press("Enter")
    shows(page, 4)
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.getAttribute('role')") == "grid":
            break
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+ArrowRight")
    page.get_by_text("4 pictures, 2 chosen").wait_for()
    page.keyboard.press("Escape")
    page.keyboard.press("Enter")
    page.get_by_role("region", name="2.png").wait_for()
    page.keyboard.press("ArrowLeft")
    page.get_by_role("region", name="1.png").wait_for()
    page.get_by_role("button", name="hat", exact=True).focus()
    page.keyboard.press("Alt+ArrowLeft")
    wait_for_text(page, folder, 1, "hat, zorp")
    page.keyboard.press("Enter")
    page.keyboard.type("cap")
    page.keyboard.press("Enter")
    wait_for_text(page, folder, 1, "cap, zorp")
    page.keyboard.press("End")
    page.keyboard.press("ArrowRight")
    page.keyboard.type("wet, ")
    wait_for_text(page, folder, 1, "cap, zorp, wet")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Delete")
    wait_for_text(page, folder, 1, "cap, wet")
    page.keyboard.press("Control+z")
    wait_for_text(page, folder, 1, "cap, zorp, wet")
    page.keyboard.press("t")
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    shows(page, 4)
    # Back where one was.
    page.keyboard.press("ArrowRight")
    page.get_by_role("gridcell", name="2.png", selected=True).wait_for()


def wait_for_text(page, folder: Path, number: int, text: str) -> None:
    until(page, lambda: texts(folder)[number] == text)


def test_pictures_are_chosen_by_a_frame_and_get_quick_tags(
    serve: Serve, page, workspace: Path, folder: Path
) -> None:
    open_page(serve, page, workspace)
    first, third = cell(page, 0).bounding_box(), cell(page, 2).bounding_box()
    page.mouse.move(first["x"] + 20, first["y"] + 20)
    page.mouse.down()
    page.mouse.move(first["x"] + 60, first["y"] + 60)
    page.mouse.move(third["x"] + 30, third["y"] + 90)
    page.mouse.up()
    page.get_by_text("4 pictures, 3 chosen").wait_for()
    page.get_by_role("button", name="Change", exact=True).click()
    page.get_by_label("Tag on key 1").fill("wet")
    page.get_by_role("button", name="Done").click()
    page.get_by_role("grid").focus()
    page.keyboard.press("1")
    page.get_by_text("+ wet: 3 of 3 changed").wait_for()
    assert [text.endswith(", wet") for text in texts(folder)] == [True, True, True, False]
    page.keyboard.press("1")
    page.get_by_text("− wet: 3 of 3 changed").wait_for()
    assert texts(folder) == list(CAPTIONS)


def test_two_tabs_agree(serve: Serve, new_page, workspace: Path, folder: Path) -> None:
    studio = serve(workspace)
    tabs = [new_page(), new_page()]
    for tab in tabs:
        tab.goto(studio.page("/dataset", path="zorp", image="0.png"))
        tab.get_by_role("button", name="smile", exact=True).wait_for()
    tabs[0].get_by_role("combobox", name="Add tags").fill("wet")
    tabs[0].keyboard.press("Enter")
    tabs[1].get_by_role("button", name="wet", exact=True).wait_for()
    # What is written on a page that did not see another's change is refused.
    tabs[1].route("**/api/dataset/caption?**", lambda route: blinded(route, "zorp, hat, smile"))
    tabs[1].get_by_role("combobox", name="Add tags").fill("dry")
    tabs[1].keyboard.press("Enter")
    tabs[1].get_by_text("Somebody else changed this caption").wait_for()
    assert texts(folder)[0] == "zorp, hat, smile, wet"


def blinded(route, former: str) -> None:
    """A write as of a page that has seen an earlier caption."""
    if route.request.method == "PUT":
        body = route.request.post_data_json | {"former": former}
        route.continue_(post_data=body)
    else:
        route.continue_()


def test_findings_are_looked_for_and_mended(
    serve: Serve, page, workspace: Path, folder: Path
) -> None:
    (folder / "2.txt").write_text("zorp, standing, standing\n", encoding="utf-8")
    open_page(serve, page, workspace, panel="Findings")
    page.get_by_role("button", name="Look at the dataset").click()
    card = page.get_by_role("listitem").filter(has=page.get_by_role("heading", name="twice"))
    card.first.wait_for(timeout=60_000)
    card.first.get_by_role("button", name="Mend…").click()
    dialog = page.get_by_role("dialog")
    assert dialog.locator("del").first.text_content() == "standing"
    dialog.get_by_role("button", name="Mend it").click()
    page.get_by_text("Mended: 1 file changed").wait_for()
    assert texts(folder)[2] == "zorp, standing"


def test_crops_and_masks_are_recorded(serve: Serve, page, workspace: Path, folder: Path) -> None:
    page.goto(serve(workspace).page("/dataset", path="zorp", image="1.png"))
    page.get_by_role("img", name="1.png").wait_for()
    page.get_by_role("button", name="Crop").click()
    page.get_by_label("Right").fill("64")
    page.get_by_role("button", name="Record the crop").click()
    page.get_by_text("crop 64×64").wait_for()
    assert (folder / "1.crop.json").is_file()
    page.get_by_role("button", name="Mask").click()
    page.get_by_role("button", name="All", exact=True).last.click()
    page.get_by_role("button", name="Save the mask").click()
    page.get_by_text("has a mask").wait_for()
    with Image.open(folder / "1-masklabel.png") as mask:
        assert mask.getextrema() == (0, 0)


def test_the_pictures_of_a_bucket_are_shown(
    serve: Serve, page, workspace: Path, folder: Path
) -> None:
    Image.new("RGB", (64, 128)).save(folder / "tall.png")
    open_page(serve, page, workspace, panel="Buckets")
    page.get_by_role("list", name="Buckets").get_by_role("button").last.click()
    shows(page, 1)
    page.get_by_role("gridcell", name="tall.png").wait_for()
    page.get_by_role("button", name="bucket").first.click()
    shows(page, 5)


def test_the_tagger_is_asked_about_one_picture(
    serve: Serve, page, workspace: Path, folder: Path
) -> None:
    open_page(serve, page, workspace, panel="Tagger")
    page.evaluate("localStorage.setItem('lorasmith.tagger', 'demo')")
    page.goto(page.url.replace("panel=Tagger", "image=1.png"))
    page.set_default_timeout(60_000)  # It begins a process that imports torch.
    page.get_by_role("button", name="Ask the tagger").click()
    told = page.get_by_role("group", name="What demo says of 1.png")
    tag = told.get_by_role("button").first
    tag.click()
    told.get_by_role("button", pressed=True).wait_for()
    word = tag.inner_text().splitlines()[0].strip()
    wait_for_text(page, folder, 1, f"{CAPTIONS[1]}, {word}")
    tag.click()
    wait_for_text(page, folder, 1, CAPTIONS[1])


@pytest.mark.parametrize("key", ["Escape", "ArrowRight"])
def test_a_mask_that_was_painted_is_not_lost(
    serve: Serve, page, workspace: Path, folder: Path, key: str
) -> None:
    open_page(serve, page, workspace)
    cell(page, 1).click()
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Mask").click()
    page.get_by_role("button", name="All", exact=True).last.click()
    page.get_by_role("button", name="Save the mask").is_enabled()
    page.keyboard.press(key)
    page.get_by_text("The mask lies beside the picture.").wait_for()
    with Image.open(folder / "1-masklabel.png") as mask:
        assert mask.getextrema() == (0, 0)
    page.get_by_role("button", name="Undo").last.click()
    until(page, lambda: not (folder / "1-masklabel.png").exists())


def test_who_scrolls_past_pictures_asks_for_none_of_them(
    serve: Serve, page, workspace: Path, folder: Path
) -> None:
    source = (folder / "0.png").read_bytes()
    for number in range(4, 1500):
        (folder / f"{number}.png").write_bytes(source)
    asked: list[str] = []
    page.on(
        "request",
        lambda request: asked.append(request.url) if "/api/image" in request.url else None,
    )
    page.clock.install()
    open_page(serve, page, workspace)
    shows(page, 1500)
    page.wait_for_timeout(300)
    before = len(asked)
    grid = page.get_by_role("grid")
    # The page's own clock: a slow computer takes longer between two of these than a rest is.
    page.clock.pause_at(time.time() + 3600)
    for _ in range(30):
        grid.evaluate(SCROLL)
        page.clock.run_for(16)
    assert grid.evaluate("grid => grid.scrollTop") == 30 * 900
    assert len(asked) - before < 10
    page.clock.resume()
    grid.focus()
    page.keyboard.press("End")
    page.get_by_role("gridcell", name=re.compile(r"^1499\.png")).locator("img").wait_for()
    assert len(asked) - before < 120
    assert page.get_by_role("gridcell").count() < 80


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_open_to_everybody(
    serve: Serve, new_page, workspace: Path, folder: Path, scheme: str
) -> None:
    page = new_page(scheme=scheme)
    studio = serve(workspace)
    for panel in ("Caption", "Edit", "Tagger", "Findings", "Buckets"):
        page.goto(studio.page("/dataset", path="zorp", panel=panel, where="tag:zorp"))
        cell(page, 0).click()
        page.get_by_role("tabpanel").wait_for()
        page.wait_for_timeout(200)
        assert violations(page) == []
        assert fits(page)
    page.goto(studio.page("/dataset", path="zorp", image="1.png"))
    page.get_by_role("button", name="hat", exact=True).wait_for()
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280


def test_a_tag_is_replaced_by_what_stands_in_another_field(
    serve: Serve, page, workspace: Path, folder: Path
) -> None:
    (folder / "0.txt").write_text("zorp, a=b, smile", encoding="utf-8")
    open_page(serve, page, workspace, panel="Edit")
    page.get_by_role("combobox", name="Step 1").select_option("replace")
    page.get_by_role("combobox", name="another: this").fill("a=b")
    page.get_by_role("combobox", name="another: by that").fill("c=d")
    # It waits while one looks at something else.
    page.get_by_role("tab", name="Caption").click()
    page.get_by_role("tab", name="Edit").click()
    page.get_by_role("button", name="Change 1 caption").click()
    page.get_by_text("Done: 1 file changed").wait_for()
    assert texts(folder)[0] == "zorp, c=d, smile"


def test_markup_in_captions_is_text(serve: Serve, page, workspace: Path, folder: Path) -> None:
    script = "<img src=x onerror=alert(1)>"
    (folder / "0.txt").write_text(script, encoding="utf-8")
    open_page(serve, page, workspace, panel="Edit")
    page.get_by_role("option", name=script).wait_for()
    page.get_by_role("combobox", name="Add a tag: tag").fill(script)
    page.locator("ins").first.wait_for()
    assert page.locator("img[src=x]").count() == 0


def test_no_dataset_says_what_to_do(serve: Serve, page, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    studio = serve(tmp_path / "empty")
    page.goto(studio.page("/dataset"))
    page.get_by_role("heading", name="No dataset is open").wait_for()
    page.goto(studio.page("/dataset", path="."))
    page.get_by_text("There is no picture in").wait_for()
    page.goto(studio.page("/dataset", path="none"))
    page.get_by_text("does not exist").wait_for()


def test_enter_follows_a_link_while_a_picture_is_chosen(
    serve: Serve, page, workspace: Path, folder: Path
) -> None:
    open_page(serve, page, workspace)
    cell(page, 1).click()
    page.get_by_role("link", name="Sort…").focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/sort?**")


def test_what_is_typed_stays_when_the_file_changes(
    serve: Serve, page, workspace: Path, folder: Path
) -> None:
    open_page(serve, page, workspace)
    cell(page, 1).click()
    page.get_by_role("button", name="As text").click()
    field = page.get_by_role("textbox", name="Caption of 1.png")
    field.fill("zorp, hat, mine")
    address = page.url.partition("/dataset")[0] + "/api/dataset/caption?path=zorp"
    theirs = {"name": "1.png", "former": CAPTIONS[1], "text": "zorp, theirs"}
    assert page.request.put(address, data=theirs).ok
    page.get_by_text("This caption was changed elsewhere").wait_for()
    assert field.input_value() == "zorp, hat, mine"
    page.get_by_role("button", name="Write mine").click()
    wait_for_text(page, folder, 1, "zorp, hat, mine")


def test_pictures_dropped_on_a_dataset_go_into_it(
    serve: Serve, page, workspace: Path, folder: Path
) -> None:
    open_page(serve, page, workspace)
    drop = """() => {
        const files = new DataTransfer();
        files.items.add(new File(["zorp"], "new.txt"));
        const options = { dataTransfer: files, bubbles: true, cancelable: true };
        document.querySelector("main").dispatchEvent(new DragEvent("drop", options));
    }"""
    page.evaluate(drop)
    page.get_by_role("dialog", name="Add to zorp").wait_for()
    page.get_by_role("button", name="Copy 1 file in").click()
    page.get_by_role("dialog").wait_for(state="detached")
    assert (folder / "new.txt").read_text("utf-8") == "zorp"
