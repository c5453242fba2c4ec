"""From a folder of pictures to a LoRA, as somebody new goes, by nothing but clicks."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from lorasmith.demo.character import write_training_set
from tests.browser.conftest import Serve
from tests.browser.test_queue import of_workspace

PATIENCE = 90_000  # ms: torch is loaded by each of three programs
DROP = """async ([names, contents]) => {
    const folder = new DataTransfer();
    names.forEach((name, number) => {
        const bytes = Uint8Array.from(atob(contents[number]), (letter) => letter.charCodeAt(0));
        folder.items.add(new File([bytes], name));
    });
    const page = document.querySelector("main");
    for (const kind of ["dragover", "drop"]) {
        const options = { dataTransfer: folder, bubbles: true, cancelable: true };
        page.dispatchEvent(new DragEvent(kind, options));
    }
}"""


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Path]:
    workspace = tmp_path / "work"
    workspace.mkdir()
    yield workspace
    for process in of_workspace(workspace):
        with contextlib.suppress(psutil.Error):
            process.kill()


@pytest.mark.slow
def test_from_pictures_to_a_lora(serve_command: Serve, page, empty: Path, tmp_path: Path) -> None:
    pictures = tmp_path / "theirs"
    write_training_set(pictures, images=6, regularisation=0)
    files = sorted(pictures.rglob("*.png"))
    page.goto(serve_command(empty).page())

    bring_in(page, files)
    mend(page, empty)
    tag(page, empty)
    train(page)
    watch_stop_and_go_on(page, empty)


def bring_in(page, files: list[Path]) -> None:
    """Dropped on Home, one of them twice under another name."""
    from base64 import b64encode

    names = [*(path.name for path in files), "copy.png"]
    contents = [b64encode(path.read_bytes()).decode() for path in [*files, files[0]]]
    page.get_by_role("heading", name="From a folder of pictures to a LoRA").wait_for()
    page.evaluate(DROP, [names, contents])
    page.get_by_label("Name").fill("mine")
    page.get_by_role("button", name="Copy 7 files in").click()
    page.get_by_role("grid", name="Pictures: 7", exact=True).wait_for()


def mend(page, workspace: Path) -> None:
    """The audit finds the copy; what mending does is shown before it is done."""
    page.get_by_role("tab", name="Findings").click()
    page.get_by_role("button", name="Look at the dataset").click()
    findings = page.get_by_role("list", name="Findings")
    copies = findings.get_by_role("listitem").filter(has_text="copy.png").first
    copies.wait_for(timeout=PATIENCE)
    copies.get_by_role("button", name="Mend").click()
    mending = page.get_by_role("dialog")
    mending.get_by_text("copy.png").first.wait_for()
    mending.get_by_role("button", name="Mend").click()
    page.get_by_role("grid", name="Pictures: 6", exact=True).wait_for()
    assert len(list((workspace / "mine" / "dataset").glob("*.png"))) == 6


def tag(page, workspace: Path) -> None:
    page.get_by_role("tab", name="Tagger").click()
    page.get_by_role("combobox", name="Tagger").select_option("demo")
    page.get_by_role("button", name="Look at all, write nothing").click()
    write = page.get_by_role("button", name="Write 6 captions")
    write.click(timeout=PATIENCE)
    page.get_by_text("Tagged: 6 files new").wait_for()
    captions = list((workspace / "mine" / "dataset").glob("*.txt"))
    assert len(captions) == 6
    assert all("purple body" in path.read_text("utf-8") for path in captions)


def train(page) -> None:
    page.get_by_role("navigation", name="Pages").get_by_role("link", name="Train").click()
    page.locator("section.plan[aria-busy=false]").wait_for(timeout=PATIENCE)
    page.get_by_label("captions.trigger", exact=True).fill("zorp")
    page.get_by_label("train.steps", exact=True).fill("400")
    page.locator(".start .command code", has_text="steps 400").wait_for()
    page.get_by_role("button", name="Train now").click()


def watch_stop_and_go_on(page, workspace: Path) -> None:
    page.get_by_role("navigation", name="Pages").get_by_role("link", name="Home").click()
    running = page.get_by_role("list", name="Running")
    running.get_by_text("training").wait_for(timeout=PATIENCE)
    running.get_by_role("link").click()
    page.get_by_role("button", name="Sample now").click()
    # The model alone, and what it has learned so far.
    page.locator("tr", has_text="step ").locator("button.sample").first.wait_for(timeout=PATIENCE)
    page.get_by_role("button", name="Stop and save").click()
    page.get_by_role("button", name="Go on").click(timeout=PATIENCE)
    page.get_by_role("button", name="Stop and save").click(timeout=PATIENCE)
    page.get_by_role("button", name="Go on").wait_for(timeout=PATIENCE)
    page.get_by_role("tab", name="Files").click()
    page.get_by_text(".safetensors").first.wait_for()
    (run,) = (workspace / "mine" / "runs").iterdir()
    assert json.loads((run / "run.json").read_text("utf-8"))["status"] == "stopped"
