from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

from lorasmith.cli.main import cli


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Image.new("RGB", (96, 64), "red").save(tmp_path / "a.png")
    return tmp_path


def invoke(*words: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(cli, ["dataset", *map(str, words)])
    return result.exit_code, result.stdout, result.stderr


@pytest.mark.parametrize("verb", ["crop", "preprocess"])
def test_the_web_uis_word_crops_too(folder: Path, verb: str) -> None:
    status, output, _ = invoke(verb, folder, "--yes")
    assert status == 0
    assert "a.png  cropped to 64x64 (was 96x64)" in output
    assert Image.open(folder / "a.png").size == (64, 64)


def test_nothing_is_changed_without_a_terminal_or_yes(folder: Path) -> None:
    status, _, errors = invoke("flip", folder)
    assert status == 2
    assert "add --yes" in errors
    assert [path.name for path in folder.iterdir() if path.is_file()] == ["a.png"]


def test_what_is_left_out_is_said_and_in_the_exit_status(folder: Path) -> None:
    (folder / "b.png").write_bytes((folder / "a.png").read_bytes()[:60])
    status, output, errors = invoke("flip", folder, "--yes")
    assert status == 2
    assert "left out: " in output
    assert "b.png" in output
    assert "1 file is left out" in errors
    assert (folder / "a_flip.png").is_file()
    status, output, _ = invoke("crop", folder, "--json", "--dry-run")
    assert status == 2
    assert "b.png" in json.loads(output)["skipped"][0]


def test_mistakes_are_told_by_the_options_names(folder: Path) -> None:
    for words, text in (
        (("crop", folder, "--focus", "middle"), "--focus: 'middle' is neither a place"),
        (("crop", folder, "--to", "recorded", "--record"), "--record: is for crops that are not"),
        (("resize", folder), "--longest: one of"),
        (("split", folder, "--tiles", "x"), "--tiles: 'x' is neither"),
        (("convert", folder, "--background", "reddish"), "--background: 'reddish' is not a colour"),
        (("crop", folder, "--focus", "face"), "--focus: there is nothing that finds faces"),
    ):
        status, _, errors = invoke(*words)
        assert status == 2
        assert text in errors, errors


def test_a_folder_that_cannot_be_written_is_named(folder: Path) -> None:
    (folder / ".lorasmith").write_text("in the way")
    status, _, errors = invoke("flip", folder, "--yes")
    assert status == 2
    assert ".lorasmith" in errors
    assert not (folder / "a_flip.png").exists()


def test_export_says_what_it_did_and_what_is_in_the_way(folder: Path, tmp_path: Path) -> None:
    source = folder / "zorp"
    source.mkdir()
    (folder / "a.png").rename(source / "a.png")
    out = tmp_path / "out"
    status, output, _ = invoke("export", source, "--into", out)
    assert status == 0
    assert f"1 picture in {out}: 1 file written" in output
    status, output, _ = invoke("export", source, "--into", out, "--json")
    assert json.loads(output)["current"] == 1
    (out / "img" / "1_zorp" / "a.png").write_bytes(b"mine")
    status, _, errors = invoke("export", source, "--into", out)
    assert status == 2
    assert "add --overwrite" in errors
    status, output, _ = invoke("export", source, "--into", out, "--overwrite")
    assert status == 0
    assert "1 file written (1 over others')" in output
    status, _, errors = invoke("export", source, "--into", out, "--upscale")
    assert status == 2
    assert "--upscale: is for --resolution" in errors


def test_of_many_that_are_left_out_some_are_shown(folder: Path) -> None:
    for number in range(25):
        (folder / f"b{number:02}.png").write_bytes(b"no picture")
    _, output, errors = invoke("flip", folder, "--yes")
    assert output.count("left out: ") == 20
    assert "and 5 more files left out (--all shows them)" in output
    assert "25 files are left out" in errors
