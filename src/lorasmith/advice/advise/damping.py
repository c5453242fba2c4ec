"""What settings other than the rate do to how fast a LoRA learns, worked out.

Guides call them dampeners and count arrows. Each factor here is that of the way that the weights
go along the gradient in a step, by that with nothing damped: alpha as the rank, no noise offset, no
min-SNR, the base's own resolution. They hold for optimizers that divide by the gradient's size
(AdamW, Lion, Prodigy), with which a factor on the loss itself does nothing at all.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import torch

from lorasmith.config.adapter_types import ADAPTERS
from lorasmith.config.schema import TrainSettings
from lorasmith.diffusion.schedule import NOISE_SCHEDULES, NoiseSchedule
from lorasmith.diffusion.weights import min_snr_weight
from lorasmith.models.families.table import Architecture


@dataclass(frozen=True, slots=True)
class Damping:
    """Factors; 1 is undamped.

    Args:
        alpha: see :func:`alpha_factor`.
        noise_offset: see :func:`noise_offset_factor`.
        min_snr: see :func:`min_snr_factor`.
        resolution: see :func:`shape_levels`; no part of ``rate``, since it moves what is learned
            and not how fast.
    """

    alpha: float
    noise_offset: float
    min_snr: float
    resolution: float

    @property
    def rate(self) -> float:
        """Of all that makes steps shorter."""
        return self.alpha * self.noise_offset * self.min_snr

    def to_json(self) -> dict[str, float]:
        return {**asdict(self), "rate": self.rate}


def damping_of(settings: TrainSettings, architecture: Architecture) -> Damping:
    """
    Args:
        settings: whose ``data.resolution`` may be ``None``: the base's own.
    """
    adapter, loss = settings.adapter, settings.loss
    schedule = schedule_of(architecture)
    alpha = 1.0
    if "alpha" in ADAPTERS[adapter.type].options:
        alpha = alpha_factor(adapter.rank, adapter.effective_alpha, rs_lora=adapter.rs_lora)
    native = architecture.native_resolution
    size = settings.data.resolution or native
    area = size**2 if isinstance(size, int) else math.prod(size)
    return Damping(
        alpha,
        noise_offset_factor(loss.noise_offset),
        min_snr_factor(loss.min_snr_gamma, schedule),
        shape_levels(area / native**2, schedule),
    )


def schedule_of(architecture: Architecture) -> NoiseSchedule:
    """The noise schedule that a base is trained with."""
    make = NOISE_SCHEDULES[architecture.family.noise_schedule]
    return make(architecture.prediction, architecture.zero_terminal_snr)


def alpha_factor(rank: int, alpha: float, *, rs_lora: bool = False) -> float:
    """``alpha / rank``: what the product of the two matrices is multiplied by; ``alpha / sqrt
    (rank)`` with rsLoRA."""
    return alpha / (math.sqrt(rank) if rs_lora else rank)


def first_step(rank: int, alpha: float, *, rs_lora: bool = False) -> float:
    """How far the first step of AdamW goes, to scale with others: the rank times
    :func:`alpha_factor`, so that of a LoRA it is alpha alone.

    The up matrix starts at 0, and AdamW moves each of its numbers by lr, in the direction of
    ``scale * G A^T``; so the change of the weights, ``scale * dB A``, goes along the gradient G by
    ``lr * scale * rank * E|(G a)_i|``, and the rows a of the down matrix are as large at any rank.
    """
    return rank * alpha_factor(rank, alpha, rs_lora=rs_lora)


def noise_offset_factor(offset: float) -> float:
    """``1 / sqrt(1 + offset²)``: the offset adds its square to the power of what is predicted, and
    so to that of the gradient's chance part, by whose root steps are divided."""
    return 1 / math.sqrt(1 + offset**2)


def min_snr_factor(gamma: float | None, schedule: NoiseSchedule) -> float:
    """``E[w] / sqrt(E[w²])`` of the weights w over all noise levels: steps are divided by the root
    of the squared gradient. It takes the gradients of all levels as equally large, which no model's
    are; exact is that it is 1 where all weigh the same, and that no weights make it more.

    Args:
        gamma: of min-SNR; ``None`` where it is off.
    """
    if gamma is None:
        return 1.0
    weights = min_snr_weight(_snr(schedule), gamma, schedule.prediction).double()
    return float(weights.mean() / weights.square().mean().sqrt())


def shape_levels(area: float, schedule: NoiseSchedule) -> float:
    """The share of noise levels that hide shapes, by that at the base's own resolution.

    Pixels of a larger picture say the same several times over: averaged to the base's size, noise
    loses the power that the area gained, so the ratio of signal to noise is ``area`` times what the
    timestep says (Hoogeboom et al. 2023, simple diffusion). A level hides shapes where that is
    below 1.

    Args:
        area: of a training picture, by that of the base's own resolution.
    """
    snr = _snr(schedule)
    return float((snr * area < 1).double().mean() / (snr < 1).double().mean())


def _snr(schedule: NoiseSchedule) -> torch.Tensor:
    return schedule.snr(torch.arange(schedule.num_timesteps))
