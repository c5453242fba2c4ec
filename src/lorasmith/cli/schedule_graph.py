"""The graph of all learning-rate schedules, drawn from what training computes."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from lorasmith.training.lr import SHAPES, LearningRate

COLUMNS = 4
# Panels and the curve's field in them, in pixels of the finished picture.
PANEL = (290, 236)
FIELD = (46, 56, 274, 192)
# Drawn larger and scaled down, which smooths the lines.
SCALE = 3

STEPS, WARMUP = 1000, 100
INK, PALE, GRID, CURVE, RISE = "#1f2933", "#616e7c", "#dfe4ea", "#1f6feb", "#eef4ff"

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
    width, height = PANEL[0] * COLUMNS, PANEL[1] * rows
    picture = Image.new("RGB", (width * SCALE, height * SCALE), "white")
    draw = ImageDraw.Draw(picture)
    for number, name in enumerate(names):
        row, column = divmod(number, COLUMNS)
        _panel(draw, name, (column * PANEL[0], row * PANEL[1]))
    return picture.resize((width, height), Image.Resampling.LANCZOS)


def rate_of(name: str) -> LearningRate:
    """The schedule as it is drawn: with a warm-up, where it may have one."""
    return LearningRate(name, STEPS, 0 if name == "constant" else WARMUP, cycles=3, power=2.0)


def _panel(draw: ImageDraw.ImageDraw, name: str, corner: tuple[int, int]) -> None:
    left, top = corner[0] + FIELD[0], corner[1] + FIELD[1]
    right, bottom = corner[0] + FIELD[2], corner[1] + FIELD[3]
    rate = rate_of(name)

    def across(step: float) -> float:
        return left + (right - left) * step / STEPS

    def up(factor: float) -> float:
        return bottom - (bottom - top) * factor

    if rate.warmup:
        draw.rectangle(_scaled(left, top, across(rate.warmup), bottom), fill=RISE)
    for factor, label in ((0.0, "0"), (0.5, "lr / 2"), (1.0, "lr")):
        draw.line(_scaled(left, up(factor), right, up(factor)), fill=GRID, width=SCALE)
        _write(draw, label, (left - 8, up(factor)), "rm", 12, PALE)
    for step in (0, STEPS // 2, STEPS):
        anchor = "ma" if 0 < step < STEPS else "la" if step == 0 else "ra"
        _write(draw, f"{step}" if step else "step 0", (across(step), bottom + 7), anchor, 12, PALE)
    points = [(across(step), up(rate.factor(step))) for step in range(STEPS + 1)]
    flat = [value * SCALE for point in points for value in point]
    draw.line(flat, fill=CURVE, width=2 * SCALE + 1, joint="curve")
    _write(draw, name, (left, corner[1] + 14), "la", 15, INK)
    _write(draw, NOTES.get(name, "warmup = 10%"), (left, corner[1] + 34), "la", 12, PALE)


def _scaled(*values: float) -> Sequence[float]:
    return [value * SCALE for value in values]


def _write(
    draw: ImageDraw.ImageDraw,
    text: str,
    at: tuple[float, float],
    anchor: str,
    size: int,
    colour: str,
) -> None:
    font = ImageFont.load_default(size * SCALE)
    draw.text((at[0] * SCALE, at[1] * SCALE), text, fill=colour, font=font, anchor=anchor)
