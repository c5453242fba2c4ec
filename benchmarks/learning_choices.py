"""What each kind of adapter and each optimizer learns on the demo model, at its own settings.

    python benchmarks/learning_choices.py [--only NAME …] [--count 64] [--jobs 2]

Every row of learning_choices.toml is trained and judged as benchmarks/learning.py does it, in a
process of its own. Finished rows are kept in --work, so that a run that was stopped goes on. Writes
benchmarks/learning_choices.md and docs/images/learning-choices.png.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from learning import CFG, HERE, KEPT, SAMPLER, STEPS, judge, train_on_character
from PIL import Image

from lorasmith.adapters.file import load_lora
from lorasmith.adapters.network import AdapterNetwork
from lorasmith.core.files import write_json, write_text
from lorasmith.models.load import load_model
from lorasmith.sampling.contact_sheet import contact_sheet

IMAGES = HERE.parent / "docs" / "images" / "learning-choices.png"
# Of each row: with the trigger, with the trigger and new things, without it.
SHOWN = (0, 1, 2, 3, 8, 9, 16, 17)
LEGEND = (
    "Columns: four with the trigger, two with the trigger and things that no training picture has, "
    "two without it; the same prompts and seeds in each row."
)


@dataclass(frozen=True)
class Choice:
    """One row: settings on top of the preset ``demo``, and a remark."""

    name: str
    group: str
    settings: tuple[str, ...]
    note: str = ""


def choices() -> list[Choice]:
    rows = tomllib.loads((HERE / "learning_choices.toml").read_text(encoding="utf-8"))["choice"]
    return [
        Choice(
            row["name"],
            row["group"],
            tuple(f"{key}={value}" for key, value in row["settings"].items()),
            row.get("note", ""),
        )
        for row in rows
    ]


def measure(choice: Choice, count: int, target: Path) -> None:
    """Train and judge one row; writes ``target`` and its images beside it."""
    with tempfile.TemporaryDirectory() as work:
        run, seconds = train_on_character("demo", choice.settings, Path(work))
        path = run / f"{run.name}.safetensors"
        file, size = load_lora(path), path.stat().st_size
    model = load_model("demo")
    network = AdapterNetwork.load(file.tensors, model.adapter_roots())
    with network.attached():
        outcome = judge(model, count)
    np.save(target.with_suffix(".npy"), np.stack(outcome.images))
    facts = {
        "character": outcome.character,
        "leak": outcome.leak,
        "kept": outcome.kept,
        "parts": outcome.parts,
        "seconds": seconds,
        "bytes": size,
        "steps": int(file.metadata["ss_steps"]),
    }
    write_json(target, facts)


def measure_all(chosen: Sequence[Choice], count: int, jobs: int, work: Path) -> None:
    def one(choice: Choice) -> None:
        target = work / f"{choice.name}.json"
        if target.exists():
            return
        arguments = [sys.executable, __file__, "--row", choice.name, "--count", str(count)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        subprocess.run([*arguments, "--work", str(work)], check=True, env=environment)
        print(f"{choice.name}: {target.read_text(encoding='utf-8')}", flush=True)

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(one, chosen))


def page(rows: Sequence[tuple[Choice, dict]], count: int) -> str:
    lines = ["# What each adapter and each optimizer learns", ""]
    lines += ["`python benchmarks/learning_choices.py`", "", _about(rows[0][1]["steps"], count), ""]
    for group in dict.fromkeys(choice.group for choice, _ in rows):
        lines += [
            f"## {group}",
            "",
            "| | character | leak | kept | file | training | settings | |",
            "|---|---:|---:|---:|---:|---:|---|---|",
            *(_line(choice, facts) for choice, facts in rows if choice.group == group),
            "",
        ]
    lines += ["![pictures of each row](../docs/images/learning-choices.png)", "", LEGEND]
    return "\n".join(lines) + "\n"


def _about(steps: int, count: int) -> str:
    return (
        f"Each row is one run on the demo model: the preset `demo` ({steps} steps of 8 pictures) "
        f"with the settings named, then {count} pictures with the trigger word and {count} without "
        f"({SAMPLER}, {STEPS} steps, CFG {CFG:g}), read by the demo world's classifier. "
        "*Character*: pictures with the trigger that show all defining parts. *Leak*: pictures "
        f"without it that show any. *Kept*: pictures without it that show {', '.join(KEPT)} as "
        "asked, the worst of them. One seed each: differences below about 5 % mean nothing."
    )


def _line(choice: Choice, facts: dict) -> str:
    kept = min(facts["kept"].values())
    settings = " ".join(f"`{item}`" for item in choice.settings)
    return (
        f"| {choice.name} | {100 * facts['character']:.0f} % | {100 * facts['leak']:.0f} % "
        f"| {100 * kept:.0f} % | {facts['bytes'] / 1e3:.0f} kB | {facts['seconds']:.0f} s "
        f"| {settings} | {choice.note} |"
    )


def sheet(rows: Sequence[tuple[Choice, dict]], work: Path) -> Image.Image:
    images, labels = [], []
    for choice, _ in rows:
        found = np.load(work / f"{choice.name}.npy")
        images.append([Image.fromarray(found[index]) for index in SHOWN])
        labels.append(choice.name)
    return contact_sheet(images, row_labels=labels, scale=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=64)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "learning")
    parser.add_argument("--row", help="measure this one in this process; used by the script itself")
    options = parser.parse_args()
    found = {choice.name: choice for choice in choices()}
    if options.row:
        measure(found[options.row], options.count, options.work / f"{options.row}.json")
        return
    options.work.mkdir(parents=True, exist_ok=True)
    chosen = [found[name] for name in options.only] or list(found.values())
    measure_all(chosen, options.count, options.jobs, options.work)
    rows = [
        (choice, json.loads((options.work / f"{choice.name}.json").read_text(encoding="utf-8")))
        for choice in chosen
    ]
    if options.only:
        return
    write_text(HERE / "learning_choices.md", page(rows, options.count))
    sheet(rows, options.work).save(IMAGES, optimize=True)


if __name__ == "__main__":
    main()
