"""``lorasmith demo``: train a LoRA on the embedded base model and show what it learned."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console

from lorasmith.config.load import load_settings
from lorasmith.data.pictures import load_picture
from lorasmith.demo.character import (
    TRIGGER,
    novel_prompts,
    plain_prompts,
    trigger_prompts,
    write_training_set,
)
from lorasmith.errors import RunError
from lorasmith.events import Controls
from lorasmith.files import write_text
from lorasmith.sampling.sheet import contact_sheet
from lorasmith.training.run import train

RUN_NAME = "zorp"

# What the columns of the picture show: the character, the character with things that no training
# picture has, and creatures without the trigger, which must not change.
TRIGGER_COLUMNS, NOVEL_COLUMNS, PLAIN_COLUMNS = 4, 2, 2


def run_demo(folder: Path, console: Console, controls: Controls) -> Path:
    """Draw a training set, train, and compose the picture of what was learned.

    Args:
        folder: gets ``dataset/``, ``runs/zorp/`` and ``what-it-learned.png``. Must be new or a
            demo's: nothing else is ever overwritten.

    Returns:
        The path of the picture.
    """
    marker = folder / "README.txt"
    if folder.exists() and any(folder.iterdir()) and not marker.exists():
        raise RunError.of(folder, "holds files that are not the demo's", "name another --out")
    write_text(marker, "Made by `lorasmith demo`; it may be deleted.\n")
    dataset = folder / "dataset"
    write_training_set(dataset)
    prompts = demo_prompts()
    settings = load_settings(
        None,
        {
            "data.path": str(dataset),
            "save.output": str(folder / "runs"),
            "save.name": RUN_NAME,
            "captions.trigger": TRIGGER,
            "sample.prompts": json.dumps(prompts),
        },
        "demo",
    )
    run = train(settings, console=console, controls=controls)
    picture = folder / "what-it-learned.png"
    compose(run, dataset, prompts).save(picture)
    return picture


def demo_prompts() -> list[str]:
    chosen = [
        *trigger_prompts(TRIGGER_COLUMNS, seed=1),
        *novel_prompts(NOVEL_COLUMNS, seed=2),
        *plain_prompts(PLAIN_COLUMNS, seed=3),
    ]
    return [prompt.text for prompt in chosen]


def compose(run: Path, dataset: Path, prompts: Sequence[str]) -> Image.Image:
    """One row for the training pictures, one for the base model, one for each epoch.

    Every column has one prompt and one seed, so what differs between rows is the LoRA alone.
    """
    training = sorted((dataset / "img").glob(f"*_{TRIGGER}/*.png"))[: len(prompts)]
    rows = {"training pictures": [load_picture(path) for path in training]}
    steps = sorted({path.name.split("-")[0] for path in (run / "samples").glob("*.png")})
    for number, step in enumerate(steps):
        label = f"epoch {number}" if number else "base model, no LoRA"
        paths = sorted((run / "samples").glob(f"{step}-*.png"))
        rows[label] = [load_picture(path) for path in paths]
    pictures = [[np.asarray(picture.convert("RGB")) for picture in row] for row in rows.values()]
    return contact_sheet(
        [[Image.fromarray(picture) for picture in row] for row in pictures],
        row_labels=list(rows),
        column_labels=list(prompts),
        scale=2,
    )
