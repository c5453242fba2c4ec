"""Derived sets: what other trainers find there, and that nothing else is touched."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image
from tests.unit.curation.images.test_plans import names, pixels, state

from lorasmith.core.errors import DatasetError, RunError, SettingsError, Stopped, UserError
from lorasmith.core.events import Controls
from lorasmith.data.augmentation.views import View, render
from lorasmith.data.buckets import plan_buckets
from lorasmith.data.dataset import build_dataset
from lorasmith.data.layout import FolderSpec, find_folders
from lorasmith.data.scan import scan
from lorasmith.jobs.dataset.export import ExportReport, ExportRequest
from lorasmith.jobs.request import run

Save = Callable[..., Path]
NOTES = ".lorasmith-export.jsonl"


@pytest.fixture
def source(tmp_path: Path, save: Save) -> Path:
    place = tmp_path / "set"
    save(place / "10_zorp" / "a.png", 96, 64, "zorp, hat")
    save(place / "10_zorp" / "b.jpg", 64, 128, "zorp")
    save(place / "5_style" / "c.png", 80, 80)
    mask = Image.new("L", (96, 64))
    mask.paste(255, (48, 0, 96, 64))
    mask.save(place / "10_zorp" / "a-masklabel.png")
    (place / "10_zorp" / "a.crop.json").write_text('{"box": [32, 0, 96, 64], "size": [96, 64]}')
    return place


def export(source: Path, **options: Any) -> ExportReport:
    into = options.pop("into", source.parent / "out")
    return run(ExportRequest.model_validate({"folders": [source], "into": into, **options}))


def test_kohyas_layout(source: Path, tmp_path: Path) -> None:
    before = state(source)
    report = export(source)
    out = tmp_path / "out"
    assert (report.images, report.written, report.skipped) == (3, 6, ())
    assert names(out) == {
        "img/10_zorp/a.png", "img/10_zorp/a.txt", "img/10_zorp/b.jpg", "img/10_zorp/b.txt",
        "img/5_style/c.png", "mask/10_zorp/a.png", NOTES,
    }  # fmt: skip
    whole = pixels(source / "10_zorp" / "a.png")
    np.testing.assert_array_equal(pixels(out / "img/10_zorp/a.png"), whole[:, 32:])
    mask = pixels(out / "mask/10_zorp/a.png")
    assert mask.shape == (64, 64, 3)
    assert (mask[:, 16:] == 255).all()
    assert (mask[:, :16] == 0).all()
    assert (out / "img/10_zorp/a.txt").read_text() == "zorp, hat\n"
    # What needs no change is the file itself.
    for name in ("10_zorp/b.jpg", "5_style/c.png"):
        assert (out / "img" / name).read_bytes() == (source / name).read_bytes()
    assert state(source) == before
    # Our own trainer finds it, too.
    images = scan(find_folders(out)).images
    assert [(i.path.name, i.width, i.height) for i in images] == [
        ("c.png", 80, 80), ("a.png", 64, 64), ("b.jpg", 64, 128),
    ]  # fmt: skip


def test_onetrainers_layout(source: Path, tmp_path: Path) -> None:
    export(source, layout="onetrainer", extension="caption", prefix="best,", suffix=", end")
    assert names(tmp_path / "out") == {
        "10_zorp/a.png", "10_zorp/a.caption", "10_zorp/a-masklabel.png", "10_zorp/b.jpg",
        "10_zorp/b.caption", "5_style/c.png", NOTES,
    }  # fmt: skip
    text = (tmp_path / "out" / "10_zorp" / "a.caption").read_text()
    assert text == "best, zorp, hat , end\n"


def test_an_imagefolder_as_datasets_reads_it(source: Path, tmp_path: Path) -> None:
    export(source, layout="imagefolder", masks="off")
    out = tmp_path / "out"
    rows = [json.loads(line) for line in (out / "metadata.jsonl").read_text().splitlines()]
    assert rows == [
        {"file_name": "5_style/c.png", "text": ""},
        {"file_name": "10_zorp/a.png", "text": "zorp, hat"},
        {"file_name": "10_zorp/b.jpg", "text": "zorp"},
    ]
    assert names(out) == {row["file_name"] for row in rows} | {"metadata.jsonl", NOTES}


def test_captions_of_a_table_become_files(source: Path, tmp_path: Path) -> None:
    row = {"file_name": "c.png", "text": "from a table"}
    (source / "5_style" / "metadata.jsonl").write_text(json.dumps(row) + "\n")
    export(source)
    assert (tmp_path / "out/img/5_style/c.txt").read_text() == "from a table\n"


def test_masks_in_the_alpha_channel(source: Path, tmp_path: Path) -> None:
    export(source, masks="alpha", format="jpg")
    out = tmp_path / "out" / "img" / "10_zorp"
    with Image.open(out / "a.png") as image:
        assert image.mode == "RGBA"
        alpha = np.asarray(image.getchannel("A"))
    assert (alpha[:, 16:] == 255).all()
    assert (alpha[:, :16] == 0).all()
    assert (out / "b.jpg").is_file(), "of an image without a mask the format is as asked"


def test_sizes_are_those_of_training_to_the_pixel(source: Path, tmp_path: Path) -> None:
    export(source, resolution=64, format="png")
    images = scan(find_folders(source))
    dataset = build_dataset(images, plan_buckets(64, 64))
    for item in dataset.items:
        trained = render(item.image.path, View(item.placement, region=item.image.region))
        folder = item.image.path.parent.name
        ours = pixels(tmp_path / "out" / "img" / folder / f"{item.image.path.stem}.png")
        np.testing.assert_array_equal(ours, trained)


def test_small_pictures_are_enlarged_only_when_asked(source: Path, tmp_path: Path) -> None:
    export(source, resolution=256)
    assert Image.open(tmp_path / "out/img/5_style/c.png").size == (80, 80)
    export(source, resolution=256, upscale=True)
    assert Image.open(tmp_path / "out/img/5_style/c.png").size == (256, 256)


def test_a_plain_folder_gets_a_number(tmp_path: Path, save: Save) -> None:
    save(tmp_path / "zorp" / "a.png")
    save(tmp_path / "zorp" / "side" / "b.png")
    export(tmp_path / "zorp", repeats=7)
    assert {"img/7_zorp/a.png", "img/7_side/b.png"} <= names(tmp_path / "out")


def test_colours_and_turns(tmp_path: Path, save: Save) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 8
    path = save(tmp_path / "set" / "a.png", 96, 64)
    with Image.open(path) as image:
        image.save(path.with_name("b.jpg"), exif=exif)
        layer = image.convert("RGBA")
        layer.putalpha(0)
        layer.save(path.with_name("c.png"))
    export(tmp_path / "set", background="#ff0000")
    out = tmp_path / "out" / "img" / "1_set"
    assert Image.open(out / "b.jpg").size == (64, 96)
    assert (pixels(out / "c.png") == (255, 0, 0)).all()


def test_a_second_export_does_only_what_is_new(source: Path, tmp_path: Path) -> None:
    export(source)
    out = tmp_path / "out"
    before = state(out)
    report = export(source)
    assert (report.written, report.current) == (0, 6)
    assert state(out) == before
    (source / "10_zorp" / "b.txt").write_text("zorp, changed")
    (source / "10_zorp" / "a.crop.json").unlink()
    report = export(source)
    assert (report.written, report.current) == (3, 3)
    assert (out / "img/10_zorp/b.txt").read_text() == "zorp, changed\n"
    assert Image.open(out / "img/10_zorp/a.png").size == (96, 64)
    (source / "5_style" / "c.png").unlink()
    assert export(source).stale == ("img/5_style/c.png",)
    assert (out / "img/5_style/c.png").exists()


def test_files_of_others_are_not_overwritten_unasked(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "img/10_zorp").mkdir(parents=True)
    (out / "img/10_zorp/a.txt").write_text("mine")
    with pytest.raises(DatasetError, match=r"a\.txt"):
        export(source)
    assert names(out) == {"img/10_zorp/a.txt"}
    assert export(source, dry_run=True).overwritten == ("img/10_zorp/a.txt",)
    assert (out / "img/10_zorp/a.txt").read_text() == "mine"
    export(source, overwrite=True)
    assert (out / "img/10_zorp/a.txt").read_text() == "zorp, hat\n"
    # Nor what somebody edited after it was exported.
    (out / "img/10_zorp/b.txt").write_text("edited by hand")
    os.utime(out / "img/10_zorp/b.txt", ns=(1, 1))
    with pytest.raises(DatasetError, match=r"b\.txt"):
        export(source)


@pytest.mark.parametrize("count", range(12))
def test_a_killed_export_goes_on(source: Path, tmp_path: Path, count: int) -> None:
    """As if it had been killed while it wrote line ``count`` of its notes."""
    export(source)
    out = tmp_path / "out"
    finished = {name: bytes_ for name, bytes_ in state(out).items() if name != NOTES}
    lines = (out / NOTES).read_text().splitlines()
    assert len(lines) == 12
    (out / NOTES).write_text("\n".join([*lines[:count], lines[count][:9]]))
    ours = {json.loads(line)["file"] for line in lines[:count]}
    for name in finished.keys() - ours:
        (out / name).unlink()
    report = export(source)
    assert report.written + report.current == 6
    assert {name: bytes_ for name, bytes_ in state(out).items() if name != NOTES} == finished
    assert export(source).current == 6


def test_stopping_keeps_what_is_done(source: Path, tmp_path: Path) -> None:
    controls = Controls()

    def observer(event: object) -> None:
        if type(event).__name__ == "Progress" and getattr(event, "what", "") == "exporting":
            controls.stop()

    request = ExportRequest.model_validate({"folders": [source], "into": tmp_path / "out"})
    for number in range(12):
        save_extra = source / "5_style" / f"x{number}.png"
        Image.new("RGB", (64, 64), (number, 0, 0)).save(save_extra)
    with pytest.raises(Stopped, match="goes on"):
        run(request, observer, controls)
    report = run(request)
    assert report.current >= 1
    assert report.current + report.written == 18


def test_broken_pictures_are_named_and_the_rest_is_exported(source: Path, tmp_path: Path) -> None:
    whole = (source / "10_zorp/a.png").read_bytes()
    (source / "10_zorp/broken.png").write_bytes(whole[: len(whole) // 2])
    frames = [Image.new("RGB", (32, 24), colour) for colour in ("red", "lime")]
    frames[0].save(source / "5_style/film.webp", save_all=True, append_images=frames[1:])
    (source / "5_style/c.crop.json").write_text("nonsense")
    report = export(source)
    assert {Path(problem.where).name for problem in report.skipped} == {
        "broken.png", "film.webp", "c.crop.json",
    }  # fmt: skip
    assert report.images == 2


@pytest.mark.parametrize(
    "options",
    [{"layout": "imagefolder", "extension": ".cap"}, {"layout": "onetrainer", "repeats": 3},
     {"upscale": True}],
)  # fmt: skip
def test_options_that_would_do_nothing(source: Path, options: dict[str, Any]) -> None:
    with pytest.raises(SettingsError):
        export(source, **options)


@pytest.mark.parametrize("layout", ["kohya", "onetrainer"])
def test_pictures_of_one_name_get_a_copy_of_their_caption_each(
    source: Path, save: Save, tmp_path: Path, layout: str
) -> None:
    save(source / "10_zorp" / "b.png", 64, 64)
    save(source / "10_zorp" / "B_2.png", 64, 64, "another")
    save(source / "10_zorp" / "a.webp", 96, 64)
    report = export(source, layout=layout, masks="beside")
    assert (report.images, report.skipped) == (6, ())
    place = tmp_path / "out" / ("img/10_zorp" if layout == "kohya" else "10_zorp")
    texts = {path.stem: path.read_text() for path in place.glob("*.txt")}
    assert texts == {
        "a": "zorp, hat\n", "a_2": "zorp, hat\n", "b": "zorp\n", "b_3": "zorp\n", "B_2": "another\n"
    }  # fmt: skip
    images = {path.name for path in place.iterdir()} - {f"{stem}.txt" for stem in texts}
    assert images == {"a.png", "a_2.webp", "a-masklabel.png", "b.jpg", "b_3.png", "B_2.png"}
    assert {source.name for source, _ in report.renamed} == {"a.webp", "b.png"}
    again = export(source, layout=layout, masks="beside")
    assert (again.written, again.stale, again.renamed) == (0, (), report.renamed)


def test_folders_of_one_name_come_together(tmp_path: Path, save: Save) -> None:
    for folder in ("x/5_zorp", "y/5_zorp"):
        save(tmp_path / "set" / folder / "a.png", 64, 64, folder)
    export(tmp_path / "set")
    place = tmp_path / "out/img/5_zorp"
    assert (place / "a.txt").read_text() == "x/5_zorp\n"
    assert (place / "a_2.txt").read_text() == "y/5_zorp\n"


def test_a_name_that_gets_too_long_is_left_out(source: Path, tmp_path: Path) -> None:
    """With an ending of five letters in the place of three."""
    long = source / "10_zorp" / f"{'n' * 251}.png"
    (source / "10_zorp" / "a.png").rename(long)
    report = export(source, format="webp")
    assert report.images == 2
    assert report.skipped[0].where == str(long)
    assert "256 bytes; a name has 255 at most" in report.skipped[0].what


def test_not_into_the_source_nor_where_nothing_can_be_written(source: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="lies in"):
        export(source, into=source / "out")
    (tmp_path / "file").write_text("x")
    with pytest.raises((RunError, UserError), match="file"):
        export(source, into=tmp_path / "file")


def test_the_set_is_read_by_the_scan_as_before(source: Path, tmp_path: Path) -> None:
    export(source, layout="onetrainer")
    result = scan([FolderSpec(tmp_path / "out" / "10_zorp")])
    assert result.masks == {
        tmp_path / "out/10_zorp/a.png": tmp_path / "out/10_zorp/a-masklabel.png"
    }
