"""Our training step against a bare PyTorch loop over the same full-size SD1.5 UNet.

    python benchmarks/step.py                      # CPU: 128 px, rank 8, fp32 and bf16
    python benchmarks/step.py --threads 1 --clock cpu   # where others compute beside it
    python benchmarks/step.py --layouts --pixels 128 256 512 --threads 1 --clock cpu
    python benchmarks/step.py --device cuda        # 512 px, rank 32, batch 1, 4, 8

The bare loop is what one writes by hand: ``base(x) + up(down(x)) * scale`` around the same 192
layers, mean squared error, clipping, AdamW, no data loading. Its LoRA weights are in the model's
precision, so that it has nothing to cast; ours stay float32. Both run on one UNet of random weights
in one process, by turns A B B A, so that a busy machine and a warming chip weigh on both alike.
With ``--layouts`` it is our own step, and the VAE's encoding by itself, with convolutions laid out
as they come against channels last: what ``performance.channels_last = auto`` is chosen by.
Results: benchmarks/step.md.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDPMScheduler
from torch import Tensor, nn

from lorasmith.adapters.dropout import Dropout
from lorasmith.adapters.network import AdapterNetwork
from lorasmith.adapters.targets import Target, targets_of
from lorasmith.config.adapter_types import ADAPTERS
from lorasmith.config.sections.optimizer import ScheduleSettings
from lorasmith.diffusion.schedule import DDPMSchedule
from lorasmith.diffusion.weights import Weights
from lorasmith.formats.adapter_roots import AdapterRoot
from lorasmith.models.diffusion_model import DiffusionModel
from lorasmith.training.lr_schedules import LearningRate
from lorasmith.training.objective import Objective
from lorasmith.training.optim import FlatGroup, build_optimizer
from lorasmith.training.setup.processes import Processes
from lorasmith.training.step import TrainStep

sys.path.insert(0, str(Path(__file__).parents[1]))  # where the other benchmarks and the tests are
from benchmarks.random_models import random_batch, random_conditioning, random_model
from tests.published import PUBLISHED

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
LR = 1e-4


@dataclass(frozen=True)
class Case:
    """One line of the table; ``algorithm`` is of our side, the bare loop's is always LoRA."""

    precision: str
    batch: int
    pixels: int
    rank: int
    optimizer: str = "AdamW"
    compiled: bool = False
    dropout: Dropout = Dropout()  # noqa: RUF009 (frozen)
    algorithm: str = "lora"


class BareDropout(nn.Module):
    """What one writes between down and up: ``nn.Dropout``, as it is on a GPU; sd-scripts' rank
    dropout; and torchvision's ``StochasticDepth`` by row for module dropout."""

    def __init__(self, odds: Dropout) -> None:
        super().__init__()
        self.odds = odds

    def forward(self, h: Tensor) -> Tensor:
        if self.odds.neuron > 0:
            h = torch.native_dropout(h, self.odds.neuron, True)[0]
        if self.odds.rank > 0:
            rank_dim = 1 if h.ndim == 4 else h.ndim - 1
            shape = [n if dim in (0, rank_dim) else 1 for dim, n in enumerate(h.shape)]
            h = h * (torch.rand(shape, device=h.device) > self.odds.rank)
        if self.odds.module > 0:
            shape = [len(h), *(1 for _ in h.shape[1:])]
            h = h * h.new_empty(shape).bernoulli_(1.0 - self.odds.module)
        return h


class BareLoRA(nn.Module):
    """The textbook layer."""

    def __init__(self, base: nn.Module, rank: int, odds: Dropout) -> None:
        super().__init__()
        self.base, self.scale = base, 1.0 / (1.0 - odds.rank)
        self.drop = BareDropout(odds) if odds else None
        if isinstance(base, nn.Conv2d):
            self.down = nn.Conv2d(base.in_channels, rank, 1, bias=False)
            self.up = nn.Conv2d(rank, base.out_channels, 1, bias=False)
        else:
            self.down = nn.Linear(base.in_features, rank, bias=False)
            self.up = nn.Linear(rank, base.out_features, bias=False)
        nn.init.zeros_(self.up.weight)
        self.to(base.weight)

    def forward(self, x: Tensor) -> Tensor:
        h = self.down(x)
        return self.base(x) + self.up(h if self.drop is None else self.drop(h)) * self.scale


class Bare:
    """The loop that one writes by hand."""

    def __init__(self, model: DiffusionModel, targets: list[Target], case: Case) -> None:
        self.unet, self.targets, self.case = model.denoiser, targets, case
        self.layers = [BareLoRA(target.layer, case.rank, case.dropout) for target in targets]
        self.parameters = [p for m in self.layers for p in (m.down.weight, m.up.weight)]
        self.optimizer = _bare_optimizer(case.optimizer, self.parameters)
        self.schedule = DDPMScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear"
        )
        latents = random_batch(model, case.batch, case.pixels).mean
        self.latents = latents.to(model.device, model.dtype)
        condition = random_conditioning(model, case.batch)
        self.hidden, self.added = condition.prompt_embeds, None
        if condition.pooled is not None:
            self.added = {"text_embeds": condition.pooled, "time_ids": condition.sizes}

    @contextlib.contextmanager
    def attached(self) -> Iterator[None]:
        for target, layer in zip(self.targets, self.layers, strict=True):
            setattr(target.parent, target.attribute, layer)
        yield
        for target, layer in zip(self.targets, self.layers, strict=True):
            setattr(target.parent, target.attribute, layer.base)

    def loss(self) -> Tensor:
        noise = torch.randn_like(self.latents)
        t = torch.randint(0, 1000, (len(self.latents),), device=self.latents.device)
        noisy = self.schedule.add_noise(self.latents, noise, t)
        prediction = self.unet(noisy, t, self.hidden, added_cond_kwargs=self.added).sample
        return F.mse_loss(prediction.float(), noise.float())

    def step(self, number: int) -> None:
        # In fp16 without loss scaling: torch's scaler refuses parameters in half precision, and
        # with random data nothing is learned anyway. The bare loop gains by it, if anything.
        self.loss().backward()
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()


def _bare_optimizer(name: str, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    if name == "AdamW8bit":
        from bitsandbytes.optim import AdamW8bit

        return AdamW8bit(parameters, lr=LR)
    return torch.optim.AdamW(parameters, lr=LR)


class Ours:
    """The trainer's own step."""

    def __init__(self, model: DiffusionModel, root: AdapterRoot, case: Case) -> None:
        self.network = AdapterNetwork.create(
            [root],
            algorithm=case.algorithm,
            rank=case.rank,
            conv_rank=case.rank if ADAPTERS[case.algorithm].conv else 0,
            dropout=case.dropout,
        )
        parameters = self.network.parameter_groups()[0].parameters
        group = FlatGroup("unet", parameters, LR, compute=model.dtype)
        optimizer = build_optimizer(case.optimizer, [group], {})
        self.trainer = TrainStep(
            model,
            self.network,
            [group],
            optimizer,
            LearningRate(ScheduleSettings(), 10_000),
            Objective(DDPMSchedule("epsilon"), seed=0, weights=Weights()),
            Processes(model.device),
            scaler=torch.amp.GradScaler() if case.precision == "fp16" else None,
        )
        self.batch = random_batch(model, case.batch, case.pixels)

    def attached(self) -> contextlib.AbstractContextManager[AdapterNetwork]:
        return self.network.attached()

    def step(self, number: int) -> None:
        self.trainer(number, [self.batch], len(self.batch.samples))


@dataclass(frozen=True)
class Clock:
    """How seconds are counted, and how to wait for the device before looking."""

    read: Callable[[], float] = time.perf_counter
    sync: Callable[[], None] = lambda: None


def time_steps(side: Bare | Ours, steps: int, clock: Clock) -> list[float]:
    """Seconds of each of ``steps`` steps, after one that is not counted."""
    times = []
    with side.attached():
        side.step(0)
        for number in range(1, steps + 1):
            clock.sync()
            begin = clock.read()
            side.step(number)
            clock.sync()
            times.append(clock.read() - begin)
    return times


@dataclass(frozen=True)
class Figures:
    """Median seconds of a step, and peak bytes of it on CUDA, the model's own included."""

    bare: float
    ours: float
    bare_peak: int = 0
    ours_peak: int = 0


def both_sides(model: DiffusionModel, case: Case) -> tuple[Bare | Ours, Bare | Ours, list[int]]:
    """Bare and ours, and the peak bytes of a step of each as if it were alone there."""
    cuda = model.device.type == "cuda"
    root = model.adapter_roots()[0]
    makers = (lambda: Bare(model, targets_of(root), case), lambda: Ours(model, root, case))
    sides: list[Bare | Ours] = []
    peaks: list[int] = []
    first = torch.cuda.memory_allocated() if cuda else 0
    for make in makers:
        before = torch.cuda.memory_allocated() if cuda else 0
        side = make()
        sides.append(side)
        if not cuda:
            peaks.append(0)
            continue
        with side.attached():
            side.step(0)  # The optimizer's state is made in it.
            torch.cuda.reset_peak_memory_stats()
            side.step(1)
        peaks.append(torch.cuda.max_memory_allocated() - before + first)
    return sides[0], sides[1], peaks


def measure(model: DiffusionModel, case: Case, rounds: int, steps: int, clock: Clock) -> Figures:
    """Both sides by turns A B B A."""
    bare, ours, peaks = both_sides(model, case)
    times: dict[Bare | Ours, list[float]] = {bare: [], ours: []}
    if case.compiled:
        # The bare loop stays eager, and is timed first: compiled blocks cannot be taken back.
        # dynamo keeps few graphs of a function, and the last case's are of no more use.
        torch.compiler.reset()
        for _ in range(rounds):
            times[bare] += time_steps(bare, steps, clock)
        model.compile()
        time_steps(ours, 3, clock)
        for _ in range(rounds):
            times[ours] += time_steps(ours, steps, clock)
    else:
        for number in range(rounds):
            for side in (bare, ours) if number % 2 == 0 else (ours, bare):
                times[side] += time_steps(side, steps, clock)
    return Figures(*(statistics.median(times[side]) for side in (bare, ours)), *peaks)


def row(case: Case, figures: Figures, cuda: bool) -> str:
    cells = [
        case.precision,
        case.optimizer,
        "compiled" if case.compiled else "eager",
        str(case.batch),
        f"{figures.bare:.3f}",
        f"{figures.ours:.3f}",
        f"{figures.ours / figures.bare:.3f}",
        f"{case.batch / figures.ours:.2f}",
    ]
    if cuda:
        cells += [f"{peak / 1e9:.2f}" for peak in (figures.bare_peak, figures.ours_peak)]
    return "| " + " | ".join(cells) + " |"


def compare_layouts(
    pixels: int, precision: str, rounds: int, steps: int, clock: Clock
) -> list[str]:
    """Two rows, of the step and of the VAE: median seconds with channels outside and inside."""
    device = torch.device("cpu")
    rows = []
    model = random_model(PUBLISHED["sd15"], DTYPES[precision], device)
    side = Ours(model, model.adapter_roots()[0], Case(precision, 1, pixels, 8))
    vae = AutoencoderKL(**PUBLISHED["sd15"].vae).eval().requires_grad_(False)
    image = torch.randn(1, 3, pixels, pixels)

    def step() -> list[float]:
        return time_steps(side, steps, clock)

    def encode() -> list[float]:
        times = []
        for _ in range(steps + 1):
            begin = clock.read()
            with torch.no_grad():
                vae.encode(image)
            times.append(clock.read() - begin)
        return times[1:]

    for name, network, run in (("step", model.denoiser, step), ("VAE encoding", vae, encode)):
        times: dict[torch.memory_format, list[float]] = {
            torch.contiguous_format: [], torch.channels_last: []
        }  # fmt: skip
        for number in range(rounds):
            order = list(times) if number % 2 == 0 else list(times)[::-1]
            for layout in order:
                network.to(memory_format=layout)
                times[layout] += run()
        outside, inside = (statistics.median(found) for found in times.values())
        cells = [precision, name, str(pixels), f"{outside:.2f}", f"{inside:.2f}"]
        rows.append("| " + " | ".join([*cells, f"{inside / outside:.3f}"]) + " |")
    return rows


def cases(device: str, pixels: int | None = None) -> list[Case]:
    if device != "cuda":
        return [Case(precision, 1, pixels or 128, 8) for precision in ("fp32", "bf16")]
    eager = [
        Case(precision, batch, pixels or 512, 32, optimizer)
        for precision, optimizer in (("bf16", "AdamW"), ("fp16", "AdamW"), ("bf16", "AdamW8bit"))
        for batch in (1, 4, 8)
    ]
    return eager + [Case("bf16", batch, pixels or 512, 32, compiled=True) for batch in (1, 4, 8)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--threads", type=int, default=None, help="CPU threads")
    parser.add_argument("--rounds", type=int, default=6, help="turns of each side")
    parser.add_argument("--steps", type=int, default=3, help="timed steps in a turn")
    parser.add_argument(
        "--clock",
        default="wall",
        choices=["wall", "cpu"],
        help="cpu counts the process's own CPU seconds: use it with one thread on a busy machine",
    )
    parser.add_argument("--precision", choices=list(DTYPES), help="only the rows of this one")
    parser.add_argument("--pixels", type=int, nargs="+", help="sides of the square pictures")
    parser.add_argument(
        "--layouts", action="store_true", help="channels last against not, on a CPU"
    )
    parser.add_argument("--channels-last", action="store_true", help="both sides, on a CPU")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    cuda = device.type == "cuda"
    clock = Clock(
        time.process_time if options.clock == "cpu" else time.perf_counter,
        torch.cuda.synchronize if cuda else lambda: None,
    )
    where = torch.cuda.get_device_name() if cuda else f"{torch.get_num_threads()} CPU threads"
    print(f"torch {torch.__version__}, {where}\n")
    if options.layouts:
        print("| precision | part | px | channels outside s | inside s | ratio |\n|" + " --- |" * 6)
        for pixels in options.pixels or (128, 256, 512):
            found = compare_layouts(
                pixels, options.precision or "fp32", options.rounds, options.steps, clock
            )
            print("\n".join(found), flush=True)
        return
    head = ["precision", "optimizer", "mode", "batch", "bare s", "ours s", "ratio", "samples/s"]
    head += ["bare GB", "ours GB"] if cuda else []
    print("| " + " | ".join(head) + " |\n|" + " --- |" * len(head), flush=True)
    model: DiffusionModel | None = None
    sizes = options.pixels or (None,)
    for case in [case for pixels in sizes for case in cases(options.device, pixels)]:
        if options.precision not in (None, case.precision):
            continue
        if model is None or model.dtype != DTYPES[case.precision] or case.compiled:
            model = None
            model = random_model(
                PUBLISHED["sd15"],
                DTYPES[case.precision],
                device,
                channels_last=cuda or options.channels_last,
            )
        figures = measure(model, case, options.rounds, options.steps, clock)
        print(row(case, figures, cuda), flush=True)


if __name__ == "__main__":
    main()
