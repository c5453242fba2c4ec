"""Grids written by hand: a record and images of plain colour, without drawing any."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from PIL import Image


def write_grid(
    folder: Path,
    along: Mapping[str, Sequence[str]],
    *,
    title: str = "zorp, standing",
    size: tuple[int, int] = (8, 8),
    missing: Sequence[tuple[int, ...]] = (),
    files: Mapping[str, Sequence[str]] | None = None,
    **more: Any,
) -> Path:
    """
    Args:
        along: values by title, x first.
        missing: places without an image.
        files: of an axis' values, by its title.
        more: what else the record has.
    """
    (folder / "cells").mkdir(parents=True, exist_ok=True)
    values = list(along.values())
    cells: list[dict[str, Any]] = []
    for place in product(*(range(len(each)) for each in reversed(values))):
        place = place[::-1]
        number = len(cells)
        digest = f"{number:012x}"
        if place not in missing:
            colour = (number * 37 % 256, number * 91 % 256, 128)
            Image.new("RGB", size, colour).save(folder / "cells" / f"cell.{digest}.png")
        labels = [each[at] for each, at in zip(values, place, strict=True)]
        prompt = f"{title} <lora:zorp-{place[0] + 1:06}:1>"
        cells.append({"place": place, "labels": labels, "prompt": prompt, "digest": digest})
    record = {
        "title": title,
        "axes": [
            {"axis": name, "values": list(each)}
            | ({"files": list(files[name])} if files and name in files else {})
            for name, each in along.items()
        ],
        "cells": cells,
        **more,
    }
    (folder / "grid.json").write_text(json.dumps(record), encoding="utf-8")
    return folder


EPOCHS_BY_STRENGTHS = {
    "Epoch": [f"epoch {number}" for number in (1, 2, 3, 4)],
    "LoRA strength": ["0.6", "1"],
}
