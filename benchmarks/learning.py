"""Does a LoRA learn the new character, and leave everything else alone?

    python benchmarks/learning.py [--count 64] [--preset demo] [--set section.key=value …]

Trains on the demo's character, draws ``--count`` images with the trigger and as many of the base
world without it, before and after, and lets the judge (a classifier of the demo world, see
docs/demo-model.md) read them. Writes benchmarks/learning.md and benchmarks/learning.png.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from lorasmith.adapters.file import load_lora
from lorasmith.adapters.network import AdapterNetwork
from lorasmith.config.load import load_settings
from lorasmith.core.files import write_text
from lorasmith.demo.character import (
    Prompt,
    novel_prompts,
    plain_prompts,
    trigger_prompts,
    write_training_set,
)
from lorasmith.demo.judge import character_rate, leak_rate, part_rates, read, tag_accuracy
from lorasmith.models.diffusion_model import DiffusionModel
from lorasmith.models.load import load_model
from lorasmith.sampling.contact_sheet import contact_sheet
from lorasmith.sampling.generate import generate
from lorasmith.sampling.request import ImageRequest
from lorasmith.training.run import train

HERE = Path(__file__).parent
STEPS, CFG, SAMPLER = 20, 3.0, "ddim"
LEGEND = (
    "Rows: trigger, trigger with things that no training picture has, plain prompts; each first "
    "without the LoRA, then with it. Columns share prompt and seed."
)
KEPT = ("shape", "colour", "hat")


@dataclass(frozen=True)
class Outcome:
    """Shares, 0 to 1, over one set of images each.

    Args:
        character: trigger prompts: images that show all defining parts; ``parts`` by part.
        leak: plain prompts: images that show any of them.
        kept: plain prompts: images that show what was asked for, by attribute.
    """

    character: float
    parts: dict[str, float]
    leak: float
    kept: dict[str, float]
    images: list[np.ndarray]


def draw(model: DiffusionModel, prompts: Sequence[Prompt], seed: int) -> list[np.ndarray]:
    requests = [
        ImageRequest(prompt.text, "", seed + i, STEPS, CFG, SAMPLER)
        for i, prompt in enumerate(prompts)
    ]
    found = sorted(generate(model, requests), key=lambda image: image.index)
    return [np.asarray(image.image) for image in found]


def judge(model: DiffusionModel, count: int, novel: int = 8) -> Outcome:
    asked, plain = trigger_prompts(count, seed=11), plain_prompts(count, seed=12)
    with_trigger, without = draw(model, asked, 1000), draw(model, plain, 2000)
    shown = draw(model, novel_prompts(novel, seed=13), 3000)
    readings, others = read(with_trigger), read(without)
    return Outcome(
        character_rate(readings),
        part_rates(readings),
        leak_rate(others),
        tag_accuracy(others, [prompt.creature for prompt in plain], KEPT),
        [*with_trigger[:8], *shown, *without[:8]],
    )


def train_on_character(preset: str, overrides: Sequence[str], work: Path) -> tuple[Path, float]:
    """The folder of a run on the demo's character, and its seconds of processor time."""
    write_training_set(work / "data", regularisation=0)
    settings = load_settings(
        None,
        [
            f"data.path={work / 'data'}",
            f"save.output={work / 'runs'}",
            "sample.every_epochs=0",
            "sample.at_start=false",
            *overrides,
        ],
        preset,
    )
    begin = time.process_time()
    run = train(settings)
    return run, time.process_time() - begin


def train_and_judge(
    count: int, preset: str, overrides: Sequence[str], work: Path, novel: int = 8
) -> dict:
    """Outcomes before and after, the training's seconds of processor time, and its steps.

    Args:
        novel: drawings that nobody judges, of things that no training picture has.
    """
    model = load_model("demo")
    before = judge(model, count, novel)
    run, seconds = train_on_character(preset, overrides, work)
    file = load_lora(run / f"{run.name}.safetensors")
    network = AdapterNetwork.load(file.tensors, model.adapter_roots())
    with network.attached():
        after = judge(model, count, novel)
    steps = int(file.metadata["ss_steps"])
    return {"before": before, "after": after, "seconds": seconds, "steps": steps}


def table(result: dict, count: int, preset: str, overrides: Sequence[str]) -> str:
    before: Outcome = result["before"]
    after: Outcome = result["after"]
    rows = [("all defining parts, with the trigger", before.character, after.character)]
    rows += [(f"- {part}", before.parts[part], after.parts[part]) for part in after.parts]
    rows += [("any of them, without the trigger (leak)", before.leak, after.leak)]
    rows += [
        (f"{name} as asked, without the trigger", before.kept[name], after.kept[name])
        for name in after.kept
    ]
    command = " ".join(["--preset", preset, *(f"--set {item}" for item in overrides)])
    threads = torch.get_num_threads()
    made = (
        f"{count} pictures a row, {SAMPLER} {STEPS} steps, CFG {CFG:g}; one training run of "
        f"{result['steps']} steps in {result['seconds']:.0f} s of processor time, "
        f"{threads} thread{'s' if threads != 1 else ''}."
    )
    lines = [
        "# What a LoRA learns on the demo model",
        "",
        f"`python benchmarks/learning.py --count {count} {command}`",
        "",
        made,
        "",
        "| judged by the demo world's classifier | base model | with the LoRA |",
        "| --- | ---: | ---: |",
        *(f"| {name} | {100 * was:.0f} % | {100 * now:.0f} % |" for name, was, now in rows),
        "",
        "![base model and LoRA](learning.png)",
        "",
        LEGEND,
    ]
    return "\n".join(lines) + "\n"


def sheet(before: Outcome, after: Outcome) -> Image.Image:
    rows, labels = [], []
    for start, what in ((0, "trigger"), (8, "trigger, new things"), (16, "no trigger")):
        for outcome, which in ((before, "base"), (after, "LoRA")):
            rows.append([Image.fromarray(p) for p in outcome.images[start : start + 8]])
            labels.append(f"{what}: {which}")
    return contact_sheet(rows, row_labels=labels, scale=2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=64)
    parser.add_argument("--preset", default="demo")
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    parser.add_argument("--out", type=Path, default=HERE)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        result = train_and_judge(options.count, options.preset, options.overrides, Path(work))
    text = table(result, options.count, options.preset, options.overrides)
    write_text(options.out / "learning.md", text)
    sheet(result["before"], result["after"]).save(options.out / "learning.png")
    print(text)


if __name__ == "__main__":
    main()
