"""Every verb that changes a dataset, killed at every file operation: old or new, nothing lost."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.crashes import check_every_kill, contents

from lorasmith.curation.changes.journal import Journal
from lorasmith.jobs.dataset.captions import CaptionsRequest, EditRequest
from lorasmith.jobs.dataset.changes import ChangeRequest
from lorasmith.jobs.dataset.files import ImportPicturesRequest, InitRequest, RenameRequest
from lorasmith.jobs.dataset.images import (
    ConvertPicturesRequest,
    CropRequest,
    FlipRequest,
    MasksRequest,
    ResizePicturesRequest,
    SplitRequest,
)
from lorasmith.jobs.dataset.sorting import DedupeRequest, SortRequest
from lorasmith.jobs.dataset.tagging import TagRequest
from lorasmith.jobs.request import run

VERBS: dict[str, Callable[[Path, Path], ChangeRequest]] = {
    "edit": lambda folder, _: EditRequest(folders=[folder], operations=["trigger=zorp"]),
    "edit --delete-images": lambda folder, _: EditRequest(
        folders=[folder], operations=[], where="tag:hat", delete_images=True
    ),
    "captions --set": lambda folder, _: CaptionsRequest(
        folders=[folder], text="zorp", overwrite=True
    ),
    "captions --embed": lambda folder, _: CaptionsRequest(folders=[folder], embed=True),
    "captions --to": lambda folder, _: CaptionsRequest(folders=[folder], to=".caption"),
    "rename": lambda folder, _: RenameRequest(folders=[folder], prefix="b"),
    "sort": lambda folder, _: SortRequest(folder=folder, rules=["tag:hat -> hats"]),
    "dedupe": lambda folder, _: DedupeRequest(folders=[folder]),
    "crop": lambda folder, _: CropRequest(folders=[folder]),
    "resize": lambda folder, _: ResizePicturesRequest(folders=[folder], scale=0.5),
    "split": lambda folder, _: SplitRequest(folders=[folder], tiles="2x1"),
    "flip": lambda folder, _: FlipRequest(folders=[folder]),
    "convert": lambda folder, _: ConvertPicturesRequest(folders=[folder], to="webp"),
    "masks": lambda folder, _: MasksRequest(folders=[folder]),
    "tag": lambda folder, _: TagRequest(folders=[folder], tagger="demo", mode="append"),
    "import": lambda folder, other: ImportPicturesRequest(sources=[other], into=folder),
    "init": lambda folder, other: InitRequest(folders=[folder], sources=[other], steps=100),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two like pictures, wider than high, with captions; one has a mask and a side-car."""
    folder = tmp_path / "set"
    folder.mkdir()
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 256, (5, 9, 3), dtype=np.uint8))
    image = small.resize((96, 64), Image.Resampling.BICUBIC)
    image.save(folder / "a.png")
    image.save(folder / "b.jpg", quality=90)
    image.convert("L").save(folder / "a-masklabel.png")
    (folder / "a.png.json").write_text("{}", encoding="utf-8")
    (folder / "a.txt").write_bytes(b"\xef\xbb\xbfhat, smile\r\n")
    (folder / "b.txt").write_text("smile", encoding="utf-8")
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    small.resize((80, 80)).save(other / "c.png")
    return folder


@pytest.mark.slow_but_first
@pytest.mark.parametrize("verb", VERBS)
def test_a_kill_at_any_operation(verb: str, folder: Path, tmp_path: Path) -> None:
    def recover() -> None:
        Journal(folder).close()

    first = contents(folder)
    request = VERBS[verb](folder, tmp_path / "other")
    assert check_every_kill(folder, lambda: run(request), recover) > 5
    # The last kill was right before the end: it was finished, and can be taken back.
    with Journal(folder) as journal:
        journal.undo(9)
    assert contents(folder) == first
