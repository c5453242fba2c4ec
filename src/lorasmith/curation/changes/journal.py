"""The one writer of a dataset's captions and images: what it does can be undone, and a kill in the
middle leaves nothing half done.

An entry is a list of steps: a path gets another content (or none, or had none), or another name.
Before the first step is taken, the entry with all contents that it needs is in
``.lorasmith/journal.sqlite``; whoever opens the journal next finishes what a killed process began.
After each step a few bytes in ``.lorasmith/progress`` say how many are done; of the one after
these, what its path is tells whether it is.
"""

from __future__ import annotations

import contextlib
import os
import posixpath
import sqlite3
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from lorasmith.core.disk import remove_file, rename, write_error
from lorasmith.core.errors import DatasetError, Problem
from lorasmith.core.text import quantity
from lorasmith.curation.changes.trash import SMALL, STORE, Trash, state_of
from lorasmith.data.cache.file_memo import hash_bytes

NAME = "journal.sqlite"
WAIT = 10.0  # seconds for another command's work on the same dataset

State = Literal["applying", "applied", "undoing", "undone", "redoing", "dropped"]
UNFINISHED = ("applying", "undoing", "redoing")

_SCHEMA = """
CREATE TABLE IF NOT EXISTS entries (
    id INTEGER PRIMARY KEY, time TEXT NOT NULL, command TEXT NOT NULL, state TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS steps (
    entry INTEGER NOT NULL, number INTEGER NOT NULL, path TEXT NOT NULL, target TEXT,
    before TEXT, after TEXT, staged TEXT, skipped INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (entry, number)
);
CREATE TABLE IF NOT EXISTS folders (entry INTEGER NOT NULL, path TEXT NOT NULL);
"""


@dataclass(frozen=True, slots=True)
class Step:
    """One change of one path, relative to the dataset's root, with ``/``.

    Args:
        path: that changes.
        target: its new name; ``None`` where its content changes.
        before: what the path is before (see :func:`lorasmith.curation.changes.trash.state_of`).
        after: and after it.
        staged: the file that becomes the path, relative to the root; "" where the content is in
            the journal.
        skipped: somebody else had changed the path, and it was left alone.
    """

    path: str
    target: str | None = None
    before: str | None = None
    after: str | None = None
    staged: str = ""
    skipped: bool = False


@dataclass(frozen=True, slots=True)
class Entry:
    """One command that changed the dataset.

    Args:
        number: counted from 1.
        time: local, ``2026-01-31 18:05:00``.
        command: as it was called.
        state: "applied", "undone", or "dropped": undone, and can't be redone since something else
            was done after it.
        files: paths that it changed.
    """

    number: int
    time: str
    command: str
    state: State
    files: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of applying, undoing or redoing an entry.

    Args:
        entry: with its new state.
        conflicts: files that somebody else changed, which were left as they are.
    """

    entry: Entry
    conflicts: tuple[Problem, ...] = ()


class Journal:
    """Of one dataset; close it, best by ``with``. Opening it finishes what a killed process began.

    Args:
        root: the dataset's folder.
        make: begin a journal where there is none.

    Raises:
        DatasetError: it is damaged, or another command is at work on the dataset.
        WriteError: the folder cannot be written to.
    """

    def __init__(self, root: Path, *, make: bool = True) -> None:
        self.root = Path(root).absolute()
        self.path = self.root / STORE / NAME
        self.recovered: list[Outcome] = []
        where = self.path if make or self.path.exists() else ":memory:"
        with self._explained():
            if make:
                self.path.parent.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(
                where, timeout=WAIT, isolation_level=None, check_same_thread=False
            )
            self._database.executescript(_SCHEMA)
            self._trash = Trash(self.root, self._database)
        self._progress = _Progress(self.path.with_name("progress"))
        self._recover()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._database.close()

    def staging_path(self, number: int, suffix: str) -> Path:
        """Where a new large content is written before :meth:`apply`."""
        with self._explained():
            return self._trash.staging_path(f"{os.getpid()}-{number}{suffix}")

    def apply(
        self,
        command: str,
        steps: Sequence[Step],
        contents: Sequence[tuple[str, bytes]] = (),
        folders: Sequence[str] = (),
        *,
        entry: int | None = None,
    ) -> Outcome:
        """Do the steps, all or (with what a killed process leaves to the next) none.

        Args:
            command: what :meth:`history` says.
            steps: in an order in which each can be done.
            contents: (state, bytes) of small contents after the steps.
            folders: to make, those that are there already among them.
            entry: that these steps belong to, of a command that does its work piece by piece; they
                begin one of their own where something else was done since.

        Raises:
            DatasetError: a path is not what its step expects; nothing was changed.
        """
        remembered = [*contents, *self._small_before(steps)]
        with self._transaction():
            number, done = self._begin(command, entry)
            self._database.executemany(
                "INSERT INTO steps VALUES (?, ?, ?, ?, ?, ?, ?, 0)",
                (
                    (number, n, step.path, step.target, step.before, step.after, step.staged)
                    for n, step in enumerate(steps, done)
                ),
            )
            self._database.executemany(
                "INSERT INTO folders VALUES (?, ?)",
                ((number, folder) for folder in self._new_folders(steps, folders)),
            )
            self._trash.remember(remembered)
        return self._finish(number) or Outcome(self._entry(number))

    def _begin(self, command: str, entry: int | None) -> tuple[int, int]:
        """The entry that is at work from now on, and how many of its steps are done already."""
        last = self._database.execute("SELECT id, state FROM entries ORDER BY id DESC LIMIT 1")
        if entry is not None and last.fetchone() == (entry, "applied"):
            (done,) = self._database.execute(
                "SELECT COUNT(*) FROM steps WHERE entry = ?", (entry,)
            ).fetchone()
            self._progress.reset(f"{entry} applying", done)
            self._database.execute("UPDATE entries SET state = 'applying' WHERE id = ?", (entry,))
            return entry, done
        self._progress.reset()
        self._database.execute("UPDATE entries SET state = 'dropped' WHERE state = 'undone'")
        now = datetime.now().isoformat(" ", "seconds")
        cursor = self._database.execute(
            "INSERT INTO entries (time, command, state) VALUES (?, ?, 'applying')", (now, command)
        )
        return int(cursor.lastrowid or 0), 0

    def undo(self, count: int = 1) -> list[Outcome]:
        """Take back the last entries, the last one first."""
        return self._turn("applied", "undoing", "DESC", count)

    def redo(self, count: int = 1) -> list[Outcome]:
        """Do again what was undone last."""
        return self._turn("undone", "redoing", "ASC", count)

    def history(self) -> list[Entry]:
        """All entries, the oldest first."""
        rows = self._database.execute(
            "SELECT id, time, command, state, (SELECT COUNT(*) FROM steps WHERE entry = id) "
            "FROM entries ORDER BY id"
        )
        return [Entry(*row) for row in rows]

    def bytes_kept(self) -> int:
        """What earlier contents take."""
        return self._trash.bytes_kept()

    def prune(self, keep: int = 0) -> int:
        """Forget all entries but the last ``keep``, and free what they kept.

        Returns:
            bytes freed.
        """
        size = self.bytes_kept()
        with self._transaction():
            self._database.execute(
                "DELETE FROM entries WHERE id NOT IN "
                "(SELECT id FROM entries ORDER BY id DESC LIMIT ?)",
                (keep,),
            )
            for table in ("steps", "folders"):
                self._database.execute(
                    f"DELETE FROM {table} WHERE entry NOT IN (SELECT id FROM entries)"
                )
            rows = self._database.execute("SELECT before, after FROM steps")
            self._trash.drop_all_but({state for row in rows for state in row if state})
        self._database.execute("VACUUM")
        return size - self.bytes_kept()

    def _turn(self, state: State, doing: State, order: str, count: int) -> list[Outcome]:
        outcomes = []
        rows = self._database.execute(
            f"SELECT id FROM entries WHERE state = ? ORDER BY id {order} LIMIT ?", (state, count)
        )
        for (number,) in rows.fetchall():
            with self._transaction():
                self._progress.reset()
                self._database.execute("UPDATE entries SET state = ? WHERE id = ?", (doing, number))
            outcomes.append(self._finish(number) or Outcome(self._entry(number)))
        return outcomes

    def _recover(self) -> None:
        places = ", ".join("?" * len(UNFINISHED))
        rows = self._database.execute(
            f"SELECT id FROM entries WHERE state IN ({places}) ORDER BY id", UNFINISHED
        )
        outcomes = [self._finish(number) for (number,) in rows.fetchall()]
        self.recovered = [outcome for outcome in outcomes if outcome is not None]
        with contextlib.suppress(OSError):  # nothing is there, or another command removed it
            self._trash.remove_stale()

    def _finish(self, number: int) -> Outcome | None:
        """Take the steps of an entry that are still to be taken, forward or back; ``None`` if
        another command did it while this one waited."""
        with self._transaction():
            (state,) = self._database.execute(
                "SELECT state FROM entries WHERE id = ?", (number,)
            ).fetchone()
            if state not in UNFINISHED:
                return None
            back = state == "undoing"
            rows = self._database.execute(
                "SELECT path, target, before, after, staged, skipped, number FROM steps "
                f"WHERE entry = ? ORDER BY number {'DESC' if back else ''}",
                (number,),
            ).fetchall()
            conflicts, skipped = [], []
            if not back:
                self._make_folders(number)
            with self._progress.of(f"{number} {state}") as progress:
                for place, (*values, index) in enumerate(rows):
                    step = Step(*values)
                    if place < progress.done or step.skipped:
                        continue
                    try:
                        what = self._take_back(step) if back else self._take(step)
                    except OSError as error:
                        what = f"it could not be changed ({error.strerror or error})"
                    if what:
                        conflicts.append(Problem(str(self.root / step.path), what))
                        skipped.append((number, index))
                    progress.say(place + 1)
            if back:
                self._remove_folders(number)
            self._database.executemany(
                "UPDATE steps SET skipped = 1 WHERE entry = ? AND number = ?", skipped
            )
            self._database.execute(
                "UPDATE entries SET state = ? WHERE id = ?",
                ("undone" if back else "applied", number),
            )
        return Outcome(self._entry(number), tuple(conflicts))

    def _entry(self, number: int) -> Entry:
        return next(entry for entry in self.history() if entry.number == number)

    def _take(self, step: Step) -> str:
        """Do a step; what kept it from being done, or ""."""
        path = self.root / step.path
        if step.target is not None:
            return _rename(path, self.root / step.target)
        staged = self.root / step.staged if step.staged else None
        present = state_of(path)
        if present == step.after:
            if staged is not None:
                remove_file(staged)
            return ""
        if present != step.before:
            return "somebody else changed it; it is left as it is"
        if present is not None:
            self._trash.keep(path, present, moving=step.after is None)
        if staged is not None and staged.exists():
            self._trash.place(staged, path)
        else:
            self._trash.put(path, step.after)
        return ""

    def _take_back(self, step: Step) -> str:
        path = self.root / step.path
        if step.target is not None:
            return _rename(self.root / step.target, path)
        present = state_of(path)
        if present == step.before:
            return ""
        if present != step.after:
            return "somebody else changed it since; it is left as it is"
        if step.before is not None and not self._trash.holds(path, step.before):
            return "what it was before is not in the trash any more"
        if present is not None:
            self._trash.keep(path, present, moving=step.before is None)
        self._trash.put(path, step.before)
        return ""

    def _small_before(self, steps: Sequence[Step]) -> Iterator[tuple[str, bytes]]:
        """Small contents that steps replace.

        Raises:
            DatasetError: a path is not what its step expects.
        """
        problems: list[Problem] = []
        moved_away = {step.path for step in steps if step.target is not None}
        for step in steps:
            if step.target is not None:
                continue
            path = self.root / step.path
            try:
                if step.before is None:
                    if step.path not in moved_away and os.path.lexists(path):
                        problems.append(Problem(str(path), "is there already"))
                elif not stat.S_ISREG((status := os.lstat(path)).st_mode) or status.st_size > SMALL:
                    if state_of(path) != step.before:
                        problems.append(_changed(path))
                else:
                    data = path.read_bytes()
                    if hash_bytes(data) != step.before:
                        problems.append(_changed(path))
                    yield step.before, data
            except OSError as error:
                problems.append(Problem(str(path), f"cannot be read: {error.strerror}"))
        if problems:
            raise DatasetError(problems)

    def _new_folders(self, steps: Sequence[Step], empty: Sequence[str]) -> list[str]:
        """Folders that are made, the outer ones first."""
        folders: dict[Path, None] = {}
        parents = [posixpath.dirname(step.target or step.path) for step in steps]
        for name in dict.fromkeys((*parents, *empty)):
            folder = self.root / name
            missing = []
            while folder != self.root and folder not in folders and not folder.exists():
                missing.append(folder)
                folder = folder.parent
            folders |= dict.fromkeys(reversed(missing))
        return [folder.relative_to(self.root).as_posix() for folder in folders]

    def _make_folders(self, number: int) -> None:
        rows = self._database.execute("SELECT path FROM folders WHERE entry = ?", (number,))
        for (folder,) in rows.fetchall():
            with contextlib.suppress(OSError):  # A file of that name: the steps say so.
                (self.root / folder).mkdir(exist_ok=True)

    def _remove_folders(self, number: int) -> None:
        rows = self._database.execute("SELECT path FROM folders WHERE entry = ?", (number,))
        for (folder,) in reversed(rows.fetchall()):
            with contextlib.suppress(OSError):  # Somebody put something in, or removed it.
                os.rmdir(self.root / folder)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        """Alone at work on the dataset, in one transaction of the database."""
        with self._explained():
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                if self._database.in_transaction:  # A full disk has ended it.
                    self._database.execute("ROLLBACK")
                raise
            self._database.execute("COMMIT")

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise write_error(self.path.parent, error) from error
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                what = "another command is at work on this dataset"
                raise DatasetError.of(self.root, what, "wait until it is done") from error
            what = f"its journal cannot be written: {error}"
            hint = "free some space, or mend the permissions of its folder"
            raise DatasetError.of(self.path, what, hint) from error
        except sqlite3.DatabaseError as error:
            what = f"the journal of this dataset is damaged ({error})"
            hint = "move it away; what it kept cannot be undone then"
            raise DatasetError.of(self.path, what, hint) from error


class _Progress:
    """How many steps of the entry at work are done, in a file; it outlives the process."""

    def __init__(self, path: Path) -> None:
        self._path, self._name, self._handle = path, "", -1
        self.done = 0

    def reset(self, name: str = "", done: int = 0) -> None:
        """Before an entry's work is announced: none of it is done, or its first steps are."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with open(self._path, "wb") as file:
            file.write(_progress_line(name, done) if done else b"")

    @contextlib.contextmanager
    def of(self, name: str) -> Iterator[_Progress]:
        """While steps are taken; ``name`` is the entry's, and what is done to it."""
        with contextlib.suppress(OSError, ValueError):
            text = self._path.read_text("ascii")
            self.done = int(text.removeprefix(name)) if text.startswith(f"{name} ") else 0
        self._name = name
        self._handle = os.open(self._path, os.O_WRONLY | os.O_CREAT)
        try:
            yield self
        finally:
            os.close(self._handle)
            self.done = 0

    def say(self, done: int) -> None:
        # One small write, which is whole or not at all; the number has always the same width.
        os.lseek(self._handle, 0, os.SEEK_SET)
        os.write(self._handle, _progress_line(self._name, done))


def _progress_line(name: str, done: int) -> bytes:
    return f"{name} {done:010}".encode()


def _changed(path: Path) -> Problem:
    return Problem(str(path), "somebody else changed it in the meantime", "run it again")


def _rename(path: Path, target: Path) -> str:
    """Give a path another name, unless that is done already; what kept it from being done."""
    here, there = os.path.lexists(path), os.path.lexists(target)
    # On file systems that ignore case "A.png" and "a.png" are one file.
    same_name = str(path).casefold() == str(target).casefold()
    if here and there and not (same_name and os.path.samefile(path, target)):
        return f"{target.name} is there already"
    if not here:
        return "" if there else "it is gone"
    target.parent.mkdir(parents=True, exist_ok=True)
    rename(path, target)
    return ""


def unfinished_text(outcomes: Sequence[Outcome]) -> str:
    """What to say of work that a killed process left and that was finished now; "" of none."""
    if not outcomes:
        return ""
    commands = ", ".join(outcome.entry.command for outcome in outcomes)
    files = quantity(sum(outcome.entry.files for outcome in outcomes), "file")
    return f"finished what was interrupted: {commands} ({files})"
