"""Counts of tags for people, as rich draws them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from lorasmith.core.file_names import common_folder, relative_path
from lorasmith.core.terminal import clean
from lorasmith.core.text import quantity, shortlist
from lorasmith.curation.stats import DatasetStats, TaggedFiles

_TAGS, _PAIRS, _NAMES, _FOLDERS = 20, 8, 12, 3
# Fewer files than this are listed one by one; of more, the tags are counted.
_FEW = 30


def render(report: DatasetStats | TaggedFiles, *, show_all: bool = False) -> RenderableType:
    """
    Args:
        show_all: every tag, pair and file.
    """
    if isinstance(report, DatasetStats):
        return Group(*_of_tags(report, show_all))
    return Group(*_of_files(report, show_all, finding=report.question.startswith("find")))


def _of_tags(report: DatasetStats, show_all: bool) -> Iterator[RenderableType]:
    distinct = len(report.tags)
    parts = [quantity(report.images, "picture"), f"{report.captioned} captioned"]
    parts.append(quantity(distinct, "different tag"))
    yield Text(", ".join(parts), "bold")
    if report.tokens is not None:
        yield Text.assemble(("Tokens  ", "bold"), str(report.tokens))
    if not report.tags:
        return
    yield Text("")
    yield _tags(report, show_all)
    hidden = 0 if show_all else distinct - _TAGS
    if hidden > 0:
        yield Text(f"… and {quantity(hidden, 'more tag')} (--all shows them)", "dim")
    yield Text("")
    for heading, tags in (
        ("On every picture", report.everywhere),
        (f"On one picture only ({len(report.once)})", report.once),
    ):
        if tags:
            names = shortlist(tags, len(tags) if show_all else _NAMES)
            yield Text.assemble((f"{heading}  ", "bold"), names)
    pairs = _pairs(report, show_all)
    if pairs is not None:
        yield Text("")
        yield pairs


def _tags(report: DatasetStats, show_all: bool) -> Table:
    """On and off; by folders where there are a few."""
    folders = list(report.folders) if 1 < len(report.folders) <= _FOLDERS or show_all else []
    folders = folders if len(report.folders) > 1 else []
    table = _table(
        "Tag", "On", "Off", "Share", *(clean(each or ".", lines=False) for each in folders)
    )
    for tag in report.tags if show_all else report.tags[:_TAGS]:
        table.add_row(
            tag.tag,
            str(tag.images),
            str(report.images - tag.images),
            _share(tag.images, report.images),
            *(_share(tag.folders.get(each, 0), report.folders[each]) for each in folders),
        )
    return table


def _share(part: int, whole: int) -> str:
    """In percent: 0 and 100 only where it is none and all."""
    if part in (0, whole):
        return f"{100 * part // whole}%"
    return f"{min(99, max(1, round(100 * part / whole)))}%"


def _pairs(report: DatasetStats, show_all: bool) -> Table | None:
    """Tags that seldom come alone: a model cannot tell them apart."""
    pairs = [pair for pair in report.pairs if show_all or pair.likeness >= 0.75]
    if not pairs:
        return None
    counts = {tag.tag: tag.images for tag in report.tags}
    table = _table("Mostly together", "Both", "First alone", "Second alone")
    for pair in pairs if show_all else pairs[:_PAIRS]:
        alone = (str(counts[tag] - pair.images) for tag in (pair.first, pair.second))
        table.add_row(f"{pair.first} + {pair.second}", str(pair.images), *alone)
    return table


# Tags of files


def _of_files(report: TaggedFiles, show_all: bool, *, finding: bool) -> Iterator[RenderableType]:
    files = report.files
    if finding:
        images = len({file.path for file in files})
        yield Text(f"{quantity(images, 'picture', 'has')} it" if files else "no picture has it")
    if finding or len(files) <= _FEW or show_all:
        shown = files if show_all else files[: 2 * _FEW]
        if shown:
            table = _table("File", "Tag", "Position")
            table.columns[1].justify = "left"
            base = common_folder(file.path.parent for file in files)
            for file in shown:
                name = clean(relative_path(file.path, base), lines=False)
                table.add_row(name, file.tag or Text("none", "dim"), str(file.position or "-"))
            yield table
        if len(shown) < len(files):
            yield Text(f"… and {len(files) - len(shown)} more (--all shows them)", "dim")
        yield Text("")
    if not finding:
        yield _counts(report, show_all)
        hidden = 0 if show_all else len(report.counts) - 2 * _FEW
        if hidden > 0:
            yield Text(f"… and {quantity(hidden, 'more tag')} (--all shows them)", "dim")


def _counts(report: TaggedFiles, show_all: bool) -> Table:
    """Tags by their counts, with the first files of each."""
    files: dict[str, list[Path]] = {}
    for file in report.files:
        files.setdefault(file.tag, []).append(file.path)
    table = _table("Tag", "Pictures", "Files")
    table.columns[2].justify = "left"
    for tag, count in list(report.counts.items())[: None if show_all else 2 * _FEW]:
        names = shortlist([path.name for path in files[tag]], 2)
        table.add_row(tag or Text("none", "dim"), str(count), clean(names, lines=False))
    return table


def _table(first: str, *others: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
    table.add_column(first, overflow="fold")
    for name in others:
        table.add_column(name, justify="right", overflow="fold")
    return table
