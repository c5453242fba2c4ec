"""A step with each way to save memory: its time, and its peak beside what the plan foresees."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from functools import partial
from importlib.util import find_spec

from benchmarks.gpu_parts.bench import Bench
from benchmarks.memory import CHECKPOINTING, FP8, NF4, Case, estimated, measure

ALL_OFFLOADED = {"performance.offload_blocks": "7"}
EIGHT_BITS = {"optimizer.name": "AdamW8bit"}
SDXL: Mapping[str, Mapping[str, str]] = {
    "whole": {},
    "fp8": FP8,
    "NF4": NF4,
    "offloaded, 3 blocks": {"performance.offload_blocks": "3"},
    "offloaded, all blocks": ALL_OFFLOADED,
    "AdamW8bit": EIGHT_BITS,
    "recomputed": CHECKPOINTING,
    "recomputed, fp8, all blocks offloaded": CHECKPOINTING | FP8 | ALL_OFFLOADED,
    "recomputed, NF4": CHECKPOINTING | NF4,
}
TINY = (("sdxl", "offloaded, 3 blocks"), ("sd15", "whole"), ("sd15", "fp8"))
SD15: Mapping[str, Mapping[str, str]] = {"whole": {}, "fp8": FP8, "recomputed": CHECKPOINTING}


def of_plan(bench: Bench) -> None:
    for model, cases in (("sdxl", SDXL), ("sd15", SD15)):
        for label, settings in cases.items():
            if bench.tiny and (model, label) not in TINY:
                continue
            if settings is EIGHT_BITS and find_spec("bitsandbytes") is None:
                bench.note(f"{model}, {label}: left out, bitsandbytes is missing")
                continue
            if bench.in_time(f"{model}, {label}", 10):
                bench.attempt(f"{model}, {label}", partial(row, bench, model, label, settings))


def row(bench: Bench, model: str, label: str, settings: Mapping[str, str]) -> None:
    rank = "4" if bench.tiny else "32"
    pixels = bench.pixels(model)
    own = {"adapter.rank": rank, **settings}
    if bench.tiny and "performance.offload_blocks" in own:
        own["performance.offload_blocks"] = "2"
    case = Case(bench.model(model), pixels, "bf16", 1, own)
    planned, plan_seconds = estimated(case)
    figures = measure(case, bench.device, 1 if bench.tiny else 8)
    bench.row(
        f"Memory of a step, rank {rank}, bf16, batch 1",
        {
            "": f"{model}, {pixels} px, {label}", "ms": 1e3 * statistics.median(figures.seconds),
            "weights GB": figures.model / 1e9, "planned GB": planned / 1e9,
            "measured GB": figures.peak / 1e9,
            "planned / measured": planned / figures.peak if figures.peak > 0 else None,
            "s for the plan": plan_seconds,
        },
    )  # fmt: skip
