"""``lorasmith sdxl-train-network``: the command line of sd-scripts for SDXL, unchanged."""

from __future__ import annotations

import click

from lorasmith.cli.train_network import ForeignCommand, train_with


@click.command("sdxl-train-network", cls=ForeignCommand)
@click.option("--plan", is_flag=True, help="Show what would happen, and stop. Loads no model.")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="ARGUMENTS...")
def sdxl_train_network(arguments: tuple[str, ...], plan: bool) -> None:
    """Train with the arguments of sd-scripts' sdxl_train_network.py, unchanged.

    As `lorasmith train-network`, for base models of the SDXL family.
    """
    train_with(arguments, plan=plan, sdxl=True)
