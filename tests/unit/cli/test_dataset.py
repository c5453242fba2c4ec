"""``lorasmith dataset check`` from the outside."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

from lorasmith.cli.main import cli


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "my set" / "10_zörp girl"
    folder.mkdir(parents=True)
    Image.effect_noise((512, 512), 80).save(folder / "a.png")
    (folder / "a.txt").write_text("zörp girl", encoding="utf-8")
    return folder.parent


def test_a_good_dataset(folder: Path) -> None:
    result = CliRunner().invoke(cli, ["dataset", "check", str(folder)])
    assert result.exit_code == 0, result.output
    assert "10 x 64 epochs = 640 steps" in " ".join(result.output.split()), result.output
    assert "This dataset is fine." in result.output
    # A model and a batch of its own make it another number there.
    for said in ("for most base models, at a batch of 1;", "train DIR --model MODEL --plan"):
        assert said in " ".join(result.output.split())


def test_json_alone_is_on_standard_output(folder: Path) -> None:
    result = CliRunner().invoke(cli, ["dataset", "check", str(folder), "--json", "--batch", "3"])
    value = json.loads(result.stdout)
    assert value["steps"]["batch_sizes"] == [3]
    assert value["folders"][0]["fallback"] == "zörp girl"


@pytest.fixture
def other(folder: Path) -> Path:
    """A plain one, with a regularisation image of its own and an image of the first."""
    other = folder.with_name("plain 😀")
    (other / "reg" / "2_girl").mkdir(parents=True)
    Image.effect_noise((512, 512), 80).save(other / "b.png")
    Image.effect_noise((512, 512), 80).save(other / "reg" / "2_girl" / "c.png")
    shutil.copy(folder / "10_zörp girl" / "a.png", other)
    return other


def test_several_folders_are_one_dataset(folder: Path, other: Path) -> None:
    words = ["dataset", "check", str(folder), str(other), str(folder), "--json"]
    value = json.loads(CliRunner().invoke(cli, words).stdout)
    folders = [(Path(row["path"]).name, row["repeats"]) for row in value["folders"]]
    assert folders == [("10_zörp girl", 10), (other.name, 1), ("2_girl", 2)]
    assert len(value["near_duplicates"]) == 1
    result = CliRunner().invoke(cli, ["dataset", "check", str(folder), "none", "nor this"])
    assert result.exit_code == 2
    assert "none: does not exist" in result.stderr
    assert "nor this: does not exist" in result.stderr


def test_a_preview_of_several_folders(folder: Path, other: Path) -> None:
    out = folder.parent / "sheet.png"
    words = ["dataset", "preview", str(other), "--out", str(out), "--side", "40", "--uses", "2"]
    words += ["--set", "augment.flip=true"]
    heights = []
    for more in ([], [str(folder)]):
        result = CliRunner().invoke(cli, [*words, *more])
        assert result.exit_code == 0, result.output
        with Image.open(out) as sheet:
            heights.append(sheet.height)
    assert heights[1] > heights[0] + 40


@pytest.mark.parametrize("as_json", [True, False])
def test_errors_are_status_two(folder: Path, as_json: bool) -> None:
    (folder / "10_zörp girl" / "b.png").write_text("text")
    arguments = ["check", str(folder), *(["--json"] if as_json else [])]
    result = CliRunner().invoke(cli, ["dataset", *arguments])
    assert result.exit_code == 2
    if as_json:
        assert "text, not a picture" in json.loads(result.stdout)["errors"][0]["what"]
    else:
        assert "1 error" in result.output


@pytest.mark.parametrize("size", ["0", "abc", "512x", "1x2x3"])
def test_resolutions_that_are_none(folder: Path, size: str) -> None:
    result = CliRunner().invoke(cli, ["dataset", "check", str(folder), "--resolution", size])
    assert result.exit_code == 2
    assert size in result.output


def test_through_the_real_command(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "lorasmith", "dataset", "check", str(tmp_path / "none")],
        capture_output=True, text=True, timeout=120, env=os.environ, check=False,
    )  # fmt: skip
    assert result.returncode == 2
    assert "does not exist" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_preview_shows_every_use_of_every_image(folder: Path) -> None:
    Image.effect_noise((700, 300), 80).save(folder / "10_zörp girl" / "b.png")
    out = folder.parent / "sheets" / "sheet.png"
    arguments = ["preview", str(folder), "--out", str(out), "--side", "40", "--uses", "5"]
    arguments += ["--set", "augment.flip=true", "--set", "augment.colour=0.2"]
    result = CliRunner().invoke(cli, ["dataset", *arguments])
    assert result.exit_code == 0, result.output
    assert "16 views of 2 pictures" in " ".join(result.output.split())
    with Image.open(out) as sheet:
        width, height = sheet.size
    assert width > 5 * 40
    assert height > 40 + 17
    assert list(out.parent.iterdir()) == [out]


def test_a_preview_as_json(folder: Path) -> None:
    out = folder.parent / "sheet.png"
    result = CliRunner().invoke(
        cli, ["dataset", "preview", str(folder), "--out", str(out), "--json"]
    )
    assert json.loads(result.stdout)["path"] == str(out)
    assert out.is_file()


def test_a_preview_of_settings_that_are_wrong(folder: Path) -> None:
    arguments = ["preview", str(folder), "--set", "augment.face_crop=4,2"]
    result = CliRunner().invoke(cli, ["dataset", *arguments])
    assert result.exit_code != 0
    assert "augment.face_crop" in result.output
