"""What somebody decided about images one by one, as one plan."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.curation.conftest import Save

from lorasmith.core.errors import DatasetError
from lorasmith.curation.changes.journal import Journal
from lorasmith.curation.collection import Collection, open_collection
from lorasmith.curation.sorting.decisions import Decision, plan_decisions


@pytest.fixture
def collection(tmp_path: Path, save: Save) -> Collection:
    for name in "abcd":
        save(tmp_path / f"{name}.png", caption=f"zorp, {name}\n")
    return open_collection(tmp_path)


def files(folder: Path) -> list[str]:
    return sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*.*")
        if ".lorasmith" not in path.parts and path.is_file()
    )


def test_moves_copies_removals_and_tags_are_one_change(
    tmp_path: Path, collection: Collection
) -> None:
    before = files(tmp_path)
    a, b, c, d = collection.images
    plan = plan_decisions(
        collection,
        [
            Decision(a, folder="hats"),
            Decision(b, folder="hats", copy=True),
            Decision(c, delete=True),
            Decision(d, add=("hat", "Zorp"), remove=("d",)),
        ],
    )
    assert plan.command == (
        "sort: move to hats (1 picture); copy to hats (1 picture); delete (1 picture); "
        "+hat, +Zorp, -d (1 picture)"
    )
    plan.apply()
    assert files(tmp_path) == [
        "b.png",
        "b.txt",
        "d.png",
        "d.txt",
        "hats/a.png",
        "hats/a.txt",
        "hats/b.png",
        "hats/b.txt",
    ]
    assert (tmp_path / "hats/b.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert (tmp_path / "d.txt").read_text() == "zorp, hat\n"
    with Journal(tmp_path) as journal:
        journal.undo()
    assert files(tmp_path) == before
    assert (tmp_path / "d.txt").read_text() == "zorp, d\n"


def test_a_copy_takes_a_free_name(tmp_path: Path, collection: Collection, save: Save) -> None:
    save(tmp_path / "hats/a.png", caption="another")
    collection = open_collection(tmp_path)
    (a,) = [image for image in collection.images if image.path == tmp_path / "a.png"]
    plan_decisions(collection, [Decision(a, folder="hats", copy=True)]).apply()
    assert (tmp_path / "hats/a_2.txt").read_text() == "zorp, a\n"
    assert (tmp_path / "hats/a.txt").read_text() == "another"


def test_an_image_without_a_caption_gets_one(tmp_path: Path, collection: Collection) -> None:
    (tmp_path / "a.txt").unlink()
    collection = open_collection(tmp_path)
    plan_decisions(collection, [Decision(collection.images[0], add=("hat",))]).apply()
    assert (tmp_path / "a.txt").read_text() == "hat\n"


def test_every_decision_says_one_thing(collection: Collection) -> None:
    a, b, c, _ = collection.images
    decisions = [
        Decision(a, folder="hats", delete=True),
        Decision(b),
        Decision(c, delete=True),
        Decision(c, add=("hat",)),
    ]
    with pytest.raises(DatasetError) as error:
        plan_decisions(collection, decisions)
    assert [problem.where for problem in error.value.problems] == ["a.png", "b.png", "c.png"]
    with pytest.raises(DatasetError, match="is not a folder of the dataset"):
        plan_decisions(collection, [Decision(a, folder="../out")])
