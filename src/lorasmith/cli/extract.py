"""``lorasmith extract``"""

from __future__ import annotations

import contextlib
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lorasmith.cli.precision import PRECISIONS
from lorasmith.cli.signals import stop_on_interrupt
from lorasmith.core.events import Controls
from lorasmith.core.terminal import echo, echo_json
from lorasmith.core.text import bytes_text, quantity, shortlist

if TYPE_CHECKING:
    from lorasmith.lora_tools.extract import ExtractReport

_WORST = 3


@click.command("extract")
@click.option("--base", metavar="MODEL", required=True, help="The model that was tuned.")
@click.option("--tuned", metavar="MODEL", required=True, help="What became of it.")
@click.option(
    "--out",
    metavar="FILE",
    type=click.Path(path_type=Path),
    required=True,
    help="New .safetensors file.",
)
@click.option("--rank", type=int, metavar="N", help="Rank of every layer; at most, with --retain.")
@click.option(
    "--retain",
    type=float,
    metavar="X",
    help="Each layer's smallest rank that keeps this share of its change's norm, as 0.9.",
)
@click.option(
    "--type",
    type=click.Choice(["lora", "locon", "lokr"]),
    default="lora",
    show_default=True,
    help="lora: attention and feed-forward; locon: residual blocks and resamplers too; lokr: the "
    "nearest Kronecker products of locon's layers.",
)
@click.option(
    "--conv-rank",
    type=int,
    metavar="N",
    help="Rank of convolutions, 0 for none.  [default: none for lora, else as --rank]",
)
@click.option(
    "--parts",
    type=click.Choice(["all", "unet", "text-encoder"]),
    default="all",
    show_default=True,
    help="Which networks to compare.",
)
@click.option(
    "--norms",
    is_flag=True,
    help="Hold the norms that differ too, as LyCORIS' w_norm and b_norm, which ComfyUI, A1111 and "
    "lorasmith apply and diffusers does not.",
)
@click.option(
    "--min-diff",
    type=float,
    default=0.01,
    show_default=True,
    metavar="X",
    help="Leave out a text encoder that differs by no more than this in any weight.",
)
@click.option(
    "--clamp-quantile",
    type=float,
    metavar="X",
    help="Clamp factors to this quantile, as sd-scripts at 0.99; it loses accuracy.  "
    "[default: no clamping]",
)
@click.option(
    "--factor",
    type=int,
    metavar="N",
    help="lokr: size of the first factor, -1 for the square root.  [default: -1]",
)
@click.option(
    "--load-precision",
    type=click.Choice(PRECISIONS),
    default="fp32",
    show_default=True,
    help="Take the difference in this precision.",
)
@click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    default="fp16",
    show_default=True,
    help="Of the numbers in the file.",
)
@click.option(
    "--seed", type=int, default=0, show_default=True, metavar="N", help="Of the random vectors."
)
@click.option("--json", "as_json", is_flag=True, help="Print the error of every layer as JSON.")
@click.option("--dry-run", is_flag=True, help="Check the two models and say sizes; write nothing.")
def command(
    base: str,
    tuned: str,
    out: Path,
    as_json: bool,
    dry_run: bool,
    **given: Any,
) -> None:
    """Make a LoRA from the difference of two checkpoints of one family.

    MODEL is a checkpoint file, a diffusers folder or a hub id. The error of the result is measured
    and said; it is within 1 % of the least possible at that rank, or within single precision's
    rounding (0.03 % of the change). Nothing that exists is overwritten.
    """
    from lorasmith.cli.console import console
    from lorasmith.core.events import Observer, ignore
    from lorasmith.core.terminal_view import Terminal
    from lorasmith.lora_tools.extract import extract

    controls = Controls()
    with contextlib.closing(Terminal(console)) as terminal, stop_on_interrupt(controls):
        observer: Observer = ignore if as_json else terminal
        report = extract(
            base, tuned, out, **given, dry_run=dry_run, observer=observer, controls=controls
        )
    if as_json:
        echo_json(_record(report))
        return
    for line in _lines(report, out):
        echo(line)


def _record(report: ExtractReport) -> dict[str, Any]:
    values = asdict(report)
    values["written"] = None if report.written is None else str(report.written)
    return {"relative_error": report.error, **values}


def _lines(report: ExtractReport, out: Path) -> list[str]:
    size = bytes_text(report.size)
    if report.written is None:
        return [f"{out} would be {size} at most, {quantity(report.layers, 'layer')}"]
    lines = []
    for part in dict.fromkeys(module.part for module in report.modules):
        own = [module for module in report.modules if module.part == part]
        ranks = sorted({module.rank for module in own})
        said = f"rank {ranks[0]}" + (f" to {ranks[-1]}" if len(ranks) > 1 else "")
        lines.append(f"{part}: {quantity(len(own), 'layer')}, {said}")
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

    known = [module.excess for module in report.modules if module.excess is not None]
    tiny = sum(module.error <= ROUNDING_ERROR * module.norm for module in report.modules)
    rounding = f"within single precision's rounding ({ROUNDING_ERROR:.2%})"
    if tiny == len(report.modules):
        return f"; it is {rounding}"
    said = f"; at most about {max(known):.1%} above the least possible" if known else ""
    return said + (f"; {tiny} layers {rounding}" if tiny else "")
