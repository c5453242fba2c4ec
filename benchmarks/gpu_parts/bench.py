"""What a part of gpu.py is given, where it writes its rows, and how they become a page.

Nothing here imports torch: whoever starts the parts must outlive whatever becomes of them.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from benchmarks.step import Clock

    from lorasmith.models.families.table import Architecture

Cell = str | int | float | bool | None


@dataclass(frozen=True)
class Part:
    """A thing to measure, in a process of its own.

    Args:
        seconds: it is stopped after that; more where earlier parts have left some.
        function: "module:name" of what is called with a :class:`Bench`.
        plan: what it does at full size, line by line.
    """

    name: str
    what: str
    seconds: int
    function: str
    plan: Sequence[str] = ()


class Rows:
    """Lines of JSON in one file for all parts, each on the disk before the next thing is begun."""

    def __init__(self, path: Path, part: str) -> None:
        self.path, self.part = path, part

    def write(self, **record: Any) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"part": self.part, **record}) + "\n")


@dataclass(frozen=True)
class Bench:
    """
    Args:
        until: when the part is stopped, by ``time.monotonic``.
        scratch: a folder for what nobody wants to keep.
    """

    device_name: str
    tiny: bool
    until: float
    rows: Rows
    out: Path
    scratch: Path
    _shown: dict[str, int] = field(default_factory=dict)

    def row(self, table: str, cells: Mapping[str, Cell]) -> None:
        self.rows.write(table=table, row=dict(cells))

    def note(self, text: str) -> None:
        self.rows.write(note=text)

    @property
    def seconds_left(self) -> float:
        return self.until - time.monotonic()

    def in_time(self, what: str, seconds: float) -> bool:
        """Whether there is time for ``what``, which takes about so long; else a note says it."""
        if self.tiny or self.seconds_left > seconds:
            return True
        self.note(
            f"{what}: left out, {self.seconds_left:.0f} s were left and it may take {seconds}"
        )
        return False

    def attempt(self, what: str, action: Callable[[], None]) -> None:
        """Do one thing of many: what it raises becomes a note, and the others go on."""
        import traceback

        try:
            action()
        except Exception as error:  # noqa: BLE001
            traceback.print_exc()
            self.note(f"{what}: FAILED, {type(error).__name__}: {_short(error)}")
        self.free()

    def free(self) -> None:
        """Give back what the last thing has left on the device."""
        import gc

        import torch

        gc.collect()
        if self.cuda:
            torch.cuda.empty_cache()

    @property
    def cuda(self) -> bool:
        return self.device_name != "cpu"

    @property
    def device(self) -> torch.device:
        import torch

        return torch.device(self.device_name)

    @property
    def clock(self) -> Clock:
        import torch
        from benchmarks.step import Clock

        return Clock(time.perf_counter, torch.cuda.synchronize if self.cuda else lambda: None)

    def model(self, name: str) -> str:
        """What :func:`benchmarks.random_models.architecture_of` is asked for."""
        return f"tiny {name}" if self.tiny else name

    def architecture(self, name: str) -> Architecture:
        from benchmarks.random_models import architecture_of

        return architecture_of(self.model(name))

    def pixels(self, name: str) -> int:
        return self.architecture(name).native_resolution


def _short(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = " ".join(lines[:3])
    return text if len(text) <= 400 else f"{text[:400]}…"


def read_rows(path: Path) -> list[dict[str, Any]]:
    """What is whole in the file: a killed part may have left half a line."""
    records = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            records.append(json.loads(line))
        except ValueError:
            continue
    return records


def page(records: Sequence[Mapping[str, Any]], parts: Sequence[Part]) -> str:
    """The rows as Markdown; of a part that was run twice, its last run."""
    lines = ["# Measured on a GPU", ""]
    for part in parts:
        mine = [record for record in records if record["part"] == part.name]
        begins = [number for number, record in enumerate(mine) if "begun" in record]
        if not begins:
            continue
        lines += [f"## {part.name}: {part.what}", "", *_section(mine[begins[-1] :])]
    return "\n".join(lines)


def _section(records: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    tables: dict[str, list[Mapping[str, Cell]]] = {}
    for record in records:
        if "table" in record:
            tables.setdefault(record["table"], []).append(record["row"])
    for title, rows in tables.items():
        columns = list(dict.fromkeys(column for row in rows for column in row))
        yield from (f"### {title}", "")
        yield f"| {' | '.join(columns)} |"
        yield "|" + " --- |" * len(columns)
        for row in rows:
            yield f"| {' | '.join(_text(row.get(column)) for column in columns)} |"
        yield ""
    notes = [f"- {record['note']}" for record in records if "note" in record]
    yield from (*notes, *[""] * bool(notes))
    for record in records:
        if "outcome" in record:
            yield from (f"({record['outcome']}; {record['seconds']:.1f} s)", "")


def _text(cell: Cell) -> str:
    if cell is None:
        return "-"
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, float):
        if not math.isfinite(cell) or cell == 0:
            return str(cell)
        return f"{cell:.0f}" if abs(cell) >= 1000 else f"{cell:.3g}"
    return str(cell).replace("|", "\\|").replace("\n", " ")
