"""A large folder: its names are there at once, and the rest follows."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from PIL import Image
from tests.studio.dataset_page import Page

from lorasmith.core.events import Progress
from lorasmith.curation import collection, facts_store
from lorasmith.data.caption_files import CaptionText, read_caption
from lorasmith.data.images import Header, read_header
from lorasmith.jobs.curating import open_dataset
from lorasmith.jobs.curating.open_dataset import OpenDataset, OpenDatasets
from lorasmith.studio.api.changes import Changes
from lorasmith.studio.context import Studio


class SlowFiles:
    """Captions and headers that are read only once they are let go."""

    def __init__(self) -> None:
        self.captions, self.headers = threading.Event(), threading.Event()

    def read_caption(self, path: Path) -> CaptionText:
        assert self.captions.wait(60)
        return read_caption(path)

    def read_header(self, path: Path) -> Header:
        assert self.headers.wait(60)
        return read_header(path)


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> SlowFiles:
    """Three pictures are many here."""
    files = SlowFiles()
    monkeypatch.setattr(collection, "read_caption", files.read_caption)
    monkeypatch.setattr(facts_store, "read_header", files.read_header)
    monkeypatch.setattr(open_dataset, "AT_ONCE", 2)
    monkeypatch.setattr(open_dataset, "_TURN", 0.0)
    monkeypatch.setattr(open_dataset, "_HEAD_START", 0.0)
    return files


def wait_for_another(page: Page, version: str) -> dict:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        listing = page.get("images", version=version)
        if not listing["unchanged"]:
            return listing
        time.sleep(0.01)
    raise AssertionError("nothing more was read")


def test_names_come_first_then_captions_then_sizes(page: Page, slow: SlowFiles) -> None:
    first = page.get("images")
    assert first["names"] == ["0.png", "1.png", "2.png"]
    assert all(first["versions"])
    assert first["reading"] == {"what": "captions", "done": 0, "total": 3}
    assert (first["tags"], first["flags"], first["tag_names"]) == ([[]] * 3, [0] * 3, [])
    assert page.get("images", version=first["version"])["unchanged"]
    slow.captions.set()
    second = wait_for_another(page, first["version"])
    assert (second["reading"]["what"], second["widths"]) == ("sizes", [0] * 3)
    assert second["tag_counts"] == [3, 2, 1, 1]
    slow.headers.set()
    third = wait_for_another(page, second["version"])
    assert (third["reading"], third["widths"]) == (None, [64] * 3)
    assert third["tags"] == second["tags"]


def test_who_asks_for_what_is_not_read_yet_waits_for_it(page: Page, slow: SlowFiles) -> None:
    page.get("images")
    with ThreadPoolExecutor(1) as pool:
        taken = pool.submit(page.post, "filter", where="tag:hat")
        time.sleep(0.05)
        assert not taken.done()
        slow.captions.set()
        assert taken.result(10)["images"] == [1, 2]
    slow.headers.set()
    assert page.get("picture", name="1.png")["width"] == 64


def test_pages_are_told_how_far_it_is(client: TestClient, page: Page, slow: SlowFiles) -> None:
    studio: Studio = client.app.state.studio  # type: ignore[attr-defined]
    changes = Changes(studio)
    folder = page.get("images")["folder"]
    assert changes.look() == [f"dataset:{folder}"]
    assert changes.look() == []
    slow.captions.set()
    (dataset,) = studio.datasets.all()
    while dataset.reading != Progress("sizes", 0, 3):
        time.sleep(0.01)
    assert changes.look() == [f"dataset:{folder}"]
    slow.headers.set()


def test_a_picture_that_comes_meanwhile_is_read_too(
    page: Page, folder: Path, slow: SlowFiles
) -> None:
    page.get("images")
    slow.captions.set()
    Image.new("RGB", (16, 8)).save(folder / "9.png")
    (folder / "9.txt").write_text("wet", encoding="utf-8")
    slow.headers.set()
    listing = page.get("images")
    while listing["reading"]:
        listing = wait_for_another(page, listing["version"])
    assert listing["widths"] == [64, 64, 64, 16]
    assert "wet" in listing["tag_names"]


def test_few_pictures_are_read_when_they_are_asked_for(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collection, "read_caption", None)
    dataset = OpenDataset(folder, lambda path: True)
    assert (len(dataset.images), dataset.reading) == (3, None)


def test_what_is_put_away_is_read_no_further(folder: Path, slow: SlowFiles) -> None:
    dataset = OpenDataset(folder, lambda path: True)
    reading = dataset._reading
    assert reading is not None
    dataset.close()
    slow.captions.set()
    assert not dataset.read_on(reading)
    assert dataset.reading is None


def test_a_slow_folder_keeps_nobody_from_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And is opened once, however many ask for it."""
    for name in ("slow", "quick"):
        (tmp_path / name).mkdir()
    may_go_on, opened = threading.Event(), []

    class Slow(OpenDataset):
        def __init__(self, folder: Path, *arguments) -> None:
            if folder.name == "slow":
                assert may_go_on.wait(60)
            opened.append(folder.name)
            super().__init__(folder, *arguments)

    monkeypatch.setattr(open_dataset, "OpenDataset", Slow)
    datasets = OpenDatasets(lambda path: True)
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(datasets.open, tmp_path / "slow") for _ in range(2)]
        assert datasets.open(tmp_path / "quick").images == []
        assert datasets.all() == [datasets.open(tmp_path / "quick")]
        may_go_on.set()
        assert both[0].result(10) is both[1].result(10)
    assert sorted(opened) == ["quick", "slow"]


def test_who_waited_for_a_dataset_gets_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Fake:
        def __init__(self, *arguments: object) -> None:
            """Nothing is read."""

    class Lock:
        """Has the next one in the moment in which it is let go."""

        def __init__(self) -> None:
            self._lock = threading.RLock()

        def __enter__(self) -> None:
            self._lock.acquire()

        def __exit__(self, *error: object) -> None:
            self._lock.release()
            if not waited:
                waited.append(None)
                waited[0] = datasets.open(tmp_path)

    waited: list[object] = []
    datasets = OpenDatasets(lambda path: True)
    monkeypatch.setattr(open_dataset, "OpenDataset", Fake)
    monkeypatch.setattr("threading.Lock", Lock)
    assert datasets.open(tmp_path) is waited[0]
