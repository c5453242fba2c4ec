"""What a run would do and cost, worked out without loading a model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from lorasmith.adapters.network import AdapterNetwork
from lorasmith.config.schema import TrainSettings
from lorasmith.core.errors import Problem
from lorasmith.core.events import Controls, Observer, ignore
from lorasmith.core.files import free_bytes
from lorasmith.core.text import bytes_text
from lorasmith.data.holdout import BATCH
from lorasmith.models.open import OpenedCheckpoint
from lorasmith.models.skeleton import stored_shapes
from lorasmith.tensors.device import (
    DTYPES,
    Precision,
    choose_device,
    device_name,
)
from lorasmith.training.kinds.adapter import planned_network
from lorasmith.training.lr_schedules import learning_rate
from lorasmith.training.memory.plan import MemoryPlan, checkpoints, memory_of, precision_of
from lorasmith.training.memory.simulate import MemoryEstimate, values_beside
from lorasmith.training.memory.throughput import multiply_adds_per_second, step_seconds
from lorasmith.training.runs.folder import KEPT_STATES, RunFolder, new_run_folder, taken_name
from lorasmith.training.setup.preflight import RunPlan, open_base, preflight, process_count, should

BYTES = {torch.float32: 4, torch.float16: 2, torch.bfloat16: 2}
GRAPH_POINTS = 60


@dataclass(frozen=True, slots=True)
class GroupRate:
    """Learning rate of one group: at its full value, and at points spread evenly over the run.

    Args:
        blocks: those of the UNet that it lies in, such as "IN01-IN08, M00".
        layers: how many carry its adapters.
        weights: trained numbers.
    """

    name: str
    part: str
    blocks: str
    lr: float
    layers: int
    weights: int
    curve: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that ``--plan`` prints.

    Args:
        folder: of the run; nothing is there yet.
        files: LoRA files that will be there at the end, the result last.
        disk: bytes by what they are for; ``free`` bytes are left on that disk now.
        seconds: of the steps alone; right within a factor of about two.
        warnings: what is unusual, and why it may not be meant.
    """

    run_plan: RunPlan
    folder: RunFolder
    device: str
    precision: Precision
    rates: tuple[GroupRate, ...]
    files: tuple[Path, ...]
    memory: MemoryPlan
    disk: dict[str, int]
    free: int
    seconds: float
    warnings: tuple[Problem, ...]


def make_plan(
    settings: TrainSettings,
    *,
    warnings: Sequence[Problem] = (),
    observer: Observer = ignore,
    controls: Controls | None = None,
) -> Plan:
    """Raises UserError with everything that would stop the run."""
    run_plan = preflight(
        settings, process_count(), to_train=True, observer=observer, controls=controls
    )
    settings = run_plan.settings
    device = choose_device(settings.performance.device)
    precision = precision_of(settings, run_plan, device)
    folder, files = planned_files(settings, run_plan)
    opened = open_base(settings)
    network = planned_network(settings, opened)
    rates = group_rates(settings, run_plan, network)
    values = sum(rate.weights for rate in rates)
    disk = planned_disk(settings, run_plan, values, len(files))
    free = free_bytes(folder.path)
    memory = memory_of(settings, run_plan, device)
    if not memory.step.total:  # It plainly fits.
        memory = replace(memory, estimates=(rough_step(settings, run_plan, opened, values),))
    named = taken_name(folder, run_plan.name)
    warnings = [*warnings, *run_plan.warnings, *memory.problems, *named]
    if sum(disk.values()) > free:
        what = f"needs about {bytes_text(sum(disk.values()))}, and {bytes_text(free)} are free"
        warnings.append(Problem(str(folder.path), what, "free some space, or keep fewer snapshots"))
    return Plan(
        run_plan,
        folder,
        device_name(device),
        precision,
        rates,
        tuple(files),
        memory,
        disk,
        free,
        planned_seconds(
            settings, run_plan, precision, device, checkpointing=checkpoints(settings, memory)
        ),
        tuple(warnings),
    )


def rough_step(
    settings: TrainSettings, run_plan: RunPlan, opened: OpenedCheckpoint, values: int
) -> MemoryEstimate:
    """A step of a small model, which fits many times over: from shapes alone, in float32."""
    sizes = [
        4 * math.prod(shape) for part in stored_shapes(opened).values() for shape in part.values()
    ]
    architecture, dataset = run_plan.architecture, run_plan.dataset
    numbers = max(
        architecture.activations(*bucket.size, settings.model.max_tokens + 2)
        * dataset.groups[bucket.group].batch_size(settings.train.batch, 1)
        for bucket in dataset.buckets
    )
    return MemoryEstimate(
        "training step", sum(sizes), 8 * values, int(4 * values * values_beside(settings)),
        4 * numbers,
    )  # fmt: skip


def planned_files(settings: TrainSettings, run_plan: RunPlan) -> tuple[RunFolder, list[Path]]:
    """The run's folder and the LoRA files that will be there at the end."""
    save = settings.save
    folder = new_run_folder(save.output, run_plan.name, save.layout)
    snapshots: list[Path] = []
    for done in range(1, run_plan.steps):
        epoch, ends = run_plan.epoch_at(done)
        by_epoch = ends and save.every_epochs and epoch % save.every_epochs == 0
        by_step = save.every_steps and done % save.every_steps == 0
        if by_epoch or by_step:
            snapshots.append(folder.epoch_snapshot(epoch) if ends else folder.step_snapshot(done))
    kept = snapshots[-save.keep_last :] if save.keep_last else snapshots
    return folder, [*kept, folder.result]


def group_rates(
    settings: TrainSettings, run_plan: RunPlan, network: AdapterNetwork
) -> tuple[GroupRate, ...]:
    """Effective learning rate of each group of parameters that is trained."""
    rate = learning_rate(settings, run_plan.steps)
    points = [i * (rate.steps - 1) // (GRAPH_POINTS - 1) for i in range(GRAPH_POINTS)]
    factors = [rate.factor(step) for step in points]
    blocks, rates = run_plan.architecture.blocks, []
    for group in network.parameter_groups():
        lr = settings.optimizer.lrs[group.part] * group.rate
        named = {blocks.block(target) for target in group.targets}
        curve = tuple(lr * factor for factor in factors)
        rates.append(
            GroupRate(
                group.name,
                group.part,
                blocks.ranges(named),
                lr,
                len(group.targets),
                group.size,
                curve,
            )
        )
    return tuple(rates)


def planned_disk(
    settings: TrainSettings, run_plan: RunPlan, values: int, files: int
) -> dict[str, int]:
    cells = sum(
        math.prod(item.placement.bucket) * len(set(run_plan.dataset.views_of(item).all()))
        for item in run_plan.dataset.items
        if item.repeats
    )
    architecture = run_plan.architecture
    latents = cells // architecture.latent_factor**2 * architecture.latent_channels * 2 * 4
    width = BYTES[DTYPES[settings.save.precision]]
    return {
        "LoRA files": files * values * width,
        "training states": KEPT_STATES * values * int(4 * (1 + values_beside(settings))),
        "latent cache": latents if settings.performance.cache_latents else 0,
    }


def planned_seconds(
    settings: TrainSettings,
    run_plan: RunPlan,
    precision: Precision,
    device: torch.device,
    *,
    checkpointing: bool,
) -> float:
    architecture, tokens = run_plan.architecture, settings.model.max_tokens + 2
    rate = multiply_adds_per_second(device, precision.dtype)
    total = 0.0
    for bucket in run_plan.dataset.buckets:
        total += step_seconds(
            architecture.multiply_adds(*bucket.size, tokens),
            architecture.depth,
            len(bucket.samples),
            run_plan.dataset.batch_count(bucket, settings.train.batch),
            rate,
            device,
            precision.dtype,
            checkpointing=checkpointing,
        )
    return total * run_plan.steps / run_plan.steps_per_epoch + validation_seconds(
        settings, run_plan, rate, precision, device
    )


def validation_seconds(
    settings: TrainSettings,
    run_plan: RunPlan,
    rate: float,
    precision: Precision,
    device: torch.device,
) -> float:
    """Of measuring what is held out: the base model, at the start, on the way and at the end."""
    interval, architecture = settings.validation, run_plan.architecture
    if run_plan.measured is None or not (interval.every_epochs or interval.every_steps):
        return 0.0
    on_the_way = (
        should(interval, done, *run_plan.epoch_at(done)) for done in range(1, run_plan.steps)
    )
    times = 3 + sum(on_the_way)
    once = 0.0
    for bucket in run_plan.measured.dataset.buckets:
        samples = len(bucket.samples) * interval.timesteps
        once += step_seconds(
            architecture.multiply_adds(*bucket.size, settings.model.max_tokens + 2),
            architecture.depth,
            samples,
            math.ceil(samples / BATCH),
            rate,
            device,
            precision.dtype,
            checkpointing=False,
        )
    return times * once / 2  # Forward only.
