"""What a reader finds in a file or on a command line, before anything is converted."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from lorasmith.core.errors import Problem
from lorasmith.importers.result import Given, Remark


@dataclass(slots=True)
class Source:
    """
    Args:
        kind: what it was, as people call it.
        given: arguments by sd-scripts' names.
        sdxl: they are for SDXL.
        problems: what could not be read.
        remarks: what was read and is no argument.
        incomplete: part of it is among the problems, so nothing else can be called missing.
        tables: data sets that stand in the file itself, as ``--dataset_config`` would hold them.
        tables_in: that file, as messages call it.
        partial: it says only what it changes of another file, so no default is meant.
        untold: settings that it can say nothing of, so that none of sd-scripts' defaults is meant.
    """

    kind: str
    given: dict[str, Given] = field(default_factory=dict)
    sdxl: bool = False
    problems: list[Problem] = field(default_factory=list)
    remarks: list[Remark] = field(default_factory=list)
    incomplete: bool = False
    tables: dict[str, Any] | None = None
    tables_in: str = "datasets"
    partial: bool = False
    untold: tuple[str, ...] = ()
