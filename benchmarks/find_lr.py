"""Does `lorasmith train --find-lr` propose the rate that a sweep finds best?

    python benchmarks/find_lr.py [--work DIR] [--only NAME ...] [--table]

Trains the demo base on each of ten sets at rates that double, and measures the loss on 16 drawings
that are not trained on, with fixed noise, at the end of each run; then asks --find-lr. On the five
sets of the demo's world the finder's shares were chosen; the five others are subjects of
`benchmarks/subjects`, of the split to choose by, and were looked at afterwards. Results are
appended to DIR/results.jsonl, and what is there is not done again; --table only writes
benchmarks/find_lr.md from them.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import torch
from benchmarks.subjects.subjects import SUBJECTS
from PIL import Image

from lorasmith.config.load import load_settings
from lorasmith.config.schema import TrainSettings
from lorasmith.core.events import Controls, ignore
from lorasmith.core.files import write_text
from lorasmith.demo.character import draw_zorp, varied_zorps, write_training_set, zorp_caption
from lorasmith.demo.world import Extras, draw, random_creature, tags
from lorasmith.tensors.device import choose_device
from lorasmith.training.batches import step_input
from lorasmith.training.found_lr import find_lr
from lorasmith.training.memory.plan import memory_of
from lorasmith.training.runs.folder import new_run_folder
from lorasmith.training.setup.build import Run, build_run
from lorasmith.training.setup.context import RunContext
from lorasmith.training.setup.preflight import preflight
from lorasmith.training.setup.processes import Processes

HERE = Path(__file__).parent
HELD_OUT = 16
STEPS, BATCH = 150, 4
RATES = (4e-3, 2e-3, 1e-3, 8e-3)
GOAL = 1.5
SEEKS = {"optimizer.lr": "find"}

# Sets of the demo's world.


def zorps(folder: Path, images: int, regularisation: int, repeats: int, seed: int) -> None:
    write_training_set(
        folder, images=images, regularisation=regularisation, repeats=repeats, seed=seed
    )
    rng = Random(f"held {seed}")
    for number, creature in enumerate(varied_zorps(HELD_OUT, rng)):
        place = folder / "held" / "1_zorp" / f"{number:03d}"
        save(place, Image.fromarray(draw_zorp(creature, rng)), zorp_caption(creature))


def creatures(
    folder: Path,
    images: int,
    repeats: int,
    seed: int,
    trigger: str,
    fixed: dict[str, str],
    extras: Extras,
    style: Callable[[np.ndarray], np.ndarray] = lambda image: image,
) -> None:
    """Creatures that share what is ``fixed``, captioned with the trigger and all else."""
    rng = Random(f"{trigger} {seed}")
    for number in range(images + HELD_OUT):
        creature = replace(random_creature(rng), **fixed)
        image = Image.fromarray(style(draw(creature, rng, extras)))
        words = [tag for tag in tags(creature) if tag not in fixed.values()]
        part = f"img/{repeats}" if number < images else "held/1"
        save(folder / f"{part}_{trigger}" / f"{number:03d}", image, ", ".join([trigger, *words]))


def save(path: Path, image: Image.Image, caption: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path.with_suffix(".png"))
    path.with_suffix(".txt").write_text(caption + "\n", encoding="utf-8")


def two_tones(image: np.ndarray) -> np.ndarray:
    tones = (image.mean(-1, keepdims=True) > 128) * 160 + 60
    return np.repeat(tones, 3, -1).astype(np.uint8)


def brown(image: np.ndarray) -> np.ndarray:
    grey = np.round(image.astype(float) @ np.array([0.3, 0.6, 0.1]) / 48) * 48
    tones = np.stack([grey * 1.05, grey * 0.8, grey * 0.55], -1)
    return np.clip(tones, 0, 255).astype(np.uint8)


BLIX = {"shape": "square body", "colour": "green", "hat": "no hat", "held": "empty hands"}
BLIX_PARTS = Extras(antennae=(230, 40, 40), wings=(250, 240, 120), arms=False)
TUNED: dict[str, Callable[[Path], None]] = {
    "zorp, 12 and 48 plain": lambda folder: zorps(folder, 12, 48, 25, 0),
    "zorp, 6": lambda folder: zorps(folder, 6, 0, 10, 3),
    "blix, 16": lambda folder: creatures(folder, 16, 10, 1, "blix", BLIX, BLIX_PARTS),
    "two tones, 30": lambda folder: creatures(folder, 30, 5, 2, "mono", {}, Extras(), two_tones),
    "brown, 14": lambda folder: creatures(folder, 14, 10, 4, "sepi", {}, Extras(), brown),
}


def subject(name: str, images: int) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        SUBJECTS[name].write_training_set(folder / "img", images)
        for number, drawing in enumerate(SUBJECTS[name].held_out_images(HELD_OUT)):
            save(folder / "held" / f"1_{name}" / f"{number:03d}", drawing.image, drawing.caption)

    return write


REPORTED: dict[str, Callable[[Path], None]] = {
    f"{name}, {images}": subject(name, images)
    for name, images in (
        ("vellu", 14), ("quorble", 10), ("tarnok", 24), ("gloam", 20), ("velorb", 30),
    )
}  # fmt: skip
SETS = {**TUNED, **REPORTED}

# Runs, and what is found.


def settings_of(work: Path, name: str, changes: dict[str, str]) -> TrainSettings:
    folder = work / "sets" / name.replace(", ", "-").replace(" ", "-")
    if not folder.exists():
        SETS[name](folder)
    values = {
        "data.path": str(folder / "img"),
        "validation.folder": str(folder / "held"),
        "save.output": str(work / "runs"),
        "train.batch": str(BATCH),
        "train.steps": str(STEPS),
        "sample.every_epochs": "0",
        "sample.at_start": "false",
        "preservation.enabled": "false",
        **changes,
    }
    if (folder / "reg").exists() and any((folder / "reg").iterdir()):
        values["data.reg"] = str(folder / "reg")
    return load_settings(None, values, "demo")


def build(settings: TrainSettings) -> Run:
    run_plan = preflight(settings, to_train=True)
    processes = Processes(choose_device("cpu"))
    folder = new_run_folder(settings.save.output, run_plan.name)
    memory = memory_of(run_plan, processes.device)
    return build_run(RunContext(run_plan, folder, processes, memory, ignore, Controls()))


def held_out_loss(run: Run, *, steps: int) -> float:
    """Of the run's own rate after ``steps`` steps."""
    for step in range(steps):
        run.trainer(step, *step_input(run.batches, step, run.trainer.interventions))
    assert run.validation is not None
    return run.validation(steps).held_out


class Results:
    """What was measured, one line each; read again, so that several may measure."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def all(self) -> dict[tuple[str, str], dict]:
        lines = self._path.read_text().splitlines() if self._path.exists() else []
        return {(line["set"], line["what"]): line for line in map(json.loads, lines)}

    def measure(self, name: str, what: str, value: Callable[[], dict | float]) -> None:
        if (name, what) in self.all():
            return
        begin = time.process_time()
        line = {"set": name, "what": what, "value": value()}
        line["cpu_seconds"] = round(time.process_time() - begin, 1)
        with self._path.open("a") as file:
            file.write(json.dumps(line) + "\n")
        print(line, flush=True)


def sweep(work: Path, results: Results, name: str) -> None:
    def final_loss(rate: float) -> float:
        return held_out_loss(
            build(settings_of(work, name, {"optimizer.lr": f"{rate:g}"})), steps=STEPS
        )

    for rate in RATES:
        results.measure(name, f"{rate:g}", lambda rate=rate: final_loss(rate))


def propose(work: Path, results: Results, name: str) -> None:
    settings = settings_of(work, name, SEEKS)
    results.measure(name, "find", lambda: find_lr(settings).record())


# The page.


def best_rate(losses: dict[float, float]) -> float:
    """Of the parabola in log(rate) through the lowest loss and its neighbours."""
    rates = sorted(losses)
    place = min(range(len(rates)), key=lambda index: losses[rates[index]])
    if not 0 < place < len(rates) - 1:
        return rates[place]
    low, middle, high = (losses[rates[place + side]] for side in (-1, 0, 1))
    offset = (low - high) / (low + high - 2 * middle) / 2
    return rates[place] * (rates[place + 1] / rates[place]) ** offset


def rates_of(results: dict[tuple[str, str], dict]) -> list[float]:
    """All that were swept on any set: below those of all, where the lowest of these was best."""
    return sorted({float(what) for _, what in results if what != "find"} | set(RATES))


def loss_at(rate: float, losses: dict[float, float]) -> float:
    """Between the two rates that were swept beside it, in log(rate)."""
    rates = sorted(losses)
    return float(np.interp(math.log(rate), np.log(rates), [losses[each] for each in rates]))


def row(name: str, results: dict[tuple[str, str], dict]) -> tuple[str, float] | None:
    losses = {
        float(what): line["value"]
        for (of, what), line in results.items()
        if of == name and what != "find"
    }
    search = results.get((name, "find"))
    if search is None or len(losses) < len(RATES):
        return None
    best, rate = best_rate(losses), search["value"]["rates"]["unet"]
    cells = " | ".join(
        f"{losses[each]:.4f}" if each in losses else "" for each in rates_of(results)
    )
    more = loss_at(rate, losses) / min(losses.values()) - 1
    factor = max(best / rate, rate / best)
    took = search["value"]["steps"] / STEPS
    numbers = f"{best:.2g} | {rate:.2g} | {factor:.2f} | {more:+.1%} | {took:.1%}"
    return f"| {name} | {cells} | {numbers} |", factor


def page(results: dict[tuple[str, str], dict]) -> str:
    heads = " | ".join(f"{rate:g}" for rate in rates_of(results))
    lines = [
        "# The rate that --find-lr proposes, beside that of a sweep",
        "",
        "`python benchmarks/find_lr.py`",
        "",
        f"Demo base, preset demo, {STEPS} steps of {BATCH} pictures, one thread. Columns of rates:",
        f"the mean squared error on {HELD_OUT} drawings that are not trained on, at 8 noise levels",
        "each, with noise that is always the same, at the end of the run. Best: where a parabola",
        "through the lowest loss and its neighbours is lowest. Apart: the larger of best / found",
        "and found / best. More loss: at the found rate than at the best of the sweep, between the",
        "columns. Took: the search, as a share of the run's passes through the model.",
        "Sets without a row have not been swept. By the held-out loss of so short a run; with",
        "which rate a whole run leaks least is another matter (benchmarks/subjects.md).",
        "",
    ]
    for title, names in (
        ("Sets that the share was chosen by", TUNED),
        ("Sets that it had not seen", REPORTED),
    ):
        rows = [found for name in names if (found := row(name, results)) is not None]
        lines += [f"## {title}", "", f"| set | {heads} | best | found | apart | more loss | took |"]
        lines += ["|---" + "|---:" * (heads.count("|") + 6) + "|", *(text for text, _ in rows), ""]
        within = sum(factor <= GOAL for _, factor in rows)
        mean = math.exp(np.mean([math.log(factor) for _, factor in rows])) if rows else 0
        lines += [f"Within {GOAL}: {within} of {len(rows)}; geometric mean {mean:.2f}.", ""]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("/tmp/find_lr"))
    parser.add_argument("--only", nargs="*", default=list(SETS))
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--no-find", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    results = Results(arguments.work / "results.jsonl")
    arguments.work.mkdir(parents=True, exist_ok=True)
    for name in [] if arguments.table else arguments.only:
        if not arguments.no_find:
            propose(arguments.work, results, name)
        sweep(arguments.work, results, name)
    write_text(HERE / "find_lr.md", page(results.all()))


if __name__ == "__main__":
    main()
