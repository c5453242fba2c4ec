"""What a tool for LoRA files would do or has done, in words and by blocks: the command line prints
it, and pages show it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import BaseModel

from lorasmith.core.text import bytes_text, quantity, shortlist, word_list
from lorasmith.formats.block_weights import BLOCKS
from lorasmith.formats.kohya_keys import block_of_key
from lorasmith.formats.layer_names import describe
from lorasmith.jobs.lora_files import (
    BakeRequest,
    ConvertRequest,
    ExtractRequest,
    MergeRequest,
    ResizeRequest,
)

if TYPE_CHECKING:
    from lorasmith.lora_tools.bake.bake import BakeReport
    from lorasmith.lora_tools.convert.convert import Conversion
    from lorasmith.lora_tools.extract import ExtractReport
    from lorasmith.lora_tools.merge import MergeReport
    from lorasmith.lora_tools.resize import ResizeReport

ToolRequest = ResizeRequest | MergeRequest | ExtractRequest | BakeRequest | ConvertRequest

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


class ModuleFigures(Protocol):
    """A module of a result; ``retained`` is the share of ‖ΔW‖² that it holds."""

    @property
    def key(self) -> str: ...
    @property
    def rank(self) -> int: ...
    @property
    def norm(self) -> float: ...
    @property
    def retained(self) -> float: ...


class BlockFigures(BaseModel):
    """What a new file has in one block.

    Args:
        block: BASE for text encoders, IN00 to OUT11.
        least_rank, most_rank: of its modules.
        norm: Frobenius norm of its modules' changes together.
        kept: share of their energy, norm², that the file holds.
        least: the same of the module that keeps the least.
    """

    block: str
    modules: int
    least_rank: int
    most_rank: int
    norm: float
    kept: float
    least: float


class Figures(BaseModel):
    """What a tool would do, or has done.

    Args:
        lines: as the command line prints them.
        blocks: in the model's order; none where nothing is approximated.
        old_bytes: of what it is made from, of a resized LoRA.
        new_bytes: of the new file; of a dry run of ``extract``, at most.
        error: of all modules together, over their norm.
        out: where it goes.
        written: False of a dry run.
    """

    lines: list[str]
    blocks: list[BlockFigures] = []
    old_bytes: int | None = None
    new_bytes: int
    error: float | None = None
    out: str
    written: bool


def figures(request: ToolRequest, report: Any) -> Figures:
    """
    Args:
        report: what carrying out the request gave.
    """
    modules = list(getattr(report, "modules", ()))
    size = report.new_bytes if hasattr(report, "new_bytes") else report.size
    return Figures(
        lines=report_lines(request, report),
        blocks=block_figures(modules),
        old_bytes=getattr(report, "old_bytes", None),
        new_bytes=size,
        error=report.error if modules else None,
        out=str(request.out),
        written=not request.dry_run,
    )


def report_lines(request: ToolRequest, report: Any) -> list[str]:
    """In words, a line for each thing."""
    match request:
        case ResizeRequest():
            return _resize_lines(request, report)
        case MergeRequest():
            return _merge_lines(request, report)
        case ExtractRequest():
            return _extract_lines(request, report)
        case BakeRequest():
            return _bake_lines(request, report)
        case ConvertRequest():
            return _convert_lines(request, report)


def block_figures(modules: Iterable[ModuleFigures]) -> list[BlockFigures]:
    """Of each block that has any of them, in the model's order."""
    by_block: dict[str, list[ModuleFigures]] = {}
    for module in modules:
        by_block.setdefault(block_of_key(module.key), []).append(module)
    found = []
    for block in sorted(by_block, key=BLOCKS.index):
        rows = by_block[block]
        total = sum(row.norm**2 for row in rows)
        found.append(
            BlockFigures(
                block=block,
                modules=len(rows),
                least_rank=min(row.rank for row in rows),
                most_rank=max(row.rank for row in rows),
                norm=total**0.5,
                kept=sum(row.retained * row.norm**2 for row in rows) / total if total else 1.0,
                least=min(row.retained for row in rows),
            )
        )
    return found


def _resize_lines(request: ResizeRequest, report: ResizeReport) -> list[str]:
    old = range_of([module.old_rank for module in report.modules])
    new = range_of([module.rank for module in report.modules])
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
    if report.words:
        lines.append(f"words      {', '.join(report.words)}, as they were")
    if report.unmatched:
        lines.append(_dropped(report.unmatched))
    return [*lines, _result(report.written, request.out)]


def _merge_lines(request: MergeRequest, report: MergeReport) -> list[str]:
    lines = [
        f"of         {', '.join(source.text for source in report.sources)}",
        f"rank       {range_of([module.rank for module in report.modules])}",
        f"size       {bytes_text(report.new_bytes)}",
        f"error      {report.error:.3g} of the norm, {1 - report.error**2:.2%} of the energy kept",
    ]
    for source, unmatched in zip(report.sources, report.unmatched, strict=True):
        if unmatched:
            lines.append(_dropped(unmatched, f" in {source.path.name}"))
    if report.vectors:
        lines.append(f"beside     {report.vectors} changes of norms and biases, added as they are")
    if report.words:
        lines.append(f"words      {', '.join(report.words)}, as they were")
    for word, paths in report.dropped_words.items():
        lines.append(f"dropped    the word {word}: {word_list(paths)} have it, each its own")
    return [*lines, _result(report.written, request.out)]


def _result(written: object, out: object) -> str:
    return f"result     {written}" if written else f"dry run    {out} not written"


def _extract_lines(request: ExtractRequest, report: ExtractReport) -> list[str]:
    size, out = bytes_text(report.size), request.out
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


def _bake_lines(request: BakeRequest, report: BakeReport) -> list[str]:
    lines = []
    for lora in report.loras:
        parts = ", ".join(f"{count} of the {part}" for part, count in lora.modules.items())
        silent = f" ({lora.silent} at strength 0)" if lora.silent else ""
        lines.append(f"{lora.source.text}: layers: {parts}{silent}")
    what = "would be" if request.dry_run else "is"
    changed = quantity(report.tensors, "tensor")
    return [*lines, f"{request.out} {what} {bytes_text(report.size)}; {changed} changed"]


def _convert_lines(request: ConvertRequest, report: Conversion) -> list[str]:
    size = bytes_text(report.size) + (", not written" if request.dry_run else "")
    tensors = quantity(report.tensors, "tensor")
    lines = [f"{report.out}: {tensors}, {report.before} to {report.after}, {size}"]
    if report.exact:
        lines.append("the file as it was before, byte for byte")
    return [*lines, *report.notes]


def range_of(numbers: Sequence[int]) -> str:
    """ "8" or "4 to 16"."""
    least, most = min(numbers, default=0), max(numbers, default=0)
    return str(least) if least == most else f"{least} to {most}"


def _dropped(unmatched: Sequence[str], where: str = "") -> str:
    """A line for tensors of no layer, and what they are, where their names tell."""
    kind = f" ({what})" if (what := describe(unmatched)) else ""
    return f"dropped    {quantity(len(unmatched), 'tensor')} of no layer{where}{kind}"
