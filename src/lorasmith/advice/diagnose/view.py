"""A diagnosis on a terminal, 80 columns wide or more."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from lorasmith.advice.diagnose.cause import Cause
from lorasmith.advice.diagnose.diagnosis import Diagnosis
from lorasmith.advice.pick import STYLES
from lorasmith.config.dump import toml_value
from lorasmith.config.fields import NONE
from lorasmith.core.terminal import clean
from lorasmith.measures.strength_grid import StrengthGrid
from lorasmith.measures.verdict import WORDS

_SHOWN = 3  # causes


def render(diagnosis: Diagnosis) -> RenderableType:
    return Group(*_parts(diagnosis))


def _parts(diagnosis: Diagnosis) -> Iterator[RenderableType]:
    model = diagnosis.subject.settings.model.path
    name = clean(diagnosis.subject.name, lines=False)
    yield Text.assemble((name, "bold"), f" on {clean(str(model), lines=False)}")
    verdict = diagnosis.verdict
    if verdict is not None:
        state = Text(WORDS[verdict.state].capitalize(), f"bold {STYLES[verdict.state]}")
        yield Text.assemble(state, ": ", clean("; ".join(verdict.reasons), lines=False), ".")
    yield Text("")
    if diagnosis.causes:
        yield Text("Why, the likeliest first", "bold")
    else:
        well = verdict is not None and verdict.state == "well"
        yield Text(diagnosis.no_cause, "green" if well else "")
    for number, cause in enumerate(diagnosis.causes[:_SHOWN], 1):
        yield Padding(Group(*_cause(number, cause)), (0, 0, 0, 2))
    others = [cause.rule.title.lower() for cause in diagnosis.causes[_SHOWN:]]
    if others:
        yield Padding(Text(f"Less likely: {'; '.join(others)}.", "dim"), (0, 0, 0, 2))
    for section in diagnosis.sections:
        yield Text("")
        yield Text(section.title, "bold")
        grid = diagnosis.evidence.grid
        if section.id == "parts" and grid is not None:
            yield Padding(strengths_table(grid), (0, 0, 0, 2))
        for line in section.lines:
            yield Padding(Text(clean(line, lines=False)), (0, 0, 0, 2))
    if diagnosis.unknown:
        yield Text("")
        yield Text("Not answered", "bold")
        for line in diagnosis.unknown:
            yield Padding(Text(line, "dim"), (0, 0, 0, 2))
    yield Text("")


def _cause(number: int, cause: Cause) -> Iterator[RenderableType]:
    found = cause.suspicion
    likely = f"  {found.likelihood:.0%}"
    yield Text.assemble(
        (f"{number}. {cause.rule.title}", "bold"), (f"  {cause.id}", "cyan"), likely
    )
    for text in found.evidence:
        yield Padding(Text(f"• {clean(text, lines=False)}"), (0, 0, 0, 3))
    why = f"{cause.rule.why} ({cause.rule.source})" if cause.rule.source else cause.rule.why
    yield Padding(Text(why, "dim"), (0, 0, 0, 3))
    if found.todo:
        yield Padding(Text(f"→ {clean(found.todo, lines=False)}"), (0, 0, 0, 3))
    for command in commands(cause):
        yield Padding(Text(clean(command, lines=False), "cyan"), (0, 0, 0, 5))


def commands(cause: Cause) -> list[str]:
    """What to type: the dataset's commands, and the settings as options of ``train``."""
    lines = [line for line in cause.suspicion.command.splitlines() if line]
    if options := settings_options(cause.suspicion.changes):
        lines.append(f"lorasmith train … {options}")
    return lines


def settings_options(changes: Mapping[str, Any]) -> str:
    """``--set optimizer.lr=0.002``, quoted where a shell wants it."""
    return " ".join(
        f"--set {shlex.quote(f'{path}={_option_text(value)}')}" for path, value in changes.items()
    )


def _option_text(value: Any) -> str:
    """Texts stand as they are behind ``--set``, the rest as in TOML."""
    value = NONE if value is None else value
    return str(value) if isinstance(value, str | Path) else toml_value(value)


def strengths_table(grid: StrengthGrid) -> Table:
    """Losses since the base, rows of the UNet's strength; the lowest is marked."""
    view = Table(box=None, pad_edge=False, header_style="bold")
    view.add_column("UNet \\ text encoder")
    for strength in grid.text_encoder:
        view.add_column(f"{strength:g}", justify="right")
    means = grid.means()
    lowest = min(min(row) for row in means)
    for strength, row in zip(grid.unet, means, strict=True):
        cells = [Text(_change(value), "bold green" if value == lowest else "") for value in row]
        view.add_row(f"{strength:g}", *cells)
    return view


def _change(value: float) -> str:
    return f"{value:+.0%}" if abs(value) < 10 else "ruined"
