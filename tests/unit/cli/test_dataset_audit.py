"""``lorasmith dataset audit`` from the outside."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tests.audits import faultless

import lorasmith
from lorasmith.cli.main import cli


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three images, one of them twice."""
    folder = tmp_path / "my set"
    folder.mkdir()
    for number in range(3):
        faultless(number).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(f"zorp, hat {number}")
    shutil.copy(folder / "0.png", folder / "3.png")
    (folder / "3.txt").write_text("zorp, hat 0")
    return folder


def audit(folder: Path, *words: str) -> Result:
    return CliRunner().invoke(cli, ["dataset", "audit", str(folder), "--resolution", "64", *words])


def test_what_is_found_is_told(folder: Path) -> None:
    result = audit(folder)
    assert result.exit_code == 0, result.output
    assert "same-file" in result.stdout


def test_json_is_of_everything(folder: Path) -> None:
    value = json.loads(audit(folder, "--json").stdout)
    assert value["images"] == 4
    (finding,) = [one for one in value["findings"] if one["rule"] == "same-file"]
    assert [Path(path).name for path in finding["images"]] == ["0.png", "3.png"]
    assert finding["command"].endswith(f"--fix {finding['id']}")
    assert "'" in finding["command"], "the folder has a space"


def test_what_forbids_training_is_exit_status_2(folder: Path) -> None:
    (folder / "1.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    assert audit(folder).exit_code == 2


def test_what_forbids_training_cannot_be_ignored(folder: Path) -> None:
    (folder / "1.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    (found,) = [
        one["id"]
        for one in json.loads(audit(folder, "--json").stdout)["findings"]
        if one["rule"] == "unreadable"
    ]
    for one in ("unreadable", found):
        refused = audit(folder, "--ignore", one)
        assert refused.exit_code == 2
        assert "cannot be ignored" in " ".join(refused.output.split())
    # As an older dataset may have it.
    (folder / ".lorasmith" / "audit.json").write_text('{"ignored": ["unreadable"]}', "utf-8")
    result = audit(folder)
    assert result.exit_code == 2
    assert "unreadable" in result.stdout
    assert audit(folder, "--fix", "unreadable", "--yes").exit_code == 0
    assert not (folder / "1.png").exists()


def test_a_fix_is_shown_done_and_taken_back(folder: Path) -> None:
    result = audit(folder, "--fix", "same-file", "--dry-run")
    assert result.exit_code == 0, result.output
    assert (folder / "3.png").exists()
    assert audit(folder, "--fix", "same-file").exit_code == 2, "nobody to ask"
    result = audit(folder, "--fix", "same-file", "--yes")
    assert result.exit_code == 0, result.output
    assert not (folder / "3.png").exists()
    CliRunner().invoke(cli, ["dataset", "undo", str(folder)])
    assert (folder / "3.png").exists()


def test_what_is_ignored_is_remembered_and_can_be_heard_of_again(folder: Path) -> None:
    assert audit(folder, "--ignore", "same-file").exit_code == 0
    value = json.loads(audit(folder, "--json").stdout)
    assert "same-file" not in [one["rule"] for one in value["findings"]]
    assert "same-file" in [one["rule"] for one in value["ignored"]]
    assert "ignored" in audit(folder).stdout
    value = json.loads(audit(folder, "--unignore", "same-file", "--json").stdout)
    assert "same-file" in [one["rule"] for one in value["findings"]]


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--ignore", "same-fil"], "did you mean same-file"),
        (["--unignore", "same-file"], "is not ignored"),
        (["--fix", "same-file", "--ignore", "dark"], "does not go with --fix"),
        (["--dry-run"], "is for --fix"),
        (["--ignore", "dark", "--unignore", "dark"], "choose one"),
    ],
)
def test_mistakes_are_told(folder: Path, words: list[str], part: str) -> None:
    result = audit(folder, *words)
    assert result.exit_code == 2
    assert part in " ".join(result.output.split())
    assert not (folder / ".lorasmith" / "audit.json").exists()


@pytest.mark.parametrize("name", ["0.png", "0.txt"])
def test_a_page_takes_no_pictures_place(folder: Path, name: str) -> None:
    before = (folder / name).read_bytes()
    result = audit(folder, "--html", str(folder / name))
    assert result.exit_code == 2
    assert "no page that could be replaced" in result.stderr
    assert (folder / name).read_bytes() == before


def test_a_page_is_written(folder: Path, tmp_path: Path) -> None:
    result = audit(folder, "--html", str(tmp_path / "page.html"))
    assert result.exit_code == 0, result.output
    assert "same-file" in (tmp_path / "page.html").read_text("utf-8")
    again = audit(folder, "--html", str(tmp_path / "page.html"))
    assert again.exit_code == 0, again.output


def test_the_library_does_the_same(folder: Path) -> None:
    found = lorasmith.audit(folder)
    assert "same-file" in [one.rule for one in found.findings]
    mended = lorasmith.audit(folder, fix=["same-file"])
    assert "same-file" not in [one.rule for one in mended.findings]
    assert not (folder / "3.png").exists()
