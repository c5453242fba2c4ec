"""Our step with compiled blocks: how many graphs, how long they take to make, what they gain."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from functools import partial

import torch
from benchmarks.gpu_parts.bench import Bench
from benchmarks.random_models import random_model
from benchmarks.step import Case, Ours, time_steps
from torch._dynamo.utils import counters


def measure(bench: Bench) -> None:
    for name, batches in (("sd15", (1, 4)), ("sdxl", (1,)))[: 1 if bench.tiny else None]:
        if bench.in_time(f"{name}, compiled", 25):
            bench.attempt(f"{name}, compiled", partial(one_model, bench, name, batches))


def one_model(bench: Bench, name: str, batches: Sequence[int]) -> None:
    clock = bench.clock
    for batch in (1,) if bench.tiny else batches:
        if not bench.in_time(f"{name}, batch {batch}", 20):
            return
        torch.compiler.reset()
        counters.clear()
        model = random_model(
            bench.architecture(name), torch.bfloat16, bench.device, channels_last=bench.cuda
        )
        case = Case("bf16", batch, bench.pixels(name), 4 if bench.tiny else 32)
        ours = Ours(model, model.adapter_roots()[0], case)
        steps = 1 if bench.tiny else 8
        eager = statistics.median(time_steps(ours, steps, clock))
        # A C++ compiler takes minutes for what the tiny models compute in none.
        left: list[str] = []
        model.compile(backend="eager" if bench.tiny else "inductor", report=left.append)
        begin = clock.read()
        with ours.attached():
            ours.step(0)
            clock.sync()
        first = clock.read() - begin
        bench.note(f"{name}, batch {batch}: the first compiled step took {first:.1f} s")
        compiled = statistics.median(time_steps(ours, steps, clock))
        graphs, breaks = counters["stats"]["unique_graphs"], counters["graph_break"]
        bench.row(
            "Our step, bf16, eager and compiled",
            {
                "": f"{name}, {case.pixels} px", "batch": batch, "eager ms": 1e3 * eager,
                "compiled ms": 1e3 * compiled, "compiled / eager": compiled / eager,
                "s of the first step": first, "graphs": graphs,
                "graph breaks": sum(breaks.values()),
                "left eager": len(left),
            },
        )  # fmt: skip
        for reason, count in list(breaks.items())[:5]:
            bench.note(f"{name}, graph break, {count} times: {str(reason)[:200]}")
        for message in left[:3]:
            bench.note(f"{name}: {message[:300]}")
        del ours, model
        bench.free()
