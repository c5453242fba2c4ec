"""The machine, its software, and the most that it does: what the other tables are read against."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import subprocess
import time
from functools import partial

import psutil
import torch
from benchmarks.gpu_parts.bench import Bench
from torch import Tensor

PACKAGES = (
    *("torch", "triton", "diffusers", "transformers", "accelerate", "safetensors", "numpy"),
    *("pydantic", "bitsandbytes", "lycoris-lora", "peft"),
)


def measure(bench: Bench) -> None:
    begin = time.perf_counter()
    # Brings diffusers and transformers.
    importlib.import_module("lorasmith.models.diffusion_model")
    bench.note(f"diffusers and transformers imported in {time.perf_counter() - begin:.1f} s")
    for table in (facts, products, copies, waits):
        bench.attempt(table.__name__, partial(table, bench))


def facts(bench: Bench) -> None:
    def fact(name: str, value: object) -> None:
        bench.row("Machine", {"": name, "value": str(value)})

    fact("Python", platform.python_version())
    fact("cores", os.cpu_count())
    fact("memory, GB", round(psutil.virtual_memory().total / 1e9, 1))
    for package in PACKAGES:
        try:
            fact(package, importlib.metadata.version(package))
        except importlib.metadata.PackageNotFoundError:
            fact(package, "not there")
    if not bench.cuda:
        fact("device", f"{platform.machine()} CPU, {torch.get_num_threads()} threads")
        return
    properties = torch.cuda.get_device_properties(0)
    fact("device", properties.name)
    fact("compute capability", f"{properties.major}.{properties.minor}")
    fact("multiprocessors", properties.multi_processor_count)
    free, total = torch.cuda.mem_get_info()
    fact("device memory, GB", f"{total / 1e9:.1f}, of which free {free / 1e9:.1f}")
    fact("CUDA of torch", torch.version.cuda)
    fact("cuDNN", torch.backends.cudnn.version())
    fact("tf32 in matrix products, convolutions",
         f"{torch.backends.cuda.matmul.allow_tf32}, {torch.backends.cudnn.allow_tf32}")  # fmt: skip
    query = ["nvidia-smi", "--query-gpu=driver_version,clocks.max.sm,power.limit", "--format=csv"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=10, check=False)
        fact("driver, highest clock, power limit", done.stdout.strip().splitlines()[-1])
    except (OSError, IndexError, subprocess.TimeoutExpired) as error:
        bench.note(f"nvidia-smi: {error}")


def seconds_of(bench: Bench, action: object, times: int) -> float:
    """Of one of ``times`` calls, the device awaited before and after all of them."""
    assert callable(action)
    clock = bench.clock
    action()
    clock.sync()
    begin = clock.read()
    for _ in range(times):
        action()
    clock.sync()
    return (clock.read() - begin) / times


def product_rate(bench: Bench, dtype: torch.dtype) -> float:
    """Operations a second of a large square matrix product: the floor of a step stands on it."""
    side = 256 if bench.tiny else 8192
    a, b = (torch.randn(side, side, device=bench.device).to(dtype) for _ in range(2))
    out = torch.empty_like(a)
    return 2 * side**3 / seconds_of(bench, lambda: torch.mm(a, b, out=out), 10)


def products(bench: Bench) -> None:
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        rate = product_rate(bench, dtype)
        name = str(dtype).removeprefix("torch.")
        bench.row("Matrix products", {"": name, "TFLOP/s": rate / 1e12})


def copies(bench: Bench) -> None:
    size = 2**22 if bench.tiny else 2**30
    here = torch.empty(size, dtype=torch.uint8, device=bench.device)
    there = torch.empty_like(here)
    pageable = torch.ones(size, dtype=torch.uint8)

    def row(name: str, target: Tensor, source: Tensor, moved: int) -> None:
        seconds = seconds_of(bench, lambda: target.copy_(source, non_blocking=True), 4)
        bench.row("Copies", {"": name, "GB/s": moved / seconds / 1e9})

    row("on the device, reading and writing", there, here, 2 * size)
    row("to the device, pageable", here, pageable, size)
    if bench.cuda:
        pinned = pageable.pin_memory()
        row("to the device, pinned", here, pinned, size)
        row("from the device, pinned", pinned, here, size)


def waits(bench: Bench) -> None:
    x = torch.zeros(16, device=bench.device)
    begin = time.perf_counter()
    for _ in range(1000):
        x.add_(1)
    launch = (time.perf_counter() - begin) / 1000
    wait = seconds_of(bench, x[0].item, 100)
    bench.row("What the host pays", {"": "one small operation", "µs": 1e6 * launch})
    bench.row("What the host pays", {"": "reading one number", "µs": 1e6 * wait})
