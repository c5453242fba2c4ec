from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tests.crashes import check_every_kill
from tests.unit.curation.importing.test_import_images import picture, record, tree

from lorasmith.core.errors import DatasetError
from lorasmith.curation.changes.journal import Journal
from lorasmith.curation.importing.project import Arithmetic, plan_project, work_out
from lorasmith.data.layout import MAX_REPEATS, find_folders


def folders(root: Path) -> set[str]:
    return {
        path.relative_to(root).as_posix()
        for path in root.rglob("*")
        if path.is_dir() and ".lorasmith" not in path.parts
    }


def test_the_arithmetic() -> None:
    sums = work_out(40, steps=1000, epochs=10, batch=4)
    assert (sums.repeats, sums.steps) == (10, 1000)
    assert str(sums) == (
        "40 pictures x 10 repeats = 400 samples; 400 / 4 to a batch = 100 steps an epoch; "
        "100 x 10 epochs = 1000 steps"
    )
    assert str(work_out(1, steps=5, epochs=5, batch=1)) == (
        "1 picture x 1 repeat = 1 sample x 5 epochs = 5 steps"
    )


@given(st.integers(1, 500), st.integers(1, 10_000), st.integers(1, 50), st.integers(1, 16))
def test_no_other_repeats_come_nearer(images: int, steps: int, epochs: int, batch: int) -> None:
    best = work_out(images, steps=steps, epochs=epochs, batch=batch)

    def distance(repeats: int) -> int:
        return abs(Arithmetic(images, repeats, epochs, batch, steps).steps - steps)

    top = min(MAX_REPEATS, steps * batch // (epochs * images) + 3)
    assert distance(best.repeats) == min(distance(repeats) for repeats in range(1, top + 1))


def test_loose_pictures_move_to_their_place(tmp_path: Path) -> None:
    root = tmp_path / "zorp"
    for number in range(4):
        picture(root / f"{number}.png", number)
    (root / "0.txt").write_text("zorp, hat")
    (root / "0.png.json").write_text("{}")
    (root / "notes.txt").write_text("mine")
    before = tree(root)
    project = plan_project(root, steps=200, epochs=10)
    assert project.folder == root / "img" / "5_zorp"
    assert project.plan.notes == ["4 pictures x 5 repeats = 20 samples x 10 epochs = 200 steps"]
    project.plan.apply()
    assert folders(root) == {"img", "img/5_zorp", "reg", "log", "mdl"}
    assert set(tree(root)) == {
        "img/5_zorp/0.png", "img/5_zorp/0.txt", "img/5_zorp/0.png.json", "img/5_zorp/1.png",
        "img/5_zorp/2.png", "img/5_zorp/3.png", "notes.txt",
    }  # fmt: skip
    (spec, *_) = find_folders(root)
    assert (spec.path, spec.repeats) == (root / "img" / "5_zorp", 5)
    with Journal(root) as journal:
        journal.undo()
    assert tree(root) == before
    assert folders(root) == set()


def test_pictures_of_elsewhere_are_copied_with_captions(tmp_path: Path) -> None:
    source = tmp_path / "src"
    picture(source / "a.png", 1)
    (source / "a.png.txt").write_text("red_hat\nmeta:big")
    picture(source / "a-masklabel.png", 2)
    root = tmp_path / "10_zorp"
    project = plan_project(root, [source], name="", steps=30, epochs=3)
    project.plan.apply()
    assert tree(root) == {
        "img/10_zorp/a.png": "", "img/10_zorp/a.txt": "red hat", "img/10_zorp/a-masklabel.png": "",
    }  # fmt: skip
    assert (source / "a.png").exists()


def test_sources_within_may_be_moved_and_others_not(tmp_path: Path) -> None:
    root = tmp_path / "zorp"
    picture(root / "raw" / "a.png", 1)
    picture(root / "raw" / "deep" / "a.png", 2)
    picture(tmp_path / "other" / "b.png", 3)
    project = plan_project(root, [root / "raw", tmp_path / "other"], move=True)
    with pytest.raises(DatasetError, match="copy"):
        project.plan.apply()
    plan_project(root, [root / "raw"], move=True, steps=10, epochs=1).plan.apply()
    assert set(tree(root)) == {"img/5_zorp/a.png", "img/5_zorp/a_2.png"}


def test_a_plain_folder(tmp_path: Path) -> None:
    picture(tmp_path / "src" / "a.png", 1)
    root = tmp_path / "zorp"
    project = plan_project(root, [tmp_path / "src"], plain=True)
    assert project.arithmetic is None
    project.plan.apply()
    assert tree(root) == {"a.png": ""}
    assert folders(root) == set()
    assert not plan_project(root, plain=True).plan.changes


def test_an_empty_project(tmp_path: Path) -> None:
    (tmp_path / "zorp" / "model").mkdir(parents=True)
    plan_project(tmp_path / "zorp").plan.apply()
    assert folders(tmp_path / "zorp") == {"img", "reg", "log", "model"}


def test_steps_that_cannot_be_come_by_are_said(tmp_path: Path) -> None:
    for number in range(5):
        picture(tmp_path / f"{number}.png", number)
    project = plan_project(tmp_path, name="zorp", steps=10, epochs=10)
    assert project.plan.notes[1] == (
        "that is 40 more than the 10 asked for: each picture is used once already; "
        "fewer epochs would do"
    )


def test_what_is_there_is_not_overwritten(tmp_path: Path) -> None:
    root = tmp_path / "zorp"
    picture(root / "img" / "3_zorp" / "a.png", 1)
    picture(root / "b.png", 2)
    before = tree(root)
    with pytest.raises(DatasetError, match="is a project already"):
        plan_project(root).plan.apply()
    with pytest.raises(DatasetError, match="no name for a folder"):
        plan_project(tmp_path / "new", name="a/b").plan.apply()
    with pytest.raises(DatasetError, match="no picture in it"):
        plan_project(tmp_path / "new", plain=True).plan.apply()
    with pytest.raises(DatasetError, match="is a file"):
        plan_project(root / "b.png")
    assert tree(root) == before
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_a_kill_leaves_old_or_new(tmp_path: Path) -> None:
    root = tmp_path / "zorp"
    for number in range(3):
        picture(root / f"{number}.png", number)
        (root / f"{number}.txt").write_text("zorp")
    plan = plan_project(root).plan
    assert check_every_kill(root, plan.apply, lambda: Journal(root).close()) > 10


def test_two_pictures_and_one_caption(tmp_path: Path) -> None:
    root = tmp_path / "zorp"
    picture(root / "a.png", 1)
    picture(root / "a.jpg", 2)
    (root / "a.txt").write_text("zorp, hat")
    plan_project(root, steps=20, epochs=1).plan.apply()
    assert tree(root) == {
        "img/10_zorp/a.jpg": "", "img/10_zorp/a.txt": "zorp, hat", "img/10_zorp/a_2.png": "",
        "img/10_zorp/a_2.txt": "zorp, hat",
    }  # fmt: skip


def test_masks_and_recorded_crops_are_no_images_of_the_arithmetic(tmp_path: Path) -> None:
    source = tmp_path / "src"
    picture(source / "a.png", 1)
    picture(source / "b.crop.png", 2)
    record(source / "a.crop.json")
    Image.new("L", (32, 32), 255).save(source / "a-masklabel.png")
    project = plan_project(tmp_path / "zorp", [source], steps=100, epochs=5)
    assert project.arithmetic is not None
    assert project.arithmetic.images == 2
    project.plan.apply()
    assert (tmp_path / "zorp" / "img" / "10_zorp" / "a.crop.json").is_file()
