"""A change is shown, asked about, made and taken back, as on a terminal and without one."""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
from pathlib import Path
from typing import ClassVar

import click
import pytest
from click.testing import CliRunner, Result
from tests.crashes import contents

from lorasmith.cli import dataset_changes
from lorasmith.cli.dataset_changes import carry_out, change_options
from lorasmith.cli.main import cli
from lorasmith.cli.options import command_for
from lorasmith.core.errors import Problem
from lorasmith.core.events import Controls, Observer
from lorasmith.curation.changes.plan import Plan
from lorasmith.jobs.dataset.changes import FolderChangeRequest
from lorasmith.jobs.request import option, run


class ShoutRequest(FolderChangeRequest):
    """Write captions in capitals."""

    verb: ClassVar = "shout"

    forbid: bool = option(False, "Find something wrong")

    def plan(self, observer: Observer, controls: Controls) -> Plan:
        plan = Plan("shout", self.folders)
        for path in sorted(self.folders[0].glob("*.txt")):
            plan.write_text(path, path.read_bytes(), path.read_bytes().upper())
        if self.forbid:
            plan.problems.append(Problem("a.txt", "may not shout"))
        return plan


@command_for(ShoutRequest)
@change_options
def shout(request: ShoutRequest, **view: bool) -> None:
    carry_out(request, **view)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "set"
    folder.mkdir()
    for name in "ab":
        (folder / f"{name}.txt").write_text(f"zorp, {name}", encoding="utf-8")
    return folder


def call(*arguments: object, answer: str = "") -> Result:
    return CliRunner().invoke(shout, [str(each) for each in arguments], input=answer)


def dataset(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["dataset", *(str(each) for each in arguments)])


def test_without_a_terminal_nothing_is_changed(folder: Path) -> None:
    before = contents(folder)
    result = call(folder)
    assert result.exit_code == 2
    assert "{+ZORP, A+}" in result.output
    assert "add --yes" in result.stderr
    assert contents(folder) == before


def test_yes_does_it_and_undo_takes_it_back(folder: Path) -> None:
    before = contents(folder)
    result = call(folder, "--yes")
    assert result.exit_code == 0
    assert "2 files changed; take it back with: lorasmith dataset undo" in result.output
    after = contents(folder)
    assert after["a.txt"] == b"ZORP, A"
    result = dataset("undo", folder)
    assert result.output == "undone: shout (2 files)\n"
    assert contents(folder) == before
    assert dataset("undo", folder).output == "nothing to undo\n"
    assert dataset("redo", folder).output == "done again: shout (2 files)\n"
    assert contents(folder) == after


@pytest.mark.parametrize(("answer", "changes"), [("y\n", True), ("n\n", False), ("\n", False)])
def test_a_terminal_is_asked(
    folder: Path, answer: str, changes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataset_changes, "has_terminal", lambda: True)
    before = contents(folder)
    result = call(folder, answer=answer)
    assert result.exit_code == 0
    assert "Do it? [y/N]" in result.output
    assert (contents(folder) != before) == changes


def test_a_dry_run_asks_nothing(folder: Path) -> None:
    before = contents(folder)
    result = call(folder, "--dry-run", "--yes")
    assert result.exit_code == 0
    assert "2 files changed" in result.output
    assert "take it back" not in result.output
    assert contents(folder) == before
    assert not (folder / ".lorasmith").exists()


def test_problems_forbid_it(folder: Path) -> None:
    before = contents(folder)
    result = CliRunner().invoke(shout, [str(folder), "--yes", "--forbid"])
    assert "may not shout" in str(result.exception)
    assert contents(folder) == before


def test_several_are_taken_back_at_once(folder: Path) -> None:
    before = contents(folder)
    call(folder, "--yes")
    (folder / "c.txt").write_text("zorp, c", encoding="utf-8")
    call(folder, "--yes")
    assert dataset("undo", folder, 2).output.count("undone: shout") == 2
    assert contents(folder) == {**before, "c.txt": b"zorp, c"}
    assert dataset("redo", folder, "2").output.count("done again: shout") == 2
    result = dataset("undo", folder, "many")
    assert result.exit_code == 2
    assert "many: does not exist" in result.stderr
    result = dataset("undo", folder, "0")
    assert result.exit_code == 2
    assert "N: " in result.stderr


@pytest.fixture
def other(folder: Path) -> Path:
    other = folder.with_name("other")
    shutil.copytree(folder, other)
    return other


def test_several_folders_are_taken_back_together(folder: Path, other: Path) -> None:
    before = contents(folder)
    for _ in range(2):
        call(folder, "--yes")
        call(other, "--yes")
        for place in (folder, other):
            (place / "c.txt").write_text("zorp, c", encoding="utf-8")
    output = dataset("undo", folder, other, folder, 2).output
    assert output.count("undone: shout") == 4
    assert output.count("other\n") == 2
    for place in (folder, other):
        assert contents(place) == {**before, "c.txt": b"zorp, c"}
    value = json.loads(dataset("redo", folder, other, "--json").stdout)["datasets"]
    assert [(each["root"], len(each["entries"]), each["conflicts"]) for each in value] == [
        (str(folder), 1, []),
        (str(other), 1, []),
    ]
    output = dataset("history", folder, other).output
    assert output.count("earlier contents take") == 2
    value = json.loads(dataset("history", folder, other, "--json").stdout)["datasets"]
    assert [each["root"] for each in value] == [str(folder), str(other)]
    assert [entry["state"] for each in value for entry in each["entries"]] == 2 * [
        "applied",
        "undone",
    ]


def test_nothing_is_taken_back_where_one_folder_is_not_there(folder: Path) -> None:
    call(folder, "--yes")
    after = contents(folder)
    result = dataset("undo", folder, "nowhere", "no place")
    assert result.exit_code == 2
    assert "nowhere: does not exist" in result.stderr
    assert "no place: does not exist" in result.stderr
    assert contents(folder) == after


def test_a_dataset_that_another_command_is_at_work_on(
    folder: Path, other: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lorasmith.curation.changes.journal.WAIT", 0.1)
    for place in (folder, other):
        call(place, "--yes")
    with contextlib.closing(sqlite3.connect(other / ".lorasmith/journal.sqlite")) as database:
        database.execute("BEGIN IMMEDIATE")
        result = dataset("undo", folder, other)
    assert result.exit_code == 2
    assert "another command is at work on this dataset" in result.stderr
    assert "set: this one is done already" in " ".join(result.output.split())
    assert (folder / "a.txt").read_text() == "zorp, a"


def test_a_folder_that_is_called_as_a_number(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    number = folder.rename(folder.with_name("2"))
    monkeypatch.chdir(number.parent)
    call("2", "--yes")
    assert dataset("undo", "2").output == "undone: shout (2 files)\n"
    assert dataset("redo", "./2").output == "done again: shout (2 files)\n"


def test_json(folder: Path) -> None:
    planned = call(folder, "--json")
    assert planned.exit_code == 2
    assert json.loads(planned.stdout)["applied"] is None
    done = call(folder, "--json", "--yes")
    value = json.loads(done.stdout)
    assert value["changes"][0]["after"] == "ZORP, A"
    assert value["applied"] == {"counts": {"write": 2}, "conflicts": []}


def test_as_a_library_it_is_done_at_once(folder: Path) -> None:
    report = run(ShoutRequest(folders=[folder]))
    assert report.applied is not None
    assert report.applied.counts == {"write": 2}
    assert run(ShoutRequest(folders=[folder], dry_run=True)).applied is None


def test_history(folder: Path) -> None:
    assert "nothing was changed" in dataset("history", folder).output
    call(folder, "--yes")
    output = dataset("history", folder).output
    assert "shout" in output
    assert "earlier contents take 28 bytes" in output
    dataset("undo", folder)
    assert "shout (undone)" in dataset("history", folder).output
    entry = json.loads(dataset("history", folder, "--json").stdout)["entries"][0]
    assert (entry["command"], entry["state"], entry["files"]) == ("shout", "undone", 2)
    assert dataset("history", folder, "--prune").exit_code == 2
    assert "freed" in dataset("history", folder, "--prune", "--yes").output
    assert "nothing was changed" in dataset("history", folder).output


def test_what_pruning_frees_as_json(folder: Path) -> None:
    call(folder, "--yes")
    assert "bytes_freed" not in json.loads(dataset("history", folder, "--json").stdout)
    value = json.loads(dataset("history", folder, "--json", "--prune", "--yes").stdout)
    assert (value["bytes_freed"], value["bytes_kept"], value["entries"]) == (28, 0, [])


def test_conflicts_are_named_within_the_dataset(folder: Path) -> None:
    call(folder, "--yes")
    (folder / "a.txt").write_text("by hand", encoding="utf-8")
    result = dataset("undo", folder)
    assert "  a.txt: somebody else changed it since" in result.stderr


def test_undo_and_redo_as_json(folder: Path) -> None:
    call(folder, "--yes")
    (folder / "a.txt").write_text("by hand")
    result = dataset("undo", folder, "--json")
    report = json.loads(result.stdout)
    assert result.exit_code == 2
    assert [(entry["command"], entry["state"]) for entry in report["entries"]] == [
        ("shout", "undone")
    ]
    assert "a.txt: somebody else changed it since" in report["conflicts"][0]
    assert json.loads(dataset("undo", folder, "--json").stdout)["entries"] == []
    assert json.loads(dataset("redo", folder, "--json").stdout)["entries"][0]["state"] == "applied"


def test_what_somebody_changed_since_is_named(folder: Path) -> None:
    call(folder, "--yes")
    (folder / "a.txt").write_text("by hand", encoding="utf-8")
    result = dataset("undo", folder)
    assert result.exit_code == 2
    assert "undone: shout (1 file)" in result.stdout
    assert "a.txt: somebody else changed it since" in result.stderr
    assert (folder / "b.txt").read_text("utf-8") == "zorp, b"


def test_a_folder_that_is_not_there() -> None:
    for verb in ("undo", "redo", "history"):
        result = dataset(verb, "nowhere")
        assert result.exit_code == 2
        assert "nowhere: does not exist" in result.stderr


def test_a_mistyped_verb_has_a_hint() -> None:
    result = dataset("histry")
    assert result.exit_code == 2
    assert "did you mean 'history'?" in result.stderr
    assert isinstance(cli, click.Group)
