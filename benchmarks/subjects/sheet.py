"""Draws all subjects on one sheet, to look at.

    python -m benchmarks.subjects.sheet benchmarks/subjects.png

A row is a subject: seven training images, then what three prompts ask for (the second of them with
something that no training image shows). The last row is the demo world.
"""

from __future__ import annotations

import sys
from pathlib import Path
from random import Random

from benchmarks.subjects.drawing import draw
from benchmarks.subjects.subjects import SUBJECTS
from PIL import Image, ImageDraw

from lorasmith.demo.world import random_creature

TRAINING, HELD_OUT = 7, 3
CELL, GAP, LABEL = 64, 2, 74


def sheet() -> Image.Image:
    """The sheet as an RGB image."""
    rows: list[tuple[str, list[Image.Image]]] = []
    for subject in SUBJECTS.values():
        drawings = subject.training_images(TRAINING) + subject.held_out_images(HELD_OUT)
        rows.append(
            (f"{subject.name}\n{subject.kind}\n{subject.split}", [d.image for d in drawings])
        )
    rng = Random("sheet")
    rows.append(
        ("the world", [draw(random_creature(rng), rng) for _ in range(TRAINING + HELD_OUT)])
    )
    step = CELL + GAP
    page = Image.new("RGB", (LABEL + 10 + step * (TRAINING + HELD_OUT), step * len(rows)), "white")
    text = ImageDraw.Draw(page)
    for row, (label, images) in enumerate(rows):
        text.text((4, row * step + 8), label, fill="black")
        for column, image in enumerate(images):
            x = LABEL + column * step + (8 if column >= TRAINING else 0)
            page.paste(image, (x, row * step))
    return page


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(f"usage: python -m benchmarks.subjects.sheet OUT.png\n\n{__doc__}")
    # A palette, for a small file; this method moves no colour far.
    page = sheet().quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    page.save(Path(sys.argv[1]), optimize=True)


if __name__ == "__main__":
    main()
