"""Rules about images, each on images that have its fault and on images that have not."""

from __future__ import annotations

import shutil

from tests.audits import MakeDataset, audit_rule


def test_a_damaged_image_is_found(dataset: MakeDataset) -> None:
    folder = dataset({"a.png": "zorp", "b.png": "zorp"})
    assert audit_rule("unreadable", folder) == []
    path = folder / "b.png"
    path.write_bytes(path.read_bytes()[:-800])
    (finding,) = audit_rule("unreadable", folder)
    assert finding.images == (path,)
    assert finding.severity == "error"


def test_a_file_that_is_there_twice_is_found(dataset: MakeDataset) -> None:
    folder = dataset({"1_a/a.png": "zorp", "1_b/b.png": "zorp"})
    assert audit_rule("same-file", folder) == []
    shutil.copy(folder / "1_a/a.png", folder / "1_b/c.png")
    (finding,) = audit_rule("same-file", folder)
    assert finding.images == (folder / "1_a/a.png", folder / "1_b/c.png")
