"""Sorting, one picture at a time."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from tests.browser.conftest import Serve, until, violations

COUNT = 12


@pytest.fixture
def folder(workspace: Path) -> Path:
    images = workspace / "zorp" / "dataset"
    for number in range(COUNT):
        Image.new("RGB", (96, 64), (200, 20 * number, 40)).save(images / f"{number}.png")
        (images / f"{number}.txt").write_text("zorp\n", encoding="utf-8")
    return images


@pytest.fixture
def sorting(serve: Serve, page, workspace: Path, folder: Path):
    """With keys 1 for the folder hats, 2 for the tag wet, x for the trash."""
    page.goto(serve(workspace).page("/sort", path="zorp"))
    page.get_by_role("img", name="0.png").wait_for()
    page.get_by_role("combobox", name="Folder of 1").fill("hats")
    page.get_by_role("combobox", name="What 2 does").select_option("add")
    page.get_by_role("combobox", name="Tag of 2").fill("wet")
    page.get_by_role("combobox", name="Tag of 2").press("Enter")
    return page


def test_keys_sort_and_backspace_takes_back(sorting, folder: Path) -> None:
    page = sorting
    for key in ("1", "2", "x", "Space"):
        page.keyboard.press(key)
    page.get_by_text(f"{COUNT - 4} left of {COUNT}").wait_for()
    page.get_by_role("img", name="4.png").wait_for()
    until(page, lambda: (folder / "hats/0.txt").is_file() and not (folder / "2.png").exists())
    assert (folder / "1.txt").read_text() == "zorp, wet\n"
    page.keyboard.press("Backspace")
    page.keyboard.press("Backspace")
    page.get_by_role("img", name="2.png").wait_for()
    until(page, lambda: (folder / "2.png").is_file())
    # The others that were carried out with it are carried out again.
    until(page, lambda: (folder / "hats/0.txt").is_file())
    until(page, lambda: (folder / "1.txt").read_text() == "zorp, wet\n")
    page.keyboard.press("Backspace")
    page.keyboard.press("Backspace")
    page.get_by_text(f"{COUNT} left of {COUNT}").wait_for()
    until(page, lambda: (folder / "0.png").is_file() and (folder / "0.txt").is_file())
    assert (folder / "1.txt").read_text() == "zorp\n"


def test_what_waits_is_carried_out_when_one_leaves(sorting, folder: Path) -> None:
    sorting.keyboard.press("1")
    sorting.get_by_role("link", name="Back to the dataset").click()
    sorting.get_by_role("grid").wait_for()
    until(sorting, lambda: (folder / "hats/0.png").is_file())


def test_who_closes_the_tab_too_early_is_asked(sorting, folder: Path) -> None:
    leave = "dispatchEvent(new Event('beforeunload', { cancelable: true }))"
    press = "document.body.dispatchEvent(new KeyboardEvent('keydown', { key: '1', bubbles: true }))"
    assert sorting.evaluate(leave)
    assert not sorting.evaluate(f"({press}, {leave})")
    # Without a rest first: it is carried out at once.
    until(sorting, lambda: (folder / "hats/0.png").is_file())
    until(sorting, lambda: sorting.evaluate(leave))


def test_a_key_shows_the_next_picture_at_once(sorting) -> None:
    """Within 50 ms: it is decoded before it is asked for."""
    sorting.wait_for_timeout(300)
    times = sorting.evaluate(
        """async () => {
            const shown = () => document.querySelector(".sort-stage img");
            const times = [];
            for (let round = 0; round < 6; round++) {
                const before = shown().src, begin = performance.now();
                document.dispatchEvent(new KeyboardEvent("keydown", { key: " ", bubbles: true }));
                await new Promise((resolve) => {
                    const look = () => {
                        const there = shown().src !== before && shown().complete;
                        if (there) setTimeout(resolve);
                        else requestAnimationFrame(look);
                    };
                    requestAnimationFrame(look);
                });
                times.push(performance.now() - begin);
                await new Promise((resolve) => setTimeout(resolve, 100));
            }
            return times;
        }"""
    )
    assert sorted(times)[3] < 50


def test_all_are_looked_at(sorting, folder: Path) -> None:
    for _ in range(COUNT):
        sorting.keyboard.press("Space")
    sorting.get_by_role("heading", name="All are looked at").wait_for()
    sorting.get_by_text(f"{COUNT} pictures left as they were").wait_for()
    assert violations(sorting) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_open_to_everybody(
    serve: Serve, new_page, workspace: Path, folder: Path, scheme: str
) -> None:
    page = new_page(scheme=scheme)
    page.goto(serve(workspace).page("/sort", path="zorp"))
    page.get_by_role("img", name="0.png").wait_for()
    assert violations(page) == []
