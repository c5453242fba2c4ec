"""What the journal does can be taken back, whatever happens in between."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.crashes import check_every_kill, contents

from lorasmith.core.errors import DatasetError, WriteError
from lorasmith.core.events import Event, Notice
from lorasmith.curation.changes.journal import Journal, Outcome
from lorasmith.curation.changes.plan import Plan, ordered_moves
from lorasmith.curation.changes.trash import SMALL, STORE, Trash
from lorasmith.curation.collection import open_collection

BIG = bytes(range(256)) * (SMALL // 256 + 1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two images with captions, one of them large, and one more in a folder of its own."""
    folder = tmp_path / "set"
    (folder / "10_zorp").mkdir(parents=True)
    for name, data in (("a", BIG), ("b", b"\x89PNG small"), ("10_zorp/c", BIG[::-1])):
        (folder / f"{name}.png").write_bytes(data)
        (folder / f"{name}.txt").write_bytes(f"zorp, {name}\r\n".encode())
    return folder


def plan(folder: Path) -> Plan:
    return Plan("test", [folder])


def edit(folder: Path) -> None:
    changes = plan(folder)
    for path in sorted(folder.rglob("*.txt")):
        data = path.read_bytes()
        changes.write_text(path, data, data.replace(b"zorp", b"zorp, hat"))
    changes.write_text(folder / "new" / "d.txt", None, b"a new one")
    changes.apply()


def rename(folder: Path) -> None:
    """A chain, a ring, and a name in a new folder."""
    changes = plan(folder)
    changes.move(folder / "a.png", folder / "b.png")
    changes.move(folder / "b.png", folder / "a.png")
    changes.move(folder / "a.txt", folder / "e.txt")
    changes.move(folder / "b.txt", folder / "a.txt")
    changes.move(folder / "10_zorp" / "c.png", folder / "20_more" / "deep" / "c.png")
    changes.apply()


def remove(folder: Path) -> None:
    changes = plan(folder)
    for path in folder.rglob("*"):
        if path.is_file() and STORE not in path.parts:
            changes.remove(path)
    changes.apply()


def redraw(folder: Path) -> None:
    """Images with other contents, large and small, in place of old ones and new."""
    changes = plan(folder)
    changes.write_file(folder / "a.png", lambda path: _write(path, BIG + b"!"), what="cropped")
    changes.write_file(folder / "b.png", lambda path: _write(path, b"other"), what="cropped")
    changes.write_file(folder / "d.png", lambda path: _write(path, BIG + b"?"), what="a copy")
    changes.write_file(folder / "e.png", lambda path: _write(path, BIG + b"?"), what="a copy")
    changes.apply()


def mixed(folder: Path) -> None:
    """One makes room for another, whose old name a third gets."""
    changes = plan(folder)
    changes.remove(folder / "b.png")
    changes.move(folder / "a.png", folder / "b.png")
    changes.write_file(folder / "a.png", lambda path: _write(path, BIG * 2), what="larger")
    changes.write_text(folder / "a.txt", (folder / "a.txt").read_bytes(), b"")
    changes.apply()


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)


ACTIONS = [edit, rename, remove, redraw, mixed]


@pytest.mark.parametrize("action", ACTIONS)
def test_undo_and_redo(folder: Path, action: Callable[[Path], None]) -> None:
    old = contents(folder)
    action(folder)
    new = contents(folder)
    assert new != old
    for _ in range(2):
        with Journal(folder) as journal:
            (outcome,) = journal.undo()
            assert not outcome.conflicts
            assert contents(folder) == old
            (outcome,) = journal.redo()
            assert not outcome.conflicts
            assert contents(folder) == new


def test_all_actions_one_after_another_and_back(folder: Path) -> None:
    states = [contents(folder)]
    for action in (edit, redraw, rename, remove):
        action(folder)
        states.append(contents(folder))
    with Journal(folder) as journal:
        assert [entry.state for entry in journal.history()] == ["applied"] * 4
        for state in states[-2::-1]:
            journal.undo()
            assert contents(folder) == state
        journal.redo(4)
        assert contents(folder) == states[-1]
        journal.undo(4)
    assert contents(folder) == states[0]
    assert not (folder / "new").exists(), "a folder that was made goes again"


@pytest.mark.parametrize("action", ACTIONS)
def test_a_kill_leaves_old_or_new(folder: Path, action: Callable[[Path], None]) -> None:
    def recover() -> None:
        Journal(folder).close()

    assert check_every_kill(folder, lambda: action(folder), recover) > 10


@pytest.mark.parametrize("action", ACTIONS)
def test_a_kill_while_undoing(folder: Path, action: Callable[[Path], None]) -> None:
    old = contents(folder)
    action(folder)
    new = contents(folder)

    def undo() -> None:
        with Journal(folder) as journal:
            journal.undo()

    def recover() -> None:
        with Journal(folder) as journal:
            # Whatever it is now, it can be turned.
            if contents(folder) == new:
                journal.undo()
            assert contents(folder) == old
            journal.redo()
            assert contents(folder) == new

    check_every_kill(folder, undo, recover)


def test_a_real_kill(folder: Path) -> None:
    """With SIGKILL, at some moment in ten thousand small files' work."""
    for number in range(400):
        (folder / f"{number}.txt").write_text(f"zorp, {number}", encoding="utf-8")
    old = contents(folder)
    program = (
        "import sys; from pathlib import Path\n"
        "from tests.unit.curation.changes.test_journal import edit\n"
        "print('go', flush=True); edit(Path(sys.argv[1]))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(folder)],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[4],
    )
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(0.03)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    with Journal(folder) as journal:
        done = [entry.state for entry in journal.history()]
        assert done in ([], ["applied"])
        if not done:
            assert contents(folder) == old
        journal.undo()
    assert contents(folder) == old


def test_undo_leaves_what_somebody_else_changed(folder: Path) -> None:
    old = contents(folder)
    edit(folder)
    (folder / "a.txt").write_text("by hand", encoding="utf-8")
    with Journal(folder) as journal:
        (outcome,) = journal.undo()
        assert [Path(problem.where).name for problem in outcome.conflicts] == ["a.txt"]
        assert contents(folder) == {**old, "a.txt": b"by hand"}
        journal.redo()
        assert (folder / "a.txt").read_text("utf-8") == "by hand"
        assert b"hat" in (folder / "b.txt").read_bytes()


def test_undo_of_a_move_whose_old_name_is_taken(folder: Path) -> None:
    changes = plan(folder)
    changes.move(folder / "a.txt", folder / "z.txt")
    changes.apply()
    (folder / "a.txt").write_text("another", encoding="utf-8")
    with Journal(folder) as journal:
        (outcome,) = journal.undo()
    assert "a.txt is there already" in str(outcome.conflicts[0])
    assert (folder / "a.txt").read_text("utf-8") == "another"
    assert (folder / "z.txt").read_bytes() == b"zorp, a\r\n"


def test_nothing_is_changed_where_a_file_changed_meanwhile(folder: Path) -> None:
    changes = plan(folder)
    for name in ("a.txt", "b.txt"):
        data = (folder / name).read_bytes()
        changes.write_text(folder / name, data, data + b"!")
    (folder / "b.txt").write_text("by hand", encoding="utf-8")
    before = contents(folder)
    with pytest.raises(DatasetError, match=r"b\.txt: somebody else changed it"):
        changes.apply()
    assert contents(folder) == before
    assert Journal(folder).history() == []


def test_a_new_change_ends_redo(folder: Path) -> None:
    edit(folder)
    with Journal(folder) as journal:
        journal.undo()
        rename(folder)
        assert journal.redo() == []
        assert [entry.state for entry in journal.history()] == ["dropped", "applied"]


def test_empty_folders_come_and_go(folder: Path) -> None:
    def folders() -> set[str]:
        return {path.name for path in folder.iterdir() if path.is_dir()} - {STORE}

    changes = plan(folder)
    for name in ("reg", "mdl", "10_zorp"):
        changes.make_folder(folder / name)
    assert changes.counts() == {"folder": 2}
    changes.apply()
    assert folders() == {"10_zorp", "reg", "mdl"}
    with Journal(folder) as journal:
        journal.undo()
        assert folders() == {"10_zorp"}
        journal.redo()
        assert folders() == {"10_zorp", "reg", "mdl"}
        (folder / "reg" / "a.png").write_bytes(b"somebody's")
        journal.undo()
        assert folders() == {"10_zorp", "reg"}
    changes = plan(folder)
    changes.make_folder(folder / "a.png")
    with pytest.raises(DatasetError, match="is there already"):
        changes.apply()


def test_prune_frees_what_is_kept(folder: Path) -> None:
    redraw(folder)
    edit(folder)
    new = contents(folder)
    with Journal(folder) as journal:
        kept = journal.bytes_kept()
        assert kept >= len(BIG)
        freed = journal.prune(keep=1)
        assert freed >= len(BIG)
        assert [entry.command for entry in journal.history()] == ["test"]
        assert contents(folder) == new
        journal.undo()
        journal.prune()
        assert journal.bytes_kept() == 0
        assert journal.history() == []


def test_links_stay_links(folder: Path) -> None:
    (folder / "link.png").symlink_to("a.png")
    old = contents(folder)
    changes = plan(folder)
    changes.remove(folder / "link.png")
    changes.move(folder / "a.png", folder / "z.png")
    changes.apply()
    assert not os.path.lexists(folder / "link.png")
    with Journal(folder) as journal:
        journal.undo()
    assert contents(folder) == old


def test_the_rights_of_a_file_stay(folder: Path) -> None:
    (folder / "a.txt").chmod(0o640)
    edit(folder)
    assert (folder / "a.txt").stat().st_mode & 0o777 == 0o640
    with Journal(folder) as journal:
        journal.undo()
    assert (folder / "a.txt").stat().st_mode & 0o777 == 0o640


def test_a_damaged_journal_is_said(folder: Path) -> None:
    edit(folder)
    (folder / STORE / "journal.sqlite").write_bytes(b"not a database" * 1000)
    with pytest.raises(DatasetError, match="damaged"):
        Journal(folder)


def test_another_command_at_work_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lorasmith.curation.changes.journal.WAIT", 0.05)
    Journal(folder).close()
    with sqlite3.connect(folder / STORE / "journal.sqlite", isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(DatasetError, match="another command is at work"):
            edit(folder)


def test_reading_the_dataset_finishes_what_was_interrupted(folder: Path) -> None:
    old = contents(folder)
    edit(folder)
    with Journal(folder) as journal:
        new = contents(folder)
        journal.undo()
    with sqlite3.connect(folder / STORE / "journal.sqlite") as other:
        other.execute("UPDATE entries SET state = 'redoing'")
    assert contents(folder) == old
    events: list[Event] = []
    open_collection(folder, observer=events.append)
    assert contents(folder) == new
    assert isinstance(events[0], Notice)
    assert events[0].text.startswith("finished what was interrupted: ")
    open_collection(folder, observer=events.append)
    assert len(events) == 1


def test_what_another_command_finished_while_this_one_waited_is_not_done_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A ring of names, done twice, would be another one."""
    rename(folder)
    new = contents(folder)
    database = folder / STORE / "journal.sqlite"
    with sqlite3.connect(database) as other:
        other.execute("UPDATE entries SET state = 'applying'")
    finish = Journal._finish

    def finish_later(journal: Journal, number: int) -> Outcome | None:
        with sqlite3.connect(database) as other:
            other.execute("UPDATE entries SET state = 'applied'")
        return finish(journal, number)

    monkeypatch.setattr(Journal, "_finish", finish_later)
    with Journal(folder) as journal:
        assert journal.recovered == []
    assert contents(folder) == new


def test_a_folder_of_the_journal_that_cannot_be_written_is_said(folder: Path) -> None:
    edit(folder)
    progress = folder / STORE / "progress"
    progress.unlink()
    progress.mkdir()
    new = contents(folder)
    with pytest.raises(WriteError, match="cannot be written"), Journal(folder) as journal:
        journal.undo()
    assert contents(folder) == new


def test_a_disk_that_fills_up_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite has ended the transaction by then."""

    def remember(trash: Trash, contents: object) -> None:
        trash._database.execute("ROLLBACK")
        raise sqlite3.OperationalError("database or disk is full")

    old = contents(folder)
    monkeypatch.setattr(Trash, "remember", remember)
    with pytest.raises(DatasetError, match="database or disk is full"):
        edit(folder)
    assert contents(folder) == old


def test_what_a_killed_command_staged_goes_when_it_is_old(folder: Path) -> None:
    edit(folder)
    staging = folder / STORE / "staging"
    for name in ("99-1.png", "99-2.png", "parked-1"):
        (staging / name).write_bytes(b"x")
    for name in ("99-2.png", "parked-1"):
        os.utime(staging / name, (0, 0))
    Journal(folder).close()
    assert sorted(path.name for path in staging.iterdir()) == ["99-1.png", "parked-1"]


def test_without_a_journal_nothing_is_made(folder: Path) -> None:
    with Journal(folder, make=False) as journal:
        assert journal.history() == []
        assert journal.undo() == []
    assert not (folder / STORE).exists()


def test_where_files_have_no_links(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on exFAT: contents are copied into the trash."""

    def link(*_: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(os, "link", link)
    old = contents(folder)
    redraw(folder)
    with Journal(folder) as journal:
        journal.undo()
    assert contents(folder) == old


NAMES = [f"{letter}.png" for letter in "abcdefg"]


@given(st.permutations(NAMES), st.integers(0, len(NAMES)))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_order_of_names(tmp_path: Path, targets: list[str], count: int) -> None:
    """Every permutation is a possible rename; of a part of one, what finds its name free."""
    moves = {name: new for name, new in zip(NAMES, targets, strict=True) if name != new}
    folder = tmp_path / "set"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name in NAMES:
        (folder / name).write_text(name, encoding="utf-8")
    old = contents(folder)
    changes = plan(folder)
    for name in list(moves)[:count]:
        changes.move(folder / name, folder / moves[name])
    changes.apply()
    for change in changes.changes:
        assert change.target is not None
        assert change.target.read_text("utf-8") == change.path.name
    moved = {change.path.name for change in changes.changes}
    for name in set(NAMES) - moved:
        assert (folder / name).read_text("utf-8") == name
    assert bool(changes.skipped) == (len(moved) < len(list(moves)[:count]))
    if changes.changes:
        with Journal(folder) as journal:
            journal.undo()
    assert contents(folder) == old


@given(st.permutations(range(40)))
def test_no_name_is_taken_when_its_turn_comes(targets: list[int]) -> None:
    moves = {str(i): str(n) for i, n in enumerate(targets) if i != n}
    names = {str(i): str(i) for i in range(40)}
    for step in ordered_moves(moves):
        assert step.target not in names
        assert step.target is not None
        names[step.target] = names.pop(step.path)
    assert names == {moves.get(str(i), str(i)): str(i) for i in range(40)}
