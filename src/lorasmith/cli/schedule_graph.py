"""The graph of all learning-rate schedules, drawn from what training computes."""

from __future__ import annotations

from PIL import Image

from lorasmith.config.sections.optimizer import ScheduleSettings
from lorasmith.core.canvas import GRID, PALE, Canvas
from lorasmith.training.lr_schedules import SHAPES, LearningRate

COLUMNS = 4
# Panels and the curve's field in them, in pixels.
PANEL = (290, 236)
FIELD = (46, 56, 274, 192)

STEPS, WARMUP = 1000, 100
CURVE, RISE = "#1f6feb", "#eef4ff"

NOTES = {
    "constant": "no warm-up",
    "constant_with_warmup": "warmup = 10%",
    "cosine_with_restarts": "cycles = 3, warmup = 10%",
    "polynomial": "power = 2, warmup = 10%",
    "inverse_sqrt": "timescale = the warm-up's steps",
}


def draw_schedules() -> Image.Image:
    """One panel a schedule: factor on the learning rate over a run of 1000 steps, RGB."""
    names = list(SHAPES)
    rows = -(-len(names) // COLUMNS)
    canvas = Canvas(PANEL[0] * COLUMNS, PANEL[1] * rows)
    for number, name in enumerate(names):
        row, column = divmod(number, COLUMNS)
        _panel(canvas, name, (column * PANEL[0], row * PANEL[1]))
    return canvas.image()


def rate_of(name: str) -> LearningRate:
    """The schedule as it is drawn: with a warm-up, where it may have one."""
    warmup = 0 if name == "constant" else WARMUP
    return LearningRate(ScheduleSettings(name=name, warmup=warmup), STEPS)


def _panel(canvas: Canvas, name: str, corner: tuple[int, int]) -> None:
    left, top = corner[0] + FIELD[0], corner[1] + FIELD[1]
    right, bottom = corner[0] + FIELD[2], corner[1] + FIELD[3]
    rate = rate_of(name)

    def across(step: float) -> float:
        return left + (right - left) * step / STEPS

    def up(factor: float) -> float:
        return bottom - (bottom - top) * factor

    if rate.warmup:
        canvas.box(left, top, across(rate.warmup), bottom, RISE)
    for factor, label in ((0.0, "0"), (0.5, "lr / 2"), (1.0, "lr")):
        canvas.line([(left, up(factor)), (right, up(factor))], GRID)
        canvas.text(label, (left - 8, up(factor)), 12, PALE, anchor="rm")
    for step in (0, STEPS // 2, STEPS):
        anchor = "ma" if 0 < step < STEPS else "la" if step == 0 else "ra"
        label = f"{step}" if step else "step 0"
        canvas.text(label, (across(step), bottom + 7), 12, PALE, anchor=anchor)
    points = [(across(step), up(rate.factor(step))) for step in range(STEPS + 1)]
    canvas.line(points, CURVE, 7 / 3)
    canvas.text(name, (left, corner[1] + 14), 15)
    canvas.text(NOTES.get(name, "warmup = 10%"), (left, corner[1] + 34), 12, PALE)
