"""Whole captions: written, moved, merged, embedded and extracted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from lorasmith.core.errors import DatasetError, SettingsError
from lorasmith.curation.changes.journal import Journal
from lorasmith.curation.changes.plan import Plan
from lorasmith.curation.edit.captions import caption_from_name
from lorasmith.curation.images.image_metadata import embedded_caption
from lorasmith.data.image_texts import generation_text
from lorasmith.data.images import load_image
from lorasmith.jobs.dataset.captions import CaptionsRequest
from lorasmith.jobs.request import run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    images = tmp_path / "img" / "5_zorp girl"
    images.mkdir(parents=True)
    captions = {"a": "hat, smile", "b": "", "red_hat_001": None}
    for name, caption in captions.items():
        Image.linear_gradient("L").convert("RGB").resize((40, 32)).save(images / f"{name}.png")
        if caption is not None:
            (images / f"{name}.txt").write_text(caption)
    return images


def captions(folder: Path, **options: Any) -> Plan:
    return run(CaptionsRequest(folders=[folder], **options)).plan


def texts(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in sorted(folder.glob("*.txt"))}


def test_a_text_where_there_is_none(folder: Path) -> None:
    captions(folder, text="zorp")
    assert texts(folder) == {"a.txt": "hat, smile", "b.txt": "zorp", "red_hat_001.txt": "zorp"}


def test_empty_files_where_there_is_none(folder: Path) -> None:
    captions(folder, text="")
    assert texts(folder) == {"a.txt": "hat, smile", "b.txt": "", "red_hat_001.txt": ""}


def test_over_what_is_there(folder: Path) -> None:
    captions(folder, text="", overwrite=True)
    assert set(texts(folder).values()) == {""}
    with Journal(folder.parents[1]) as journal:
        journal.undo(1)
    assert texts(folder) == {"a.txt": "hat, smile", "b.txt": ""}


def test_from_names(folder: Path) -> None:
    Image.new("RGB", (32, 32)).save(folder / "0001.png")
    plan = captions(folder, from_names=True)
    assert texts(folder)["red_hat_001.txt"] == "red hat"
    assert texts(folder)["b.txt"] == "b"
    (warning,) = plan.warnings
    assert warning.where.endswith("0001.png")


@pytest.mark.parametrize(
    ("name", "caption"),
    [
        ("00012-0-red_hat", "red hat"),
        ("red_hat_003", "red hat"),
        ("red hat (2)", "red hat"),
        ("1girl, solo", "1girl, solo"),
        ("2girls", "2girls"),
        ("zorp", "zorp"),
        ("__zorp_drawn_by_x__0123456789abcdef0123456789abcdef", "zorp drawn by x"),
        ("0123456789abcdef0123456789abcdef", None),
        ("00012", None),
        ("00012-0-7", None),
        ("^_^", "^_^"),
    ],
)
def test_captions_of_names(name: str, caption: str | None) -> None:
    assert caption_from_name(name) == caption


def test_from_the_folder(folder: Path) -> None:
    captions(folder, from_folder=True)
    assert texts(folder)["red_hat_001.txt"] == "zorp girl"
    assert texts(folder)["a.txt"] == "hat, smile"


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
def test_embedded_and_taken_out_again(folder: Path, suffix: str) -> None:
    image = folder / f"c{suffix}"
    Image.linear_gradient("L").convert("RGB").save(image)
    (folder / "c.txt").write_text("zorp, é\n", encoding="utf-8")
    before = np.asarray(load_image(image))
    plan = captions(folder, embed=True)
    assert {change.path.name for change in plan.changes} == {"a.png", f"c{suffix}"}
    assert np.array_equal(np.asarray(load_image(image)), before)
    assert not captions(folder, embed=True).changes
    (folder / "c.txt").unlink()
    (folder / "a.txt").write_text("mine")
    plan = captions(folder, extract=True)
    assert (folder / "c.txt").read_text(encoding="utf-8") == "zorp, é"
    assert (folder / "a.txt").read_text() == "mine"
    assert any("no caption in it" in warning.what for warning in plan.warnings)
    captions(folder, extract=True, overwrite=True)
    assert (folder / "a.txt").read_text() == "hat, smile"


def test_kinds_that_hold_none_are_said(folder: Path) -> None:
    Image.new("RGB", (32, 32)).save(folder / "d.bmp")
    (folder / "d.txt").write_text("x")
    plan = captions(folder, embed=True)
    assert any("d.bmp" in w.where and "not written" in w.what for w in plan.warnings)


def test_a_damaged_image_is_named(folder: Path) -> None:
    (folder / "a.png").write_bytes((folder / "a.png").read_bytes()[:60])
    (folder / "b.txt").write_text("hat")
    (folder / "dead.png").symlink_to("nothing.png")
    plan = captions(folder, embed=True)
    assert [str(problem) for problem in plan.skipped] == [
        f"{folder / 'a.png'}: it is cut short (get it again or remove it)"
    ]
    assert embedded_caption((folder / "b.png").read_bytes()) == "hat"
    plan = captions(folder, extract=True, overwrite=True)
    assert [Path(problem.where).name for problem in plan.skipped] == ["a.png", "dead.png"]


def test_what_is_no_text_is_not_written_over_unasked(folder: Path) -> None:
    (folder / "b.txt").write_bytes(b"zorp, \0hat")
    plan = captions(folder, text="zorp")
    assert (folder / "b.txt").read_bytes() == b"zorp, \0hat"
    assert any("b.txt: is not text" in str(warning) for warning in plan.warnings)
    captions(folder, text="zorp", overwrite=True)
    assert (folder / "b.txt").read_bytes() == b"zorp"


def test_another_ending(folder: Path) -> None:
    captions(folder, to="caption")
    assert (folder / "a.caption").read_text() == "hat, smile"
    assert not (folder / "a.txt").exists()
    assert any("captions.extension" in w.hint for w in captions(folder, to=".tags").warnings)
    for ending in ("png", "a/b", ""):
        with pytest.raises(DatasetError, match="no ending"):
            captions(folder, to=ending)


def test_merge(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for name, text in {"a": "Smile, red hat\n", "b": "new,  text\n", "z": "stray"}.items():
        (other / f"{name}.txt").write_text(text)
    plan = captions(folder, merge=other)
    assert texts(folder) == {"a.txt": "hat, smile, red hat", "b.txt": "new,  text\n"}
    (warning,) = plan.warnings
    assert "red_hat_001.png" in warning.where
    assert not captions(folder, merge=other).changes


def test_merge_takes_the_folder_of_the_same_name(folder: Path, tmp_path: Path) -> None:
    for name in ("5_zorp girl", "2_bob"):
        (tmp_path / "other" / name).mkdir(parents=True)
        (tmp_path / "other" / name / "b.txt").write_text(name)
    captions(folder, merge=tmp_path / "other")
    assert texts(folder)["b.txt"] == "5_zorp girl"
    (tmp_path / "other" / "5_zorp girl").rename(tmp_path / "other" / "else")
    plan = captions(folder, merge=tmp_path / "other")
    assert "b.png: there are several files" in str(plan.skipped[0])
    with pytest.raises(DatasetError, match="does not exist"):
        captions(folder, merge=tmp_path / "nowhere")


def test_nothing_is_merged_with_itself(folder: Path) -> None:
    (folder / "a.txt").write_text("hat\nsmile")
    with pytest.raises(DatasetError, match="is the folder itself"):
        captions(folder, merge=folder)


def test_metadata_of_other_images(folder: Path, tmp_path: Path) -> None:
    info = PngInfo()
    info.add_text("parameters", "a prompt\nSteps: 20, Sampler: Euler, Seed: 1")
    (tmp_path / "raw").mkdir()
    for name in ("a", "b"):
        Image.new("RGB", (8, 8)).save(tmp_path / "raw" / f"{name}.png", pnginfo=info)
    Image.new("RGB", (40, 32), "red").save(folder / "b.jpg")
    (folder / "b.png").unlink()
    captions(folder, copy_metadata=tmp_path / "raw")
    for name in ("a.png", "b.jpg"):
        with Image.open(folder / name) as image:
            assert generation_text(image).startswith("a prompt")
            assert image.size == (40, 32)


def test_one_thing_at_a_time(folder: Path) -> None:
    with pytest.raises(SettingsError, match="only one of these"):
        captions(folder, text="x", embed=True)
    with pytest.raises(SettingsError, match="nothing to do"):
        captions(folder)
    with pytest.raises(SettingsError, match="writes over no"):
        captions(folder, embed=True, overwrite=True)


def test_only_where_the_filter_takes(folder: Path) -> None:
    captions(folder, text="x", where="name:red*")
    assert texts(folder) == {"a.txt": "hat, smile", "b.txt": "", "red_hat_001.txt": "x"}


def test_captions_in_tables_are_captions(folder: Path, tmp_path: Path) -> None:
    (folder / "metadata.jsonl").write_text(
        '{"file_name": "red_hat_001.png", "text": "a red hat"}\n'
    )
    plan = captions(folder, text="zorp")
    assert texts(folder) == {"a.txt": "hat, smile", "b.txt": "zorp"}
    assert any("in a table" in warning.what for warning in plan.warnings)
    captions(folder, embed=True)
    assert embedded_caption((folder / "red_hat_001.png").read_bytes()) == "a red hat"
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "red_hat_001.txt").write_text("solo")
    captions(folder, merge=tmp_path / "other")
    assert texts(folder)["red_hat_001.txt"] == "a red hat, solo"
