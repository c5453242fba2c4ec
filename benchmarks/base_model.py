"""How well the demo base model draws what it is asked for, and how well the judge reads.

    python benchmarks/base_model.py

The judge reads 2000 drawings that it was not trained on; the base model draws 256 prompts (DDIM,
20 steps, CFG 4) and the judge reads what was asked for off the images. Writes the table to
`base_model.md` beside this file.
"""

from __future__ import annotations

import argparse
import logging
import platform
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from lorasmith.core.files import write_text
from lorasmith.demo.character import plain_prompts
from lorasmith.demo.judge import held_out_accuracy, leak_rate, read, tag_accuracy
from lorasmith.demo.world import VALUES
from lorasmith.models.load import load_model
from lorasmith.sampling.generate import generate
from lorasmith.sampling.request import ImageRequest

REPORT = Path(__file__).with_suffix(".md")
REQUIRED = ("shape", "colour", "hat")
log = logging.getLogger(__name__)


def base_accuracy(source: str, count: int, steps: int, cfg: float) -> dict[str, float]:
    """Share of images, 0 to 1, that show what was asked for, by attribute; "all three" is
    shape, colour and hat together, "parts" any part that the base world lacks."""
    model = load_model(source)
    prompts = plain_prompts(count, seed=2)
    requests = [
        ImageRequest(prompt=prompt.text, seed=seed, steps=steps, cfg=cfg, sampler="ddim")
        for seed, prompt in enumerate(prompts)
    ]
    made = sorted(generate(model, requests), key=lambda image: image.index)
    readings = read([np.asarray(image.image) for image in made])
    creatures = [prompt.creature for prompt in prompts]
    shares = tag_accuracy(readings, creatures)
    three = tag_accuracy(readings, creatures, REQUIRED)["all"]
    return {**shares, "all three": three, "parts": leak_rate(readings)}


def report(
    judge: Mapping[str, float], base: Mapping[str, float], args: argparse.Namespace, seconds: float
) -> str:
    made_by = (
        f"Made by `python benchmarks/base_model.py` in {seconds:.0f} s on {args.threads} "
        f"thread(s) of a {platform.machine()} CPU, torch {torch.__version__}. All figures are "
        "per cent."
    )
    method = (
        f"Base: {args.prompts} prompts with all tags, DDIM, {args.steps} steps, CFG "
        f"{args.cfg:g}; right is what the judge reads as asked for. Judge: 2000 held-out drawings."
    )
    summary = (
        f"Shape, colour and hat all right: **{100 * base['all three']:.1f}**. "
        f"All nine right: {100 * base['all']:.1f}. "
        f"Pictures with a part that the world lacks: {100 * base['parts']:.1f}."
    )
    rows = [
        f"| {name} | {len(values)} | {100 * judge[name]:.1f} | {100 * base[name]:.1f} |"
        for name, values in VALUES.items()
    ]
    rows += [
        f"| {name.replace('_', '-')} | yes, no | {100 * share:.1f} | |"
        for name, share in judge.items()
        if name not in VALUES
    ]
    head = ["| attribute | values | judge on drawings | base model |", "|---|---|---|---|"]
    lines = ["# The demo base model", "", made_by, "", method, "", *head, *rows, "", summary, ""]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="demo")
    parser.add_argument("--prompts", type=int, default=256)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--cfg", type=float, default=4.0)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(args.threads)
    begin = time.monotonic()
    judge = held_out_accuracy()
    base = base_accuracy(args.model, args.prompts, args.steps, args.cfg)
    text = report(judge, base, args, time.monotonic() - begin)
    write_text(REPORT, text)
    log.info("%s", text)


if __name__ == "__main__":
    main()
