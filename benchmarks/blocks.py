"""What training a part of the UNet's blocks saves: step time on full-size SD1.5.

    python benchmarks/blocks.py                         # CPU: 128 px, rank 8, fp32
    python benchmarks/blocks.py --threads 1 --clock cpu # where others compute beside it
    python benchmarks/blocks.py --device cuda           # 512 px, rank 32, bf16

The trainer's own step on one UNet of random weights, in one process, the choices by turns, forwards
and backwards, so that a busy machine weighs on all alike. "text too" lets a gradient go on into the
text features, as training the text encoder does, without the text encoder's own time.
Results: benchmarks/blocks.md.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from lorasmith.adapters.network import AdapterNetwork
from lorasmith.adapters.targets import BlockSizes, Size
from lorasmith.config.sections.optimizer import ScheduleSettings
from lorasmith.diffusion.schedule import DDPMSchedule
from lorasmith.diffusion.weights import Weights
from lorasmith.formats.block_weights import learning_weights, unet_block_map
from lorasmith.models.diffusion_model import Conditioning, DiffusionModel
from lorasmith.training.lr_schedules import LearningRate
from lorasmith.training.objective import MicroBatch, Objective
from lorasmith.training.optim import FlatGroup, build_optimizer
from lorasmith.training.setup.processes import Processes
from lorasmith.training.step import TrainStep

sys.path.insert(0, str(Path(__file__).parents[1]))  # where the other benchmarks are
from benchmarks.random_models import architecture_of, random_model
from benchmarks.step import DTYPES, Clock

LR = 1e-4


@dataclass(frozen=True)
class Case:
    """One row: a choice of blocks, and whether the text encoder is trained with it."""

    title: str
    blocks: str
    text: bool = False


CASES = (
    Case("all blocks", "ALL"),
    Case("OUTALL", "OUTALL"),
    Case("OUTS (OUT07-OUT11)", "OUTS"),
    Case("MIDD", "MIDD"),
    Case("INALL", "INALL"),
    Case("all blocks, text too", "ALL", text=True),
    Case("OUTALL, text too", "OUTALL", text=True),
)


class Run:
    """The trainer's step with the adapters of one choice."""

    def __init__(self, model: DiffusionModel, case: Case, pixels: int, rank: int) -> None:
        root = model.adapter_roots()[0]
        rule = BlockSizes(unet_block_map(), Size(rank), weights=learning_weights(case.blocks))
        self.network = AdapterNetwork.create_sized([root], rule)
        self.values = sum(group.size for group in self.network.parameter_groups())
        groups = [FlatGroup("unet", self.network.parameter_groups()[0].parameters, LR)]
        self.trainer = TrainStep(
            model,
            self.network,
            groups,
            build_optimizer("AdamW", groups, {}),
            LearningRate(ScheduleSettings(), 10_000),
            Objective(DDPMSchedule("epsilon"), seed=0, weights=Weights()),
            Processes(model.device),
        )
        shape = (1, 4, pixels // 8, pixels // 8)
        hidden = torch.randn(1, 77, 768, device=model.device, dtype=model.dtype)
        hidden.requires_grad_(case.text)
        self.batch = MicroBatch(
            torch.randn(shape), torch.full(shape, 0.01), lambda: Conditioning(hidden),
            torch.ones(1), [0],
        )  # fmt: skip

    def seconds(self, steps: int, clock: Clock) -> list[float]:
        """Of each of ``steps`` steps, after one that is not counted."""
        times = []
        with self.network.attached():
            self.trainer(0, [self.batch], 1)
            for number in range(1, steps + 1):
                clock.sync()
                begin = clock.read()
                self.trainer(number, [self.batch], 1)
                clock.sync()
                times.append(clock.read() - begin)
        return times

    def peak_gib(self) -> float:
        """Device memory at the peak of a step, the model's weights included."""
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        with self.network.attached():
            self.trainer(0, [self.batch], 1)
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() / 2**30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--threads", type=int, default=None, help="CPU threads")
    parser.add_argument("--rounds", type=int, default=4, help="turns of each choice")
    parser.add_argument("--steps", type=int, default=2, help="timed steps in a turn")
    parser.add_argument("--precision", choices=list(DTYPES), default=None)
    parser.add_argument(
        "--clock", default="wall", choices=["wall", "cpu"], help="cpu: of this process alone"
    )
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    cuda = options.device == "cuda"
    clock = Clock(
        time.process_time if options.clock == "cpu" else time.perf_counter,
        torch.cuda.synchronize if cuda else lambda: None,
    )
    precision = options.precision or ("bf16" if cuda else "fp32")
    pixels, rank = (512, 32) if cuda else (128, 8)
    where = torch.cuda.get_device_name() if cuda else f"{torch.get_num_threads()} CPU threads"
    print(f"torch {torch.__version__}, {where}, {precision}, {pixels} px, rank {rank}\n")
    model = random_model(architecture_of("sd15"), DTYPES[precision], options.device)
    if cuda:
        model.use_channels_last()
    runs = {case: Run(model, case, pixels, rank) for case in CASES}
    memory = {case: run.peak_gib() if cuda else 0.0 for case, run in runs.items()}
    times: dict[Case, list[float]] = {case: [] for case in CASES}
    for number in range(options.rounds):
        for case in CASES if number % 2 == 0 else reversed(CASES):
            times[case] += runs[case].seconds(options.steps, clock)
    show(runs, times, memory)


def show(runs: dict[Case, Run], times: dict[Case, list[float]], memory: dict[Case, float]) -> None:
    head = ["blocks", "layers", "trained weights", "step s", "of all blocks"]
    head += ["peak GiB"] if any(memory.values()) else []
    print("| " + " | ".join(head) + " |\n|" + " --- |" * len(head))
    whole = statistics.median(times[CASES[0]])
    for case, run in runs.items():
        step = statistics.median(times[case])
        cells = [
            case.title, str(len(run.network)), f"{run.values:,}", f"{step:.3f}",
            f"{step / whole:.2f}",
        ]  # fmt: skip
        cells += [f"{memory[case]:.2f}"] if memory[case] else []
        print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
