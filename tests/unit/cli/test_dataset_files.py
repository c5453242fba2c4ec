"""Bringing pictures in, as on a terminal and without one."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tests.unit.curation.importing.test_import_images import picture, tree

from lorasmith.cli.main import cli


def dataset(*arguments: object, answer: str = "") -> Result:
    words = ["dataset", *(str(each) for each in arguments)]
    return CliRunner().invoke(cli, words, input=answer)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "src"
    picture(folder / "a.png", 1)
    (folder / "a.png.txt").write_text("artist:x\nlong_hair\nmeta:big")
    picture(folder / "b.png", 2)
    return folder


def test_import_shows_asks_and_can_be_taken_back(source: Path, tmp_path: Path) -> None:
    into = tmp_path / "set"
    result = dataset("import", source, "--into", into)
    assert result.exit_code == 2
    assert "{+x, long hair+}" in result.output
    assert "add --yes" in result.stderr
    assert not into.exists()
    result = dataset("import", source, "--into", into, "--yes", "--drop", "artist,meta")
    assert result.exit_code == 0
    assert tree(into) == {"a.png": "", "a.txt": "long hair", "b.png": ""}
    assert "3 files new; take it back with: lorasmith dataset undo" in result.output
    assert "import src" in dataset("history", into).output
    assert dataset("undo", into).exit_code == 0
    assert tree(into) == {}


def test_import_for_programs(source: Path, tmp_path: Path) -> None:
    (source / "cut.png").write_bytes(b"x")
    result = dataset("import", source, "--into", tmp_path / "set", "--yes", "--json")
    value = json.loads(result.stdout)
    assert value["applied"]["counts"] == {"new": 3}
    assert len(value["changes"]) == 3
    assert "cut.png: " in value["skipped"][0]
    assert result.exit_code == 2


def test_names_that_begin_with_a_dash(source: Path, tmp_path: Path, monkeypatch) -> None:
    (source / "a.png").rename(source / "-rf.png")
    monkeypatch.chdir(source)
    result = dataset("import", "--into", tmp_path / "set", "--yes", "--", "-rf.png")
    assert result.exit_code == 0
    assert tree(tmp_path / "set") == {"_-rf.png": ""}


def test_mistakes_are_told_under_the_options_names(source: Path, tmp_path: Path) -> None:
    result = dataset("import", source, "--into", tmp_path / "set", "--drop", "artits")
    assert result.exit_code == 2
    assert "--drop" in result.stderr
    assert "did you mean artist?" in result.stderr
    result = dataset("import", source, "--into", tmp_path / "set", "--name-tags", "%charakter%")
    assert "--name-tags" in result.stderr
    result = dataset("import", tmp_path / "gone", "--into", tmp_path / "set")
    assert result.exit_code == 2
    assert "does not exist" in result.stderr
    (tmp_path / "bad.zip").write_bytes(b"x")
    result = dataset("import", tmp_path / "bad.zip", "--into", tmp_path / "set")
    assert result.exit_code == 2
    assert "cannot be read as an archive" in result.stderr


def test_a_bomb_beside_pictures_does_not_keep_them_out(source: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(source / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", bytes(30_000_000))
    result = dataset("import", source, "--into", tmp_path / "set", "--yes")
    assert result.exit_code == 2
    assert "as bombs do" in result.output
    assert set(tree(tmp_path / "set")) == {"a.png", "a.txt", "b.png"}


def test_init_says_the_arithmetic(source: Path, tmp_path: Path) -> None:
    root = tmp_path / "zorp"
    arguments = ("init", root, "--from", source, "--steps", 100, "--epochs", 5)
    assert "2 pictures x 10 repeats = 20 samples x 5 epochs" in dataset(*arguments).output
    assert not root.exists()
    assert dataset(*arguments, "--yes").exit_code == 0
    assert set(tree(root)) == {f"img/10_zorp/{name}" for name in ("a.png", "a.txt", "b.png")}
    assert all((root / name).is_dir() for name in ("reg", "log", "mdl"))
    result = dataset(*arguments, "--yes")
    assert result.exit_code == 2
    assert "is a project already" in result.stderr
    assert result.stdout == "", "what a new one would lack is not said of it"


def test_several_folders_become_a_project_each(source: Path, tmp_path: Path) -> None:
    picture(tmp_path / "bob" / "c.png", 3)
    before = tree(source), tree(tmp_path / "bob")
    words = (source, tmp_path / "bob", source / ".", "--steps", 100, "--epochs", 5)
    result = dataset("init", *words, "--yes")
    assert result.exit_code == 0, result.output
    assert "src: 2 pictures x 10 repeats" in result.output
    assert "bob: 1 picture x 20 repeats" in result.output
    assert set(tree(tmp_path / "bob")) == {"img/20_bob/c.png"}
    hint = result.output.split("lorasmith dataset undo ")[1].split()
    assert [Path(word).name for word in hint] == ["src", "bob"]
    assert dataset("undo", source, tmp_path / "bob").exit_code == 0
    assert (tree(source), tree(tmp_path / "bob")) == before
    result = dataset("init", tmp_path / "x", tmp_path / "y", "--from", source)
    assert "--from: fills one project, and there are 2" in result.stderr


def test_gather_fetches_nothing_where_nobody_can_agree(tmp_path: Path) -> None:
    result = dataset("gather", "https://nobody.invalid/x", "--into", tmp_path / "set")
    assert result.exit_code == 2
    assert "nothing was fetched" in result.stderr
    assert not (tmp_path / "set").exists()
    result = dataset("gather", "zorp", "--into", tmp_path / "set", "--yes")
    assert "is not the address of a page" in result.stderr
