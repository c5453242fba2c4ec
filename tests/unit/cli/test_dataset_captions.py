"""``lorasmith dataset edit``: the options stay in the order in which they are given."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from lorasmith.cli.main import cli


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, caption in {"a": "hat, smile", "b": "red hat"}.items():
        Image.new("RGB", (32, 32)).save(tmp_path / f"{name}.png")
        (tmp_path / f"{name}.txt").write_text(caption)
    return tmp_path


def lorasmith(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, ["dataset", *map(str, arguments)])


def test_operations_are_done_in_the_order_of_the_command_line(folder: Path) -> None:
    options = ["--replace", "hat=cap", "--add", "x", "--at", "front", "--rotate", "--do", "add=y"]
    result = lorasmith("edit", folder, *options, "--swap", "1", "-1", "--yes")
    assert result.exit_code == 0, result.output
    assert (folder / "a.txt").read_text() == "y, smile, x, cap"
    options = ["--rotate", "--remove", "cap", "--rotate", "--add", "cap"]
    lorasmith("edit", folder, *options, "--yes")
    assert (folder / "a.txt").read_text() == "x, y, smile, cap"


def test_a_dry_run_shows_and_changes_nothing(folder: Path) -> None:
    result = lorasmith("edit", folder, "--remove", "hat", "--dry-run")
    assert result.exit_code == 0
    assert "a.txt" in result.output
    assert "b.txt" not in result.output
    assert (folder / "a.txt").read_text() == "hat, smile"


def test_without_a_terminal_and_without_yes_nothing_is_changed(folder: Path) -> None:
    result = lorasmith("edit", folder, "--remove", "hat")
    assert result.exit_code == 2
    assert (folder / "a.txt").read_text() == "hat, smile"


def test_mistakes_are_told_together_under_their_options(folder: Path) -> None:
    result = lorasmith("edit", folder, "--swap", "1", "x", "--sort", "size", "--yes")
    assert result.exit_code == 2
    assert "--swap: 'x' is not a position" in result.stderr
    assert "--sort: 'size' is not known" in result.stderr


def test_images_are_deleted_only_by_a_filter(folder: Path) -> None:
    result = lorasmith("edit", folder, "--delete-images", "--yes")
    assert result.exit_code == 2
    assert "--delete-images: it would take every picture" in result.stderr
    result = lorasmith("edit", folder, "--delete-images", "--where", "tag:hat", "--yes")
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in folder.glob("*.*")) == [".lorasmith", "b.png", "b.txt"]
    lorasmith("undo", folder)
    assert (folder / "a.txt").read_text() == "hat, smile"
    result = lorasmith("edit", folder, "--delete-images", "--where", "b", "--rotate", "--yes")
    assert result.exit_code == 2


def test_a_caption_that_gets_longer_than_is_read_is_shown_with_its_tokens(folder: Path) -> None:
    tags = [f"--add=cat {word}" for word in "abcdefghijklmnopqrstuvwxyz"]
    output = lorasmith("edit", folder, *tags, "--dry-run").output
    assert "(81 tokens)" in output  # hat and smile, and 26 times three
    assert "(80 tokens)" in output  # red hat
    assert "tokens)" not in lorasmith("edit", folder, *tags[:20], "--dry-run").output
