"""Which images a folder holds, and what belongs to each."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest
from PIL import Image, ImageFilter

from lorasmith.core.errors import DatasetError, Stopped
from lorasmith.core.events import Controls
from lorasmith.curation import measuring
from lorasmith.curation.changes.plan import Plan
from lorasmith.curation.changes.trash import STORE
from lorasmith.curation.collection import dataset_root, open_collection
from lorasmith.curation.facts_store import FactsStore
from lorasmith.curation.measuring import measure_image
from lorasmith.formats.run_paths import BOOTSTRAP_FILE, RUN_FILES

Save = Callable[..., Path]


def names(folder: Path) -> list[str]:
    return [image.path.relative_to(folder).as_posix() for image in open_collection(folder).images]


def test_kohyas_layout(tmp_path: Path, save: Save) -> None:
    for place in ("img/10_zorp/2", "img/10_zorp/10", "img/1_hat/a", "reg/1_x/r", "log/s", "mdl/m"):
        save(tmp_path / f"{place}.png", caption="zorp, hat")
    assert names(tmp_path) == ["img/1_hat/a.png", "img/10_zorp/2.png", "img/10_zorp/10.png"]
    collection = open_collection(tmp_path)
    assert collection.root == tmp_path
    assert [image.folder for image in collection.images] == ["img/1_hat", *["img/10_zorp"] * 2]
    assert names(tmp_path / "reg") == ["1_x/r.png"]
    assert open_collection(tmp_path / "img" / "10_zorp").root == tmp_path
    assert dataset_root(tmp_path / "reg" / "1_x") == tmp_path


def test_what_runs_drew_is_no_part_of_it(tmp_path: Path, save: Save) -> None:
    for place in ("a", "runs/one/samples/b", "runs/c"):
        save(tmp_path / f"{place}.png")
    run = tmp_path / "runs" / "one"
    for name in RUN_FILES:
        (run / name).touch()
    assert names(tmp_path) == ["a.png", "runs/c.png"]
    assert names(run) == ["samples/b.png"]


def test_what_was_drawn_is_no_part_of_it(tmp_path: Path, save: Save) -> None:
    for place in ("a", "drawings/2026-01-31/b", "drawings/old/c", "2026-01-31/d"):
        save(tmp_path / f"{place}.png")
    assert names(tmp_path) == ["a.png", "2026-01-31/d.png", "drawings/old/c.png"]
    assert names(tmp_path / "drawings" / "2026-01-31") == ["b.png"]


def test_a_bootstrap_is_no_part_of_what_it_began_with(tmp_path: Path, save: Save) -> None:
    made = tmp_path / "bootstrap" / "zorp"
    for place in ("a", "bootstrap/zorp/dataset/4_zorp/b", "bootstrap/zorp/rounds/01/drawings/01"):
        save(tmp_path / f"{place}.png")
    (made / BOOTSTRAP_FILE).touch()
    assert names(tmp_path) == ["a.png"]
    assert names(made / "dataset") == ["4_zorp/b.png"]


def test_masks_in_folders(tmp_path: Path, save: Save) -> None:
    """Inside, and named like the images' folder, they move with the image; others may be shared."""
    for place in ("1_a/x", "1_a/masks/x", "1_b/y", "masks/1_b/y", "1_c/z", "masks/z"):
        save(tmp_path / f"{place}.png")
    collection = open_collection(tmp_path)
    masks = {
        image.name: str(mask.relative_to(tmp_path)) for image, mask in collection.masks.items()
    }
    assert masks == {
        "x.png": os.path.join("1_a", "masks", "x.png"),
        "y.png": os.path.join("masks", "1_b", "y.png"),
        "z.png": os.path.join("masks", "z.png"),
    }
    assert [len(image.companions) for image in collection.images] == [1, 1, 0]


def test_a_plain_pile_with_folders(tmp_path: Path, save: Save) -> None:
    for place in ("b", "keep/a", "keep/deep/c", ".hidden/x", "masks/b", ".lorasmith-cache/y"):
        save(tmp_path / f"{place}.png")
    (tmp_path / "notes.md").write_text("no picture", encoding="utf-8")
    assert names(tmp_path) == ["b.png", "keep/a.png", "keep/deep/c.png"]
    assert open_collection([tmp_path / "keep", tmp_path]).images[0].path.name == "a.png"
    assert len(open_collection([tmp_path / "keep", tmp_path]).images) == 3


def test_what_belongs_to_an_image(tmp_path: Path, save: Save) -> None:
    save(tmp_path / "a.png", caption="zorp")
    for name in ("a.png.txt", "a.json", "a.npz", "a_sdxl.npz", "a.png.json", "b.json"):
        (tmp_path / name).write_text("{}", encoding="utf-8")
    save(tmp_path / "a-masklabel.png")
    save(tmp_path / "c.jpg")
    (tmp_path / "c.jpg.txt").write_text("one, two", encoding="utf-8")
    collection = open_collection(tmp_path)
    a, c = collection.images
    assert a.caption == "zorp"
    companions = {"a.png.txt", "a.json", "a.npz", "a_sdxl.npz", "a.png.json", "a-masklabel.png"}
    assert {path.name for path in a.companions} == companions
    assert collection.masks == {a.path: tmp_path / "a-masklabel.png"}
    assert c.caption_path == tmp_path / "c.jpg.txt"
    assert c.tags == ["one", "two"]
    assert c.companions == ()


@pytest.mark.parametrize("ending", [".gif", ".GIF", ".tif", ".psd", ".heic"])
def test_a_picture_belongs_to_no_other_of_its_name(tmp_path: Path, save: Save, ending: str) -> None:
    save(tmp_path / "a.webp")
    (tmp_path / f"a{ending}").write_bytes(b"GIF89a")
    save(tmp_path / "b.png")
    Image.new("L", (8, 8)).save(tmp_path / "b_mask.gif")
    a, b = open_collection(tmp_path).images
    assert a.files == [a.path]
    assert [path.name for path in b.companions] == ["b_mask.gif"]


def test_the_root_is_where_the_journal_is(tmp_path: Path, save: Save) -> None:
    save(tmp_path / "pile" / "deep" / "a.png")
    assert dataset_root(tmp_path / "pile" / "deep") == tmp_path / "pile" / "deep"
    plan = Plan("x", [tmp_path / "pile"])
    plan.write_text(tmp_path / "pile" / "deep" / "a.txt", None, b"x")
    plan.apply()
    assert dataset_root(tmp_path / "pile" / "deep") == tmp_path / "pile"


def test_what_is_not_there_is_said_all_at_once(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(DatasetError) as info:
        open_collection([tmp_path / "gone", tmp_path / "a.png"])
    assert [problem.what for problem in info.value.problems] == [
        "does not exist",
        "is not a folder",
    ]


def test_nothing_is_decoded_for_captions_and_sizes(tmp_path: Path, save: Save) -> None:
    save(tmp_path / "a.png", 80, 64, caption="zorp")
    with mock.patch.object(Image.Image, "load", side_effect=AssertionError("decoded")):
        collection = open_collection(tmp_path)
        assert collection.images[0].tags == ["zorp"]
        assert collection.sizes() == {tmp_path / "a.png": (80, 64)}


def test_facts_are_remembered_by_content(tmp_path: Path, save: Save) -> None:
    for name in "abc":
        save(tmp_path / f"{name}.png")
    first = open_collection(tmp_path).measure()
    assert all(fact.problem == "" for fact in first.values())
    (tmp_path / "more").mkdir()
    shutil.move(tmp_path / "a.png", tmp_path / "more" / "z.png")
    with mock.patch.object(measuring, "glance", side_effect=AssertionError("decoded")):
        again = open_collection(tmp_path).measure()
    assert again[tmp_path / "more" / "z.png"] == first[tmp_path / "a.png"]
    save(tmp_path / "b.png", 100, 90)
    os.utime(tmp_path / "b.png", (1, 1))
    assert open_collection(tmp_path).measure()[tmp_path / "b.png"].width == 100


def test_broken_images_have_a_problem(tmp_path: Path, save: Save) -> None:
    data = save(tmp_path / "a.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(data[: len(data) // 2])
    (tmp_path / "empty.png").write_bytes(b"")
    facts = open_collection(tmp_path).measure()
    assert "truncated" in facts[tmp_path / "cut.png"].problem
    assert "empty" in facts[tmp_path / "empty.png"].problem


def test_a_stop_keeps_what_was_measured(tmp_path: Path, save: Save) -> None:
    for number in range(6):
        save(tmp_path / f"{number}.png")
    controls = Controls()
    collection = open_collection(tmp_path)
    with pytest.raises(Stopped):
        collection.measure(observer=lambda _: controls.stop(), controls=controls)
    store = FactsStore(tmp_path)
    assert store.known(tmp_path / "0.png") is not None


def test_a_damaged_memory_is_begun_anew(tmp_path: Path, save: Save) -> None:
    save(tmp_path / "a.png")
    open_collection(tmp_path).measure()
    (tmp_path / STORE / "facts.sqlite").write_bytes(b"not a database at all" * 100)
    assert len(open_collection(tmp_path).measure()) == 1
    assert FactsStore(tmp_path).known(tmp_path / "a.png") is not None


def test_what_is_measured(tmp_path: Path) -> None:
    """Against what Pillow says of pictures whose values are plain."""
    noise = Image.effect_noise((300, 200), 80).convert("RGB")
    noise.save(tmp_path / "sharp.png")
    noise.filter(ImageFilter.GaussianBlur(4)).save(tmp_path / "blurred.png")
    Image.new("RGB", (90, 60), (255, 0, 0)).save(tmp_path / "red.png")
    Image.new("RGBA", (90, 60), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    facts = {path.stem: measure_image(path) for path in tmp_path.iterdir()}
    assert facts["sharp"].blur < 0.2
    assert facts["blurred"].blur > 0.6
    assert facts["red"].saturation == 1
    assert facts["red"].contrast == 0
    assert facts["red"].brightness == pytest.approx(76 / 255)  # ITU-R 601 luma of red
    assert facts["clear"].transparent
    assert facts["clear"].brightness == 1, "on white"
    assert (facts["sharp"].width, facts["sharp"].height) == (300, 200)
    assert facts["sharp"].format == "PNG"
    assert facts["sharp"].file_bytes == (tmp_path / "sharp.png").stat().st_size


@pytest.mark.skipif(sys.platform == "win32", reason="has no named pipes")
def test_pipes_are_not_read_for_ever(tmp_path: Path) -> None:
    for name in ("a.png", "b.txt"):
        os.mkfifo(tmp_path / name)
    Image.new("RGB", (32, 32)).save(tmp_path / "b.png")
    collection = open_collection(tmp_path)
    assert [image.path.name for image in collection.images] == ["b.png"]
    assert collection.images[0].caption == ""
