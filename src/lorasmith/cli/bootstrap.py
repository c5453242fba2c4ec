"""``lorasmith bootstrap``"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click
from rich.table import Table

from lorasmith.advice.bootstrap.summary import last_choice, trend
from lorasmith.cli.options import command_for, run_shown
from lorasmith.core.file_names import relative_path
from lorasmith.core.terminal import echo, echo_json
from lorasmith.core.text import quantity
from lorasmith.jobs.bootstrap import BootstrapRequest

if TYPE_CHECKING:
    from lorasmith.advice.bootstrap.bootstrap import Bootstrapped, BootstrapPlan


@command_for(BootstrapRequest)
@click.option("--json", "as_json", is_flag=True, help="Print every round and drawing as JSON.")
def bootstrap(request: BootstrapRequest, as_json: bool) -> None:
    result = run_shown(request, to_stderr=as_json)
    if as_json:
        echo_json(result.to_json())
        return
    from lorasmith.cli.console import console

    if result.plan is not None:
        echo("\n".join(_planned(result, result.plan)))
        return
    console.print(_table(result))
    echo("\n".join(_lines(result)))


def _table(result: Bootstrapped) -> Table:
    """A row for each round."""
    view = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("round", "pictures", "steps", "likeness", "diversity", "kept", "taken out"):
        view.add_column(name, justify="right")
    for one in result.boot.rounds:
        gone = len(one.purged) + len(one.replaced)
        view.add_row(
            str(one.number),
            str(one.images),
            str(one.steps),
            _percent(one.likeness),
            _percent(one.diversity),
            "?" if one.kept is None else str(len(one.kept)),
            str(gone or ""),
        )
    return view


def _planned(result: Bootstrapped, plan: BootstrapPlan) -> Iterator[str]:
    options = result.boot.options
    yield f"folder    {result.boot.folder}, not written"
    for one in plan.given:
        yield f"picture   {one.path}: {one.caption}"
    yield f"rounds    {options.rounds} at most, the first of {quantity(plan.round_steps, 'step')}"
    yield f"last      {quantity(plan.steps, 'step')}, more where more is in the set by then"
    yield f"draws     {quantity(options.drawings, 'picture')} each, by {plan.source}:"
    yield from (f"          {caption}" for caption in plan.captions)


def _lines(result: Bootstrapped) -> Iterator[str]:
    boot = result.boot
    yield ""
    if result.page is not None:
        yield f"choose    {result.page}"
        numbers = ",".join(map(str, sorted(boot.now.suggested))) or "none"
        yield f"then      {boot.command} --keep {numbers}"
        yield "          (as --choose auto would)"
        if ended := last_choice(boot):
            yield f"note      no round comes after this one: {ended}"
        elif text := trend(boot.rounds):
            yield f"note      {text}; --finish makes this choice the last"
        return
    yield f"ended     {boot.ended}"
    yield f"dataset   {result.dataset}"
    yield f"LoRA      {result.lora}"
    yield f"look      lorasmith pick {relative_path(result.lora.parent)}"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.0%}"
