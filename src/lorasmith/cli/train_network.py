"""``lorasmith train-network`` and ``sdxl-train-network``: sd-scripts' command lines, unchanged."""

from __future__ import annotations

import click

from lorasmith.cli.train import start
from lorasmith.jobs.training import PlanRequest, TrainRequest


class ForeignCommand(click.Command):
    """Takes any options, in the order in which they come."""

    ignore_unknown_options = True


@click.command("train-network", cls=ForeignCommand)
@click.option("--plan", is_flag=True, help="Show what would happen, and stop. Loads no model.")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="ARGUMENTS...")
def train_network(arguments: tuple[str, ...], plan: bool) -> None:
    """Train with the arguments of sd-scripts' train_network.py, unchanged.

    They mean what they mean there, defaults too. What became of each is printed first. What
    is not known, or cannot be honoured, stops the run with its name and the reason, before anything
    is loaded. `lorasmith convert-config --arguments` lists them all.
    """
    request = PlanRequest if plan else TrainRequest
    start(request(arguments=list(arguments)))


@click.command("sdxl-train-network", cls=ForeignCommand)
@click.option("--plan", is_flag=True, help="Show what would happen, and stop. Loads no model.")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="ARGUMENTS...")
def sdxl_train_network(arguments: tuple[str, ...], plan: bool) -> None:
    """Train with the arguments of sd-scripts' sdxl_train_network.py, unchanged.

    As `lorasmith train-network`, for base models of the SDXL family.
    """
    request = PlanRequest if plan else TrainRequest
    start(request(arguments=list(arguments), sdxl=True))
