"""What a run would do and cost, worked out without loading a model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from lorasmith.config.schema import TrainSettings
from lorasmith.errors import Problem
from lorasmith.files import free_bytes
from lorasmith.training.device import (
    DTYPES,
    Precision,
    choose_device,
    choose_precision,
    device_name,
)
from lorasmith.training.estimate import (
    MemoryEstimate,
    activation_values,
    adapter_values,
    estimate_memory,
    forward_multiply_adds,
    stages,
    text_encoder_weights,
    unet_weights,
)
from lorasmith.training.lr import learning_rate
from lorasmith.training.network_setup import trains_text_encoder, trains_unet
from lorasmith.training.optim import OPTIMIZERS
from lorasmith.training.prepare import Prepared, prepare, process_count
from lorasmith.training.run_folder import new_run_folder
from lorasmith.training.speed import multiply_adds_per_second, step_seconds
from lorasmith.training.state import KEPT_STATES

BYTES = {torch.float32: 4, torch.float16: 2, torch.bfloat16: 2}
GRAPH_POINTS = 60


@dataclass(frozen=True, slots=True)
class GroupRate:
    """Learning rate of one part: at its full value, and at points spread evenly over the run.

    Args:
        weights: trained numbers.
    """

    name: str
    lr: float
    weights: int
    curve: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that ``--plan`` prints.

    Args:
        files: LoRA files that will be there at the end, the result last.
        disk: bytes by what they are for; ``free`` bytes are left on that disk now.
        seconds: of the steps alone; right within a factor of about two.
        oddities: what is unusual, and why it may not be meant.
    """

    prepared: Prepared
    folder: Path
    device: str
    precision: Precision
    rates: tuple[GroupRate, ...]
    files: tuple[Path, ...]
    memory: MemoryEstimate
    disk: dict[str, int]
    free: int
    seconds: float
    oddities: tuple[Problem, ...]


def make_plan(settings: TrainSettings, notices: Sequence[Problem]) -> Plan:
    """Raises UserError with everything that would stop the run."""
    prepared = prepare(settings, process_count())
    device = choose_device(settings.performance.device)
    unet = prepared.architecture.unet
    precision = choose_precision(settings.train.precision, device, unet_weights(unet))
    folder, files = planned_files(settings, prepared)
    rates = group_rates(settings, prepared)
    values = sum(rate.weights for rate in rates)
    disk = planned_disk(settings, prepared, values, len(files))
    free = free_bytes(folder)
    oddities = [*notices, *prepared.oddities]
    if sum(disk.values()) > free:
        what = f"needs about {sum(disk.values()) / 1e6:.0f} MB, and {free / 1e6:.0f} MB are free"
        oddities.append(Problem(str(folder), what, "free some space, or keep fewer snapshots"))
    return Plan(
        prepared,
        folder,
        device_name(device),
        precision,
        rates,
        tuple(files),
        planned_memory(settings, prepared, precision, values),
        disk,
        free,
        planned_seconds(settings, prepared, precision, device),
        tuple(oddities),
    )


def planned_files(settings: TrainSettings, prepared: Prepared) -> tuple[Path, list[Path]]:
    """The run folder and the LoRA files that will be in it at the end."""
    folder, save = new_run_folder(settings.save.output, prepared.name), settings.save
    snapshots: list[Path] = []
    for done in range(1, prepared.steps):
        epoch, ends = prepared.epoch_at(done)
        by_epoch = ends and save.every_epochs and epoch % save.every_epochs == 0
        by_step = save.every_steps and done % save.every_steps == 0
        if by_epoch or by_step:
            snapshots.append(folder.epoch_snapshot(epoch) if ends else folder.step_snapshot(done))
    kept = snapshots[-save.keep_last :] if save.keep_last else snapshots
    return folder.path, [*kept, folder.result]


def group_rates(settings: TrainSettings, prepared: Prepared) -> tuple[GroupRate, ...]:
    """Effective learning rate of each part that is trained."""
    rate = learning_rate(settings, prepared.steps)
    points = [i * (rate.steps - 1) // (GRAPH_POINTS - 1) for i in range(GRAPH_POINTS)]
    architecture, adapter = prepared.architecture, settings.adapter
    sizes = adapter_values(architecture.unet, architecture.text, adapter.rank, adapter.conv_rank)
    trained = {"unet": trains_unet(settings), "text_encoder": trains_text_encoder(settings)}
    return tuple(
        GroupRate(part, lr, sizes[part], tuple(lr * rate.factor(step) for step in points))
        for part, lr in settings.optimizer.lrs.items()
        if trained[part]
    )


def planned_disk(
    settings: TrainSettings, prepared: Prepared, values: int, files: int
) -> dict[str, int]:
    optimizer = OPTIMIZERS[settings.optimizer.name]
    cells = sum(
        math.prod(item.placement.bucket) * len(item.flip_variants)
        for item in prepared.dataset.items
        if item.repeats
    )
    architecture = prepared.architecture
    latents = cells // architecture.latent_factor**2 * architecture.latent_channels * 2 * 4
    width = BYTES[DTYPES[settings.save.precision]]
    return {
        "LoRA files": files * values * width,
        "training states": KEPT_STATES * values * int(4 * (1 + optimizer.values_per_weight)),
        "latent cache": latents if settings.performance.cache_latents else 0,
    }


def planned_memory(
    settings: TrainSettings, prepared: Prepared, precision: Precision, values: int
) -> MemoryEstimate:
    architecture = prepared.architecture
    weights = unet_weights(architecture.unet)
    varies = prepared.dataset.captions_vary
    if trains_text_encoder(settings) or varies or settings.performance.cache_text is False:
        weights += text_encoder_weights(architecture.text)
    activations = max(
        activation_values(
            architecture.unet,
            height // architecture.latent_factor,
            width // architecture.latent_factor,
            checkpointing=settings.train.gradient_checkpointing,
        )
        for width, height in prepared.dataset.samples_by_bucket
    )
    return estimate_memory(
        weights=weights,
        dtype_bytes=BYTES[precision.dtype],
        adapter_values=values,
        optimizer_values=OPTIMIZERS[settings.optimizer.name].values_per_weight,
        activations=activations,
        batch=settings.train.batch,
    )


def planned_seconds(
    settings: TrainSettings, prepared: Prepared, precision: Precision, device: torch.device
) -> float:
    unet = prepared.architecture.unet
    factor = prepared.architecture.latent_factor
    tokens = settings.model.max_tokens + 2
    rate = multiply_adds_per_second(device, precision.dtype)
    total = 0.0
    for (width, height), samples in prepared.dataset.samples_by_bucket.items():
        total += step_seconds(
            forward_multiply_adds(unet, height // factor, width // factor, tokens),
            len(list(stages(unet))),
            len(samples),
            math.ceil(len(samples) / settings.train.batch),
            rate,
            device,
            precision.dtype,
            checkpointing=settings.train.gradient_checkpointing,
        )
    return total * prepared.steps / prepared.steps_per_epoch
