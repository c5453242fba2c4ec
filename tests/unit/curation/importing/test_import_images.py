from __future__ import annotations

import json
import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.crashes import check_every_kill

from lorasmith.core.errors import DatasetError, Stopped, UserError
from lorasmith.core.events import Controls
from lorasmith.curation.changes.journal import Journal
from lorasmith.curation.changes.plan import Plan
from lorasmith.curation.importing.import_images import plan_import
from lorasmith.curation.sidecars.tags import TagRules
from lorasmith.data.layout import find_folders
from lorasmith.data.scan import scan


def picture(path: Path, seed: int, side: int = 32) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def tree(folder: Path) -> dict[str, str]:
    """Captions by name, and images by the words that are no caption."""
    return {
        path.relative_to(folder).as_posix(): path.read_text("utf-8")
        if path.suffix == ".txt"
        else ""
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".lorasmith" not in path.parts
    }


def said(plan: Plan) -> str:
    return "\n".join([*map(str, [*plan.warnings, *plan.skipped]), *plan.notes])


def test_pictures_come_with_captions_and_the_sources_stay(tmp_path: Path) -> None:
    source, into = tmp_path / "src", tmp_path / "data"
    picture(source / "a.png", 1)
    (source / "a.png.txt").write_text("artist:x\nlong_hair\nmeta:big\n" * 2)
    picture(source / "deep" / "b.jpg", 2)
    (source / "deep" / "b.jpg.json").write_text(json.dumps({"tags": "hat rain", "rating": "s"}))
    picture(source / "c.png", 3)
    before = {path: path.read_bytes() for path in source.rglob("*") if path.is_file()}
    plan = plan_import([source], into)
    assert not into.exists()
    plan.apply()
    assert tree(into) == {
        "a.png": "", "a.txt": "x, long hair", "b.jpg": "", "b.txt": "hat, rain", "c.png": "",
    }  # fmt: skip
    assert (into / "a.png").read_bytes() == before[source / "a.png"]
    assert {path: path.read_bytes() for path in source.rglob("*") if path.is_file()} == before
    with Journal(into) as journal:
        journal.undo()
    assert tree(into) == {}


def test_folders_and_kinds_of_tags_may_be_kept(tmp_path: Path) -> None:
    source, into = tmp_path / "src", tmp_path / "data"
    picture(source / "deep" / "a.png", 1)
    (source / "deep" / "a.png.txt").write_text("artist:x\nlong_hair\nmeta:big")
    rules = TagRules(drop=("artist",), underscores=True)
    plan_import([source], into, rules=rules, keep_folders=True).apply()
    assert tree(into) == {"deep/a.png": "", "deep/a.txt": "long_hair, big"}


def test_a_second_import_copies_nothing(tmp_path: Path) -> None:
    source, into = tmp_path / "src", tmp_path / "data"
    picture(source / "a.png", 1)
    (source / "a.txt").write_text("hat")
    plan_import([source], into).apply()
    (into / "a.png").rename(into / "other.png")
    (into / "a.txt").rename(into / "other.txt")
    plan = plan_import([source], into)
    assert not plan.changes
    assert "1 picture is in the dataset already" in said(plan)


def test_copies_within_the_sources_count_once_with_all_that_is_said_of_them(tmp_path: Path) -> None:
    source, into = tmp_path / "src", tmp_path / "data"
    picture(source / "a.png", 1)
    (source / "a.png.txt").write_text("hat")
    shutil.copy(source / "a.png", source / "b.png")
    (source / "b.png.txt").write_text("rain")
    plan = plan_import([source, source / "b.png"], into)
    plan.apply()
    assert tree(into) == {"a.png": "", "a.txt": "hat, rain"}
    assert "1 picture in the sources is a copy of another" in said(plan)


@pytest.mark.parametrize(
    ("captions", "caption"),
    [("keep", "zorp,  hat\r\n"), ("replace", "hat, rain"), ("append", "zorp,  hat,  rain\r\n")],
)
def test_captions_of_pictures_that_are_there(tmp_path: Path, captions: str, caption: str) -> None:
    source, into = tmp_path / "src", tmp_path / "data"
    picture(source / "a.png", 1)
    (source / "a.png.txt").write_text("hat\nrain")
    picture(source / "b.png", 2)
    (source / "b.png.txt").write_text("night")
    into.mkdir()
    shutil.copy(source / "a.png", into / "x.png")
    (into / "x.txt").write_bytes(b"zorp,  hat\r\n")
    shutil.copy(source / "b.png", into / "y.png")
    plan_import([source], into, captions=captions).apply()
    assert (into / "x.txt").read_bytes().decode() == caption
    assert (into / "y.txt").read_text() == "night"


def test_names_that_are_taken_or_odd(tmp_path: Path) -> None:
    into = tmp_path / "data"
    picture(into / "A.png", 1)
    (into / "b.txt").write_text("a caption without a picture")
    sources = [tmp_path / "one", tmp_path / "two"]
    picture(sources[0] / "a.png", 2)
    (sources[0] / "a.txt").write_text("first")
    picture(sources[0] / "a.jpg", 3)
    picture(sources[1] / "b.png", 4)
    picture(sources[1] / "-x.png", 5)
    picture(sources[1] / "con.png", 6)
    picture(sources[1] / ("y" * 240 + ".png"), 7)
    if os.name != "nt":
        picture(sources[1] / "line\nbreak.png", 8)
    plan_import(sources, into).apply()
    names = tree(into)
    assert {"A.png", "a_2.jpg", "a_2.txt", "a_3.png", "a_3.txt", "b_2.png", "_-x.png"} <= set(names)
    assert {"_con.png", "y" * 200 + ".png"} <= set(names)
    assert os.name == "nt" or "line_break.png" in names
    assert (names["a_2.txt"], names["b.txt"]) == ("first", "a caption without a picture")


def test_masks_come_along(tmp_path: Path) -> None:
    source, into = tmp_path / "src", tmp_path / "data"
    for number, name in enumerate(("a", "b")):
        picture(source / f"{name}.png", number)
    Image.new("L", (32, 32), 255).save(source / "a-masklabel.png")
    (source / "masks").mkdir()
    Image.new("L", (32, 32), 0).save(source / "masks" / "b.png")
    picture(into / "a.png", 9)
    plan_import([source], into).apply()
    assert set(tree(into)) == {
        "a.png", "a_2.png", "a_2-masklabel.png", "b.png", "b-masklabel.png",
    }  # fmt: skip


def record(path: Path, side: int = 32) -> Path:
    path.write_text(json.dumps({"box": [0, 0, 16, 20], "size": [side, side]}))
    return path


def test_recorded_crops_come_along(tmp_path: Path) -> None:
    source, into = tmp_path / "src", tmp_path / "data"
    for number, name in enumerate(("a.png", "b.png", "b.jpg", "c.png")):
        picture(source / name, number)
    texts = {name: record(source / name).read_text() for name in ("a.crop.json", "b.jpg.crop.json")}
    record(source / "c.crop.json", side=64)
    record(source / "gone.crop.json")
    picture(into / "a.png", 9)
    plan = plan_import([source], into)
    assert "c.crop.json: not copied: was recorded when the picture was 64x64" in said(plan)
    assert "gone.crop.json: the crop of no picture that is copied" in said(plan)
    assert "side-car" not in said(plan)
    plan.apply()
    # b.jpg comes first.
    assert set(tree(into)) == {
        "a.png", "a_2.png", "a_2.crop.json", "b.jpg", "b.crop.json", "b_2.png", "c.png",
    }  # fmt: skip
    assert (into / "a_2.crop.json").read_text() == texts["a.crop.json"]
    boxes = {image.path.name: image.region for image in scan(find_folders(into)).images}
    assert {name for name, region in boxes.items() if region} == {"a_2.png", "b.jpg"}


def test_what_is_there_gets_the_mask_and_the_crop_that_it_lacks(tmp_path: Path) -> None:
    source, into = tmp_path / "src", tmp_path / "data"
    for folder in (source, into):
        for number, name in enumerate(("a.png", "b.png", "b.jpg")):
            picture(folder / name, number)
    for stem in "ab":
        record(source / f"{stem}.png.crop.json")
        Image.new("L", (32, 32), 255).save(source / f"{stem}-masklabel.png")
    own = record(into / "a.crop.json", side=32)
    own.write_text(own.read_text().replace("20", "30"))
    (into / "masks").mkdir()
    Image.new("L", (32, 32), 0).save(into / "masks" / "a.png")
    before = tree(into)
    kept = own.read_bytes()
    plan_import([source], into).apply()
    assert set(tree(into)) - set(before) == {"b.png.crop.json", "b-masklabel.png"}
    assert own.read_bytes() == kept
    assert plan_import([source], into).changes == []


def test_what_is_not_copied_is_named(tmp_path: Path) -> None:
    source, into = tmp_path / "src", tmp_path / "data"
    picture(source / "a.png", 1)
    cut = picture(source / "cut.png", 2)
    cut.write_bytes(cut.read_bytes()[:300])
    (source / "page.jpg").write_text("<html>")
    (source / "lost.png.txt").write_text("hat")
    (source / "film.mp4").write_bytes(b"x")
    (source / "a.json").write_text("{")
    (source / "folder.png").mkdir()
    plan = plan_import([source], into)
    plan.apply()
    assert tree(into) == {"a.png": ""}
    text = said(plan)
    for piece in (
        "cut.png: it is truncated",
        "page.jpg: it is a web page",
        "1 side-car belongs to no picture that is copied: lost.png.txt",
        "1 other file is not imported (.mp4: 1)",
        "a.json: is no JSON",
    ):
        assert piece in text


def test_an_archive(tmp_path: Path) -> None:
    into = tmp_path / "data"
    one = picture(tmp_path / "one.png", 1)
    with zipfile.ZipFile(tmp_path / "a.cbz", "w") as archive:
        archive.write(one, "in/one.png")
        archive.writestr("in/one.png.txt", "hat")
        archive.writestr("in/broken.png", b"x")
        archive.writestr("../up.png", b"x")
        archive.writestr("in/read.me", b"x")
    plan = plan_import([tmp_path / "a.cbz"], into)
    text = said(plan)
    assert f"{tmp_path}/a.cbz/in/broken.png: " in text
    assert "up.png: would be written outside" in text
    assert "1 other file is not imported (.me: 1)" in text
    plan.apply()
    assert tree(into) == {"one.png": "", "one.txt": "hat"}
    assert (into / "one.png").read_bytes() == one.read_bytes()


def test_tags_in_names_and_prompts(tmp_path: Path) -> None:
    source, into = tmp_path / "src", tmp_path / "data"
    picture(source / "some_one" / "zorp 0123.png", 1)
    picture(source / "other.png", 2)
    plan = plan_import([source], into, name_tags="%artist%/%character% %md5%.%ext%")
    plan.apply()
    assert tree(into)["zorp 0123.txt"] == "some one, zorp"
    assert "1 name is not of the form" in said(plan)


def test_mistakes_in_what_is_asked(tmp_path: Path) -> None:
    picture(tmp_path / "src" / "a.png", 1)
    (tmp_path / "a.rar").write_bytes(b"x")
    (tmp_path / "a.exe").write_bytes(b"x")
    with pytest.raises(DatasetError) as info:
        plan_import([tmp_path / name for name in ("gone", "a.rar", "a.exe")], tmp_path / "data")
    assert [problem.what.partition(" ")[0] for problem in info.value.problems] == [
        "does", "archives", "is",
    ]  # fmt: skip
    with pytest.raises(DatasetError, match="folder itself"):
        plan_import([tmp_path / "src"], tmp_path / "src")
    with pytest.raises(DatasetError, match="is a file"):
        plan_import([tmp_path / "src"], tmp_path / "a.rar")
    with pytest.raises(UserError):
        plan_import([tmp_path / "src"], tmp_path / "data", name_tags="%x%")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="no picture in the sources"):
        plan_import([tmp_path / "empty"], tmp_path / "data").apply()
    assert not (tmp_path / "data").exists()


def test_a_stop_changes_nothing(tmp_path: Path) -> None:
    picture(tmp_path / "src" / "a.png", 1)
    plan = plan_import([tmp_path / "src"], tmp_path / "data")
    controls = Controls()
    controls.stop()
    with pytest.raises(Stopped):
        plan.apply(controls=controls)
    with pytest.raises(Stopped):
        plan_import([tmp_path / "src"], tmp_path / "data", controls=controls)
    assert tree(tmp_path) == {"src/a.png": ""}


def test_a_source_that_goes_away_in_between(tmp_path: Path) -> None:
    path = picture(tmp_path / "src" / "a.png", 1)
    picture(tmp_path / "src" / "b.png", 2)
    plan = plan_import([tmp_path / "src"], tmp_path / "data")
    path.unlink()
    with pytest.raises(DatasetError, match="cannot be read"):
        plan.apply()
    assert tree(tmp_path / "data") == {}


def test_a_dataset_within_its_source_is_passed_over(tmp_path: Path) -> None:
    picture(tmp_path / "a.png", 1)
    picture(tmp_path / "data" / "b.png", 2)
    plan_import([tmp_path], tmp_path / "data").apply()
    assert tree(tmp_path / "data") == {"a.png": "", "b.png": ""}


@pytest.mark.slow
def test_a_kill_leaves_old_or_new(tmp_path: Path) -> None:
    source, into = tmp_path / "src", tmp_path / "data"
    for number in range(3):
        picture(source / f"{number}.png", number)
        (source / f"{number}.png.txt").write_text(f"hat\n{number}")
    with zipfile.ZipFile(source / "a.zip", "w") as archive:
        archive.write(picture(tmp_path / "z.png", 9), "z.png")
    into.mkdir()
    shutil.copy(source / "0.png", into / "there.png")
    (into / "there.txt").write_text("zorp")
    plan = plan_import([source], into, captions="append", keep_folders=True)
    assert check_every_kill(into, plan.apply, lambda: Journal(into).close()) > 10


def test_folders_that_cannot_be_written_or_read(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may do anything")
    source, into = tmp_path / "src", tmp_path / "data"
    picture(source / "a.png", 1)
    picture(source / "closed" / "b.png", 2)
    (source / "closed").chmod(0)
    into.mkdir()
    into.chmod(0o500)
    try:
        plan = plan_import([source], into)
        assert "closed: cannot be read" in said(plan)
        with pytest.raises(UserError, match="cannot be written"):
            plan.apply()
    finally:
        into.chmod(0o700)
        (source / "closed").chmod(0o700)


def test_a_link_that_leads_nowhere_and_one_to_a_picture(tmp_path: Path) -> None:
    source = tmp_path / "src"
    real = picture(tmp_path / "real.png", 1)
    source.mkdir()
    try:
        (source / "a.png").symlink_to(real)
        (source / "b.png").symlink_to(tmp_path / "gone.png")
        (source / "loop").symlink_to(source)
    except OSError:
        pytest.skip("no links here")
    plan = plan_import([source], tmp_path / "data")
    assert "b.png: it is a symbolic link to nothing" in said(plan)
    plan.apply()
    assert tree(tmp_path / "data") == {"a.png": ""}
    assert not (tmp_path / "data" / "a.png").is_symlink()


def test_pictures_go_into_a_folder_of_a_project_not_beside_it(tmp_path: Path) -> None:
    picture(tmp_path / "src" / "a.png", 1)
    place = tmp_path / "zorp" / "img" / "10_zorp"
    place.mkdir(parents=True)
    for target in (tmp_path / "zorp", tmp_path / "zorp" / "img"):
        with pytest.raises(DatasetError) as info:
            plan_import([tmp_path / "src"], target)
        assert info.value.problems[0].hint == f"import into one of them: --into {place}"
    plan_import([tmp_path / "src"], place).apply()
    assert tree(tmp_path / "zorp") == {"img/10_zorp/a.png": ""}


def test_what_no_file_can_hold_stays_out_of_captions(tmp_path: Path) -> None:
    picture(tmp_path / "src" / "a.png", 1)
    tags = {"tags": ["\ud800hat", "ra\u0000in"], "text": "A girl is in the rain\u0007\udfff today."}
    (tmp_path / "src" / "a.json").write_text(json.dumps(tags))
    plan_import([tmp_path / "src"], tmp_path / "data").apply()
    assert tree(tmp_path / "data")["a.txt"] == "A girl is in the rain today., hat, ra in"


def test_a_table_of_elsewhere_speaks_of_all_pictures(tmp_path: Path) -> None:
    md5 = "0123456789abcdef" * 2
    picture(tmp_path / "src" / f"{md5}.png", 1)
    table = tmp_path / "elsewhere" / "posts.json"
    table.parent.mkdir()
    posts = [{"id": 1, "file": {"md5": md5, "url": None}, "tags": {"general": ["hat"]}}]
    table.write_text(json.dumps({"posts": posts}))
    plan_import([tmp_path / "src", table], tmp_path / "data").apply()
    assert tree(tmp_path / "data") == {f"{md5}.png": "", f"{md5}.txt": "hat"}


def test_names_of_folders_that_are_kept_are_mended(tmp_path: Path) -> None:
    one = picture(tmp_path / "one.png", 1)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(one, "con/a:b/one.png")
    plan_import([tmp_path / "a.zip"], tmp_path / "data", keep_folders=True).apply()
    assert tree(tmp_path / "data") == {"_con/a_b/one.png": ""}
