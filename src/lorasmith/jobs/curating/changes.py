"""Plans as pages show them: every change, before and after, a part at a time; and carried out."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel

from lorasmith.core.errors import DatasetError, Problem
from lorasmith.core.events import Controls, ignore
from lorasmith.core.file_names import shell_word
from lorasmith.curation.changes.change import Change, Kind
from lorasmith.curation.changes.journal import Entry, Journal, Outcome
from lorasmith.curation.changes.plan import Applied, Plan
from lorasmith.curation.collection import CollectionImage
from lorasmith.curation.edit.operations import OPERATIONS, shown
from lorasmith.curation.edit.plan_edit import plan_deletion, plan_edit
from lorasmith.curation.filter import parse_filter
from lorasmith.curation.filter_language.words import at_place
from lorasmith.jobs.curating.open_dataset import OpenDataset
from lorasmith.jobs.runs.records import ProblemRecord

MOST_TAGS = 200
"""Tags whose counts change that one answer has."""
MOST_PROBLEMS = 200
"""Warnings, and files that are left out, that one answer has of each."""
_MOST_NAMES = 20
"""Images that a command line names one by one."""


class ChangeRow(BaseModel):
    """One file that changes.

    Args:
        kind: "write", "new", "move", "remove" (into the trash), "folder".
        file: within the dataset.
        image: the name of the image that it is, or belongs to; "" of none.
        before, after: the text of a caption; ``None`` of other files.
        target: where it is moved to, within the dataset.
        what: is done to it, or why, in words.
    """

    kind: Kind
    file: str
    image: str
    before: str | None
    after: str | None
    target: str | None
    what: str


class TagChange(BaseModel):
    """Captions with a tag, of those that change."""

    tag: str
    before: int
    after: int


class ChangesRecord(BaseModel):
    """What would be changed, or was.

    Args:
        version: of the dataset, after it where it is applied.
        command: what the history calls it.
        command_line: what does the same in a shell; "" where no single command does.
        counts: files by kind of change.
        total: changes there are; ``rows`` has those that were asked for.
        tags: those that change most first; of the first part of the rows alone.
        problems: forbid applying it.
        applied: it was done, as ``entry`` of the history; ``conflicts`` were left as they are.
    """

    version: str
    command: str
    command_line: str
    counts: dict[Kind, int]
    total: int
    rows: list[ChangeRow]
    tags: list[TagChange]
    problems: list[ProblemRecord]
    warnings: list[ProblemRecord]
    notes: list[str]
    skipped: list[ProblemRecord]
    applied: bool
    entry: int | None
    conflicts: list[ProblemRecord]


class Part(BaseModel):
    """Which rows of a plan are shown, and whether it is carried out."""

    offset: int = 0
    limit: int = 50
    apply: bool = False


class EditQuestion(BaseModel):
    """
    Args:
        operations: as on the command line: ``add=hat``, ``dedupe``.
        delete: put the images into the trash instead.
        where: only images that this filter takes.
        images: only images of these names.
        create: also write captions where there are none.
    """

    operations: list[str] = []
    delete: bool = False
    where: str = ""
    images: list[str] | None = None
    create: bool = False


class OperationRecord(BaseModel):
    """One thing that an edit can do; ``metavar`` is empty where it takes no value, ``choices`` are
    words that it may be."""

    name: str
    metavar: str
    help: str
    choices: list[str] = []


class EntryRecord(BaseModel):
    """One change in a dataset's history; see :class:`.journal.Entry`."""

    number: int
    time: str
    command: str
    state: str
    files: int


class HistoryRecord(BaseModel):
    """
    Args:
        entries: the last ones, the newest first.
        undo, redo: what would be taken back, or done again, next.
        done: what was taken back or done again just now.
        conflicts: files that somebody else changed since, which were left as they are.
    """

    version: str
    entries: list[EntryRecord]
    undo: EntryRecord | None
    redo: EntryRecord | None
    done: list[EntryRecord] = []
    conflicts: list[ProblemRecord] = []


class ConflictError(DatasetError):
    """What was to be changed is not any more as the asker saw it."""


def operations() -> list[OperationRecord]:
    """What edits can do, in the order of the command line's help."""
    return [
        OperationRecord(name=name, metavar=kind.metavar, help=kind.help, choices=[*kind.choices])
        for name, kind in OPERATIONS.items()
    ]


def edit(dataset: OpenDataset, question: EditQuestion, part: Part) -> ChangesRecord:
    """A bulk edit of captions, or images that go.

    Raises:
        DatasetError: an operation or the filter is wrong, or it cannot be applied.
    """
    parse_filter(question.where)
    images = dataset.some(question.images) if question.images is not None else None

    def work_out() -> Plan:
        if question.delete:
            return plan_deletion(dataset.collection, question.where, images=images)
        return plan_edit(
            dataset.collection,
            question.operations,
            question.where,
            images=images,
            create=question.create,
        )

    words = ["edit", str(dataset.folder)]
    words += [shown(text) for text in question.operations]
    words += ["--delete-images"] if question.delete else []
    words += ["--create"] if question.create else []
    line = command_line(words, filter_of(question.where, images))
    return answer(dataset, key_of("edit", question, EditQuestion), work_out, part, line)


def key_of(verb: str, question: BaseModel, kind: type[BaseModel]) -> str:
    """What tells a question from others, without the part that is shown of its answer.

    Args:
        kind: the class that has the question's own fields.
    """
    return f"{verb} {question.model_dump_json(include=set(kind.model_fields))}"


def answer(
    dataset: OpenDataset,
    question: Hashable,
    work_out: Callable[[], Plan],
    part: Part,
    line: str = "",
) -> ChangesRecord:
    """A part of a plan; carried out if that is asked.

    Args:
        question: the same for the same plan.
        line: the shell command that does it.

    Raises:
        DatasetError: it cannot be applied.
    """

    def feasible() -> Plan:
        plan = work_out()
        plan.leave_out_infeasible()
        return plan

    plan = dataset.plan(question, feasible)
    tags = plan.tag_counts()[:MOST_TAGS] if not part.offset else []
    counts, total = plan.counts(), len(plan.changes)
    rows = rows_of(dataset, plan, plan.changes[part.offset : part.offset + part.limit])
    applied = apply(dataset, plan) if part.apply else None
    return ChangesRecord(
        version=dataset.version,
        command=plan.command,
        command_line=line,
        counts=counts,
        total=total,
        rows=rows,
        tags=[TagChange(tag=tag, before=before, after=after) for tag, before, after in tags],
        problems=_shown(plan, plan.problems),
        warnings=_shown(plan, plan.warnings),
        notes=plan.notes,
        skipped=_shown(plan, plan.skipped),
        applied=applied is not None,
        entry=applied.entries[0] if applied is not None and applied.entries else None,
        conflicts=_shown(plan, applied.conflicts) if applied is not None else [],
    )


def apply(dataset: OpenDataset, plan: Plan, entry: int | None = None) -> Applied:
    """Carry a plan out, and see what has become of the files.

    Args:
        entry: of the history that this is one more piece of.

    Raises:
        DatasetError: it cannot be applied; nothing was changed.
    """
    try:
        plan.check()
        return plan.apply(ignore, Controls(), entry=entry)
    finally:
        dataset.forget_plans()
        dataset.refresh(close=True)


def rows_of(dataset: OpenDataset, plan: Plan, changes: Sequence[Change]) -> list[ChangeRow]:
    owners = _owners(dataset)
    rows = []
    for change in changes:
        texts = change.texts()
        owner = owners.get(change.path) or owners.get(change.image)
        rows.append(
            ChangeRow(
                kind=change.kind,
                file=plan.name_of(change.path),
                image=owner or "",
                before=texts[0] if texts else None,
                after=texts[1] if texts else None,
                target=plan.name_of(change.target) if change.target is not None else None,
                what=change.what,
            )
        )
    return rows


def _owners(dataset: OpenDataset) -> dict[Path | None, str]:
    """Names of images by their files."""

    def work_out() -> dict[Path, str]:
        return {
            file: dataset.name_of(image)
            for image in reversed(dataset.images)
            for file in (image.new_caption_path, *image.files)
        }

    owners: dict[Path | None, str] = dataset.remembered("owners", work_out, dataset.files_version)
    return owners


def _shown(plan: Plan, problems: Sequence[Problem]) -> list[ProblemRecord]:
    return [ProblemRecord.of(plan.shown(problem)) for problem in problems[:MOST_PROBLEMS]]


def filter_of(where: str, images: Sequence[CollectionImage] | None) -> str | None:
    """A filter that takes some images, of those that another takes; ``None`` of too many."""
    if images is None:
        return where
    if len(images) > _MOST_NAMES:
        return None
    places = [f"{one.folder}/{one.path.name}" if one.folder else one.path.name for one in images]
    names = " or ".join(map(at_place, places)) or "-captioned captioned"
    return f"({where}) ({names})" if where.strip() else names


def command_line(words: Sequence[str], where: str | None = "") -> str:
    """``lorasmith dataset …``; "" where the images cannot be told by a filter.

    Args:
        words: the verb, the folder, and options that are quoted already.
    """
    if where is None:
        return ""
    verb, folder, *options = words
    parts = ["lorasmith", "dataset", verb, shell_word(folder), *options]
    return " ".join([*parts, *(["--where", shell_word(where)] if where.strip() else [])])


def history(dataset: OpenDataset, most: int = 50) -> HistoryRecord:
    """What was changed in the dataset.

    Raises:
        DatasetError: its journal is damaged, or another command is at work.
    """
    with Journal(dataset.root, make=False) as journal:
        return _history(dataset, journal.history(), most)


def turn(
    dataset: OpenDataset, what: Literal["undo", "redo"], entry: int | None = None
) -> HistoryRecord:
    """Take the last change back, or do again what was taken back last.

    Args:
        entry: the number of the change that is meant.

    Raises:
        ConflictError: something else was changed since.
        DatasetError: there is none; the journal is damaged, or another command is at work.
    """
    with Journal(dataset.root, make=False) as journal:
        entries = journal.history()
        next_one = _next_undo(entries) if what == "undo" else _next_redo(entries)
        if next_one is None:
            verb = "take back" if what == "undo" else "do again"
            raise DatasetError.of(dataset.root, f"there is nothing to {verb}")
        if entry is not None and next_one.number != entry:
            what_else = f"something else was changed since: {next_one.command}"
            raise ConflictError.of(dataset.root, what_else, "take that back first")
        outcomes = journal.undo() if what == "undo" else journal.redo()
        entries = journal.history()
    dataset.refresh(close=True)
    return _history(dataset, entries, 50, outcomes)


def _history(
    dataset: OpenDataset, entries: Sequence[Entry], most: int, outcomes: Sequence[Outcome] = ()
) -> HistoryRecord:
    undo, redo = _next_undo(entries), _next_redo(entries)
    return HistoryRecord(
        version=dataset.version,
        entries=[_entry(one) for one in reversed(entries[-most:])],
        undo=_entry(undo) if undo is not None else None,
        redo=_entry(redo) if redo is not None else None,
        done=[_entry(outcome.entry) for outcome in outcomes],
        conflicts=[
            ProblemRecord.of(conflict) for outcome in outcomes for conflict in outcome.conflicts
        ],
    )


def _next_undo(entries: Sequence[Entry]) -> Entry | None:
    return next((one for one in reversed(entries) if one.state == "applied"), None)


def _next_redo(entries: Sequence[Entry]) -> Entry | None:
    return next((one for one in entries if one.state == "undone"), None)


def _entry(entry: Entry) -> EntryRecord:
    return EntryRecord(
        number=entry.number,
        time=entry.time,
        command=entry.command,
        state=entry.state,
        files=entry.files,
    )
