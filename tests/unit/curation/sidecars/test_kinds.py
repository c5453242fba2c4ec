from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.curation.importing.test_import_images import picture, tree

from lorasmith.curation.collection import open_collection
from lorasmith.curation.edit.plan_edit import plan_edit
from lorasmith.curation.importing.import_images import plan_import
from lorasmith.curation.importing.project import plan_project
from lorasmith.curation.sidecars.kinds import NAME, remember_kinds, remembered_kinds
from lorasmith.curation.sidecars.tags import Tag


def test_kinds_are_remembered_together(tmp_path: Path) -> None:
    assert remembered_kinds(tmp_path) == {}
    remember_kinds(tmp_path, [Tag("hat")])
    assert not (tmp_path / ".lorasmith").exists(), "there is nothing to remember"
    remember_kinds(tmp_path, [Tag("some one", "artist"), Tag("hat")])
    remember_kinds(tmp_path, [Tag("other", "artist"), Tag("zorp", "character")])
    assert remembered_kinds(tmp_path) == {"artist": {"some one", "other"}, "character": {"zorp"}}


@pytest.mark.parametrize("text", ["", "[]", "{", '{"artist": "x"}', '{"artist": [3], "x": ["y"]}'])
def test_a_damaged_file_says_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / ".lorasmith").mkdir()
    (tmp_path / ".lorasmith" / NAME).write_text(text)
    assert not any(remembered_kinds(tmp_path).values())


@pytest.mark.parametrize("new", [False, True])
def test_artists_may_be_pruned_after_the_import(tmp_path: Path, new: bool) -> None:
    picture(tmp_path / "src" / "a.png", 1)
    (tmp_path / "src" / "a.png.txt").write_text("artist:some_one\ncharacter:zorp\nhat")
    root = tmp_path / "set"
    if new:
        plan_project(root, [tmp_path / "src"], steps=10, epochs=1).plan.apply()
    else:
        plan_import([tmp_path / "src"], root).apply()
    place = "img/10_set/" if new else ""
    assert set(tree(root)) == {f"{place}a.png", f"{place}a.txt"}
    assert [path.name for path in root.rglob(NAME)] == [NAME]
    plan_edit(open_collection(root), ["prune=artist"]).apply()
    assert tree(root)[f"{place}a.txt"] == "zorp, hat"
