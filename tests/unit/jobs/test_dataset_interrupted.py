"""Whoever reads a dataset finishes first what a killed command left half done in it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lorasmith.core.events import Event, Notice
from lorasmith.curation.changes.journal import Journal
from lorasmith.curation.changes.trash import STORE
from lorasmith.jobs.dataset.check import CheckRequest, PreviewRequest
from lorasmith.jobs.dataset.files import RenameRequest
from lorasmith.jobs.dataset.regularize import RegularizeRequest
from lorasmith.jobs.request import run
from lorasmith.jobs.training import PlanRequest

Reader = CheckRequest | PreviewRequest | PlanRequest | RegularizeRequest
READERS: dict[str, Callable[[Path], Reader]] = {
    "check": lambda folder: CheckRequest(folders=[folder], resolution=64),
    "preview": lambda folder: PreviewRequest(
        folders=[folder],
        out=folder.with_name("sheet.png"),
        preset="demo",
        settings=["model.path=demo"],
    ),
    "plan": lambda folder: PlanRequest(
        settings=[f"data.path={str(folder)!r}", "model.path=demo"], preset="demo"
    ),
    "regularize": lambda folder: RegularizeRequest(
        folders=[folder], model="demo", out=folder.with_name("reg"), steps=1
    ),
}


def killed_rename(folder: Path) -> None:
    """Two pictures and their captions in ``folder``, of which one is called otherwise already."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in ("x", "y"):
        pixels = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}.png")
        (folder / f"{name}.txt").write_text("zorp", encoding="utf-8")
    run(RenameRequest(folders=[folder], prefix="zorp"))
    with Journal(folder) as journal:
        journal.undo()
    with sqlite3.connect(folder / STORE / "journal.sqlite") as database:
        database.execute("UPDATE entries SET state = 'redoing'")
    database.close()
    # As far as a process came that was killed: a picture apart from its caption.
    (folder / "x.png").rename(folder / "zorp_001.png")


def test_pairs_are_those_that_a_killed_rename_gives(tmp_path: Path) -> None:
    killed_rename(tmp_path / "low")
    (tmp_path / "high").mkdir()
    for number, name in enumerate(("zorp_001", "y"), 1):
        image = Image.open(tmp_path / "low" / f"{name}.png")
        image.save(tmp_path / "high" / f"zorp_{number:03}.png")
    place = f"data.path={str(tmp_path)!r}"
    run(PlanRequest(settings=[place, "model.path=demo", "train.kind=slider"]))
    assert {path.stem for path in (tmp_path / "low").glob("*.png")} == {"zorp_001", "zorp_002"}


@pytest.mark.parametrize("reader", READERS)
def test_names_are_those_that_a_killed_rename_gives(reader: str, tmp_path: Path) -> None:
    folder = tmp_path / "set"
    killed_rename(folder)
    events: list[Event] = []
    run(READERS[reader](folder), events.append)
    texts = [event.text for event in events if isinstance(event, Notice)]
    assert any(text.startswith("finished what was interrupted: rename") for text in texts)
    names = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    assert names == {"zorp_001.png", "zorp_001.txt", "zorp_002.png", "zorp_002.txt"}
