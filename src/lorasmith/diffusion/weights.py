"""Weights of the loss by signal-to-noise ratio.

Each function takes ``snr`` (B,) and gives weights (B,) that are finite everywhere, at the zero SNR
of a rescaled schedule too.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from lorasmith.config.sections.loss import LossSettings
from lorasmith.diffusion.prediction import LARGEST_SNR, PREDICTIONS
from lorasmith.diffusion.schedule import NoiseSchedule


def min_snr_weight(snr: Tensor, gamma: float, prediction: str) -> Tensor:
    """(B,) min-SNR-gamma weights (Hang et al. 2023) for ``snr`` (B,), each between 0 and 1.

    ``min(SNR, gamma) / SNR`` for epsilon and ``min(SNR, gamma) / (SNR + 1)`` for v, ``gamma`` > 0
    (5 in the paper). Finite everywhere: at zero terminal SNR the epsilon weight is its limit, 1.
    """
    assert gamma > 0, gamma
    return PREDICTIONS[prediction].min_snr(snr, gamma)


def debiased_weight(snr: Tensor, prediction: str) -> Tensor:
    """(B,) debiased estimation weights (Yu et al. 2024) for ``snr`` (B,).

    ``1 / sqrt(SNR)`` for epsilon and ``1 / (SNR + 1)`` for v, as in sd-scripts, which caps the SNR
    at 1000. For epsilon it is also kept above 1/1000, a fifth of the least that Stable Diffusion's
    own schedule has: a rescaled one has 0.
    """
    return PREDICTIONS[prediction].debiased(snr.clamp(max=LARGEST_SNR))


def like_noise_weight(snr: Tensor) -> Tensor:
    """(B,) ``SNR / (SNR + 1)``: makes the loss of v that of the noise which follows from it.

    ``eps = sqrt(abar) v + sqrt(1 - abar) x_t``, so an error in v is ``sqrt(abar)`` times as large
    in eps, and ``abar = SNR / (SNR + 1)``. The SNR is capped at 1000, as in sd-scripts.
    """
    snr = snr.clamp(max=LARGEST_SNR)
    return snr / (snr + 1.0)


def v_like_weight(snr: Tensor, strength: float) -> Tensor:
    """``1 + strength (SNR + 1) / SNR``: adds to the loss of the noise that of the v behind it.

    An error in v is ``1 / sqrt(abar)`` times as large as that in the noise, see
    :func:`like_noise_weight`. The SNR is capped at 1000, as in sd-scripts (``v_pred_like_loss``),
    and at 1/1000 from below, where a rescaled schedule has 0.
    """
    return 1.0 + strength / like_noise_weight(snr.clamp(min=1.0 / LARGEST_SNR))


@dataclass(frozen=True, slots=True)
class Weights:
    """The weight of each noise level in the loss.

    Args:
        level: one weight for all timesteps, in place of all others: where timesteps are drawn as
            often as they weigh, this is the mean that they would have had.
    """

    settings: LossSettings = field(default_factory=LossSettings)
    level: float | None = None

    def apply(self, weight: Tensor, schedule: NoiseSchedule, t: Tensor) -> Tensor:
        """(B,) ``weight`` times the weights at timesteps ``t`` (B,)."""
        if self.level is not None:
            return weight * self.level
        s, snr = self.settings, schedule.snr(t)
        if s.min_snr_gamma is not None:
            weight = weight * min_snr_weight(snr, s.min_snr_gamma, schedule.prediction)
        if s.debiased:
            weight = weight * debiased_weight(snr, schedule.prediction)
        if s.scale_v_like_noise and PREDICTIONS[schedule.prediction].like_noise:
            weight = weight * like_noise_weight(snr)
        if s.v_like:
            weight = weight * v_like_weight(snr, s.v_like)
        return weight

    def table(self, schedule: NoiseSchedule) -> Tensor:
        """(T,) the weight of every timestep."""
        t = torch.arange(schedule.num_timesteps, device=schedule.device)
        return self.apply(torch.ones(len(t), device=t.device), schedule, t)
