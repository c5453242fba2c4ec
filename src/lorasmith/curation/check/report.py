"""The report of a check for people: on a terminal, and as the text kept with a run."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from lorasmith.core.errors import Problem
from lorasmith.core.file_names import common_folder
from lorasmith.core.progress import TextConsole
from lorasmith.core.terminal import clean
from lorasmith.core.text import quantity
from lorasmith.curation.check.check import CheckReport, FolderRow

_ERRORS_SHOWN = 20
_CROPS_SHOWN = 5
_HELD_OUT_SHOWN = 8
_CROP_WORTH_A_ROW = 0.1
_TEXT_WIDTH = 100


def report_text(report: CheckReport, width: int = _TEXT_WIDTH) -> str:
    """The report without colours."""
    file = io.StringIO()
    TextConsole(file=file, width=width, color_system=None).print(render(report))
    return file.getvalue()


def render(report: CheckReport) -> RenderableType:
    """The report as rich draws it: tables, then warnings, then errors, then a line of verdict."""
    return Group(*_parts(report))


def _parts(report: CheckReport) -> Iterator[RenderableType]:
    if report.prompts:
        yield Text.assemble(("Trained from prompts", "bold"), ", without pictures")
        for line in report.prompts:
            yield Padding(Text(clean(line, lines=False)), (0, 0, 0, 2))
        yield Text("")
    else:
        base = _common_folder(report)
        yield Text.assemble(("Dataset  ", "bold"), clean(str(base), lines=False))
        yield Text("")
        yield _folders(report.folders, base)
        yield Text("")
    if report.pictures or report.prompts:
        yield Text.assemble(("Steps  ", "bold"), str(report.steps))
        yield Text("")
        if report.length:
            yield Text.assemble(("Length  ", "bold"), report.length)
            yield Text("")
        if str(report.augmentation):
            yield Text.assemble(("Augmentation  ", "bold"), str(report.augmentation))
            yield Text("")
        recorded = sum(row.recorded_crop is not None for row in report.pictures)
        if recorded:
            text = f"{recorded} of {quantity(len(report.pictures), 'picture')}, as recorded beside"
            yield Text.assemble(("Crops  ", "bold"), f"{text} {'it' if recorded == 1 else 'them'}")
            yield Text("")
        if report.buckets:
            yield _buckets(report)
            yield Text("")
        crops = _crops(report)
        if crops is not None:
            yield crops
            yield Text("")
    for trigger in report.triggers:
        of = f"of {trigger.folder.name}: " if len(report.triggers) > 1 else ""
        yield Text.assemble(("Trigger  ", "bold"), clean(f"{of}{trigger}", lines=False))
    if report.triggers:
        yield Text("")
    if report.held_out:
        names = ", ".join(
            clean(path.name, lines=False) for path in report.held_out[:_HELD_OUT_SHOWN]
        )
        more = len(report.held_out) - _HELD_OUT_SHOWN
        text = f"{len(report.held_out)} not trained on: {names}"
        yield Text.assemble(
            ("Held out  ", "bold"), text + (f" and {more} more" if more > 0 else "")
        )
        yield Text("")
    if report.ignored:
        reasons = Counter(entry.reason for entry in report.ignored).most_common()
        text = "; ".join(f"{reason}: {count}" for reason, count in reasons)
        yield Text.assemble(("Ignored  ", "bold"), (text, "dim"))
        yield Text("")
    yield from _problems(report.warnings, "warning", "yellow")
    yield from _problems(report.errors[:_ERRORS_SHOWN], "error", "red", len(report.errors))
    if not report.prompts:
        yield _verdict(report)


def _common_folder(report: CheckReport) -> Path:
    """The folder that holds them all; a single one is its own."""
    return common_folder(row.path for row in report.folders)


def _folders(rows: Sequence[FolderRow], base: Path) -> Table:
    table = _table("Folder", "Pictures", "Repeats", "An epoch", "Captions")
    for row in rows:
        inside = row.path.absolute().is_relative_to(base)
        path = row.path.absolute().relative_to(base) if inside else row.path
        name = Text(clean(row.path.name if path == Path() else str(path), lines=False))
        if row.reg:
            name.append("  regularisation", "dim")
        table.add_row(
            name, str(row.pictures), _repeats(row), str(row.samples), _caption_sources(row)
        )
    return table


def _repeats(row: FolderRow) -> str:
    """ "10", or what matching made of it: "60 x 2, 40 x 3"."""
    if not row.uses or set(row.uses) == {row.repeats}:
        return str(row.repeats)
    return ", ".join(
        f"{count} {'unused' if not uses else f'x {uses}'}" for uses, count in row.uses.items()
    )


def _caption_sources(row: FolderRow) -> str:
    others = row.pictures - row.captions - sum(row.tables.values())
    parts = [quantity(row.captions, "file")] if row.captions else []
    parts += [f"{count} in {name}" for name, count in row.tables.items()]
    if others:
        parts.append(f"{others} as {row.fallback!r}" if row.fallback else f"{others} without")
    return ", ".join(parts)


def _buckets(report: CheckReport) -> Table:
    table = _table("Bucket", "Pictures", "Samples", "Batches", "Most cropped")
    for row in report.buckets:
        crop = f"{row.worst_crop:.0%}" if row.worst_crop else "-"
        numbers = (row.pictures, row.samples, row.batches)
        table.add_row(f"{row.width}x{row.height}", *map(str, numbers), crop)
    return table


def _crops(report: CheckReport) -> Table | None:
    rows = [row for row in report.pictures if row.uses and row.cropped > _CROP_WORTH_A_ROW]
    if not rows:
        return None
    rows.sort(key=lambda row: -row.cropped)
    table = _table("Cropped most", "Size", "Resized", "Bucket", "Lost")
    for row in rows[:_CROPS_SHOWN]:
        sizes = ("{}x{}".format(*size) for size in (row.size, row.resized, row.bucket))
        table.add_row(clean(row.path.name, lines=False), *sizes, f"{row.cropped:.0%}")
    return table


def _problems(
    problems: Sequence[Problem], noun: str, colour: str, total: int | None = None
) -> Iterator[RenderableType]:
    if not problems:
        return
    total = len(problems) if total is None else total
    yield Text(quantity(total, noun), f"bold {colour}")
    for problem in problems:
        line = Text()
        if problem.where:
            line.append(f"{clean(problem.where, lines=False)}: ", "bold")
        line.append(clean(problem.what, lines=False))
        if problem.hint:
            line.append(f"\n  -> {clean(problem.hint, lines=False)}", "cyan")
        yield Padding(line, (0, 0, 0, 2))
    if total > len(problems):
        yield Text(f"  and {total - len(problems)} more", "dim")
    yield Text("")


def _verdict(report: CheckReport) -> Text:
    if report.errors:
        return Text("This dataset cannot be trained on until the errors are mended.", "bold red")
    if report.warnings:
        return Text("This dataset can be trained on; see the warnings.", "yellow")
    return Text("This dataset is fine.", "green")


def _table(first: str, *others: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
    table.add_column(first, overflow="fold")
    for name in others:
        table.add_column(name, justify="left" if name in ("Captions", "Repeats") else "right")
    return table
