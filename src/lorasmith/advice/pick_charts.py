"""What shows a verdict: the measures over the run, and the drawings of all snapshots on one sheet.

The chart has a panel for each question, the kept snapshot marked; the sheet is the grid that the
guides compare epochs by.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image

from lorasmith.advice.pick_run import PickRun
from lorasmith.core.canvas import GRID, INK, PALE, Canvas
from lorasmith.core.errors import DatasetError
from lorasmith.core.files import atomic_path
from lorasmith.data.images import load_image
from lorasmith.measures.records import FULL, HIGH, KINDS, LOW, PLAIN, Measures
from lorasmith.measures.verdict import COPY, LEAK, LIKE_ENOUGH, WORDS, State, Verdict
from lorasmith.sampling.contact_sheet import contact_sheet, scaled

# In pixels.
PANEL, FIELD, COLUMNS = (430, 236), (52, 58, 412, 190), 2
LIMIT = "#b42318"
COLOURS = ("#1f6feb", "#e07b00", "#7d3fc4")
SHADES: dict[State, str] = {"under": "#fff6e0", "well": "#e6f6e9", "over": "#fdeaea"}
# What is beyond these is drawn at the edge: a ruined snapshot would flatten all others.
LOWEST, HIGHEST = -1.0, 2.5


# Drawings of each kind on the sheet, and the widest image on it in pixels.
SHOWN = {KINDS["1.0"]: 3, KINDS["0.6"]: 1, KINDS["1.4"]: 1, PLAIN: 2}
TITLES = {KINDS["1.0"]: "strength 1", KINDS["0.6"]: "0.6", KINDS["1.4"]: "1.4", PLAIN: "no trigger"}
SIDE = 128

Value = Callable[[Measures], float | None]


@dataclass(frozen=True, slots=True)
class Panel:
    """A question, curves by name that answer it, and the line between yes and no."""

    title: str
    curves: dict[str, Value]
    limit: float | None = None


def panels(measures: Sequence[Measures]) -> list[Panel]:
    """Those that this run has numbers for."""
    which = "held-out" if measures[0].held_out is not None else "training"
    losses: dict[str, Value] = {f"at {FULL}": lambda one: one.loss[FULL]}
    losses |= {
        f"at {LOW}": lambda one: one.loss.get(LOW),
        f"at {HIGH}": lambda one: one.loss.get(HIGH),
    }
    every = [Panel(f"loss on {which} pictures, change since the base model", losses)]
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
    known = [replace(panel, curves=_known(panel.curves, measures)) for panel in every]
    return [panel for panel in known if panel.curves]


def _known(curves: dict[str, Value], measures: Sequence[Measures]) -> dict[str, Value]:
    """Those that there are numbers for."""
    return {
        name: value
        for name, value in curves.items()
        if any(value(one) is not None for one in measures)
    }


def save_chart(path: Path, run: PickRun, measures: Sequence[Measures], verdict: Verdict) -> None:
    """Write the chart as a PNG."""
    chart = draw_chart([_place(one.label) for one in run.candidates], measures, verdict)
    with atomic_path(path) as part:
        chart.save(part, format="PNG", optimize=True)


def draw_chart(
    labels: Sequence[str], measures: Sequence[Measures], verdict: Verdict
) -> Image.Image:
    """RGB. The shade behind a snapshot is its state; a dotted line marks the one to keep."""
    all_panels = panels(measures)
    rows = -(-len(all_panels) // COLUMNS)
    canvas = Canvas(PANEL[0] * COLUMNS, PANEL[1] * rows)
    for number, panel in enumerate(all_panels):
        row, column = divmod(number, COLUMNS)
        corner = column * PANEL[0], row * PANEL[1]
        _Frame(canvas, labels, verdict, corner).panel(panel, measures)
    return canvas.image()


class _Frame:
    """One panel's place on the chart."""

    def __init__(
        self,
        canvas: Canvas,
        labels: Sequence[str],
        verdict: Verdict,
        corner: tuple[int, int],
    ) -> None:
        self._canvas, self._labels, self._verdict, self._corner = canvas, labels, verdict, corner
        self._left, self._top = corner[0] + FIELD[0], corner[1] + FIELD[1]
        self._right, self._bottom = corner[0] + FIELD[2], corner[1] + FIELD[3]

    def panel(self, panel: Panel, measures: Sequence[Measures]) -> None:
        rows = {name: [value(one) for one in measures] for name, value in panel.curves.items()}
        values = [_held(v) for row in rows.values() for v in row if v is not None]
        low = min([0.0, *values])
        high = max([0.0, *values, *([panel.limit] if panel.limit is not None else [])])
        high = high if high > low else low + 1
        self._background(low, high, panel)
        self._canvas.text(panel.title, (self._left, self._corner[1] + 12), 14)
        across = self._left
        for number, (name, row) in enumerate(rows.items()):
            self._curve(row, low, high, COLOURS[number])
            y = self._corner[1] + 42
            self._canvas.dot((across + 3, y), 3, COLOURS[number])
            self._canvas.text(name, (across + 11, y), 12, COLOURS[number], anchor="lm")
            across += 7 * len(name) + 32

    def _background(self, low: float, high: float, panel: Panel) -> None:
        step = (self._right - self._left) / len(self._labels)
        for number, judgement in enumerate(self._verdict.judged):
            begin = self._left + number * step
            shade = SHADES[judgement.state]
            self._canvas.box(begin, self._top, begin + step, self._bottom, shade)
        for value in sorted({low, 0.0, high}):
            y = self._y(value, low, high)
            self._canvas.line([(self._left, y), (self._right, y)], GRID)
            self._canvas.text(f"{value:.2g}", (self._left - 6, y), 11, PALE, anchor="rm")
        if panel.limit is not None:
            y = self._y(panel.limit, low, high)
            self._canvas.line([(self._left, y), (self._right, y)], LIMIT)
        keep = self._x(self._verdict.keep)
        for y in range(self._top, self._bottom, 6):
            self._canvas.line([(keep, y), (keep, y + 3)], INK)
        every = -(-len(self._labels) // 10)
        for number, label in enumerate(self._labels):
            if number % every == 0 or number == self._verdict.keep:
                colour = INK if number == self._verdict.keep else PALE
                place = self._x(number), self._bottom + 6
                self._canvas.text(label, place, 11, colour, anchor="ma")

    def _curve(self, row: Sequence[float | None], low: float, high: float, colour: str) -> None:
        points = [
            (self._x(number), self._y(_held(value), low, high))
            for number, value in enumerate(row)
            if value is not None
        ]
        if len(points) > 1:
            self._canvas.line(points, colour, 2)
        for point in points:
            self._canvas.dot(point, 3, colour)

    def _x(self, number: int) -> float:
        return self._left + (self._right - self._left) * (number + 0.5) / len(self._labels)

    def _y(self, value: float, low: float, high: float) -> float:
        return self._bottom - (self._bottom - self._top) * (value - low) / (high - low)


def _held(value: float) -> float:
    return min(max(value, LOWEST), HIGHEST)


def _place(label: str) -> str:
    """ "epoch 12" is "12" under an axis that has many."""
    return label.removeprefix("epoch ").removeprefix("step ")


def save_sheet(path: Path, run: PickRun, drawings: Path, verdict: Verdict) -> Path | None:
    """Rows: the base model, then each snapshot; all of one column share prompt and seed.

    Returns:
        ``path``; ``None`` when nothing was drawn.
    """
    counts = {PLAIN: len(run.eval_set.plain)}
    columns = [
        (kind, number)
        for kind, most in SHOWN.items()
        for number in range(min(most, counts.get(kind, len(run.eval_set.prompts))))
    ]
    # What has no strength is drawn at none but its own.
    stems = [one.drawings for one in run.candidates]
    columns = [
        (kind, number)
        for kind, number in columns
        if any((drawings / f"{stem}-{kind}-{number}.png").exists() for stem in stems)
    ]
    base = [("base", KINDS["1.0"] if kind != PLAIN else PLAIN, n) for kind, n in columns]
    rows = [[_opened(drawings / f"{name}-{kind}-{n}.png") for name, kind, n in base]]
    labels = ["base model"]
    for number, (one, judgement) in enumerate(zip(run.candidates, verdict.judged, strict=True)):
        rows.append([_opened(drawings / f"{one.drawings}-{kind}-{n}.png") for kind, n in columns])
        mark = " KEEP" if number == verdict.keep else ""
        labels.append(f"{one.label}{mark}, {WORDS[judgement.state]}")
    if not any(image is not None for row in rows[1:] for image in row):
        return None
    sheet = contact_sheet(
        rows, row_labels=labels, column_labels=[TITLES[kind] for kind, _ in columns]
    )
    with atomic_path(path) as part:
        sheet.save(part, format="PNG")
    return path


def _opened(path: Path) -> Image.Image | None:
    try:
        image = load_image(path)
    except DatasetError:  # Not drawn, or damaged.
        return None
    return scaled(image, SIDE / max(image.size))
