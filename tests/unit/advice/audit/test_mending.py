"""Fixes of several rules as one plan."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tests.audits import MakeDataset, inputs_of

from lorasmith.advice.audit.audit import audit_dataset
from lorasmith.advice.audit.mending import plan_fixes
from lorasmith.advice.audit.rules import RULES
from lorasmith.core.errors import UserError
from lorasmith.curation.changes.journal import Journal


@pytest.fixture
def folder(dataset: MakeDataset) -> Path:
    """Two faults that are safe to mend (a copy, a tag about the file), and one that is not."""
    folder = dataset({f"{letter}.png": "zorp, hat" for letter in "abcdef"})
    shutil.copy(folder / "a.png", folder / "z.png")
    (folder / "z.txt").write_text("zorp, cap")
    (folder / "b.txt").write_text("zorp, hat, highres")
    (folder / "f.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_all_that_is_safe_is_mended_at_once_and_taken_back_at_once(folder: Path) -> None:
    before = contents(folder)
    mending = plan_fixes(inputs_of(folder), ["all-safe"], [], RULES)
    mending.plan.apply()
    after = contents(folder)
    assert before.keys() == after.keys(), "a copy may have the better caption"
    assert after["b.txt"] == b"zorp, hat"
    assert after["f.png"] == before["f.png"]
    with Journal(folder) as journal:
        assert [entry.command for entry in journal.history()] == ["audit --fix all-safe"]
        journal.undo(1)
    assert contents(folder) == before


def test_one_finding_is_mended_by_its_id(folder: Path) -> None:
    (folder / "c.txt").write_text("zorp, hat, absurdres")
    rules = [rule for rule in RULES if rule.id == "same-file"]
    shutil.copy(folder / "b.png", folder / "y.png")
    keys = {f.images[0].name: f.key for f in audit_dataset(inputs_of(folder), rules=rules).findings}
    plan_fixes(inputs_of(folder), [keys["b.png"]], [], RULES).plan.apply()
    assert not (folder / "y.png").exists()
    assert (folder / "z.png").exists()


def test_what_is_ignored_stays_unless_it_is_named(folder: Path) -> None:
    inputs = inputs_of(folder)
    (finding,) = audit_dataset(
        inputs, rules=[rule for rule in RULES if rule.id == "same-file"]
    ).findings
    assert not plan_fixes(inputs, ["same-file"], ["same-file"], RULES).plan.changes
    assert plan_fixes(inputs, [finding.key], [finding.key], RULES).plan.changes


def test_changes_to_one_file_follow_each_other(folder: Path) -> None:
    """The copy goes; what is wrong with its caption is left, and nothing of it afterwards."""
    (folder / "z.txt").write_text("zorp, hat, highres")
    (folder / "a.txt").write_text("zorp, hat, cap, bag")  # so that this one is the best
    first = plan_fixes(inputs_of(folder), ["all-safe", "same-file"], [], RULES)
    assert first.later == 1
    first.plan.apply()
    second = plan_fixes(inputs_of(folder), ["all-safe", "same-file"], [], RULES)
    assert (second.plan.changes, second.later) == ([], 0)


@pytest.mark.parametrize(
    ("one", "part"),
    [
        ("same-fil", "did you mean same-file"),
        ("too-small", "no command"),
        ("same-file:00000000", "any more"),
    ],
)
def test_ids_that_mend_nothing_are_told(folder: Path, one: str, part: str) -> None:
    with pytest.raises(UserError, match=part):
        plan_fixes(inputs_of(folder), [one], [], RULES)
