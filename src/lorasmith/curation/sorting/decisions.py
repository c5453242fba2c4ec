"""What somebody decided about images, one by one: into a folder, copied there, away, other tags.

All of it becomes one plan.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from lorasmith.core.errors import DatasetError, Problem
from lorasmith.core.text import quantity
from lorasmith.curation.changes.plan import Plan
from lorasmith.curation.collection import Collection, CollectionImage
from lorasmith.curation.edit.caption_text import CaptionFile, TagLine, edit_captions
from lorasmith.curation.edit.spelling import bare
from lorasmith.curation.sorting.sort import copy_images, folder_name, move_images


@dataclass(frozen=True)
class Decision:
    """About one image; one of these, or several tags.

    Args:
        folder: of its dataset, where it goes; "." for the dataset's own.
        copy: it stays, and a copy goes to ``folder``.
        delete: it goes into the trash.
        add, remove: tags.
    """

    image: CollectionImage
    folder: str = ""
    copy: bool = False
    delete: bool = False
    add: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()


def plan_decisions(collection: Collection, decisions: Sequence[Decision]) -> Plan:
    """
    Raises:
        DatasetError: a decision says two things, or nothing; two are about one image; or a folder
            is none of the dataset.
    """
    if problems := _contradictions(decisions):
        raise DatasetError(problems)
    moves: dict[CollectionImage, Path] = {}
    copies: dict[CollectionImage, Path] = {}
    for one in decisions:
        if one.folder:
            place = one.image.root / folder_name(one.folder)
            (copies if one.copy else moves)[one.image] = place
    plan = Plan(_command(decisions), collection.roots)
    gone = {one.image for one in decisions if one.delete}
    move_images(plan, collection, moves, deleted=gone)
    copy_images(plan, copies)
    needed = {file for image in collection.images if image not in gone for file in image.files}
    going = dict.fromkeys(file for one in decisions if one.delete for file in one.image.files)
    for file in going:
        if file not in needed:
            plan.remove(file)
    for one in decisions:
        if one.add or one.remove:
            _plan_tags(plan, one)
    return plan


def _contradictions(decisions: Sequence[Decision]) -> list[Problem]:
    problems = []
    seen: set[CollectionImage] = set()
    for one in decisions:
        name = one.image.path.name
        said = [bool(one.folder), one.delete, bool(one.add or one.remove)]
        if sum(said) != 1 or (one.copy and not one.folder):
            what = "it is to be moved, deleted or tagged: one of these at a time"
            problems.append(Problem(name, what, "decide once for each picture"))
        if one.image in seen:
            problems.append(Problem(name, "is decided about twice", "decide once"))
        seen.add(one.image)
    return problems


def _command(decisions: Sequence[Decision]) -> str:
    counts: dict[str, int] = {}
    for one in decisions:
        verb = "copy" if one.copy else "move"
        words = f"{verb} to {one.folder}" if one.folder else "delete"
        if one.add or one.remove:
            words = ", ".join([*(f"+{tag}" for tag in one.add), *(f"-{tag}" for tag in one.remove)])
        counts[words] = counts.get(words, 0) + 1
    parts = [f"{words} ({quantity(count, 'picture')})" for words, count in counts.items()]
    return f"sort: {'; '.join(parts)}"


def _plan_tags(plan: Plan, one: Decision) -> None:
    image = one.image
    with plan.together(image.path):
        before = image.caption_path.read_bytes() if image.caption_path is not None else None
        file = CaptionFile.of(before if before is not None else b"\n")
        if not file.is_text:
            raise DatasetError.of(image.path, "its caption file is not text, and left alone")
        edit = partial(_with_tags, add=one.add, remove=one.remove)
        plan.write_text(
            image.new_caption_path, before, file.with_text(edit_captions(file.text, edit))
        )


def _with_tags(caption: str, add: Sequence[str], remove: Sequence[str]) -> str:
    line = TagLine(caption)
    gone = set(map(bare, remove))
    line.remove(lambda tag: bare(tag) in gone)
    present = set(map(bare, line.tags))
    line.insert(len(line.tags), [tag for tag in add if bare(tag) not in present])
    return str(line)
