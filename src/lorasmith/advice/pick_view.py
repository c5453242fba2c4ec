"""The verdict as a person reads it in a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lorasmith.advice.pick import Picked
from lorasmith.advice.pick_verdict import WORDS, State
from lorasmith.measures.records import FULL, HIGH, LOW

STYLES: dict[State, str] = {"under": "yellow", "well": "green", "over": "red"}
BAR_WIDTH = 10
FULL_BLOCK, REST = "█", "·"
HUGE = 9.99


def show(picked: Picked, console: Console) -> None:
    """A row for each snapshot, the verdict, what to change, and where the files are."""
    console.print(table(picked))
    verdict = picked.verdict
    console.print()
    console.print(Text(verdict.summary, style="bold"))
    for line in verdict.advice:
        console.print(f"→ {line}", highlight=False, markup=False)
    for line in verdict.limits:
        console.print(f"• {line}", style="dim", highlight=False, markup=False)
    console.print()
    files = {"keep": picked.kept.path, "chart": picked.chart, "drawings": picked.sheet}
    for name, path in files.items():
        if path is not None:
            console.print(f"{name:9} {path}", highlight=False, markup=False, soft_wrap=True)


def table(picked: Picked) -> Table:
    """A row for each snapshot."""
    drawn = any(one.drawn for one in picked.measures)
    plain = any(one.plain_moved is not None for one in picked.measures)
    kind = "held-out loss" if picked.run.eval_set.held_out else "loss"
    found = Table(box=None, pad_edge=False, header_style="bold")
    found.add_column("snapshot")
    found.add_column(f"{kind} at\n{LOW}   {FULL}   {HIGH}", justify="right")
    if drawn:
        found.add_column("likeness")
        found.add_column("copying", justify="right")
    if plain:
        found.add_column("leak", justify="right")
    found.add_column("", no_wrap=True)
    rows = zip(picked.run.candidates, picked.measures, picked.verdict.judged, strict=True)
    for number, (candidate, one, judged) in enumerate(rows):
        cells = [candidate.label, "  ".join(_share(one.loss[key]) for key in (LOW, FULL, HIGH))]
        if drawn:
            cells += [bar(one.likeness.get(FULL)), _plain(one.copying)]
        if plain:
            cells.append(_plain(one.plain_moved))
        kept = " ◀ keep" if number == picked.verdict.keep else ""
        state = Text(WORDS[judged.state] + kept, style=STYLES[judged.state])
        found.add_row(*cells, state)
    return found


def bar(value: float | None) -> str:
    """``███████··· 72%``"""
    if value is None:
        return ""
    filled = round(min(max(value, 0.0), 1.0) * BAR_WIDTH)
    return f"{FULL_BLOCK * filled}{REST * (BAR_WIDTH - filled)} {_share(value).strip('+')}"


def _share(value: float) -> str:
    return f"{value:+.0%}" if abs(value) < HUGE else "ruined"


def _plain(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.2f}" if value < HUGE else "huge"
