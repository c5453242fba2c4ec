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
from lorasmith.core.files import free_bytes
from lorasmith.models.open import OpenedCheckpoint
from lorasmith.models.skeleton import stored_shapes
from lorasmith.training.lr_schedules import learning_rate
from lorasmith.training.memory.flops import (
    MemoryEstimate,
    forward_multiply_adds,
    stages,
    step_activations,
    values_beside,
)
from lorasmith.training.memory.plan import MemoryPlan, checkpoints, memory_of, precision_of
from lorasmith.training.memory.throughput import multiply_adds_per_second, step_seconds
from lorasmith.training.runs.folder import KEPT_STATES, RunFolder, new_run_folder, taken_name
from lorasmith.training.setup.device import (
    DTYPES,
    Precision,
    choose_device,
    device_name,
)
from lorasmith.training.setup.network import block_map, planned_network
from lorasmith.training.setup.preflight import Prepared, open_base, prepare, process_count, should
from lorasmith.training.setup.validation_split import BATCH

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
        oddities: what is unusual, and why it may not be meant.
    """

    prepared: Prepared
    folder: RunFolder
    device: str
    precision: Precision
    rates: tuple[GroupRate, ...]
    files: tuple[Path, ...]
    memory: MemoryPlan
    disk: dict[str, int]
    free: int
    seconds: float
    oddities: tuple[Problem, ...]


def make_plan(settings: TrainSettings, notices: Sequence[Problem]) -> Plan:
    """Raises UserError with everything that would stop the run."""
    prepared = prepare(settings, process_count(), to_train=True)
    settings = prepared.settings
    device = choose_device(settings.performance.device)
    precision = precision_of(settings, prepared, device)
    folder, files = planned_files(settings, prepared)
    opened = open_base(settings)
    network = planned_network(settings, opened)
    rates = group_rates(settings, prepared, network)
    values = sum(rate.weights for rate in rates)
    disk = planned_disk(settings, prepared, values, len(files))
    free = free_bytes(folder.path)
    memory = memory_of(settings, prepared, device)
    if not memory.step.total:  # It plainly fits.
        memory = replace(memory, estimates=(rough_step(settings, prepared, opened, values),))
    named = taken_name(folder, prepared.name)
    oddities = [*notices, *prepared.oddities, *memory.problems, *named]
    if sum(disk.values()) > free:
        what = f"needs about {sum(disk.values()) / 1e6:.0f} MB, and {free / 1e6:.0f} MB are free"
        oddities.append(Problem(str(folder.path), what, "free some space, or keep fewer snapshots"))
    return Plan(
        prepared,
        folder,
        device_name(device),
        precision,
        rates,
        tuple(files),
        memory,
        disk,
        free,
        planned_seconds(
            settings, prepared, precision, device, checkpointing=checkpoints(settings, memory)
        ),
        tuple(oddities),
    )


def rough_step(
    settings: TrainSettings, prepared: Prepared, opened: OpenedCheckpoint, values: int
) -> MemoryEstimate:
    """A step of a small model, which fits many times over: from shapes alone, in float32."""
    sizes = [
        4 * math.prod(shape) for part in stored_shapes(opened).values() for shape in part.values()
    ]
    factor, tokens = prepared.architecture.latent_factor, settings.model.max_tokens + 2
    unet, dataset = prepared.architecture.unet, prepared.dataset
    numbers = max(
        step_activations(unet, bucket.size[1] // factor, bucket.size[0] // factor, tokens)
        * dataset.groups[bucket.group].batch_size(settings.train.batch, 1)
        for bucket in dataset.buckets
    )
    return MemoryEstimate(
        "training step", sum(sizes), 8 * values, int(4 * values * values_beside(settings)),
        4 * numbers,
    )  # fmt: skip


def planned_files(settings: TrainSettings, prepared: Prepared) -> tuple[RunFolder, list[Path]]:
    """The run's folder and the LoRA files that will be there at the end."""
    save = settings.save
    folder = new_run_folder(save.output, prepared.name, save.layout)
    snapshots: list[Path] = []
    for done in range(1, prepared.steps):
        epoch, ends = prepared.epoch_at(done)
        by_epoch = ends and save.every_epochs and epoch % save.every_epochs == 0
        by_step = save.every_steps and done % save.every_steps == 0
        if by_epoch or by_step:
            snapshots.append(folder.epoch_snapshot(epoch) if ends else folder.step_snapshot(done))
    kept = snapshots[-save.keep_last :] if save.keep_last else snapshots
    return folder, [*kept, folder.result]


def group_rates(
    settings: TrainSettings, prepared: Prepared, network: AdapterNetwork
) -> tuple[GroupRate, ...]:
    """Effective learning rate of each group of parameters that is trained."""
    rate = learning_rate(settings, prepared.steps)
    points = [i * (rate.steps - 1) // (GRAPH_POINTS - 1) for i in range(GRAPH_POINTS)]
    factors = [rate.factor(step) for step in points]
    blocks, rates = block_map(prepared.architecture), []
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
    settings: TrainSettings, prepared: Prepared, values: int, files: int
) -> dict[str, int]:
    cells = sum(
        math.prod(item.placement.bucket) * len(set(prepared.dataset.views_of(item).all()))
        for item in prepared.dataset.items
        if item.repeats
    )
    architecture = prepared.architecture
    latents = cells // architecture.latent_factor**2 * architecture.latent_channels * 2 * 4
    width = BYTES[DTYPES[settings.save.precision]]
    return {
        "LoRA files": files * values * width,
        "training states": KEPT_STATES * values * int(4 * (1 + values_beside(settings))),
        "latent cache": latents if settings.performance.cache_latents else 0,
    }


def planned_seconds(
    settings: TrainSettings,
    prepared: Prepared,
    precision: Precision,
    device: torch.device,
    *,
    checkpointing: bool,
) -> float:
    unet = prepared.architecture.unet
    factor = prepared.architecture.latent_factor
    tokens = settings.model.max_tokens + 2
    rate = multiply_adds_per_second(device, precision.dtype)
    total = 0.0
    for bucket in prepared.dataset.buckets:
        width, height = bucket.size
        total += step_seconds(
            forward_multiply_adds(unet, height // factor, width // factor, tokens),
            len(list(stages(unet))),
            len(bucket.samples),
            prepared.dataset.batch_count(bucket, settings.train.batch),
            rate,
            device,
            precision.dtype,
            checkpointing=checkpointing,
        )
    return total * prepared.steps / prepared.steps_per_epoch + validation_seconds(
        settings, prepared, rate, precision, device
    )


def validation_seconds(
    settings: TrainSettings,
    prepared: Prepared,
    rate: float,
    precision: Precision,
    device: torch.device,
) -> float:
    """Of measuring what is held out: the base model, at the start, on the way and at the end."""
    interval, architecture = settings.validation, prepared.architecture
    if prepared.measured is None or not (interval.every_epochs or interval.every_steps):
        return 0.0
    on_the_way = (
        should(interval, done, *prepared.epoch_at(done)) for done in range(1, prepared.steps)
    )
    times = 3 + sum(on_the_way)
    factor, once = architecture.latent_factor, 0.0
    for bucket in prepared.measured.dataset.buckets:
        width, height = bucket.size
        samples = len(bucket.samples) * interval.timesteps
        once += step_seconds(
            forward_multiply_adds(
                architecture.unet, height // factor, width // factor, settings.model.max_tokens + 2
            ),
            len(list(stages(architecture.unet))),
            samples,
            math.ceil(samples / BATCH),
            rate,
            device,
            precision.dtype,
            checkpointing=False,
        )
    return times * once / 2  # Forward only.
