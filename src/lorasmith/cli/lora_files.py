"""``lorasmith resize``, ``merge``, ``extract``, ``bake`` and ``convert``: what they print of what
they did."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import click

from lorasmith.cli.options import command_for, run_shown
from lorasmith.core.terminal import echo, echo_json
from lorasmith.core.text import bytes_text, quantity, shortlist
from lorasmith.formats.block_weights import BLOCKS
from lorasmith.formats.layer_names import describe
from lorasmith.jobs.lora_files import (
    BakeRequest,
    ConvertRequest,
    ExtractRequest,
    MergeRequest,
    ResizeRequest,
)

if TYPE_CHECKING:
    from rich.table import Table

    from lorasmith.lora_tools.extract import ExtractReport
    from lorasmith.lora_tools.merge import MergeReport
    from lorasmith.lora_tools.resize import ResizeReport

_WORST = 3
_OF = {
    "retain": "of their norm",
    "cumulative": "of their singular values' sum",
    "ratio": "between the largest and the smallest that stays",
}
_WAYS = {
    "kept": "have this rank already, or less, and are as they were",
    "cut": "of a DyLoRA are cut to their first ranks",
    "left out": "are not worth their bytes",
}

_modules = click.option("--modules", is_flag=True, help="List every module, not the blocks alone.")


@command_for(ResizeRequest)
@_modules
def resize(request: ResizeRequest, modules: bool) -> None:
    report = run_shown(request)
    _print_table(report.modules, modules)
    echo("\n".join([*_resize_lines(report), _result(report.written, request.out)]))


@command_for(MergeRequest)
@_modules
def merge(request: MergeRequest, modules: bool) -> None:
    report = run_shown(request)
    _print_table(report.modules, modules)
    echo("\n".join([*_merge_lines(report), _result(report.written, request.out)]))


@command_for(ExtractRequest)
@click.option("--json", "as_json", is_flag=True, help="Print the error of every layer as JSON.")
def extract(request: ExtractRequest, as_json: bool) -> None:
    report = run_shown(request, to_stderr=as_json)
    if as_json:
        values = asdict(report) | {"written": report.written and str(report.written)}
        echo_json({"relative_error": report.error, **values})
        return
    echo("\n".join(_extract_lines(report, request.out)))


@command_for(BakeRequest)
def bake(request: BakeRequest) -> None:
    report = run_shown(request)
    for lora in report.loras:
        parts = ", ".join(f"{count} of the {part}" for part, count in lora.modules.items())
        silent = f" ({lora.silent} at strength 0)" if lora.silent else ""
        echo(f"{lora.source.text}: layers: {parts}{silent}")
    what = "would be" if request.dry_run else "is"
    changed = quantity(report.tensors, "tensor")
    echo(f"{request.out} {what} {bytes_text(report.size)}; {changed} changed")


@command_for(ConvertRequest)
def convert(request: ConvertRequest) -> None:
    report = run_shown(request)
    size = bytes_text(report.size) + (", not written" if request.dry_run else "")
    tensors = quantity(report.tensors, "tensor")
    echo(f"{report.out}: {tensors}, {report.before} to {report.after}, {size}")
    if report.exact:
        echo("the file as it was before, byte for byte")
    for note in report.notes:
        echo(note)


def _resize_lines(report: ResizeReport) -> list[str]:
    old = _range_of([module.old_rank for module in report.modules])
    new = _range_of([module.rank for module in report.modules])
    lines = [
        f"rank       {old} -> {new}",
        f"size       {bytes_text(report.old_bytes)} -> {bytes_text(report.new_bytes)}",
        f"error      {report.error:.3g} of the norm, {1 - report.error**2:.2%} of the energy kept",
    ]
    rule = report.rule
    measures = [module.measure for module in report.modules if module.measure is not None]
    if measures:
        least, most = (f"{value:.4g}" for value in (min(measures), max(measures)))
        between = least if least == most else f"{least} to {most}"
        lines.insert(
            2, f"{rule.by:10} {rule.value:g} asked for; the modules have {between} {_OF[rule.by]}"
        )
    ways = {module.how for module in report.modules}
    for how, text in _WAYS.items():
        if how in ways:
            count = sum(module.how == how for module in report.modules)
            lines.append(f"{how:10} {count} modules {text}")
    if report.carried:
        lines.append(f"carried    {report.carried} changes of norms and biases, as they were")
    if report.unmatched:
        lines.append(_dropped(report.unmatched))
    return lines


def _merge_lines(report: MergeReport) -> list[str]:
    lines = [
        f"of         {', '.join(source.text for source in report.sources)}",
        f"rank       {_range_of([module.rank for module in report.modules])}",
        f"size       {bytes_text(report.new_bytes)}",
        f"error      {report.error:.3g} of the norm, {1 - report.error**2:.2%} of the energy kept",
    ]
    for source, unmatched in zip(report.sources, report.unmatched, strict=True):
        if unmatched:
            lines.append(_dropped(unmatched, f" in {source.path.name}"))
    if report.vectors:
        lines.append(f"beside     {report.vectors} changes of norms and biases, added as they are")
    return lines


def _result(written: object, out: object) -> str:
    return f"result     {written}" if written else f"dry run    {out} not written"


def _extract_lines(report: ExtractReport, out: Path) -> list[str]:
    size = bytes_text(report.size)
    if report.written is None:
        return [f"{out} would be {size} at most, {quantity(report.layers, 'layer')}"]
    lines = []
    for part in dict.fromkeys(module.part for module in report.modules):
        modules = [module for module in report.modules if module.part == part]
        ranks = sorted({module.rank for module in modules})
        rank_range = f"rank {ranks[0]}" + (f" to {ranks[-1]}" if len(ranks) > 1 else "")
        lines.append(f"{part}: {quantity(len(modules), 'layer')}, {rank_range}")
    if report.norms:
        lines.append(f"{report.norms} norms, as they differ")
    if report.unchanged:
        some = shortlist(report.unchanged, _WORST)
        lines.append(
            f"{quantity(len(report.unchanged), 'layer', 'is')} the same in both models: {some}"
        )
    if report.outside:
        counts = ", ".join(f"{count} {kind}" for kind, count in report.outside.items())
        hint = "; --norms holds norms" if "norms" in report.outside else ""
        lines.append(f"differs too, and is not in the file: {counts}{hint}")
    worst = sorted(report.modules, key=lambda module: module.error / module.norm)[-_WORST:]
    lines += [
        f"{module.error / module.norm:8.2%} error in {module.key}" for module in reversed(worst)
    ]
    error = f"{report.error:8.2%} error over all layers, measured"
    return [*lines, error + _nearness(report), f"{out}: {size}"]


def _nearness(report: ExtractReport) -> str:
    """How near to the least possible the error is, as far as that is known."""
    from lorasmith.lora_tools.linalg.randomized_svd import ROUNDING_ERROR

    excesses = [module.excess for module in report.modules if module.excess is not None]
    tiny = sum(module.error <= ROUNDING_ERROR * module.norm for module in report.modules)
    rounding = f"within single precision's rounding ({ROUNDING_ERROR:.2%})"
    if tiny == len(report.modules):
        return f"; it is {rounding}"
    bound = f"; at most about {max(excesses):.1%} above the least possible" if excesses else ""
    return bound + (f"; {tiny} layers {rounding}" if tiny else "")


def _print_table(modules: Sequence[_Row], each: bool) -> None:
    from lorasmith.cli.console import console

    console.print(_module_table(modules) if each else _block_table(modules))


class _Row(Protocol):
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


def _block_table(modules: Iterable[_Row]) -> Table:
    """Ranks and retained energy of each block, in the model's order."""
    from rich.table import Table

    table = Table("block", box=None, pad_edge=False)
    for heading in ("modules", "rank", "norm", "energy kept", "least"):
        table.add_column(heading, justify="right")
    by_block: dict[str, list[_Row]] = {}
    for module in modules:
        by_block.setdefault(module.block, []).append(module)
    for block in sorted(by_block, key=BLOCKS.index):
        rows = by_block[block]
        total = sum(row.norm**2 for row in rows)
        kept = sum(row.retained * row.norm**2 for row in rows) / total if total else 1.0
        least = min(row.retained for row in rows)
        norm = f"{total**0.5:.3g}"
        ranks = _range_of([row.rank for row in rows])
        table.add_row(block, str(len(rows)), ranks, norm, f"{kept:.2%}", f"{least:.2%}")
    return table


def _module_table(modules: Iterable[_Row]) -> Table:
    """Rank and retained energy of each module."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("module", overflow="fold")
    for heading in ("rank", "norm", "energy kept"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in modules:
        table.add_row(row.key, str(row.rank), f"{row.norm:.3g}", f"{row.retained:.2%}")
    return table


def _range_of(numbers: Sequence[int]) -> str:
    """ "8" or "4 to 16"."""
    least, most = min(numbers, default=0), max(numbers, default=0)
    return str(least) if least == most else f"{least} to {most}"


def _dropped(unmatched: Sequence[str], where: str = "") -> str:
    """A line for tensors of no layer, and what they are, where their names tell."""
    kind = f" ({what})" if (what := describe(unmatched)) else ""
    return f"dropped    {quantity(len(unmatched), 'tensor')} of no layer{where}{kind}"
