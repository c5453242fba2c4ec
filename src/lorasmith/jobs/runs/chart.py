"""The curves of one run as an image: its loss over the steps, and the learning rates beside it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from PIL import Image

from lorasmith.core.canvas import GRID, PALE, Canvas, font_of

Column = Sequence[float | None]

# In pixels: each panel's left edge and width, and how its field lies in it.
WIDTH, HEIGHT = 900, 260
PANELS = ((0, 590), (590, 310))
LEFT, RIGHT, TOP, BOTTOM = 56, 16, 56, 32

# Name of the column: what it is called, colour, width. The later lie above.
LOSSES = {
    "loss": ("each step", "#c3d2ea", 1.0),
    "training": ("training pictures, fixed noise", "#7d3fc4", 2.0),
    "held_out": ("held-out pictures", "#e07b00", 2.0),
    "smoothed_loss": ("average", "#1f6feb", 2.4),
}
RATE_COLOURS = ("#1f6feb", "#e07b00", "#7d3fc4", "#2a8f4d")
# Of the losses of single steps; what is beyond is drawn at the edge.
SHOWN_SHARE = 0.95
# With fewer points than this, each gets a dot.
FEW = 25


def draw_curves(columns: Mapping[str, Column], steps: int) -> Image.Image:
    """RGB, :data:`WIDTH` by :data:`HEIGHT` pixels.

    Args:
        columns: as :class:`~lorasmith.jobs.runs.records.RunMetrics` has them.
        steps: of the whole run, to which the panels reach.
    """
    canvas = Canvas(WIDTH, HEIGHT)
    at = [float(step or 0) for step in columns.get("step", ())]
    last = max([1.0, float(steps), *at])
    losses = {name: columns[name] for name in LOSSES if _numbers(columns.get(name, ()))}
    _panel(canvas, 0, "loss", at, last, [(*LOSSES[name], row) for name, row in losses.items()])
    rates = [
        (title, RATE_COLOURS[number % len(RATE_COLOURS)], 2.0, row)
        for number, (title, row) in enumerate(_rates(columns))
    ]
    _panel(canvas, 1, "learning rate", at, last, rates)
    return canvas.image()


def _rates(columns: Mapping[str, Column]) -> list[tuple[str, Column]]:
    """By the names of their groups; groups of the same rate are one curve."""
    # An adaptive optimizer's own factor is part of its rate.
    kind = "d*lr/" if any(name.startswith("d*lr/") for name in columns) else "lr/"
    groups: dict[tuple[float | None, ...], list[str]] = {}
    for name, row in columns.items():
        if name.startswith(kind):
            group = name.removeprefix(kind).replace("text_encoder", "text").replace("_", " ")
            groups.setdefault(tuple(row), []).append(group)
    return [(", ".join(names), row) for row, names in groups.items()]


Curve = tuple[str, str, float, Column]
"""Title, colour, width, values."""


def _panel(
    canvas: Canvas, number: int, title: str, at: Sequence[float], last: float, curves: list[Curve]
) -> None:
    begin, width = PANELS[number]
    left, right, top, bottom = begin + LEFT, begin + width - RIGHT, TOP, HEIGHT - BOTTOM
    low, high = _range(curves)
    low = 0.0 if number else low  # Rates are compared by their ratio.

    def across(step: float) -> float:
        return left + (right - left) * step / last

    def up(value: float) -> float:
        return bottom - (bottom - top) * (min(max(value, low), high) - low) / (high - low)

    for value in _ticks(low, high, 5):
        canvas.line([(left, up(value)), (right, up(value))], GRID)
        canvas.text(f"{value:.4g}", (left - 6, up(value)), 11, PALE, anchor="rm")
    for step in _ticks(0, last, 5):
        if step == int(step):
            label = f"{step:.0f}" if step else "step 0"
            canvas.text(label, (across(step), bottom + 8), 11, PALE, anchor="ma")
    canvas.text(title, (left, 8), 14)
    along: float = left
    for name, colour, thickness, row in curves:
        places = [(across(x), up(y)) for x, y in zip(at, row, strict=True) if y is not None]
        if len(places) > 1:
            canvas.line(places, colour, thickness)
        for place in places if len(places) <= FEW else ():
            canvas.dot(place, thickness + 0.5, colour)
        canvas.dot((along + 3, 36), 3.5, colour)
        canvas.text(name, (along + 11, 36), 12, PALE, anchor="lm")
        along += font_of(12).getlength(name) + 26


def _range(curves: Sequence[Curve]) -> tuple[float, float]:
    """The lowest and the highest value that is shown."""
    values = []
    for title, _, _, row in curves:
        numbers = sorted(_numbers(row))
        if title == LOSSES["loss"][0]:
            outside = int(len(numbers) * (1 - SHOWN_SHARE) / 2)
            numbers = numbers[outside : len(numbers) - outside]
        values += numbers
    low, high = min(values, default=0.0), max(values, default=1.0)
    if high - low <= 1e-9 * abs(high):  # A constant: in the middle.
        return (low * 0.5, high * 1.5) if high > 0 else (low - 0.5, high + 0.5)
    margin = 0.04 * (high - low)
    return max(low - margin, 0.0 if low >= 0 else -math.inf), high + margin


def _ticks(low: float, high: float, about: int) -> list[float]:
    """Round numbers from ``low`` to ``high``."""
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    width = next(power * each for each in (1, 2, 5, 10) if power * each >= rough)
    first, last = math.ceil(low / width), math.floor(high / width)
    return [number * width for number in range(first, last + 1)]


def _numbers(row: Column) -> list[float]:
    return [value for value in row if value is not None]
