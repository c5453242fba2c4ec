"""A step of ours beside the bare loop's, and beside what its arithmetic must take."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from benchmarks.gpu_parts.bench import Bench
from benchmarks.gpu_parts.environment import product_rate
from benchmarks.random_models import random_model
from benchmarks.step import Bare, Case, measure
from torch.utils.flop_counter import FlopCounterMode

from lorasmith.adapters.targets import targets_of
from lorasmith.models.families.table import Architecture

RANK = 32


def sd15(bench: Bench) -> None:
    _measure(bench, "sd15", (1, 4, 8))


def sdxl(bench: Bench) -> None:
    _measure(bench, "sdxl", (1, 4))


def _measure(bench: Bench, name: str, batches: Sequence[int]) -> None:
    architecture, pixels = bench.architecture(name), bench.pixels(name)
    rank = 4 if bench.tiny else RANK
    operations = step_operations(architecture, pixels, rank)
    rate = product_rate(bench, torch.bfloat16)
    model = random_model(architecture, torch.bfloat16, bench.device, channels_last=bench.cuda)
    for batch in batches[: 2 if bench.tiny else None]:
        if not bench.in_time(f"batch {batch}", 10):
            return
        case = Case("bf16", batch, pixels, rank)
        rounds, steps = (2, 1) if bench.tiny else (4, 6)
        figures = measure(model, case, rounds, steps, bench.clock)
        floor = batch * operations / rate
        memory = {
            "bare GB": figures.bare_peak / 1e9, "ours GB": figures.ours_peak / 1e9
        } if bench.cuda else {}  # fmt: skip
        bench.row(
            f"A step at {pixels} px, rank {rank}, bf16, AdamW",
            {
                "batch": batch, "bare ms": 1e3 * figures.bare, "ours ms": 1e3 * figures.ours,
                "ours / bare": figures.ours / figures.bare, **memory,
                "TFLOP": batch * operations / 1e12, "floor ms": 1e3 * floor,
                "ours TFLOP/s": batch * operations / figures.ours / 1e12,
                "floor / ours": floor / figures.ours,
            },
        )  # fmt: skip
        bench.free()
    bench.note(f"the floor: a step's arithmetic at {rate / 1e12:.3g} TFLOP/s, as one large product")


def step_operations(architecture: Architecture, pixels: int, rank: int) -> float:
    """Floating point operations of the bare loop's forward and backward pass at batch 1."""
    model = random_model(architecture, torch.bfloat16, "meta")
    targets = targets_of(model.adapter_roots()[0])
    side = Bare(model, targets, Case("bf16", 1, pixels, rank))
    with side.attached(), FlopCounterMode(display=False) as counter:
        side.loss().backward()
    return float(counter.get_total_flops())
