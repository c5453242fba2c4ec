"""Bootstraps that were never drawn: records with numbers of the tests' choice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PIL import Image

from lorasmith.advice.bootstrap.image_set import GivenImage, begin_set
from lorasmith.advice.bootstrap.state import Bootstrap, DrawingRecord, Options, Round


def drawing(number: int, likeness: float = 0.7, **more: Any) -> DrawingRecord:
    """A sound drawing, but for what is said of it."""
    values = {"copying": 1.0, "nearest": "zorp.png", "caption": f"zorp, word{number}", **more}
    return DrawingRecord(
        number=number,
        prompt=f"{values['caption']} <lora:zorp-01:1>",
        seed=1000 + number,
        model="demo",
        likeness=likeness,
        **values,
    )


def started(folder: Path, drawings: list[DrawingRecord], **options: Any) -> Bootstrap:
    """One that waits for the first round's choice, its drawings in one colour each."""
    image = folder / "zorp.png"
    folder.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (64, 64), "purple").save(image)
    boot = Bootstrap(folder / "boot", Options("zorp", **options), stage="choose")
    boot.folder.mkdir()
    begin_set(boot, [GivenImage(image, "zorp, smile", bare=False)])
    boot.rounds.append(new_round(boot, 1, drawings))
    boot.save()
    return boot


def new_round(boot: Bootstrap, number: int, drawings: list[DrawingRecord]) -> Round:
    one = Round(number, 1, f"runs/zorp-{number:02d}", f"runs/zorp-{number:02d}/zorp.safetensors")
    one.drawings = drawings
    for each in drawings:
        path = boot.drawing(one, each)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 64), (each.number * 10, 100 * number, 0)).save(path)
    return one
