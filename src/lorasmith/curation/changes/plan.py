"""What a verb would change in a dataset: collected, looked at, and then done through the journal.

A plan touches nothing until :meth:`Plan.apply`. The command line and the studio show it first.
"""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lorasmith.core.disk import discard
from lorasmith.core.errors import DatasetError, Problem, UserError
from lorasmith.core.events import Controls, Observer, Progress, ignore
from lorasmith.core.terminal import clean
from lorasmith.curation.changes.change import Change, Kind
from lorasmith.curation.changes.feasible import infeasible, misplaced
from lorasmith.curation.changes.journal import Journal, Step, unfinished_text
from lorasmith.curation.changes.links import Links
from lorasmith.curation.changes.trash import SMALL, STORE, link_state, state_of
from lorasmith.data.cache.file_memo import hash_bytes, hash_file
from lorasmith.data.captions import split_tags

_FRESH = 2.0  # seconds; what was looked at so lately need not be looked at again


@dataclass(frozen=True, slots=True)
class Applied:
    """What applying a plan did.

    Args:
        counts: files by kind of change.
        entries: numbers in the journals, for ``undo``.
        conflicts: files that somebody else changed in the meantime; left as they are.
        recovered: what was finished of an earlier command that was killed; "" of nothing.
    """

    counts: dict[Kind, int]
    entries: tuple[int, ...] = ()
    conflicts: tuple[Problem, ...] = ()
    recovered: str = ""


@dataclass
class Plan:
    """
    Args:
        command: what the history says of it ("edit --add hat").
        roots: the datasets' folders (:attr:`lorasmith.curation.collection.Collection.roots`);
            every path lies in one of them.
        problems: mistakes of the command, which forbid applying it.
        warnings: odd, and do not.
        notes: what else there is to say of it.
        when_done: called when it has been applied.
        skipped: files that cannot be dealt with; the rest is done.
    """

    command: str
    roots: Sequence[Path]
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    skipped: list[Problem] = field(default_factory=list)
    when_done: list[Callable[[], None]] = field(default_factory=list, repr=False)
    changes: list[Change] = field(default_factory=list)
    _image: Path | None = field(default=None, repr=False)
    _checked: list[Change] = field(default_factory=list, repr=False)
    _checked_at: float = field(default=-math.inf, repr=False)
    _texts: dict[Path, Change] = field(default_factory=dict, repr=False)
    _roots: dict[str, Path | None] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        # The innermost first: a path belongs to the nearest.
        roots = dict.fromkeys(Path(os.path.abspath(root)) for root in self.roots)
        self.roots = sorted(roots, key=lambda root: -len(root.parts))

    def write_text(self, path: Path, before: bytes | None, after: bytes) -> None:
        """Give a caption file another content; nothing where it is the same, or where the plan has
        this very change (two images may share a caption). In the place of a symbolic link comes a
        file; what it leads to may be another dataset's.

        Args:
            before: the bytes that were read from it; ``None`` for a new file.
        """
        kind: Kind = "new" if before is None else "write"
        change = Change(kind, Path(path), before=before, after=after, image=self._image)
        if before != after and self._texts.get(change.path) != change:
            self._texts[change.path] = change
            self.changes.append(change)

    def write_file(self, path: Path, make: Callable[[Path], None], *, what: str = "") -> None:
        """Give an image another content, or make one.

        Args:
            make: writes it to the path that it is given, which ends as ``path`` does; called when
                the plan is applied, in a thread. It may raise a UserError: then nothing changes.
            what: is done, in words.
        """
        kind: Kind = "write" if os.path.lexists(path) else "new"
        self.changes.append(Change(kind, Path(path), what=what, make=make, image=self._image))

    def move(self, source: Path, target: Path) -> None:
        """Another name, within the dataset; nothing where it is the same."""
        if Path(source) != Path(target):
            self.changes.append(Change("move", Path(source), Path(target), image=self._image))

    def remove(self, path: Path, *, what: str = "") -> None:
        """Into the trash of the dataset.

        Args:
            what: why, in words.
        """
        self.changes.append(Change("remove", Path(path), what=what, image=self._image))

    def make_folder(self, path: Path) -> None:
        """An empty folder; nothing where there is one."""
        if not Path(path).is_dir():
            self.changes.append(Change("folder", Path(path)))

    def counts(self) -> dict[Kind, int]:
        """Files by kind of change."""
        return dict(Counter(change.kind for change in self.changes))

    def tag_counts(self) -> list[tuple[str, int, int]]:
        """(tag, captions with it before, after) of the captions that change, where these differ;
        those that change most first."""
        before, after = Counter[str](), Counter[str]()
        for change in self.changes:
            if (texts := change.texts()) is not None:
                before.update(set(split_tags(texts[0])))
                after.update(set(split_tags(texts[1])))
        rows = [(tag, before[tag], after[tag]) for tag in before.keys() | after.keys()]
        rows = [row for row in rows if row[1] != row[2]]
        return sorted(rows, key=lambda row: (-abs(row[1] - row[2]), row[0]))

    def to_json(self) -> dict[str, Any]:
        return {
            "command": self.command,
            "changes": [change.to_json() for change in self.changes],
            "problems": [str(problem) for problem in self.problems],
            "warnings": [str(warning) for warning in self.warnings],
            "notes": list(self.notes),
            "skipped": [str(problem) for problem in self.skipped],
        }

    def check(self) -> None:
        """Leave out what cannot be done (see :meth:`leave_out_infeasible`).

        Raises:
            DatasetError: with everything that forbids applying it.
        """
        self.leave_out_infeasible()
        if self.problems:
            raise DatasetError(dict.fromkeys(self.problems))

    def apply(
        self,
        observer: Observer = ignore,
        controls: Controls | None = None,
        *,
        entry: int | None = None,
    ) -> Applied:
        """Do it, through the journal of each dataset.

        New images are made first, so that nothing is changed where one fails, or on a stop.

        Args:
            entry: of the journal that this is one more piece of; for plans of one dataset.

        Raises:
            DatasetError: it cannot be applied; nothing was changed.
            Stopped: by ``controls``; nothing was changed.
        """
        age = time.monotonic() - self._checked_at
        if self.problems or self._checked != self.changes or age > _FRESH:
            self.check()
        outcomes, recovered = [], []
        for root in self.roots:
            changes = [change for change in self.changes if self.root_of(change.path) == root]
            if not changes:
                continue
            with Journal(root) as journal:
                recovered += journal.recovered
                staged = _make_files(changes, journal, observer, controls or Controls())
                try:
                    steps = _steps(changes, root, staged)
                    contents = [
                        (hash_bytes(change.after), change.after)
                        for change in changes
                        if change.after is not None and len(change.after) <= SMALL
                    ]
                    folders = [
                        _name(change.path, root) for change in changes if change.kind == "folder"
                    ]
                    outcomes.append(
                        journal.apply(self.command, steps, contents, folders, entry=entry)
                    )
                finally:
                    for path in staged.values():
                        discard(path)
        for call in self.when_done:
            call()
        return Applied(
            self.counts(),
            tuple(outcome.entry.number for outcome in outcomes),
            tuple(conflict for outcome in outcomes for conflict in outcome.conflicts),
            unfinished_text(recovered),
        )

    def root_of(self, path: Path) -> Path | None:
        folder = os.path.dirname(os.path.abspath(path))
        if folder not in self._roots:
            place = Path(folder)
            roots = (root for root in self.roots if place.is_relative_to(root))
            self._roots[folder] = next(roots, None)
        return self._roots[folder]

    @contextlib.contextmanager
    def together(self, image: Path) -> Iterator[None]:
        """Changes that are added within the block are done all, or none. Where one of them cannot
        be done, or a file cannot be read within the block, the image is left out and named."""
        outer, count = self._image, len(self.changes)
        self._image = image
        try:
            yield
        except DatasetError as error:
            self._leave_out(count, error.problems)
        except OSError as error:
            where = str(error.filename or image)
            self._leave_out(count, [Problem(where, f"cannot be read: {error.strerror}")])
        finally:
            self._image = outer

    def _leave_out(self, count: int, problems: Sequence[Problem]) -> None:
        for change in self.changes[count:]:
            self._texts.pop(change.path, None)
        del self.changes[count:]
        self.skipped += problems

    def leave_out_infeasible(self) -> None:
        """Leave out what cannot be done, with all else that belongs to its image; the plan names
        it. Links that lead to what moves become changes of their own."""
        self.problems += [
            problem
            for problem in misplaced(self.changes, self.root_of)
            if problem not in self.problems
        ]
        changes = [change for change in self.changes if change.link is None]
        moving = any(change.kind in ("move", "remove") for change in changes)
        links = Links(self.roots) if moving else None
        while True:
            reasons: dict[str, Problem] = {}
            stranded = links.stranded(changes) if links is not None else ()
            for change, problem in (*infeasible(changes, self.root_of), *stranded):
                # A folder belongs to no image: without it nothing is as asked.
                told = self.problems if change.kind == "folder" else self.skipped
                if change.group not in reasons and problem not in told:
                    told.append(problem)
                reasons.setdefault(change.group, problem)
            if not reasons:
                break
            # What was to make room for others stays: look again.
            changes = [change for change in changes if change.group not in reasons]
        self.changes = [*changes, *(links.following(changes) if links is not None else ())]
        self._checked, self._checked_at = list(self.changes), time.monotonic()

    def shown(self, problem: Problem) -> Problem:
        """A problem as it is told beside the plan."""
        return within(self.roots, problem)

    def name_of(self, path: Path) -> str:
        """A file as it is told beside the plan."""
        return clean(name_within(self.roots, str(path)), lines=False)


def within(roots: Sequence[Path], problem: Problem) -> Problem:
    """A problem on one line, whose file has its name within the dataset; of several datasets its
    whole path."""
    where, is_file = problem.where, os.path.isdir(os.path.dirname(problem.where))
    if is_file or os.path.lexists(where):  # Others are of an option, say.
        where = name_within(roots, where)
    return Problem(*(clean(text, lines=False) for text in (where, problem.what, problem.hint)))


def name_within(roots: Sequence[Path], path: str) -> str:
    """A file's name within the dataset; of several datasets, or elsewhere, its path as it is."""
    whole = os.path.abspath(path)
    for root in roots if len(roots) == 1 else ():
        if whole.startswith(os.path.join(root, "")):
            return os.path.relpath(whole, root)
    return path


def _make_files(
    changes: Sequence[Change], journal: Journal, observer: Observer, controls: Controls
) -> dict[int, Path]:
    """New contents of images, and large new texts, each in a file, by the change's number."""
    staged: dict[int, Path] = {}
    for number, change in enumerate(changes):
        if change.make is not None or len(change.after or b"") > SMALL:
            staged[number] = journal.staging_path(number, change.path.suffix)

    def make(number: int) -> None:
        controls.check("stopped; nothing was changed")
        change = changes[number]
        if change.make is not None:
            change.make(staged[number])
        else:
            staged[number].write_bytes(change.after or b"")

    def collected(number: int) -> list[Problem]:
        try:
            make(number)
        except UserError as error:
            return error.problems
        return []

    problems: list[Problem] = []
    pool = ThreadPoolExecutor(os.cpu_count() or 1)
    try:
        for done, found in enumerate(pool.map(collected, staged), 1):
            problems += found
            observer(Progress("making pictures", done, len(staged)))
            controls.check("stopped; nothing was changed")
        if problems:
            raise DatasetError(problems)
    except BaseException:
        pool.shutdown(cancel_futures=True)
        for path in staged.values():
            discard(path)
        raise
    pool.shutdown()
    return staged


def _steps(changes: Sequence[Change], root: Path, staged: dict[int, Path]) -> list[Step]:
    """In an order in which each can be done: what makes room first."""

    targets = {os.path.abspath(change.target) for change in changes if change.target is not None}
    vacated = {os.path.abspath(change.path) for change in changes if change.kind == "move"}
    room: list[Step] = []
    links: list[Step] = []
    writes: list[Step] = []
    removals: list[Step] = []
    for number, change in enumerate(changes):
        place = os.path.abspath(change.path)
        if change.kind == "remove":
            step = Step(_name(change.path, root), before=_state(change.path))
            (room if place in targets else removals).append(step)
        elif change.link is not None:  # while it has its old name
            links.append(
                Step(
                    _name(change.path, root),
                    before=_state(change.path),
                    after=link_state(change.link),
                )
            )
        elif change.kind in ("write", "new"):
            new = staged.get(number)
            after = hash_file(new) if new is not None else hash_bytes(change.after or b"")
            staged_name = new.relative_to(root).as_posix() if new is not None else ""
            before = None
            if change.kind == "write" and place not in vacated:
                read = None if os.path.islink(change.path) else change.before
                before = hash_bytes(read) if read is not None else _state(change.path)
            if before != after:
                writes.append(Step(_name(change.path, root), None, before, after, staged_name))
    moves = {
        _name(change.path, root): _name(change.target, root)
        for change in changes
        if change.target is not None
    }
    return [*room, *links, *ordered_moves(moves), *writes, *removals]


def _name(path: Path, root: Path) -> str:
    relative = os.path.abspath(path)[len(os.path.join(root, "")) :]
    return relative if os.sep == "/" else relative.replace(os.sep, "/")


def _state(path: Path) -> str | None:
    try:
        return state_of(path)
    except OSError as error:
        raise DatasetError.of(path, f"cannot be read: {error.strerror}") from error


def ordered_moves(moves: dict[str, str]) -> Iterable[Step]:
    """Moves in an order in which no name is taken when its turn comes; in a ring of names the
    first goes by way of a name that nobody has.

    Args:
        moves: new names by old ones, no two of them the same.
    """
    waiting = dict(moves)
    source_of = {target: source for source, target in moves.items()}
    while waiting:
        free = [source for source, target in waiting.items() if target not in waiting]
        for source in free:
            # What this one leaves another may take: along the chain.
            current: str | None = source
            while current is not None and current in waiting:
                yield Step(current, waiting.pop(current))
                current = source_of.get(current)
        if not free:
            source = next(iter(waiting))
            target = waiting.pop(source)
            parked = f"{STORE}/staging/parked-{hash_bytes(source.encode())}"
            yield Step(source, parked)
            waiting[parked] = target
            source_of[target] = parked
