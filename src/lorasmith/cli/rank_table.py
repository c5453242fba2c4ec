"""What resizing and merging say of their modules: a row a block, or a row a module."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from rich.table import Table

from lorasmith.core.text import quantity
from lorasmith.formats.block_weights import BLOCKS
from lorasmith.formats.layer_names import describe


class Row(Protocol):
    """A module of a result; ``retained`` is the share of ‖ΔW‖² that it holds."""

    @property
    def key(self) -> str: ...
    @property
    def block(self) -> str: ...
    @property
    def rank(self) -> int: ...
    @property
    def norm(self) -> float: ...
    @property
    def retained(self) -> float: ...


def block_table(modules: Iterable[Row]) -> Table:
    """Ranks and retained energy of each block, in the model's order."""
    table = Table("block", box=None, pad_edge=False)
    for heading in ("modules", "rank", "norm", "energy kept", "least"):
        table.add_column(heading, justify="right")
    by_block: dict[str, list[Row]] = {}
    for module in modules:
        by_block.setdefault(module.block, []).append(module)
    for block in sorted(by_block, key=BLOCKS.index):
        rows = by_block[block]
        total = sum(row.norm**2 for row in rows)
        kept = sum(row.retained * row.norm**2 for row in rows) / total if total else 1.0
        least = min(row.retained for row in rows)
        norm = f"{total**0.5:.3g}"
        ranks = range_of([row.rank for row in rows])
        table.add_row(block, str(len(rows)), ranks, norm, f"{kept:.2%}", f"{least:.2%}")
    return table


def module_table(modules: Iterable[Row]) -> Table:
    """Rank and retained energy of each module."""
    table = Table(box=None, pad_edge=False)
    table.add_column("module", overflow="fold")
    for heading in ("rank", "norm", "energy kept"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in modules:
        table.add_row(row.key, str(row.rank), f"{row.norm:.3g}", f"{row.retained:.2%}")
    return table


def range_of(numbers: Sequence[int]) -> str:
    """ "8" or "4 to 16"."""
    least, most = min(numbers, default=0), max(numbers, default=0)
    return str(least) if least == most else f"{least} to {most}"


def dropped(unmatched: Sequence[str], where: str = "") -> str:
    """A line for tensors of no layer, and what they are, where their names tell."""
    kind = f" ({what})" if (what := describe(unmatched)) else ""
    return f"dropped    {quantity(len(unmatched), 'tensor')} of no layer{where}{kind}"


def megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
