"""What `lorasmith advise` says of settings, time and memory, against what runs measure.

    python -m benchmarks.advise --demo       # six drawn datasets on the demo model
    python -m benchmarks.advise --full       # steps of full-size models of random weights

Seconds are of the processor, on one thread, so that they can be compared on a machine that has
other work. Memory is resident memory beyond what the process held before, as in
benchmarks/memory.py. On the demo: is a run with the advised file the one that no settings give?
Then 40 steps are trained, which `advise` takes a step's time from, and as many with another seed,
which it is held against. Of full-size models `advise` says the same memory plan, and no time before
there is a run; the guess that `train --plan` makes of it is held against two steps.
Results: benchmarks/advise.md.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from benchmarks.memory import DTYPES, MALLOC, Case, estimated, measure
from benchmarks.random_models import architecture_of
from benchmarks.resident import forget_peak, resident
from benchmarks.subjects.subjects import SUBJECTS

from lorasmith.advice.advise.advise import Advised, advise
from lorasmith.advice.advise.case import examine
from lorasmith.advice.advise.machine import target_of
from lorasmith.advice.advise.questions import questions_of
from lorasmith.config.load import load_settings
from lorasmith.core.files import parse_json
from lorasmith.training.memory.estimates import (
    Work,
    multiply_adds_per_second,
    speed_of,
    step_seconds,
)
from lorasmith.training.run import train
from lorasmith.training.setup.preflight import preflight

STEPS = 40
QUIET = ("sample.every_epochs=0", "sample.at_start=false", "log.tensorboard=false")
# Name, subjects, pictures of each.
DATASETS: dict[str, tuple[tuple[str, ...], int]] = {
    "easy character": (("tarnok",), 14),
    "hard character": (("pluvi",), 14),
    "style": (("gloam",), 14),
    "concept": (("velorb",), 14),
    "two characters": (("mibbet", "tarnok"), 14),
    "4 pictures": (("tarnok",), 4),
}
FULL = (
    Case("sd15", 256, "bf16"),
    Case("sd15", 512, "bf16"),
    Case("sd15", 512, "bf16", 2),
    Case("sd15", 768, "bf16"),
    Case("sdxl", 512, "bf16"),
)
TIMED = 2


def advised(data: Path) -> Advised:
    case = examine(data, "demo")
    target = target_of(None, case.settings, case.base.architecture)
    return advise(case, questions_of(case), {}, target)


def trained(file: Path, output: str, steps: int, seed: int) -> Path:
    overrides = [f"train.steps={steps}", f"train.seed={seed}", f"save.output={output}", *QUIET]
    return train(load_settings(file, overrides))


def step_of(run: Path) -> float:
    """Seconds of a step after the first, in the mean."""
    rows = [parse_json(line) for line in (run / "metrics.jsonl").read_text("utf-8").splitlines()]
    return statistics.fmean(r["seconds_left"] / (r["steps"] - r["step"]) for r in rows[1:-1])


def on_demo(name: str) -> dict[str, Any]:
    """In a process and a working folder of its own."""
    subjects, images = DATASETS[name]
    for subject in subjects:
        SUBJECTS[subject].write_training_set(Path("pictures"), images)
    data, file = Path("pictures"), Path("train.toml")
    first = advised(data)
    file.write_text(first.text, encoding="utf-8")
    plain = load_settings(None, {"data.path": str(data), "model.path": "demo"})
    same = preflight(load_settings(file)).settings == preflight(plain).settings
    trained(file, "before", 2, 0)  # Code and workspaces that every run has once.
    gc.collect()
    before = resident("VmRSS")
    forget_peak()
    trained(file, "runs", STEPS, 1)
    peak = resident("VmHWM") - before
    second = advised(data)
    assert second.timing is not None
    return {
        "same": same, "steps": first.run_plan.steps,
        "said_s": second.timing.step, "measured_s": step_of(trained(file, "other", STEPS, 2)),
        "said_b": first.fitted.memory.step.total, "measured_b": peak,
        "run_s": second.timing.seconds,
    }  # fmt: skip


def on_full(index: int) -> dict[str, Any]:
    case, device = FULL[index], torch.device("cpu")
    dtype, architecture = DTYPES[case.precision], architecture_of(case.model)
    said, _ = estimated(case)
    work = Work.of(architecture, case.pixels, case.pixels, 77)

    def guess() -> float:
        speed_of.cache_clear()
        multiply_adds_per_second.cache_clear()
        speed = speed_of(device, dtype)
        return step_seconds(work, case.batch, 1, speed, device, dtype, checkpointing=False)

    before = guess()
    found = measure(case, device, timed=TIMED, read=time.process_time)
    # Before and after: a busy machine computes at other rates from minute to minute.
    guesses = [before, guess()]
    return {
        "said_s": statistics.fmean(guesses), "measured_s": statistics.fmean(found.seconds),
        "guesses": guesses, "said_b": said, "measured_b": found.peak, "seconds": found.seconds,
    }  # fmt: skip


def in_own_process(*arguments: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, __file__, *arguments],
            capture_output=True, text=True, check=False, cwd=folder, env=os.environ | MALLOC,
        )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{arguments}: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def ratios(found: dict[str, Any]) -> str:
    return (
        f"{found['said_s']:.3f} | {found['measured_s']:.3f} | "
        f"{found['said_s'] / found['measured_s']:.2f} | {found['said_b'] / 1e6:.0f} | "
        f"{found['measured_b'] / 1e6:.0f} | {found['said_b'] / found['measured_b']:.2f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--demo", action="store_true", help="six datasets on the demo model")
    parser.add_argument(
        "--full", default="", nargs="?", const="sd", help="full-size models; sd15, 512 …"
    )
    parser.add_argument("--only", default="", help="datasets whose name has this text")
    parser.add_argument("--dataset", help=argparse.SUPPRESS)
    parser.add_argument("--case", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    # Of the steps that runs time, and of the products that the guess goes by.
    with patch.object(time, "perf_counter", time.process_time):
        if options.dataset:
            print(json.dumps(on_demo(options.dataset)))
        elif options.case is not None:
            print(json.dumps(on_full(options.case)))
    heads = "step said s | measured s | ratio | step said MB | measured MB | ratio |"
    if options.demo:
        print(f"| dataset | as without settings | steps | {heads} run said s |", flush=True)
        for name in (one for one in DATASETS if options.only in one):
            found = in_own_process("--dataset", name)
            same = "yes" if found["same"] else "NO"
            row = f"| {name} | {same} | {found['steps']} | {ratios(found)} {found['run_s']:.0f} |"
            print(row, flush=True)
    if options.full:
        print(f"| model | {heads}", flush=True)
        for index, case in enumerate(FULL):
            if options.full in case.name:
                found = in_own_process("--case", str(index))
                print(f"| {case.name} | {ratios(found)}\n{found}", flush=True)


if __name__ == "__main__":
    main()
