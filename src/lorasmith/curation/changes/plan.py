"""What a verb would change in a dataset: collected, looked at, and then done through the journal.

A plan touches nothing until :meth:`Plan.apply`. The command line and the studio show it first.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from lorasmith.core.errors import DatasetError, Problem, UserError
from lorasmith.core.events import Controls, Observer, Progress, ignore
from lorasmith.core.files import is_utf8
from lorasmith.curation.changes.journal import Journal, Step, unfinished_text
from lorasmith.curation.changes.trash import SMALL, STORE, state_of
from lorasmith.data.cache.file_memo import hash_bytes, hash_file
from lorasmith.data.caption_files import decode
from lorasmith.data.captions import split_tags
from lorasmith.data.layout import not_utf8

Kind = Literal["write", "new", "move", "remove", "folder"]


@dataclass(frozen=True, slots=True)
class Change:
    """One file that a plan changes.

    Args:
        kind: "write" gives it another content, "new" makes it, "move" another name, "remove" puts
            it into the trash; "folder" makes an empty folder.
        path: the file.
        target: of a move.
        before: bytes of a caption that is rewritten.
        after: bytes that a caption gets.
        what: of an image: what is done to it ("cropped to 512x512"), or why it goes.
        make: writes the new content of an image to the path that it is given.
    """

    kind: Kind
    path: Path
    target: Path | None = None
    before: bytes | None = None
    after: bytes | None = None
    what: str = ""
    make: Callable[[Path], None] | None = None

    def texts(self) -> tuple[str, str] | None:
        """A caption before and after; ``None`` of other changes."""
        if self.after is None and self.before is None:
            return None
        return decode(self.before or b"")[0], decode(self.after or b"")[0]

    def to_json(self) -> dict[str, Any]:
        value: dict[str, Any] = {"change": self.kind, "path": str(self.path)}
        if self.target is not None:
            value["target"] = str(self.target)
        if self.what:
            value["what"] = self.what
        if (texts := self.texts()) is not None:
            value["before"], value["after"] = texts
        return value


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
        problems: forbid applying it.
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
        change = Change(kind, Path(path), before=before, after=after)
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
        self.changes.append(Change(kind, Path(path), what=what, make=make))

    def move(self, source: Path, target: Path) -> None:
        """Another name, within the dataset; nothing where it is the same."""
        if Path(source) != Path(target):
            self.changes.append(Change("move", Path(source), Path(target)))

    def remove(self, path: Path, *, what: str = "") -> None:
        """Into the trash of the dataset.

        Args:
            what: why, in words.
        """
        self.changes.append(Change("remove", Path(path), what=what))

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
        """
        Raises:
            DatasetError: with everything that forbids applying it.
        """
        problems = [*self.problems, *self._collisions(), *self._dead_links()]
        if problems:
            raise DatasetError(dict.fromkeys(problems))

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
                        path.unlink(missing_ok=True)
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

    def _collisions(self) -> Iterator[Problem]:
        """Changes that are not possible, or not together."""
        leaving = {
            os.path.abspath(change.path)
            for change in self.changes
            if change.kind in ("move", "remove")
        }
        taken: dict[str, Path] = {}
        uses: set[tuple[str, bool]] = set()
        for change in self.changes:
            place = change.target or change.path
            for path in filter(None, (change.path, change.target)):
                yield from self._misplaced(path)
            source = os.path.abspath(change.path)
            # What moves away leaves its name to another.
            use = (source, change.kind == "move")
            if use in uses or (change.kind == "remove" and (source, True) in uses):
                yield Problem(source, "would be changed twice")
            uses.add(use)
            if change.target is not None and self.root_of(change.path) != self.root_of(place):
                yield Problem(source, f"cannot be moved to another dataset ({place})")
            if change.kind == "remove":
                continue
            key = os.path.abspath(place)
            if key in taken:
                first = taken[key]
                yield Problem(str(change.path), f"would become {place.name}, as {first.name} would")
            taken[key] = change.path
            is_free = key in leaving or not os.path.lexists(place)
            if change.kind != "write" and not is_free:
                same = os.path.exists(change.path) and os.path.samefile(change.path, place)
                if not (change.kind == "move" and same):
                    yield Problem(str(place), "is there already", "choose another name")

    def _dead_links(self) -> Iterator[Problem]:
        """Symbolic links, in the folders that something leaves, that would lead elsewhere."""
        moves = {
            os.path.abspath(change.path): os.path.abspath(change.target)
            for change in self.changes
            if change.target is not None
        }
        others = {
            os.path.abspath(change.path): change.kind
            for change in self.changes
            if change.target is None
        }
        gone = {path for path, kind in others.items() if kind == "remove"}
        for folder in sorted({os.path.dirname(path) for path in gone | moves.keys()}):
            for link in _links_in(folder):
                if link in others:  # It goes, or becomes a file.
                    continue
                leads_to = os.readlink(link)
                now = os.path.abspath(os.path.join(folder, leads_to))
                place = os.path.dirname(moves.get(link, link))
                then = os.path.abspath(os.path.join(place, leads_to))
                if os.path.exists(now) and (now in gone or then != moves.get(now, now)):
                    what = f"is a symbolic link to {leads_to}, which would not be there"
                    yield Problem(link, what, "put a copy of the file in the link's place")

    def _misplaced(self, path: Path) -> Iterator[Problem]:
        if not is_utf8(str(path)):
            yield not_utf8(path)
        elif self.root_of(path) is None:
            yield Problem(str(path), "lies outside of the dataset", "choose a place within it")
        elif len(os.fsencode(path.name)) > 255:
            yield Problem(str(path), "the name is longer than 255 bytes", "choose a shorter one")
        elif STORE in str(path) and STORE in path.parts:
            yield Problem(str(path), f"lies in {STORE}, which keeps the earlier contents")


def _links_in(folder: str) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.path for entry in entries if entry.is_symlink())
    except OSError:  # Whoever changes something in it says so.
        return []


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
            path.unlink(missing_ok=True)
        raise
    pool.shutdown()
    return staged


def _steps(changes: Sequence[Change], root: Path, staged: dict[int, Path]) -> list[Step]:
    """In an order in which each can be done: what makes room first."""

    targets = {os.path.abspath(change.target) for change in changes if change.target is not None}
    vacated = {os.path.abspath(change.path) for change in changes if change.kind == "move"}
    room: list[Step] = []
    writes: list[Step] = []
    removals: list[Step] = []
    for number, change in enumerate(changes):
        place = os.path.abspath(change.path)
        if change.kind == "remove":
            step = Step(_name(change.path, root), before=_state(change.path))
            (room if place in targets else removals).append(step)
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
    return [*room, *ordered_moves(moves), *writes, *removals]


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
