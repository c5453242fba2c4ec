"""``lorasmith bootstrap``"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click
from rich.table import Table

from lorasmith.cli.options import command_for, run_shown
from lorasmith.core.file_names import relative_path
from lorasmith.core.terminal import echo, echo_json
from lorasmith.jobs.bootstrap import BootstrapRequest

if TYPE_CHECKING:
    from lorasmith.advice.bootstrap.bootstrap import Bootstrapped


@command_for(BootstrapRequest)
@click.option("--json", "as_json", is_flag=True, help="Print every round and drawing as JSON.")
def bootstrap(request: BootstrapRequest, as_json: bool) -> None:
    result = run_shown(request, to_stderr=as_json)
    if as_json:
        echo_json(result.to_json())
        return
    from lorasmith.cli.console import console

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


def _lines(result: Bootstrapped) -> Iterator[str]:
    boot = result.boot
    yield ""
    if result.page is not None:
        yield f"choose    {result.page}"
        numbers = ",".join(map(str, sorted(boot.now.suggested))) or "none"
        yield f"then      {boot.command} --keep {numbers}"
        yield "          (as --choose auto would)"
        return
    yield f"ended     {boot.ended}"
    yield f"dataset   {result.dataset}"
    yield f"LoRA      {result.lora}"
    yield f"look      lorasmith pick {relative_path(result.lora.parent)}"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.0%}"
