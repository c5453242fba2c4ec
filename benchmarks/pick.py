"""Does `lorasmith pick` name the fate of runs whose fate is known?

    python benchmarks/pick.py [--only NAME …] [--work DIR]

Trains runs on the demo's character, too short, right, too long, at too high and too low a rate.
What is true of a snapshot comes from the demo world's classifier, which reads what its images
show (see docs/demo-model.md); `pick` never sees it. Finished parts are kept in --work, so that a
run that was stopped goes on. Writes benchmarks/pick.md and images of one run in docs/images.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lorasmith.adapters.file import load_lora
from lorasmith.adapters.network import AdapterNetwork
from lorasmith.advice.pick import pick, record
from lorasmith.config.load import load_settings
from lorasmith.core.files import write_json, write_text
from lorasmith.data.images import open_image
from lorasmith.demo.character import (
    TRIGGER,
    Prompt,
    plain_prompts,
    trigger_prompts,
    write_training_set,
)
from lorasmith.demo.judge import character_rate, leak_rate, read, tag_accuracy
from lorasmith.grids.snapshots import find_snapshots
from lorasmith.models.diffusion_model import DiffusionModel
from lorasmith.models.load import load_model
from lorasmith.sampling.generate import generate
from lorasmith.sampling.request import ImageRequest
from lorasmith.training.run import train

HERE = Path(__file__).parent
IMAGES = HERE.parent / "docs" / "images"
SHOWN = "noreg"
# Of each run so many snapshots are judged, evenly over it.
SNAPSHOTS = 5
COUNT, STEPS, CFG = 20, 12, 3.0
KEPT = ("shape", "colour", "hat")
# What the classifier's shares make of a snapshot.
LEARNED, LEAKED, DAMAGED = 0.5, 0.25, 0.7


@dataclass(frozen=True)
class Fate:
    """A run: settings on top of the preset ``demo``, and arguments of its training set.

    Args:
        fresh: made after the thresholds were set, with other images.
    """

    name: str
    settings: tuple[str, ...]
    data: dict[str, int] = field(default_factory=dict)
    fresh: bool = False


CONSTANT = "schedule.name=constant"
FATES = (
    Fate("short", ("train.epochs=2",)),
    Fate("right", ("train.epochs=20", "save.every_epochs=2")),
    Fate(
        "long-high",
        ("train.epochs=30", "save.every_epochs=3", "optimizer.lr=0.01", CONSTANT, "train.seed=4"),
        {"regularisation": 0, "repeats": 10},
    ),
    Fate(
        "long-hot",
        ("train.epochs=40", "save.every_epochs=4", "optimizer.lr=0.02", CONSTANT),
    ),
    Fate("low-lr", ("train.epochs=20", "save.every_epochs=4", "optimizer.lr=1e-4")),
    Fate("rank4", ("train.epochs=16", "save.every_epochs=2", "adapter.rank=4", "train.seed=5")),
    Fate(
        "hot", ("train.epochs=20", "save.every_epochs=2", "optimizer.lr=0.012", "train.seed=7")
    ),
    Fate(
        "held-out",
        ("train.epochs=24", "save.every_epochs=3", "validation.split=25%", CONSTANT,
         "train.seed=2"),
        {"images": 16},
    ),
    Fate(
        "held-long",
        ("train.epochs=40", "save.every_epochs=4", "validation.split=30%", "optimizer.lr=0.006",
         CONSTANT, "train.seed=6"),
        {"images": 8},
    ),
    Fate(
        "slow-long",
        ("train.epochs=50", "save.every_epochs=5", CONSTANT, "optimizer.lr=0.002",
         "train.seed=11"),
    ),
    Fate(
        "noreg",
        ("train.epochs=20", "save.every_epochs=2", "train.seed=9"),
        {"regularisation": 0, "repeats": 10},
    ),
    Fate(
        "few-noreg",
        ("train.epochs=40", "save.every_epochs=4", CONSTANT, "train.seed=3"),
        {"images": 5, "regularisation": 0, "repeats": 12},
    ),
    Fate(
        "fresh-right",
        ("train.epochs=16", "save.every_epochs=4", "optimizer.lr=0.006", "train.seed=21"),
        {"seed": 7},
        fresh=True,
    ),
    Fate(
        "fresh-noreg",
        ("train.epochs=15", "save.every_epochs=3", "optimizer.lr=0.006", CONSTANT,
         "train.seed=22"),
        {"seed": 8, "images": 8, "regularisation": 0, "repeats": 12},
        fresh=True,
    ),
    Fate(
        "fresh-low",
        ("train.epochs=10", "save.every_epochs=5", "optimizer.lr=0.001", "train.seed=23"),
        {"seed": 9},
        fresh=True,
    ),
)  # fmt: skip


def train_fate(fate: Fate, work: Path) -> Path:
    """The run's folder, with no more than ``SNAPSHOTS`` snapshots."""
    name = fate.name
    run = work / "runs" / name
    if not (run / f"{name}.safetensors").exists():
        data = work / "data" / name
        write_training_set(data, **{"repeats": 5, **fate.data})
        settings = [
            f"data.path={data}",
            f"save.output={run.parent}",
            f"save.name={name}",
            f"captions.trigger={TRIGGER}",
            "sample.every_epochs=0",
            "sample.at_start=false",
            "log.tensorboard=false",
            *fate.settings,
        ]
        chosen = load_settings(None, settings, "demo")
        train(chosen)
    every = find_snapshots(run)
    last, parts = len(every) - 1, SNAPSHOTS - 1
    kept = {round(i * last / parts) for i in range(SNAPSHOTS)}
    for number, snapshot in enumerate(every):
        if last > parts and number not in kept and snapshot.path is not None:
            snapshot.path.unlink()
    return run


def draw(model: DiffusionModel, prompts: Sequence[Prompt], seed: int) -> list[np.ndarray]:
    requests = [
        ImageRequest(prompt=prompt.text, seed=seed + i, steps=STEPS, cfg=CFG, sampler="ddim")
        for i, prompt in enumerate(prompts)
    ]
    found = sorted(generate(model, requests), key=lambda image: image.index)
    return [np.asarray(image.image) for image in found]


def truth(model: DiffusionModel) -> dict[str, float]:
    """Shares of images, 0 to 1, of the model with what is attached to it."""
    asked, plain = trigger_prompts(COUNT, seed=11), plain_prompts(COUNT, seed=12)
    with_trigger, without = read(draw(model, asked, 1000)), read(draw(model, plain, 2000))
    creatures = [prompt.creature for prompt in plain]
    return {
        "character": character_rate(with_trigger),
        "leak": leak_rate(without),
        "kept": tag_accuracy(without, creatures, KEPT)["all"],
    }


def state_of(shares: dict[str, float]) -> str:
    if shares["leak"] >= LEAKED or shares["kept"] < DAMAGED:
        return "over"
    return "well" if shares["character"] >= LEARNED else "under"


def fate_of(states: Sequence[str]) -> str:
    """Of a run: "well" where there is something good to keep, else what it ended as."""
    return "well" if "well" in states else states[-1]


def truths(run: Path, target: Path) -> dict[str, dict[str, float]]:
    """By file name of the snapshot."""
    known = json.loads(target.read_text(encoding="utf-8")) if target.exists() else {}
    model = load_model("demo")
    for snapshot in find_snapshots(run):
        assert snapshot.path is not None
        if snapshot.path.name in known:
            continue
        tensors = load_lora(snapshot.path).tensors
        with AdapterNetwork.load(tensors, model.adapter_roots()).attached():
            known[snapshot.path.name] = truth(model)
        write_json(target, known)
    return known


def measure(fate: Fate, work: Path) -> dict[str, Any]:
    """What `pick` says of the run, with what is true of each snapshot."""
    run = train_fate(fate, work)
    begin = time.process_time()
    picked = pick(run)
    found = record(picked) | {"cpu": time.process_time() - begin}
    known = truths(run, work / f"{run.name}.json")
    for row in found["snapshots"]:
        row["truth"] = known[row["file"]]
    found["fate"] = fate_of([state_of(row["truth"]) for row in found["snapshots"]])
    if fate.name == SHOWN:
        assert picked.sheet is not None
        for source, name in ((picked.chart, "pick-chart"), (picked.sheet, "pick-candidates")):
            with open_image(source) as image:
                image.quantize(128).save(IMAGES / f"{name}.png", optimize=True)
    return found


def page(rows: Sequence[tuple[Fate, dict[str, Any]]]) -> str:
    about = (
        f"{len(rows)} runs on the demo model, each with the preset `demo` and the settings named; "
        "12 pictures of the character unless said otherwise, 8 to 15 steps an epoch. What is true "
        f"of a snapshot is read off {COUNT} pictures with the trigger and {COUNT} without it by "
        "the demo world's classifier, which `pick` does not use: *over* where at least "
        f"{LEAKED:.0%} of the pictures without the trigger show a part of the character (leak) or "
        f"fewer than {DAMAGED:.0%} of them show {', '.join(KEPT)} as asked (kept); else *well* "
        f"where at least {LEARNED:.0%} of those with it show the whole character; else *under*."
    )
    known = _score([found for fate, found in rows if not fate.fresh])
    fresh = _score([found for fate, found in rows if fate.fresh])
    outcome = (
        f"**Named rightly, of the runs that the thresholds were set on: {known}. Of runs with "
        f"other pictures, trained after that: {fresh}.** All are of one small world; how the "
        "thresholds do on other models is not known."
    )
    sure = (
        "Shares of 20 pictures are sure to about 10 %. The classifier does not see copies of "
        "training pictures, which `pick` calls overtrained (held-long has six pictures). Captions "
        "of the training pictures without the trigger drew the character in each of six runs "
        "that had learned it, good ones too, so the classifier reads prompts that name a creature "
        f"in full. CPU, one thread, PyTorch {torch.__version__}; `pick` takes about 8 s for each "
        "snapshot on a busy machine."
    )
    runs = "| run | settings | is | named | keeps | true of it: character, leak, kept |"
    snapshots = (
        "| run | snapshot | is | named | character | leak | kept | loss | likeness | copying "
        "| plain moved |"
    )
    lines = ["# Does `pick` name the fate of a run?", "", "`python benchmarks/pick.py`", "", about]
    lines += ["", outcome, "", sure, "", "## Runs", "", runs, "|---|---|---|---|---|---|"]
    lines += [_run_line(fate, found) for fate, found in rows]
    lines += ["", "*well*: there is a good snapshot to keep, however the run ended."]
    lines += ["", "## Snapshots", "", snapshots]
    lines += ["|---|---|---|---|---:|---:|---:|---:|---:|---:|---:|"]
    lines += [_line(fate, row) for fate, found in rows for row in found["snapshots"]]
    lines += ["", "Bold: named wrongly. The columns from *loss* on are what `pick` measured."]
    return "\n".join(lines) + "\n"


def _score(rows: Sequence[dict[str, Any]]) -> str:
    every = [row for found in rows for row in found["snapshots"]]
    right = sum(state_of(row["truth"]) == row["state"] for row in every)
    named = sum(found["run_is"] == found["fate"] for found in rows)
    return f"{named} of {len(rows)} runs and {right} of {len(every)} snapshots"


def _run_line(fate: Fate, found: dict[str, Any]) -> str:
    kept = next(row for row in found["snapshots"] if row["file"] == found["keep"]["file"])
    shares = ", ".join(f"{100 * value:.0f} %" for value in kept["truth"].values())
    settings = " ".join(f"`{text}`" for text in fate.settings)
    settings += "".join(f" {name} {count}" for name, count in fate.data.items())
    return (
        f"| {fate.name} | {settings} | {found['fate']} | {found['run_is']} "
        f"| {found['keep']['label']} | {shares} |"
    )


def _line(fate: Fate, row: dict[str, Any]) -> str:
    shares, found = row["truth"], row["measures"]
    true = state_of(shares)
    said = row["state"] if row["state"] == true else f"**{row['state']}**"
    return (
        f"| {fate.name} | {row['label']} | {true} | {said} | {100 * shares['character']:.0f} % "
        f"| {100 * shares['leak']:.0f} % | {100 * shares['kept']:.0f} % "
        f"| {found['loss']['1.0']:+.0%} | {found['likeness']['1.0']:.2f} | {found['copying']:.2f} "
        f"| {found['plain_moved']:.2f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "pick")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    rows = []
    for fate in FATES:
        if options.only and fate.name not in options.only:
            continue
        found = measure(fate, options.work)
        rows.append((fate, found))
        named = "right" if found["run_is"] == found["fate"] else "WRONG"
        print(f"{fate.name}: {named}, {found['cpu']:.0f} s CPU. {found['summary']}", flush=True)
    text = page(rows)
    print(text)
    if not options.only:
        write_text(HERE / "pick.md", text)


if __name__ == "__main__":
    main()
