"""The measures over a run as a picture: a panel for each question, the kept snapshot marked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from lorasmith.files import atomic_path
from lorasmith.training.pick_measures import FULL, HIGH, LOW, Measures
from lorasmith.training.pick_run import PickRun
from lorasmith.training.pick_verdict import COPY, LEAK, LIKE_ENOUGH, State, Verdict

# In pixels of the finished picture, which is drawn larger and scaled down to smooth its lines.
PANEL, FIELD, COLUMNS, SCALE = (430, 236), (52, 58, 412, 190), 2, 3
INK, PALE, GRID, LIMIT = "#1f2933", "#616e7c", "#dfe4ea", "#b42318"
COLOURS = ("#1f6feb", "#e07b00", "#7d3fc4")
SHADES: dict[State, str] = {"under": "#fff6e0", "well": "#e6f6e9", "over": "#fdeaea"}
# What is beyond these is drawn at the edge: a ruined snapshot would flatten all others.
LOWEST, HIGHEST = -1.0, 2.5

Value = Callable[[Measures], float | None]


@dataclass(frozen=True, slots=True)
class Panel:
    """A question, curves by name that answer it, and the line between yes and no."""

    title: str
    curves: dict[str, Value]
    limit: float | None = None


def panels(measures: Sequence[Measures]) -> list[Panel]:
    """Those that this run has numbers for."""
    judged = "held-out" if measures[0].held_out is not None else "training"
    losses: dict[str, Value] = {f"at {FULL}": lambda one: one.loss[FULL]}
    losses |= {f"at {LOW}": lambda one: one.loss[LOW], f"at {HIGH}": lambda one: one.loss[HIGH]}
    every = [Panel(f"loss on {judged} pictures, change since the base model", losses)]
    if measures[0].held_out is not None:
        both: dict[str, Value] = {"held-out": lambda one: one.held_out}
        both["training"] = lambda one: one.training
        every.append(Panel("held-out against training loss", both))
    likeness: dict[str, Value] = {f"at {FULL}": lambda one: one.likeness.get(FULL)}
    likeness[f"at {LOW}"] = lambda one: one.likeness.get(LOW)
    likeness[f"at {HIGH}"] = lambda one: one.likeness.get(HIGH)
    every.append(Panel("likeness of drawings to training pictures", likeness, LIKE_ENOUGH))
    moved: dict[str, Value] = {"predictions": lambda one: one.plain_moved}
    moved["drawings"] = lambda one: one.plain_drawings
    every.append(Panel("plain prompts: how far they move", moved, LEAK))
    kinds: dict[str, Value] = {"distance to the nearest": lambda one: one.copying}
    kinds["diversity"] = lambda one: one.diversity
    every.append(Panel("copies of training pictures (below the line)", kinds, COPY))
    return [
        panel
        for panel in every
        if any(value(one) is not None for value in panel.curves.values() for one in measures)
    ]


def save_chart(path: Path, run: PickRun, measures: Sequence[Measures], verdict: Verdict) -> None:
    """Write the chart as a PNG."""
    chart = draw_chart([_place(one.label) for one in run.candidates], measures, verdict)
    with atomic_path(path) as part:
        chart.save(part, format="PNG", optimize=True)


def draw_chart(
    labels: Sequence[str], measures: Sequence[Measures], verdict: Verdict
) -> Image.Image:
    """RGB. The shade behind a snapshot is its state; a dotted line marks the one to keep."""
    shown = panels(measures)
    rows = -(-len(shown) // COLUMNS)
    width, height = PANEL[0] * COLUMNS, PANEL[1] * rows
    picture = Image.new("RGB", (width * SCALE, height * SCALE), "white")
    draw = ImageDraw.Draw(picture)
    for number, panel in enumerate(shown):
        row, column = divmod(number, COLUMNS)
        _Frame(draw, labels, verdict, (column * PANEL[0], row * PANEL[1])).panel(panel, measures)
    return picture.resize((width, height), Image.Resampling.LANCZOS)


class _Frame:
    """One panel's place on the chart."""

    def __init__(
        self,
        draw: ImageDraw.ImageDraw,
        labels: Sequence[str],
        verdict: Verdict,
        corner: tuple[int, int],
    ) -> None:
        self._draw, self._labels, self._verdict, self._corner = draw, labels, verdict, corner
        self._left, self._top = corner[0] + FIELD[0], corner[1] + FIELD[1]
        self._right, self._bottom = corner[0] + FIELD[2], corner[1] + FIELD[3]

    def panel(self, panel: Panel, measures: Sequence[Measures]) -> None:
        rows = {name: [value(one) for one in measures] for name, value in panel.curves.items()}
        known = [_held(v) for row in rows.values() for v in row if v is not None]
        low = min([0.0, *known])
        high = max([0.0, *known, *([panel.limit] if panel.limit is not None else [])])
        high = high if high > low else low + 1
        self._background(low, high, panel)
        self._write(panel.title, (self._left, self._corner[1] + 12), "la", 14, INK)
        across = self._left
        for number, (name, row) in enumerate(rows.items()):
            self._curve(row, low, high, COLOURS[number])
            y = self._corner[1] + 42
            dot = _scaled(across, y - 3, across + 6, y + 3)
            self._draw.ellipse(dot, fill=COLOURS[number])
            self._write(name, (across + 11, y), "lm", 12, COLOURS[number])
            across += 7 * len(name) + 32

    def _background(self, low: float, high: float, panel: Panel) -> None:
        step = (self._right - self._left) / len(self._labels)
        for number, judged in enumerate(self._verdict.judged):
            begin = self._left + number * step
            box = _scaled(begin, self._top, begin + step, self._bottom)
            self._draw.rectangle(box, fill=SHADES[judged.state])
        for value in sorted({low, 0.0, high}):
            y = self._y(value, low, high)
            self._draw.line(_scaled(self._left, y, self._right, y), fill=GRID, width=SCALE)
            self._write(f"{value:.2g}", (self._left - 6, y), "rm", 11, PALE)
        if panel.limit is not None:
            y = self._y(panel.limit, low, high)
            self._draw.line(_scaled(self._left, y, self._right, y), fill=LIMIT, width=SCALE)
        keep = self._x(self._verdict.keep)
        for y in range(self._top, self._bottom, 6):
            self._draw.line(_scaled(keep, y, keep, y + 3), fill=INK, width=SCALE)
        every = -(-len(self._labels) // 10)
        for number, label in enumerate(self._labels):
            if number % every == 0 or number == self._verdict.keep:
                colour = INK if number == self._verdict.keep else PALE
                self._write(label, (self._x(number), self._bottom + 6), "ma", 11, colour)

    def _curve(self, row: Sequence[float | None], low: float, high: float, colour: str) -> None:
        points = [
            (self._x(number), self._y(_held(value), low, high))
            for number, value in enumerate(row)
            if value is not None
        ]
        flat = [value * SCALE for point in points for value in point]
        if len(points) > 1:
            self._draw.line(flat, fill=colour, width=2 * SCALE, joint="curve")
        for x, y in points:
            self._draw.ellipse(_scaled(x - 3, y - 3, x + 3, y + 3), fill=colour)

    def _x(self, number: int) -> float:
        return self._left + (self._right - self._left) * (number + 0.5) / len(self._labels)

    def _y(self, value: float, low: float, high: float) -> float:
        return self._bottom - (self._bottom - self._top) * (value - low) / (high - low)

    def _write(
        self, text: str, at: tuple[float, float], anchor: str, size: int, colour: str
    ) -> None:
        font = ImageFont.load_default(size * SCALE)
        place = at[0] * SCALE, at[1] * SCALE
        self._draw.text(place, text, fill=colour, font=font, anchor=anchor)


def _held(value: float) -> float:
    return min(max(value, LOWEST), HIGHEST)


def _place(label: str) -> str:
    """ "epoch 12" is "12" under an axis that has many."""
    return label.removeprefix("epoch ").removeprefix("step ")


def _scaled(*values: float) -> list[float]:
    return [value * SCALE for value in values]
