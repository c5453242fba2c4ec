"""Verbs on folders: what lies there afterwards, and that all can be undone."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image
from tests.unit.curation.images.conftest import draw_scene

from lorasmith.core.errors import SettingsError, Stopped, UserError
from lorasmith.core.events import Controls, Notice
from lorasmith.curation.changes.journal import Journal
from lorasmith.data.layout import FolderSpec
from lorasmith.data.scan import scan
from lorasmith.jobs.dataset.changes import ChangeReport, FolderChangeRequest
from lorasmith.jobs.dataset.images import (
    ConvertPicturesRequest,
    CropRequest,
    FlipRequest,
    MasksRequest,
    ResizePicturesRequest,
    SplitRequest,
)
from lorasmith.jobs.request import run

Save = Callable[..., Path]


def carry_out(request: type[FolderChangeRequest], folder: Path, **options: Any) -> ChangeReport:
    return run(request.model_validate({"folders": [folder], **options}))


def state(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and ".lorasmith" not in path.parts
    }


def names(folder: Path) -> set[str]:
    return set(state(folder))


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"), int)


@pytest.fixture
def folder(tmp_path: Path, save: Save) -> Path:
    """Wide, tall and square pictures with captions; the first with a mask of the left half."""
    place = tmp_path / "set"
    save(place / "wide.png", 96, 64, "zorp, left hand")
    save(place / "tall.jpg", 64, 128, "zorp")
    save(place / "square.png", 64, 64)
    mask = Image.new("L", (96, 64))
    mask.paste(255, (0, 0, 48, 64))
    mask.save(place / "wide-masklabel.png")
    return place


VERBS: list[tuple[type[FolderChangeRequest], dict[str, Any]]] = [
    (CropRequest, {"focus": "center"}),
    (CropRequest, {"to": "bucket", "resolution": 64, "resize": True}),
    (CropRequest, {"focus": "left", "record": True}),
    (ResizePicturesRequest, {"longest": 48}),
    (SplitRequest, {"tiles": "2"}),
    (FlipRequest, {}),
    (ConvertPicturesRequest, {"to": "webp"}),
    (MasksRequest, {"source": "grey"}),
]


@pytest.mark.parametrize(("request_", "options"), VERBS)
def test_every_verb_can_be_undone_and_its_dry_run_touches_nothing(
    folder: Path, request_: type[FolderChangeRequest], options: dict[str, Any]
) -> None:
    before = state(folder)
    report = carry_out(request_, folder, dry_run=True, **options)
    assert report.plan.changes
    assert state(folder) == before
    carry_out(request_, folder, **options)
    after = state(folder)
    assert after != before
    with Journal(folder) as journal:
        (entry,) = journal.history()
        assert entry.command.startswith(request_.verb.removeprefix("dataset "))
        journal.undo()
        assert state(folder) == before
        journal.redo()
    assert state(folder) == after


@pytest.mark.parametrize(("request_", "options"), VERBS)
def test_a_broken_picture_is_named_and_the_rest_is_done(
    folder: Path, request_: type[FolderChangeRequest], options: dict[str, Any]
) -> None:
    whole = (folder / "wide.png").read_bytes()
    (folder / "broken.png").write_bytes(whole[: len(whole) // 2])
    report = carry_out(request_, folder, **options)
    assert report.applied is not None
    if not options.get("record"):  # a record is made from the header alone
        (problem,) = report.plan.skipped
        assert "broken.png" in problem.where
    assert (folder / "broken.png").read_bytes() == whole[: len(whole) // 2]


def test_crop_takes_the_mask_along(folder: Path) -> None:
    before = pixels(folder / "wide.png")
    carry_out(CropRequest, folder, focus="left")
    np.testing.assert_array_equal(pixels(folder / "wide.png"), before[:, :64])
    mask = pixels(folder / "wide-masklabel.png")
    assert mask.shape == (64, 64, 3)
    assert (mask[:, :48] == 255).all()
    assert (mask[:, 48:] == 0).all()
    assert (folder / "wide.txt").read_text() == "zorp, left hand"


def test_recorded_then_carried_out_is_the_same_as_cropped(folder: Path) -> None:
    before = state(folder)
    carry_out(CropRequest, folder, focus="right", record=True)
    record = json.loads((folder / "wide.crop.json").read_text())
    assert record == {"box": [32, 0, 96, 64], "size": [96, 64]}
    assert {n: h for n, h in state(folder).items() if not n.endswith(".json")} == before
    sizes = {i.path.name: (i.width, i.height) for i in scan([FolderSpec(folder)]).images}
    assert sizes == {"square.png": (64, 64), "tall.jpg": (64, 64), "wide.png": (64, 64)}
    # Again: nothing to do.
    assert not carry_out(CropRequest, folder, focus="right", record=True).plan.changes
    whole = pixels(folder / "wide.png")
    carry_out(CropRequest, folder, to="recorded")
    np.testing.assert_array_equal(pixels(folder / "wide.png"), whole[:, 32:])
    assert "wide.crop.json" not in names(folder)


def test_a_record_goes_where_the_whole_is_kept_now(folder: Path) -> None:
    (folder / "square.crop.json").write_text('{"box": [0, 0, 32, 32], "size": [64, 64]}')
    carry_out(CropRequest, folder, focus="center", record=True)
    assert "square.crop.json" not in names(folder)


def test_crop_to_a_bucket_and_its_size_is_what_training_sees(tmp_path: Path, save: Save) -> None:
    from lorasmith.data.augmentation.views import View, render
    from lorasmith.data.buckets import place, plan_buckets

    path = save(tmp_path / "a.png", 301, 211)
    placement = place(301, 211, plan_buckets(128, 128))
    trained = render(path, View(placement)).astype(int)
    carry_out(CropRequest, tmp_path, to="bucket", resolution=128, focus="center", resize=True)
    ours = pixels(path)
    assert ours.shape == trained.shape
    # Cropped before it is scaled and not after: up to a pixel of the original apart.
    assert np.abs(ours - trained).mean() < 4


def test_crop_around_the_box_of_a_side_car(folder: Path) -> None:
    (folder / "wide.json").write_text('{"bbox": [20, 10, 40, 30]}')
    before = pixels(folder / "wide.png")
    report = carry_out(CropRequest, folder, to="box", margin=0)
    np.testing.assert_array_equal(pixels(folder / "wide.png"), before[10:40, 20:60])
    (warning,) = report.plan.warnings
    assert "2 pictures have no box" in warning.what


def test_trimmed_to_the_subject_with_a_sheet(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    for seed in range(6):
        draw_scene(seed).image.save(tmp_path / "set" / f"{seed}.png")
    before = state(tmp_path / "set")
    events: list[Any] = []
    request = CropRequest.model_validate(
        {"folders": [tmp_path / "set"], "preview": tmp_path / "sheet.png", "dry_run": True}
    )
    report = run(request, events.append)
    assert len(report.plan.changes) == 6
    assert state(tmp_path / "set") == before
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > 700
    assert any(isinstance(e, Notice) and "6 pictures" in e.text for e in events)


def test_a_broken_picture_keeps_no_sheet_from_being_drawn(folder: Path, tmp_path: Path) -> None:
    whole = (folder / "square.png").read_bytes()
    (folder / "square.png").write_bytes(whole[: len(whole) // 2])
    carry_out(CropRequest, folder, preview=tmp_path / "sheet.png", record=True)
    assert (tmp_path / "sheet.png").is_file()
    assert (folder / "wide.crop.json").is_file()


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"focus": "middle"}, "focus"),
        ({"to": "subject", "focus": "left"}, "focus"),
        ({"to": "subject", "resize": True}, "resize"),
        ({"margin": 0.3}, "margin"),
        ({"record": True, "resize": True}, "resize"),
        ({"to": "recorded", "record": True}, "record"),
        ({"to": "whole"}, "to"),
        ({"tolerance": 3}, "tolerance"),
        ({"aspects": "1:1"}, "aspects"),
        ({"to": "aspect", "aspects": "wide"}, "aspects"),
        ({"to": "aspect", "resize": True}, "resize"),
        ({"to": "box", "trim": True}, "trim"),
        ({"resolution": 64}, "resolution"),
    ],
)
def test_options_that_would_do_nothing_are_refused(
    folder: Path, options: dict[str, Any], name: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        carry_out(CropRequest, folder, **options)
    assert name in {problem.where for problem in caught.value.problems}


def test_faces_take_something_that_finds_them(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        carry_out(CropRequest, folder, faces=tmp_path / "none.xml")


def test_resize_takes_masks_and_records_along(folder: Path) -> None:
    (folder / "wide.crop.json").write_text('{"box": [16, 0, 80, 64], "size": [96, 64]}')
    carry_out(ResizePicturesRequest, folder, longest=48)
    sizes = {path.name: Image.open(path).size for path in folder.glob("*.*g")}
    assert sizes == {
        "wide.png": (48, 32), "wide-masklabel.png": (48, 32), "tall.jpg": (24, 48),
        "square.png": (48, 48),
    }  # fmt: skip
    record = json.loads((folder / "wide.crop.json").read_text())
    assert record == {"box": [8, 0, 40, 32], "size": [48, 32]}


@pytest.mark.parametrize(
    ("options", "wide"),
    [
        ({"shortest": 32}, (48, 32)),
        ({"megapixels": 0.001536}, (48, 32)),
        ({"scale": 0.5}, (48, 32)),
        ({"longest": 960}, (96, 64)),
        ({"longest": 960, "upscale": True}, (960, 640)),
    ],
)
def test_sizes(folder: Path, options: dict[str, Any], wide: tuple[int, int]) -> None:
    carry_out(ResizePicturesRequest, folder, where="name:wide", **options)
    assert Image.open(folder / "wide.png").size == wide
    assert Image.open(folder / "square.png").size == (64, 64)


def test_one_size_must_be_given(folder: Path) -> None:
    for options in ({}, {"longest": 64, "scale": 0.5}, {"scale": 2.0}):
        with pytest.raises(SettingsError):
            carry_out(ResizePicturesRequest, folder, **options)


def test_split_parts_image_mask_and_caption(folder: Path) -> None:
    before = pixels(folder / "wide.png")
    carry_out(SplitRequest, folder, tiles="2x1", where="name:wide")
    for number, part in ((1, before[:, :48]), (2, before[:, 48:])):
        np.testing.assert_array_equal(pixels(folder / f"wide_tile{number}.png"), part)
        mask = pixels(folder / f"wide_tile{number}-masklabel.png")
        assert (mask == (255 if number == 1 else 0)).all()
        assert (folder / f"wide_tile{number}.txt").read_text() == "zorp, left hand"
    assert not {"wide.png", "wide.txt", "wide-masklabel.png"} & names(folder)
    assert {"tall.jpg", "square.png"} <= names(folder)


def test_split_by_size_leaves_small_pictures_and_keeps_the_large(folder: Path) -> None:
    carry_out(SplitRequest, folder, size=64, keep=True)
    assert {"tall_tile1.jpg", "tall_tile2.jpg", "wide_tile1.png", "wide_tile2.png"} <= names(folder)
    assert {"tall.jpg", "wide.png", "square.png"} <= names(folder)
    assert not any(name.startswith("square_tile") for name in names(folder))


def test_no_tile_takes_the_name_of_another_picture(folder: Path, save: Save) -> None:
    save(folder / "wide_tile2.png", 32, 24)
    before = state(folder)
    (problem,) = carry_out(SplitRequest, folder, tiles="2x1", where="name:wide.png").plan.skipped
    assert "wide_tile2.png, which is there" in problem.what
    assert state(folder) == before


def test_only_the_recorded_part_is_split(folder: Path) -> None:
    before = pixels(folder / "wide.png")
    (folder / "wide.crop.json").write_text('{"box": [16, 0, 80, 64], "size": [96, 64]}')
    carry_out(SplitRequest, folder, tiles="2x1", where="name:wide")
    np.testing.assert_array_equal(pixels(folder / "wide_tile2.png"), before[:, 48:80])
    assert "wide.crop.json" not in names(folder)


@pytest.mark.parametrize(
    "options", [{}, {"size": 64, "tiles": "2"}, {"tiles": "0"}, {"tiles": "a"}, {"tiles": "2x2x2"}]
)
def test_split_is_told_how(folder: Path, options: dict[str, Any]) -> None:
    with pytest.raises(SettingsError):
        carry_out(SplitRequest, folder, **options)


def test_flip_mirrors_image_mask_caption_and_record(folder: Path) -> None:
    (folder / "wide.crop.json").write_text('{"box": [0, 0, 64, 64], "size": [96, 64]}')
    before = state(folder)
    carry_out(FlipRequest, folder)
    np.testing.assert_array_equal(
        pixels(folder / "wide_flip.png"), pixels(folder / "wide.png")[:, ::-1]
    )
    assert (pixels(folder / "wide_flip-masklabel.png")[:, 48:] == 255).all()
    assert (folder / "wide_flip.txt").read_text() == "zorp, right hand"
    record = json.loads((folder / "wide_flip.crop.json").read_text())
    assert record == {"box": [32, 0, 96, 64], "size": [96, 64]}
    assert before.items() <= state(folder).items()
    # A second time there is nothing left to do.
    assert not carry_out(FlipRequest, folder).plan.changes


def test_what_a_mirror_makes_wrong_is_warned_of(folder: Path) -> None:
    (folder / "tall.txt").write_text("zorp, english text")
    (warning,) = carry_out(FlipRequest, folder).plan.warnings
    assert "tall.jpg: english text" in warning.what


def test_flip_keeps_every_byte_of_a_caption_but_the_sides(folder: Path) -> None:
    (folder / "tall.txt").write_bytes("\ufeffzorp,  smile\r\n".encode("utf-16"))
    carry_out(FlipRequest, folder)
    assert (folder / "tall_flip.txt").read_bytes() == (folder / "tall.txt").read_bytes()


def test_convert_goes_by_the_content_of_heic_files_too(folder: Path) -> None:
    (folder / "photo.HEIC").write_bytes((folder / "tall.jpg").read_bytes())
    (folder / "photo.txt").write_text("a photo")
    (folder / "real.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64))
    report = carry_out(ConvertPicturesRequest, folder)
    assert (folder / "photo.jpg").is_file()
    assert not (folder / "photo.HEIC").exists()
    (left,) = report.plan.skipped
    assert left.where.endswith("real.heic")
    assert "HEIC" in left.what
    assert "heif-convert" in left.hint


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names are Unicode")
def test_convert_leaves_out_what_has_no_name_in_utf_8(folder: Path) -> None:
    Image.new("RGB", (64, 64)).save(folder / "a.gif")
    shutil.copy(folder / "a.gif", folder / os.fsdecode(b"bad\xff.gif"))
    assert not carry_out(ConvertPicturesRequest, folder).plan.problems
    assert (folder / "a.png").is_file()


def test_convert_mends_only_what_needs_it(folder: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    image = Image.open(folder / "wide.png").convert("RGB")
    image.save(folder / "turned.jpg", exif=exif)
    image.convert("CMYK").save(folder / "cmyk.jpg")
    image.save(folder / "scan.tiff")
    (folder / "scan.txt").write_text("a scan")
    (folder / "really.png").write_bytes((folder / "tall.jpg").read_bytes())
    before = state(folder)
    report = carry_out(ConvertPicturesRequest, folder)
    after = state(folder)
    changed = {name for name in before if after.get(name) != before[name]}
    assert changed == {"turned.jpg", "cmyk.jpg", "scan.tiff", "really.png"}
    assert after.keys() - before.keys() == {"scan.png", "really.jpg"}
    assert not report.plan.skipped
    with Image.open(folder / "turned.jpg") as turned, Image.open(folder / "cmyk.jpg") as cmyk:
        assert turned.size == (64, 96)
        assert cmyk.mode == "RGB"
    np.testing.assert_array_equal(pixels(folder / "scan.png"), pixels(folder / "wide.png"))
    assert not carry_out(ConvertPicturesRequest, folder).plan.changes


def test_convert_to_jpeg_takes_side_files_along(folder: Path) -> None:
    (folder / "wide.png.txt").write_text("by its whole name")
    (folder / "wide.txt").unlink()
    carry_out(ConvertPicturesRequest, folder, to="jpg", quality=90)
    assert names(folder) == {
        "wide.jpg", "wide.jpg.txt", "wide-masklabel.png", "tall.jpg", "tall.txt", "square.jpg",
    }  # fmt: skip
    assert np.abs(pixels(folder / "square.jpg")).mean() > 0


def test_what_is_in_the_format_already_stays_byte_for_byte(folder: Path) -> None:
    before = state(folder)
    carry_out(ConvertPicturesRequest, folder, to="jpg")
    assert state(folder)["tall.jpg"] == before["tall.jpg"]
    assert not carry_out(ConvertPicturesRequest, folder, to="jpg").plan.changes


@pytest.mark.parametrize("to", ["jpg", "webp"])
def test_no_picture_takes_the_name_of_another(folder: Path, save: Save, to: str) -> None:
    save(folder / "wide.jpg", 96, 64)
    before = state(folder)
    (problem,) = carry_out(ConvertPicturesRequest, folder, to=to).plan.skipped
    assert f"would become wide.{to}" in problem.what
    after = state(folder)
    assert after["wide.png"] == before["wide.png"]
    assert f"square.{to}" in after
    assert (to == "webp") is ("wide.jpg" not in after)


def test_no_frame_takes_the_name_of_another_picture(folder: Path, save: Save) -> None:
    frames = [Image.new("RGB", (32, 24), colour) for colour in ("red", "lime")]
    frames[0].save(folder / "film.gif", save_all=True, append_images=frames[1:])
    save(folder / "film_002.png", 32, 24)
    before = state(folder)
    (problem,) = carry_out(ConvertPicturesRequest, folder, frames="all").plan.skipped
    assert "film_002.png, which is there" in problem.what
    assert state(folder) == before


@pytest.mark.parametrize("name", ["film.gif", "film.webp"])
def test_animations(folder: Path, name: str) -> None:
    frames = [Image.new("RGB", (32, 24), colour) for colour in ("red", "lime", "blue")]
    frames[0].save(folder / name, save_all=True, append_images=frames[1:], lossless=True)
    (folder / "film.txt").write_text("moving")
    (problem,) = carry_out(ConvertPicturesRequest, folder).plan.skipped
    assert "3 frames" in problem.what
    carry_out(ConvertPicturesRequest, folder, frames="all")
    for number, colour in enumerate(((255, 0, 0), (0, 255, 0), (0, 0, 255)), 1):
        assert (pixels(folder / f"film_00{number}.png") == colour).all()
        assert (folder / f"film_00{number}.txt").read_text() == "moving"
    assert name not in names(folder)
    with Journal(folder) as journal:
        journal.undo()
    carry_out(ConvertPicturesRequest, folder, frames="first")
    assert (pixels(folder / "film.png") == (255, 0, 0)).all()


@pytest.mark.parametrize("request_", [CropRequest, FlipRequest])
def test_animations_lose_no_frames_unasked(
    folder: Path, request_: type[FolderChangeRequest]
) -> None:
    frames = [Image.new("RGB", (32, 24), colour) for colour in ("red", "lime")]
    frames[0].save(folder / "film.webp", save_all=True, append_images=frames[1:])
    before = (folder / "film.webp").read_bytes()
    (problem,) = carry_out(request_, folder).plan.skipped
    assert "animation" in problem.what
    assert (folder / "film.webp").read_bytes() == before


def test_masks_of_transparency_and_greys(folder: Path) -> None:
    layer = Image.open(folder / "square.png").convert("RGBA")
    layer.putalpha(Image.linear_gradient("L").resize((64, 64)))
    layer.save(folder / "square.png")
    report = carry_out(MasksRequest, folder, source="alpha")
    assert "2 of 3" in str(report.plan.warnings) or "1 of 2" in str(report.plan.warnings)
    with Image.open(folder / "square-masklabel.png") as mask:
        assert mask.mode == "L"
        np.testing.assert_array_equal(np.asarray(mask), np.asarray(layer.getchannel("A")))
    kept = (folder / "wide-masklabel.png").read_bytes()
    carry_out(MasksRequest, folder, source="grey")
    assert (folder / "wide-masklabel.png").read_bytes() == kept
    grey = Image.open(folder / "tall.jpg").convert("L")
    with Image.open(folder / "tall-masklabel.png") as mask:
        np.testing.assert_array_equal(np.asarray(mask), np.asarray(grey))
    carry_out(MasksRequest, folder, source="grey", overwrite=True, invert=True)
    with Image.open(folder / "tall-masklabel.png") as mask:
        np.testing.assert_array_equal(np.asarray(mask), 255 - np.asarray(grey))


@pytest.mark.slow
def test_masks_of_subjects_cover_them(tmp_path: Path) -> None:
    scenes = {seed: draw_scene(seed) for seed in range(30)}
    for seed, scene in scenes.items():
        scene.image.save(tmp_path / f"{seed}.png")
    carry_out(MasksRequest, tmp_path)
    shares = []
    for seed, scene in scenes.items():
        with Image.open(tmp_path / f"{seed}-masklabel.png") as mask:
            levels = np.asarray(mask, float) / 255
        left, top, right, bottom = scene.box
        across, down = (right - left) // 3, (bottom - top) // 3
        inside = levels[top + down : bottom - down, left + across : right - across].mean()
        levels[max(0, top - 30) : bottom + 30, max(0, left - 30) : right + 30] = 0
        shares.append((inside, levels.mean()))
    assert np.median([inside for inside, _ in shares]) > 0.99
    assert np.mean([inside for inside, _ in shares]) > 0.95
    assert np.median([outside for _, outside in shares]) < 0.005
    assert np.mean([outside for _, outside in shares]) < 0.02


def test_masks_of_another_shape_are_left_alone_and_said(folder: Path) -> None:
    Image.new("L", (64, 64), 255).save(folder / "wide-masklabel.png")
    before = (folder / "wide-masklabel.png").read_bytes()
    (warning,) = carry_out(CropRequest, folder, focus="left").plan.warnings
    assert "another shape" in warning.what
    assert (folder / "wide-masklabel.png").read_bytes() == before


def test_faces_in_names_are_warned_of(tmp_path: Path, save: Save) -> None:
    save(tmp_path / "a_0050_0030_0020_0020.png", 96, 64)
    for request, options in ((CropRequest, {}), (ResizePicturesRequest, {"longest": 48})):
        (warning,) = carry_out(request, tmp_path, dry_run=True, **options).plan.warnings
        assert "a face in the name" in warning.what
    assert not carry_out(CropRequest, tmp_path, record=True).plan.warnings


def test_masks_in_a_folder_go_along(tmp_path: Path, save: Save) -> None:
    save(tmp_path / "a.png", 96, 64)
    (tmp_path / "masks").mkdir()
    Image.new("L", (96, 64), 255).save(tmp_path / "masks" / "a.png")
    carry_out(CropRequest, tmp_path)
    assert Image.open(tmp_path / "masks" / "a.png").size == (64, 64)
    carry_out(FlipRequest, tmp_path)
    assert "masks/a_flip.png" in names(tmp_path)


def test_stopping_changes_nothing(folder: Path) -> None:
    before = state(folder)
    controls = Controls()
    controls.stop()
    with pytest.raises(Stopped):
        run(CropRequest.model_validate({"folders": [folder]}), controls=controls)
    assert state(folder) == before


def test_latents_that_others_cached_go_to_the_trash(folder: Path) -> None:
    (folder / "wide_0096x0064_sdxl.npz").write_bytes(b"x")
    (folder / "wide.npz").write_bytes(b"x")
    carry_out(CropRequest, folder, focus="left")
    assert "wide.npz" not in names(folder)
