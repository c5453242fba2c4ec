"""Our adapters against lycoris-lora's modules of the same type and size, on SD1.5's own layers.

    python benchmarks/adapters.py                           # CPU: layers as at 256 px, fp32
    python benchmarks/adapters.py --threads 1 --clock cpu   # where others compute beside it
    python benchmarks/adapters.py --device cuda --pixels 512 --batch 4 --precision bf16
    python benchmarks/adapters.py --types lokr oft          # some types only

A step is forward and backward through each different layer of a transformer block and a residual
block at each of SD1.5's three widths, with as many rows as an image of that size has there; inputs
take gradients, as in a UNet. Both sides have the same layers, inputs, rank and process, and run by
turns; "merged" and "bypass" are LyCORIS' two ways to compute, of which the first is its default.
"base" is the layers alone. Peak memory is what one step takes beside weights and inputs.
Results: benchmarks/adapters.md.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import logging
import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from lycoris.modules.boft import ButterflyOFTModule
from lycoris.modules.diag_oft import DiagOFTModule
from lycoris.modules.dylora import DyLoraModule
from lycoris.modules.ia3 import IA3Module
from lycoris.modules.locon import LoConModule
from lycoris.modules.loha import LohaModule
from lycoris.modules.lokr import LokrModule
from torch import Tensor, nn

from lorasmith.adapters.base import AdaptedLayer, AdapterOptions
from lorasmith.adapters.registry import adapter_class, fixed_options

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Case:
    """A line of the table: our type and options, LyCORIS' module and arguments."""

    name: str
    theirs: type[nn.Module]
    options: AdapterOptions = AdapterOptions()  # noqa: RUF009 (frozen)
    arguments: dict[str, Any] = field(default_factory=dict)
    # LyCORIS' bypass of DyLoRA fails on its own shapes; that of DoRA leaves the decomposition out.
    bypass: bool = True
    rank: int | None = None
    label: str | None = None
    linear_only: bool = False


CASES = [
    Case("lora", LoConModule, linear_only=True),
    Case("c3lier", LoConModule),
    Case(
        "locon", LoConModule, AdapterOptions(tucker=True), {"use_tucker": True},
        label="locon, Tucker",
    ),
    Case("loha", LohaModule),
    Case("lokr", LokrModule, AdapterOptions(factor=8), {"factor": 8}, label="lokr, factor 8"),
    Case("ia3", IA3Module),
    Case("dylora", DyLoraModule, AdapterOptions(unit=4), {"block_size": 4}, bypass=False),
    Case("dora", LoConModule, arguments={"weight_decompose": True}, bypass=False),
    Case("oft", DiagOFTModule),
    Case("boft", ButterflyOFTModule, rank=10),
]  # fmt: skip


@dataclass
class Stack:
    """Frozen layers, an input for each that takes a gradient, and a gradient of its output."""

    layers: list[nn.Linear | nn.Conv2d]
    inputs: list[Tensor]
    gradients: list[Tensor]

    def only_linear(self) -> Stack:
        kept = [i for i, layer in enumerate(self.layers) if max(_kernel(layer)) == 1]
        return Stack(
            [self.layers[i] for i in kept],
            [self.inputs[i] for i in kept],
            [self.gradients[i] for i in kept],
        )


def _kernel(layer: nn.Linear | nn.Conv2d) -> tuple[int, ...]:
    return tuple(layer.kernel_size) if isinstance(layer, nn.Conv2d) else (1,)


def build_stack(pixels: int, batch: int, device: torch.device, dtype: torch.dtype) -> Stack:
    """The different layers of a transformer and a residual block at 320, 640, 1280 channels."""
    stack = Stack([], [], [])

    def add(layer: nn.Linear | nn.Conv2d, *size: int) -> None:
        layer.requires_grad_(False)
        x = torch.randn(batch, *size, device=device, dtype=dtype, requires_grad=True)
        stack.layers.append(layer.to(device, dtype))
        stack.inputs.append(x)
        with torch.no_grad():
            stack.gradients.append(torch.randn_like(layer(x)))

    for level, width in enumerate((320, 640, 1280)):
        side = math.ceil(pixels / 8 / 2**level)
        rows = side * side
        add(nn.Conv2d(width, width, 1), width, side, side)  # proj_in, proj_out
        add(nn.Linear(width, width, bias=False), rows, width)  # to_q, to_k, to_v
        add(nn.Linear(width, width), rows, width)  # to_out
        add(nn.Linear(768, width, bias=False), 77, 768)  # to_k and to_v of attn2
        add(nn.Linear(width, 8 * width), rows, width)
        add(nn.Linear(4 * width, width), rows, 4 * width)
        add(nn.Linear(1280, width), 1280)  # time_emb_proj
        add(nn.Conv2d(width, width, 3, padding=1), width, side, side)
    return stack


class Side:
    """One way to compute a step: what is called for each layer, and what is trained."""

    def __init__(
        self, stack: Stack, calls: Sequence[Callable[[Tensor], Tensor]], trained: list[nn.Module]
    ) -> None:
        self.stack, self.calls, self.trained = stack, calls, trained
        self.before: Callable[[], None] = lambda: None

    def step(self) -> None:
        self.before()
        outputs = [call(x) for call, x in zip(self.calls, self.stack.inputs, strict=True)]
        torch.autograd.backward(outputs, self.stack.gradients)
        for x in self.stack.inputs:
            x.grad = None
        for module in self.trained:
            module.zero_grad(set_to_none=True)


def ours(stack: Stack, case: Case, rank: int) -> Side:
    wrapped = []
    for layer in stack.layers:
        adapter = adapter_class(case.name).create(
            layer,
            rank=rank,
            alpha=None,
            generator=torch.Generator().manual_seed(0),
            options=fixed_options(case.name, case.options),
        )
        adapted = AdaptedLayer(layer)
        adapted.adapters.append(adapter)
        wrapped.append(adapted)
    side = Side(stack, wrapped, list(wrapped))
    if adapter_class(case.name).draws:
        side.before = lambda: begin_step(wrapped, stack)
    return side


def begin_step(wrapped: list[AdaptedLayer], stack: Stack) -> None:
    x = stack.inputs[0]
    keys = torch.arange(len(x), device=x.device)
    for number, adapted in enumerate(wrapped):
        adapted.adapters[0].begin_step(keys, torch.tensor(number * 7919, device=x.device))


def theirs(stack: Stack, case: Case, rank: int, bypass: bool) -> Side:
    modules = []
    for layer in stack.layers:
        module = case.theirs(
            "x", layer, lora_dim=rank, alpha=rank, bypass_mode=bypass, **case.arguments
        )
        module.to(layer.weight.device)
        # As apply_to does, which would leave the layers changed for the other side.
        module.org_forward = layer.forward
        modules.append(module.train())
    return Side(stack, modules, modules)


@dataclass(frozen=True)
class Clock:
    read: Callable[[], float]
    sync: Callable[[], None]

    def time(self, side: Side) -> float:
        self.sync()
        begin = self.read()
        side.step()
        self.sync()
        return self.read() - begin


def peak_mib(side: Side, cuda: bool) -> float:
    """The most that a step takes at once beside what was there before it."""
    side.step()
    if cuda:
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        side.step()
        torch.cuda.synchronize()
        return float(torch.cuda.max_memory_allocated() - before) / 2**20
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profile:
        side.step()
    results = profile.profiler.kineto_results  # type: ignore[union-attr]
    events = [event for event in results.events() if event.name() == "[memory]"]
    events.sort(key=lambda event: event.start_ns())
    now = most = 0
    for event in events:
        now += event.nbytes()
        most = max(most, now)
    return most / 2**20


def measure(stack: Stack, case: Case, rank: int, rounds: int, clock: Clock, cuda: bool) -> str:
    """One row of the table."""
    used = stack.only_linear() if case.linear_only else stack
    rank = case.rank or rank
    sides = {
        "base": Side(used, used.layers, []),
        "ours": ours(used, case, rank),
        "merged": theirs(used, case, rank, False),
    }
    if case.bypass:
        sides["bypass"] = theirs(used, case, rank, True)
    times: dict[str, list[float]] = {name: [] for name in sides}
    memory = {name: peak_mib(side, cuda) for name, side in sides.items()}
    names = list(sides)
    for number in range(rounds):
        for name in names if number % 2 == 0 else reversed(names):
            times[name].append(clock.time(sides[name]))
    best = {name: min(values) for name, values in times.items()}
    median = {name: statistics.median(values) for name, values in times.items()}
    rival = min((name for name in names if name not in ("base", "ours")), key=best.__getitem__)

    def cell(name: str) -> str:
        return f"{1e3 * best[name]:.1f} ({1e3 * median[name]:.1f})" if name in sides else "-"

    cells = [
        case.label or case.name,
        *(cell(name) for name in ("base", "ours", "merged", "bypass")),
        f"{best['ours'] / best[rival]:.2f}",
        *(
            f"{memory[name]:.0f}" if name in memory else "-"
            for name in ("base", "ours", "merged", "bypass")
        ),
    ]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--precision", default="fp32", choices=list(DTYPES))
    parser.add_argument("--pixels", type=int, default=256, help="side of the square picture")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--threads", type=int, default=None, help="CPU threads")
    parser.add_argument("--rounds", type=int, default=4, help="steps of each side")
    parser.add_argument("--types", nargs="+", choices=[case.name for case in CASES])
    parser.add_argument(
        "--clock",
        default="wall",
        choices=["wall", "cpu"],
        help="cpu counts the process's own CPU seconds: use it with one thread on a busy machine",
    )
    options = parser.parse_args()
    logging.getLogger("LyCORIS").setLevel(logging.ERROR)
    if options.threads:
        torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    cuda = device.type == "cuda"
    clock = Clock(
        time.process_time if options.clock == "cpu" else time.perf_counter,
        torch.cuda.synchronize if cuda else lambda: None,
    )
    torch.manual_seed(0)
    stack = build_stack(options.pixels, options.batch, device, DTYPES[options.precision])
    where = torch.cuda.get_device_name() if cuda else f"{torch.get_num_threads()} CPU threads"
    lycoris = importlib.metadata.version("lycoris-lora")
    print(
        f"torch {torch.__version__}, lycoris-lora {lycoris}, {where}, {options.precision}, "
        f"{options.pixels} px, batch {options.batch}, rank {options.rank}\n"
    )
    head = ["type", "base ms", "ours ms", "merged ms", "bypass ms", "ours / faster of theirs"]
    head += ["base MiB", "ours MiB", "merged MiB", "bypass MiB"]
    print("| " + " | ".join(head) + " |\n|" + " --- |" * len(head), flush=True)
    for case in CASES:
        if options.types is None or case.name in options.types:
            print(measure(stack, case, options.rank, options.rounds, clock, cuda), flush=True)


if __name__ == "__main__":
    main()
