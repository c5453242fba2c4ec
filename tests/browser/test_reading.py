"""The page of a dataset whose files are read slowly: its pictures can be used meanwhile."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from lorasmith.curation import collection
from lorasmith.data.caption_files import CaptionText, read_caption
from lorasmith.jobs.curating import open_dataset
from lorasmith.studio.app import create_app

from .conftest import violations


@pytest.fixture
def slow_server(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[str, threading.Event]]:
    """Its address, and what lets captions be read. In this process, so that its files can be made
    slow; three pictures are many here."""
    import uvicorn

    let_go = threading.Event()

    def read(path: Path) -> CaptionText:
        assert let_go.wait(120)
        return read_caption(path)

    monkeypatch.setattr(collection, "read_caption", read)
    monkeypatch.setattr(open_dataset, "AT_ONCE", 2)
    app = create_app(workspace)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", let_go
        let_go.set()
        app.state.studio.closing.set()
        server.should_exit = True
        thread.join()


def test_pictures_are_there_while_captions_are_read(page, slow_server, workspace: Path) -> None:
    address, let_go = slow_server
    page.goto(f"{address}/dataset?path=zorp")
    cells = page.get_by_role("gridcell")
    cells.first.locator("img").wait_for()
    assert cells.count() == 3
    page.get_by_text("Reading captions").wait_for()
    page.get_by_text("The captions are still being read.").wait_for()
    assert page.get_by_text("no caption").count() == 0
    assert violations(page) == []
    cells.first.click()
    page.keyboard.press("Enter")
    page.locator(".large img, main img").first.wait_for()
    page.keyboard.press("Escape")
    let_go.set()
    page.get_by_role("option", name="standing:").wait_for()
    page.get_by_role("grid", name="Pictures: 3", exact=True).wait_for()
    page.get_by_text("Reading").first.wait_for(state="detached")


def test_a_tag_on_a_key_waits_for_the_captions(page, slow_server, workspace: Path) -> None:
    address, let_go = slow_server
    page.goto(f"{address}/dataset?path=zorp")
    page.evaluate(
        "folder => localStorage.setItem(`lorasmith.quick.${folder}`, 'standing')",
        str(workspace / "zorp" / "dataset"),
    )
    page.reload()
    page.get_by_role("gridcell").first.click()
    page.keyboard.press("1")
    page.get_by_text("The captions are still being read; the tag follows").wait_for()
    let_go.set()
    # It had the tag, so the key takes it away.
    page.get_by_text("− standing: 1 of 1 changed").wait_for()
    caption = workspace / "zorp" / "dataset" / "0.txt"
    assert caption.read_text("utf-8").strip() == "zorp"
