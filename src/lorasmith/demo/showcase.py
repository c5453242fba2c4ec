"""``lorasmith demo``: train a LoRA on the embedded base model and show what it learned."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from lorasmith.config.load import load_settings
from lorasmith.core.errors import RunError
from lorasmith.core.events import Controls, Observer, ignore
from lorasmith.core.files import parse_json, write_text
from lorasmith.data.images import load_image
from lorasmith.demo.character import (
    TRIGGER,
    novel_prompts,
    plain_prompts,
    trigger_prompts,
    write_training_set,
)
from lorasmith.sampling.contact_sheet import PAPER, contact_sheet
from lorasmith.training.run import train

RUN_NAME = "zorp"

# What the columns of the image show: the character, the character with things that no training
# image has, and creatures without the trigger, which must not change.
TRIGGER_COLUMNS, NOVEL_COLUMNS, PLAIN_COLUMNS = 4, 2, 2


def run_demo(folder: Path, observer: Observer = ignore, controls: Controls | None = None) -> Path:
    """Draw a training set, train, and compose the image of what was learned.

    Args:
        folder: gets ``dataset/``, ``runs/zorp/`` and ``what-it-learned.png``. Must be new or a
            demo's: nothing else is ever overwritten.

    Returns:
        The path of the image.
    """
    marker = folder / "README.txt"
    if folder.exists() and any(folder.iterdir()) and not marker.exists():
        raise RunError.of(folder, "holds files that are not the demo's", "name another --out")
    write_text(marker, "Made by `lorasmith demo`; it may be deleted.\n")
    dataset = folder / "dataset"
    # None to regularise by: without them the base model's output is preserved.
    write_training_set(dataset, regularisation=0)
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
    run = train(settings, observer=observer, controls=controls)
    image = folder / "what-it-learned.png"
    compose(run, dataset, prompts).save(image)
    return image


def demo_prompts() -> list[str]:
    """No two of them are alike: they are drawn with one seed, so their images would be too."""
    # There are few tags, and what is drawn at random from them repeats itself.
    trigger = dict.fromkeys(prompt.text for prompt in trigger_prompts(8 * TRIGGER_COLUMNS, seed=1))
    others = [*novel_prompts(NOVEL_COLUMNS, seed=2), *plain_prompts(PLAIN_COLUMNS, seed=3)]
    return [*list(trigger)[:TRIGGER_COLUMNS], *(prompt.text for prompt in others)]


def compose(run: Path, dataset: Path, prompts: Sequence[str]) -> Image.Image:
    """The training images under their captions; below, under the prompts, one row for the base
    model and one for each epoch.

    There every column has one prompt and one seed, so what differs between rows is the LoRA alone.
    """
    training = sorted((dataset / "img").glob(f"*_{TRIGGER}/*.png"))[: len(prompts)]
    captions = [path.with_suffix(".txt").read_text(encoding="utf-8").strip() for path in training]
    rows: dict[str, list[Image.Image]] = {}
    steps = sorted({path.name.split("-")[0] for path in (run / "samples").glob("*.png")})
    seen = parse_json((run / "dataset.json").read_text(encoding="utf-8"))
    per_epoch = max(1, seen["steps"]["steps_per_epoch"])
    for step in steps:
        epoch, rest = divmod(int(step), per_epoch)
        label = "base model, no LoRA" if not int(step) else f"epoch {epoch}"
        if rest:  # It was asked for in between.
            label = f"step {int(step)}"
        paths = sorted((run / "samples").glob(f"{step}-*.png"))
        rows[label] = [load_image(path) for path in paths]
    above = "training pictures, with their captions"
    sheets = [
        contact_sheet(
            [[load_image(path) for path in training]],
            row_labels=[above, *rows],  # All labels, so that the columns of both parts are aligned.
            column_labels=captions,
            scale=2,
        ),
        contact_sheet(
            list(rows.values()), row_labels=[*rows, above], column_labels=list(prompts), scale=2
        ),
    ]
    space = 24
    height = sum(sheet.height for sheet in sheets) + space
    image = Image.new("RGB", (max(sheet.width for sheet in sheets), height), PAPER)
    image.paste(sheets[0], (0, 0))
    image.paste(sheets[1], (0, sheets[0].height + space))
    return image
