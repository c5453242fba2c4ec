"""The commands of docs/dataset-import.md run, in the page's order, on files of its names."""

from __future__ import annotations

import importlib.util
import shlex
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.docs.test_docs import command_lines
from tests.unit.curation.importing.booru_server import booru
from tests.unit.curation.importing.test_import_images import picture, tree

from lorasmith.cli.main import cli
from lorasmith.curation.importing.project import work_out

PAGE = Path(__file__).parents[2] / "docs" / "dataset-import.md"


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for number in range(12):
        path = picture(tmp_path / "downloads" / f"{number}.png", number)
        Path(f"{path}.txt").write_text("artist:someone\ncharacter:zorp\nlong_hair\nmeta:highres\n")
    with zipfile.ZipFile(tmp_path / "more.zip", "w") as archive:
        archive.write(picture(tmp_path / "one.png", 100), "one.png")
    for number in range(3):
        picture(tmp_path / "pile" / f"{number}.png", 200 + number)
    picture(tmp_path / "named" / "some_one" / "zorp" / "0123.png", 300)
    return tmp_path


def test_its_commands(files: Path) -> None:
    lines = list(command_lines(PAGE.read_text(encoding="utf-8")))
    assert len(lines) >= 9
    for line in lines:
        if "dataset gather" in line:
            continue
        words = shlex.split(line)[1:]
        result = CliRunner().invoke(cli, [*words, "--yes"])
        assert result.exit_code == 0, f"{line}\n{result.output}"
        assert "take it back with" in result.output, f"{line}\n{result.output}"
    assert tree(files / "zorp")["img/25_zorp/0.txt"] == "someone, zorp, long hair"
    assert "img/25_zorp/one.png" in tree(files / "zorp")
    assert "img/33_zorp/0.png" in tree(files / "pile")
    assert tree(files / "set")["0.txt"] == "zorp, long hair, someone"
    assert tree(files / "all")["0.txt"] == "someone, zorp, long_hair, highres"
    assert tree(files / "grabbed")["0123.txt"] == "some one, zorp"


def test_its_arithmetic() -> None:
    sums = work_out(30, steps=1500, epochs=10, batch=10)
    assert str(sums) in PAGE.read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.skipif(not importlib.util.find_spec("gallery_dl"), reason="the extra gather")
def test_gather_of_another_site(files: Path) -> None:
    with booru(2) as site:
        for line in command_lines(PAGE.read_text(encoding="utf-8")):
            if "dataset gather" in line:
                words = shlex.split(line)[1:]
                words[2] = words[2].replace(
                    "https://danbooru.donmai.us/posts?tags=", site.search("")
                )
                result = CliRunner().invoke(cli, [*words, "--yes"])
                assert result.exit_code == 0, f"{line}\n{result.output}"
    assert sum(name.endswith(".png") for name in tree(files / "gathered")) == 2
