from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from lorasmith.cli.main import cli

CAPTIONS = {
    "10_zorp/a": "zorp, hat, ribbon, smile",
    "10_zorp/b": "zorp, hat, ribbon",
    "10_zorp/c": "zorp, dog",
    "5_dog/d": "dog, smile",
    "5_dog/e": "",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, caption in CAPTIONS.items():
        path = tmp_path / "set" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 32)).save(path)
        if caption:
            path.with_suffix(".txt").write_text(caption, encoding="utf-8")
    return tmp_path / "set"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["dataset", "stats", *map(str, arguments)])


def test_a_table(folder: Path) -> None:
    result = run(folder)
    assert result.exit_code == 0
    lines = [" ".join(line.split()) for line in result.output.splitlines()]
    assert "5 pictures, 4 captioned, 5 different tags" in lines
    assert "Tag On Off Share 5_dog 10_zorp" in lines
    assert "zorp 3 2 60% 0% 100%" in lines
    assert "hat + ribbon 2 0 0" in lines
    assert not {path.name for path in folder.iterdir()} - {"10_zorp", "5_dog"}


def test_json_and_csv_have_the_same_tags(folder: Path) -> None:
    report = json.loads(run(folder, "--json").stdout)
    assert report["captioned"] == 4
    rows = list(csv.DictReader(run(folder, "--csv").stdout.splitlines()))
    assert [row["tag"] for row in rows] == [tag["tag"] for tag in report["tags"]]
    assert [int(row["on"]) for row in rows] == [tag["images"] for tag in report["tags"]]
    assert rows[0]["10_zorp"] == str(report["tags"][0]["folders"]["10_zorp"])


def test_only_what_a_filter_takes(folder: Path) -> None:
    assert json.loads(run(folder, "--where", "folder:5_dog", "--json").stdout)["images"] == 2
    result = run(folder, "--where", "tga:x")
    assert result.exit_code == 2
    assert "--where: there is no key" in result.stderr


def test_files_with_a_tag(folder: Path) -> None:
    result = run(folder, "--find", "h?t")
    assert "2 pictures have it" in result.output
    assert "a.png" in result.output
    assert "c.png" not in result.output
    assert "no picture has it" in run(folder, "--find", "nothing").output


def test_tags_at_a_position(folder: Path) -> None:
    report = json.loads(run(folder, "--position", 2, "--json").stdout)
    assert report["counts"] == {"hat": 2, "": 1, "dog": 1, "smile": 1}
    assert "--position" in run(folder, "--position", 0).stderr


def test_triggers_alone_on_the_standard_output(folder: Path) -> None:
    result = run(folder, "--triggers", "1:2")
    assert result.stdout == '"dog, smile","zorp, hat","zorp, dog"\n'
    assert "3 triggers on 4 pictures; 1 picture has none" in result.stderr


def test_one_question_at_a_time(folder: Path) -> None:
    result = run(folder, "--find", "a", "--position", 2)
    assert result.exit_code == 2
    assert "--position: goes with no other question" in result.stderr
    assert run(folder, "--json", "--csv").exit_code == 2


def test_an_empty_folder(tmp_path: Path) -> None:
    assert "0 pictures" in run(tmp_path).output
    assert run(tmp_path, "--position", 1).exit_code == 0
    assert run(tmp_path, "--triggers", "1:1").stdout == ""
    assert json.loads(run(tmp_path, "--json").stdout)["tags"] == []
