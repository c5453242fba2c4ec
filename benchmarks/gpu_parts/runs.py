"""Short runs of the demo model through the public ``train``: does everything work there at all?"""

from __future__ import annotations

import json
import math
import statistics
import time
from collections.abc import Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from benchmarks.gpu_parts.bench import Bench

from lorasmith.config.adapter_types import ADAPTERS
from lorasmith.config.load import load_settings
from lorasmith.demo.character import write_training_set
from lorasmith.training.run import train

DROPOUTS = {
    "adapter.dropout": "0.1", "adapter.rank_dropout": "0.1", "adapter.module_dropout": "0.1",
}  # fmt: skip
SAVING = {
    "train.base_precision": "fp8", "train.gradient_checkpointing": "true",
    "performance.offload_blocks": "7",
}  # fmt: skip
CASES: Mapping[str, Mapping[str, str]] = {
    "lora, dropouts": DROPOUTS,
    "dylora, dropouts": {"adapter.type": "dylora", **DROPOUTS},
    "lora, nothing dropped": {},
    **{
        f"{name}, dropouts": {"adapter.type": name, **DROPOUTS}
        for name in ADAPTERS
        if name not in ("lora", "dylora")
    },
    "scale_weight_norms": {"adapter.scale_weight_norms": "1"},
    "fp8 weights": {"train.base_precision": "fp8"},
    "4-bit weights": {"train.base_precision": "nf4"},
    "7 blocks offloaded": {"performance.offload_blocks": "7"},
    "all that saves memory": SAVING,
    "fp16": {"train.precision": "fp16"},
    "AdamW8bit": {"optimizer.name": "AdamW8bit"},
}
TINY = ("lora, dropouts", "dylora, dropouts")


def measure(bench: Bench) -> None:
    for name, settings in CASES.items():
        if bench.tiny and name not in TINY:
            continue
        if "8bit" in name and find_spec("bitsandbytes") is None:
            bench.note(f"{name}: left out, bitsandbytes is missing")
            continue
        if not bench.in_time(name, 3):
            return
        bench.attempt(name, partial(row, bench, name, settings))


def demo_run(bench: Bench, name: str, steps: int, settings: Mapping[str, str]) -> Path:
    """The folder of a finished run of so many steps."""
    data = bench.scratch / "data"
    if not data.exists():
        write_training_set(data, images=8, regularisation=4, repeats=8)
    usual = {
        "model.path": "demo", "data.path": str(data), "save.output": str(bench.scratch / "runs"),
        "save.name": "".join(letter if letter.isalnum() else "-" for letter in name),
        "train.steps": str(steps), "train.batch": "4", "optimizer.lr": "1e-4",
        "log.every_steps": "1", "log.tensorboard": "false", "sample.at_start": "false",
        "sample.every_epochs": "0", "performance.device": bench.device_name,
        "train.precision": "fp32" if bench.tiny else "bf16",
    }  # fmt: skip
    chosen = load_settings(None, {**usual, **settings})
    return train(chosen)


def row(bench: Bench, name: str, settings: Mapping[str, str]) -> None:
    steps = 2 if bench.tiny else 12
    drawn = {} if bench.tiny else {"sample.every_steps": str(steps)}
    begin = time.perf_counter()
    run = demo_run(bench, name, steps, {**drawn, **settings})
    seconds = time.perf_counter() - begin
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    losses = [record["loss"] for record in records]
    if len(losses) != steps or not all(math.isfinite(loss) for loss in losses):
        raise ArithmeticError(f"losses {losses}")
    if drawn and not list((run / "samples").glob("*.png")):
        raise FileNotFoundError("no sample picture was drawn")
    rates = [record["samples_per_second"] for record in records if record["samples_per_second"]]
    bench.row(
        "The demo model, 64 px, batch 4",
        {
            "run": name, "steps": steps, "s in all": seconds, "first loss": losses[0],
            "last loss": losses[-1], "samples/s": statistics.median(rates) if rates else None,
        },
    )  # fmt: skip
