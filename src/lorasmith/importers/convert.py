"""Arguments of sd-scripts to settings: the one engine behind all readers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from lorasmith.importers.conversion import MISSING, ConversionBuilder
from lorasmith.importers.result import Conversion, Given
from lorasmith.importers.sd_scripts import rules_data, rules_network, rules_optimizer, rules_run
from lorasmith.importers.sd_scripts.argument import Argument
from lorasmith.importers.sd_scripts.datasets import datasets
from lorasmith.importers.sd_scripts.sample_prompts import samples
from lorasmith.importers.sd_scripts.table import ARGUMENTS
from lorasmith.importers.source import Source

OF_DATA = ("data.", "captions.", "buckets.", "augment.")

RULES: tuple[Callable[[ConversionBuilder], None], ...] = (
    rules_data.model,
    rules_data.folders,
    rules_data.size,
    rules_data.buckets,
    rules_data.augmentation,
    rules_data.captions,
    rules_data.masks,
    rules_optimizer.optimizer,
    rules_network.network,
    rules_run.noise,
    rules_run.weighing,
    rules_run.length,
    rules_run.validation,
    rules_run.memory,
    rules_run.saving,
    rules_run.log,
    rules_run.machine,
    samples,
)


def convert(
    given: Mapping[str, Given],
    *,
    sdxl: bool = False,
    tables: Mapping[str, Any] | None = None,
    tables_in: str = "datasets",
    complete: bool = True,
) -> Conversion:
    """What a run of sd-scripts with these arguments is as settings, with sd-scripts' defaults.

    Args:
        given: arguments by name, as read by one of the readers.
        sdxl: they are of ``sdxl_train_network.py``.
        tables: ``[general]`` and ``[[datasets]]``, where they are no file of their own.
        tables_in: where those stand, as messages call it.
        complete: a run is to be started, so nothing may be missing.

    Returns:
        The settings, and with them everything that is wrong; nothing is raised.
    """
    making = ConversionBuilder(given, sdxl=sdxl, complete=complete)
    datasets(making, tables, tables_in)
    for row in ARGUMENTS.values():
        _by_table(making, row)
    for rule in RULES:
        rule(making)
    making.result.sort()
    return making.result


def convert_source(source: Source, *, complete: bool = True) -> Conversion:
    """:func:`convert` for what a reader found, with what it could not read."""
    if source.incomplete and not source.given:
        return Conversion(problems=list(source.problems), remarks=list(source.remarks))
    given, only_data = source.given, source.tables is not None and not source.given
    if only_data or source.partial:
        given = {"network_module": Given("networks.lora", ""), **source.given}
    result = convert(
        given,
        sdxl=source.sdxl,
        tables=source.tables,
        tables_in=source.tables_in,
        complete=complete,
    )
    if only_data or source.partial:  # The rest would be defaults, which nobody asked for.
        result.settings = {
            path: made
            for path, made in result.settings.items()
            if (only_data and path.startswith(OF_DATA))
            or made.origin.startswith(f"{source.tables_in}:")
        }
    for path in source.untold:
        result.settings.pop(path, None)
    if source.incomplete:
        result.problems = [problem for problem in result.problems if problem.what != MISSING]
    result.problems[:0] = source.problems
    result.remarks[:0] = source.remarks
    return result


def _by_table(m: ConversionBuilder, row: Argument) -> None:
    if row.fate == "setting":
        m.put_plain(row)
        return
    if row.name not in m.given or row.name == "cache_latents":
        return
    if row.fate == "refused":
        if not row.asks_for_nothing(m.value(row.name)):
            m.refuse(row.name, row.why, row.hint)
    elif row.fate == "always":
        m.always(row.name, row.why)
    elif row.fate == "dropped" and m.has(row.name):
        m.drop(row.name, row.why)
