"""``lorasmith train-network`` and ``sdxl-train-network``: sd-scripts' command lines, unchanged."""

from __future__ import annotations

import os
from collections.abc import Sequence

import click

from lorasmith.cli.import_view import show
from lorasmith.cli.train import start
from lorasmith.config.load import load_settings
from lorasmith.importers.convert import convert_here, refuse_wrong
from lorasmith.importers.sd_scripts.argv import read_argv


class ForeignCommand(click.Command):
    """Takes any options, in the order in which they come."""

    ignore_unknown_options = True


def _train(arguments: Sequence[str], *, plan: bool, sdxl: bool) -> None:
    """Convert sd-scripts' arguments, say what became of them, and train.

    Raises:
        UserError: with everything that is unknown, wrong or cannot be honoured; nothing is loaded.
    """
    result = convert_here(read_argv(arguments, sdxl=sdxl))
    refuse_wrong(result)
    settings = load_settings(None, result.overrides(), for_training=True)
    if os.environ.get("RANK", "0") == "0":  # One of several processes is enough to say it.
        show(result)
    start(settings, plan)


@click.command("train-network", cls=ForeignCommand)
@click.option("--plan", is_flag=True, help="Show what would happen, and stop. Loads no model.")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="ARGUMENTS...")
def train_network(arguments: tuple[str, ...], plan: bool) -> None:
    """Train with the arguments of sd-scripts' train_network.py, unchanged.

    They mean what they mean there, defaults too. What became of each is printed first. What
    is not known, or cannot be honoured, stops the run with its name and the reason, before anything
    is loaded. `lorasmith convert-config --arguments` lists them all.
    """
    _train(arguments, plan=plan, sdxl=False)


@click.command("sdxl-train-network", cls=ForeignCommand)
@click.option("--plan", is_flag=True, help="Show what would happen, and stop. Loads no model.")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="ARGUMENTS...")
def sdxl_train_network(arguments: tuple[str, ...], plan: bool) -> None:
    """Train with the arguments of sd-scripts' sdxl_train_network.py, unchanged.

    As `lorasmith train-network`, for base models of the SDXL family.
    """
    _train(arguments, plan=plan, sdxl=True)
