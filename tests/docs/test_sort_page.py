"""What docs/dataset-sort.md says of other programs' commands, on the same files."""

from __future__ import annotations

import csv
import json
import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

from lorasmith.cli.main import cli

PAGE = (Path(__file__).parents[2] / "docs" / "dataset-sort.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| `(\w+)\.py ([^`]+)` \| `lorasmith ([^`]+)`", PAGE, re.MULTILINE)
CAPTIONS = {"a": "zorp, hat, smile", "b": "zorp, red hat", "c": "dog, sky", "d": "zorp, hat, sky"}


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name, caption in CAPTIONS.items():
        Image.new("RGB", (32, 32)).save(folder / f"{name}.png")
        (folder / f"{name}.txt").write_text(caption, encoding="utf-8")
    return folder


def theirs(script: str, arguments: list[str]) -> object:
    """What the guides' scripts say of these files: the text in the whole caption; the tag at a
    place from 0; the distinct slices of tags."""
    tags = {name: caption.split(", ") for name, caption in CAPTIONS.items()}
    if script == "LookForTag":
        return {name for name, caption in CAPTIONS.items() if arguments[1] in caption}
    if script == "TriggerDebug":
        return {name: each[int(arguments[1])] for name, each in tags.items()}
    assert script == "GrabTriggers"
    first, end = map(int, arguments[1:])
    return {", ".join(each[first:end]) for each in tags.values()}


def ours(script: str, command: str) -> object:
    output = CliRunner().invoke(cli, shlex.split(command)).stdout
    if script == "GrabTriggers":
        return set(next(csv.reader([output])))
    files = json.loads(CliRunner().invoke(cli, [*shlex.split(command), "--json"]).stdout)["files"]
    found = {Path(file["path"]).stem: file["tag"] for file in files}
    return set(found) if script == "LookForTag" else found


@pytest.mark.parametrize(("script", "arguments", "command"), ROWS, ids=[row[0] for row in ROWS])
def test_the_same_of_the_same_files(
    script: str, arguments: str, command: str, pictures: Path
) -> None:
    assert ours(script, command) == theirs(script, arguments.split())


def test_there_are_rows() -> None:
    assert len(ROWS) == 3
