"""What all requests that change a dataset have in common; and to take changes back."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, TypeVar

from lorasmith.config.values import UserPath
from lorasmith.core.errors import DatasetError, Problem
from lorasmith.core.events import Controls, Notice, Observer
from lorasmith.jobs.request import JobRequest, option

if TYPE_CHECKING:
    from lorasmith.curation.changes.journal import Entry, Journal, Outcome
    from lorasmith.curation.changes.plan import Applied, Plan

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ChangeReport:
    """
    Args:
        plan: what was to be changed.
        applied: what was; ``None`` of a dry run.
    """

    plan: Plan
    applied: Applied | None


class ChangeRequest(JobRequest):
    """A verb that changes a dataset: it makes a plan, which is then applied."""

    dry_run: bool = option(False, "Say what would change, and change nothing")

    def plan(self, observer: Observer, controls: Controls) -> Plan:
        """
        Raises:
            UserError: with everything that is wrong with the request.
            Stopped: by ``controls``.
        """
        raise NotImplementedError

    def run(self, observer: Observer, controls: Controls) -> ChangeReport:
        plan = self.plan(observer, controls)
        plan.check()
        return ChangeReport(plan, None if self.dry_run else plan.apply(observer, controls))


class FolderChangeRequest(ChangeRequest):
    """A verb that changes some images of folders, or their captions."""

    folders: list[UserPath] = option(
        ..., "Folders of pictures; with those in them", metavar="DIR...", positional=True
    )
    where: str = option(
        "", "Only pictures that this filter takes; see docs/dataset-filter.md", metavar="FILTER"
    )


class _OfJournals(JobRequest):
    folders: list[UserPath] = option(
        ..., "The datasets, or folders in them", metavar="DIR...", positional=True
    )

    def each(self, observer: Observer, act: Callable[[Journal], T]) -> dict[Path, T]:
        """Something with the journal of each dataset, in the order in which they are named.

        Raises:
            DatasetError: a folder is not there, or a journal cannot be opened: nothing was done;
                or another command is at work on a dataset: it is said which ones are done.
        """
        from lorasmith.curation.changes.journal import Journal
        from lorasmith.curation.collection import dataset_root

        problems = [
            Problem(
                str(folder),
                "is not a folder" if folder.exists() else "does not exist",
                "correct the path",
            )
            for folder in self.folders
            if not folder.is_dir()
        ]
        if problems:
            raise DatasetError(problems)
        results: dict[Path, T] = {}
        with contextlib.ExitStack() as stack:
            journals = [
                stack.enter_context(Journal(root, make=False))
                for root in dict.fromkeys(map(dataset_root, self.folders))
            ]
            for journal in journals:
                _say_recovered(journal, observer)
            for journal in journals:
                try:
                    results[journal.root] = act(journal)
                except DatasetError:
                    for root in results:
                        observer(Notice("warning", f"{root}: this one is done already"))
                    raise
        return results


def _say_recovered(journal: Journal, observer: Observer) -> None:
    from lorasmith.curation.changes.journal import unfinished_text

    if text := unfinished_text(journal.recovered):
        observer(Notice("info", text))


class UndoRequest(_OfJournals):
    """Take back the last verb that changed the dataset in DIR, or the last N.

    Files that somebody else changed since are left as they are, and named; the rest is done. Of
    several datasets each takes back its own last N. A folder whose name is a number is written
    ./2.
    """

    verb: ClassVar = "dataset undo"

    count: int = option(1, "Verbs to take back", metavar="[N]", positional=True, ge=1)

    def run(self, observer: Observer, controls: Controls) -> dict[Path, list[Outcome]]:
        return self.each(observer, lambda journal: journal.undo(self.count))


class RedoRequest(_OfJournals):
    """Do again what `dataset undo` took back last: one verb, or the last N."""

    verb: ClassVar = "dataset redo"

    count: int = option(1, "Verbs to do again", metavar="[N]", positional=True, ge=1)

    def run(self, observer: Observer, controls: Controls) -> dict[Path, list[Outcome]]:
        return self.each(observer, lambda journal: journal.redo(self.count))


@dataclass(frozen=True, slots=True)
class History:
    """
    Args:
        root: the dataset's folder.
        entries: the oldest first.
        bytes_kept: of earlier contents.
        bytes_freed: by pruning.
    """

    root: Path
    entries: tuple[Entry, ...]
    bytes_kept: int
    bytes_freed: int


class HistoryRequest(_OfJournals):
    """List what was changed in the dataset in DIR, the oldest first.

    With --prune earlier contents of files are freed: what is forgotten cannot be undone.
    """

    verb: ClassVar = "dataset history"

    prune: bool = option(False, "Forget all but the last --keep verbs, and free their contents")
    keep: int = option(0, "Verbs that --prune leaves", metavar="N", ge=0)

    def run(self, observer: Observer, controls: Controls) -> list[History]:
        return list(self.each(observer, self._of).values())

    def _of(self, journal: Journal) -> History:
        freed = journal.prune(self.keep) if self.prune else 0
        return History(journal.root, tuple(journal.history()), journal.bytes_kept(), freed)
