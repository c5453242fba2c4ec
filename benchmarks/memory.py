"""The memory planner's estimate of a training step against what the step takes.

    python -m benchmarks.memory [--device cuda] [--only sd15]

Full-size models of random weights, a LoRA of rank 16 on the UNet, AdamW; every case in a process of
its own. On a CPU the measure is the peak of resident memory beyond what the process held before the
model was made; large tensors are given back to the system at once there, so that it is their sum.
On CUDA it is `torch.cuda.max_memory_allocated`. Writes the table to `memory.md` beside this file.
SDXL takes up to 9 GB.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from benchmarks.random_models import architecture_of, random_batch, random_model
from benchmarks.resident import forget_peak, resident
from benchmarks.step import Clock
from torch import nn

from lorasmith.config.load import load_settings
from lorasmith.config.schema import TrainSettings
from lorasmith.config.sections.optimizer import ScheduleSettings
from lorasmith.core.files import write_text
from lorasmith.models.diffusion_model import DiffusionModel
from lorasmith.training.kinds.adapter import make_network
from lorasmith.training.lr_schedules import LearningRate
from lorasmith.training.memory.simulate import (
    SimulatedRun,
    Workload,
    checkpointed,
    weight_placement,
)
from lorasmith.training.objective import build_objective
from lorasmith.training.optim import build_optimizer, flat_groups
from lorasmith.training.setup.processes import Processes
from lorasmith.training.step import TrainStep

REPORT = Path(__file__).with_suffix(".md")
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
# Resident memory is that of live tensors only where what is freed goes back at once.
MALLOC = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536",
          "MALLOC_ARENA_MAX": "1", "OMP_NUM_THREADS": "1"}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One line of the table."""

    model: str
    pixels: int
    precision: str
    batch: int = 1
    settings: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        more = ", ".join(f"{key.partition('.')[2]} {value}" for key, value in self.settings.items())
        text = f"{self.model}, {self.pixels} px, {self.precision}, batch {self.batch}"
        return f"{text}, {more}" if more else text


CHECKPOINTING = {"train.gradient_checkpointing": "true"}
SOME = {"train.gradient_checkpointing": "4"}
FP8, NF4 = {"train.base_precision": "fp8"}, {"train.base_precision": "nf4"}
OFFLOADED = {"performance.offload_blocks": "3"}
ON_THE_PAGE: dict[str, dict[str, str]] = {
    "nothing": {}, "4 blocks recomputed": SOME, "all recomputed": CHECKPOINTING,
    "all recomputed, fp8": CHECKPOINTING | FP8, "all recomputed, nf4": CHECKPOINTING | NF4,
    "all recomputed, fp8, 3 blocks offloaded": CHECKPOINTING | FP8 | OFFLOADED,
}  # fmt: skip

ON_CPU = (
    Case("sd15", 256, "fp32"),
    Case("sd15", 256, "fp32", settings=CHECKPOINTING),
    Case("sd15", 256, "bf16"),
    Case("sd15", 256, "bf16", 4),
    Case("sd15", 256, "bf16", 4, SOME),
    Case("sd15", 256, "bf16", 4, CHECKPOINTING),
    Case("sd15", 256, "bf16", settings=FP8),
    Case("sd15", 256, "bf16", settings=NF4),
    Case("sd15", 128, "bf16", settings={"adapter.type": "lokr", "adapter.targets": "full"}),
    Case("sd15", 128, "fp32", settings={"adapter.type": "dora"}),
    Case("sdxl", 128, "bf16"),
    Case("sdxl", 256, "bf16", settings=CHECKPOINTING),
    Case("sdxl", 256, "bf16", settings=FP8),
)
ON_CUDA = tuple(
    Case(model, pixels, "bf16", batch, settings)
    for model, pixels, batch in (("sd15", 512, 1), ("sd15", 512, 4), ("sdxl", 1024, 1))
    for settings in (
        {}, SOME, CHECKPOINTING, FP8 | CHECKPOINTING, NF4 | CHECKPOINTING,
        OFFLOADED | CHECKPOINTING, FP8 | OFFLOADED | CHECKPOINTING,
    )
)  # fmt: skip


def settings_of(case: Case) -> TrainSettings:
    usual = {
        "train.gradient_checkpointing": "false", "adapter.text_encoder": "false",
        "train.batch": str(case.batch),
    }  # fmt: skip
    return load_settings(None, {**usual, **case.settings})


def estimated(case: Case) -> tuple[int, float]:
    """Bytes, and seconds that it took to know them."""
    begin = time.process_time()
    cuda, cells = torch.cuda.is_available(), (case.pixels, case.pixels, case.batch)
    use = Workload(case.pixels, case.pixels, cells, None, text=False, vae=False, channels_last=cuda)
    run = SimulatedRun(settings_of(case), architecture_of(case.model), DTYPES[case.precision], use)
    return run.step().total, time.process_time() - begin


def filled_model(case: Case, settings: TrainSettings, device: torch.device) -> DiffusionModel:
    architecture = architecture_of(case.model)
    return random_model(
        architecture,
        DTYPES[case.precision],
        device,
        placement=weight_placement(settings),
        recomputed=checkpointed(settings.train.gradient_checkpointing, architecture.block_paths),
        channels_last=device.type == "cuda",
    )


def trainer_of(model: DiffusionModel, settings: TrainSettings) -> TrainStep:
    network = make_network(settings, model.architecture, model.adapter_roots()[:1])
    groups = flat_groups(
        settings.optimizer.name,
        [(group.name, group.parameters, 1e-4) for group in network.parameter_groups()],
    )
    network.attach()
    return TrainStep(
        model,
        network,
        groups,
        build_optimizer(settings.optimizer.name, groups, {}),
        LearningRate(ScheduleSettings(name="constant"), 100),
        build_objective(settings, model),
        Processes(model.device),
    )


@dataclass(frozen=True)
class Measured:
    """Peak bytes of a step, of which the model's, and the seconds of each step after two."""

    peak: int
    model: int
    seconds: list[float]


def measure(
    case: Case,
    device: torch.device,
    timed: int = 0,
    read: Callable[[], float] = time.perf_counter,
) -> Measured:
    """The peak is that of two steps; the second one has the optimizer's state from the start.

    Args:
        timed: further steps, whose seconds are counted.
        read: the clock.
    """
    settings = settings_of(case)
    warm_up(device)
    gc.collect()
    cuda = device.type == "cuda"
    clock = Clock(read, torch.cuda.synchronize if cuda else lambda: None)

    def now() -> int:
        return torch.cuda.memory_allocated() if cuda else resident("VmRSS")

    before = now()
    model = filled_model(case, settings, device)
    filled = now() - before
    trainer, batch = trainer_of(model, settings), random_batch(model, case.batch, case.pixels)
    gc.collect()
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    else:
        forget_peak()
    for number in range(2):
        trainer(number, [batch], case.batch)
    peak = torch.cuda.max_memory_allocated() if cuda else resident("VmHWM")
    seconds = []
    for number in range(2, 2 + timed):
        clock.sync()
        begin = clock.read()
        trainer(number, [batch], case.batch)
        clock.sync()
        seconds.append(clock.read() - begin)
    return Measured(peak - before, filled, seconds)


def warm_up(device: torch.device) -> None:
    """Code and workspaces that every run has once."""
    for dtype in DTYPES.values():
        for layer, shape in ((nn.Conv2d(8, 8, 3), (1, 8, 9, 9)), (nn.Linear(8, 8), (4, 8))):
            layer = layer.to(device, dtype)
            layer(torch.randn(shape, device=device, dtype=dtype)).square().mean().backward()


def in_own_process(case: Case, device: str) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.memory", "--device", device, "--case"]
    done = subprocess.run(
        [*command, json.dumps(asdict(case))], capture_output=True, text=True, check=False,
        env={**os.environ, **(MALLOC if device == "cpu" else {})},
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{case.name}: {done.stderr[-2000:]}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def rows(cases: list[Case], device: str) -> Iterator[str]:
    for case in cases:
        found = in_own_process(case, device)
        ratio = found["estimated"] / found["measured"]
        yield (
            f"| {case.name} | {found['estimated'] / 1e9:.2f} | {found['measured'] / 1e9:.2f} "
            f"| {ratio:.2f} | {found['seconds']:.1f} |"
        )


def page_rows() -> Iterator[str]:
    """Estimates for people: steps at the families' own sizes, drawing and encoding beside them."""
    for model, pixels in (("sd15", 512), ("sdxl", 1024)):
        for name, more in ON_THE_PAGE.items():
            case = Case(model, pixels, "bf16", settings=more)
            one = (pixels, pixels, 1)
            use = Workload(pixels, pixels, one, one, False, False, channels_last=True)
            run = SimulatedRun(settings_of(case), architecture_of(model), torch.bfloat16, use)
            step, encoding, drawing = run.step(), run.encoding(1), run.decoding()
            run.model.save_vae_memory(tile_decoding=True)
            tiled = max(run.decoding().total, run.denoising("drawing", 2, pixels, pixels).total)
            cells = (step.weights, step.total, encoding.total, drawing.total, tiled)
            yield f"| {model} | {name} | " + " | ".join(f"{n / 1e9:.1f}" for n in cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--only", default="", help="cases whose name has this text")
    parser.add_argument("--page", action="store_true", help="the table of docs/low-memory.md")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    options = parser.parse_args()
    device = torch.device(options.device)
    if options.page:
        print("\n".join(page_rows()))
        return
    if options.case:
        case = Case(**json.loads(options.case))
        size, seconds = estimated(case)
        found = {"estimated": size, "seconds": seconds, "measured": measure(case, device).peak}
        print(json.dumps(found))
        return
    cuda = device.type == "cuda"
    where = torch.cuda.get_device_name() if cuda else f"{platform.machine()} CPU, 1 thread"
    lines = [
        "# Estimated and measured memory of a training step", "",
        f"torch {torch.__version__}, {where}. LoRA of rank 16 on the UNet, AdamW. GB: 10⁹ bytes;",
        "the seconds are processor time that the estimate takes.", "",
        "| case | estimated GB | measured GB | ratio | s |", "| --- | --- | --- | --- | --- |",
    ]  # fmt: skip
    print("\n".join(lines), flush=True)
    chosen = [case for case in (ON_CUDA if cuda else ON_CPU) if options.only in case.name]
    for row in rows(chosen, options.device):
        print(row, flush=True)
        lines.append(row)
    if not options.only:
        write_text(REPORT, "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
