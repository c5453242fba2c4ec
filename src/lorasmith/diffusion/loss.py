"""The loss of each sample, and its weight by timestep.

Every function keeps the batch axis: the caller multiplies weights (regularisation, SNR) and takes
the mean over samples last, which is what makes uneven batches and several processes add up.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from lorasmith.diffusion.schedule import Prediction


def per_sample_mse(prediction: Tensor, target: Tensor) -> Tensor:
    """(B,) float32 mean squared error over all axes but the first (C, H, W)."""
    return (prediction.float() - target.float()).square().flatten(1).mean(1)


def min_snr_weight(snr: Tensor, gamma: float, prediction: Prediction) -> Tensor:
    """(B,) min-SNR-gamma weights (Hang et al. 2023) for ``snr`` (B,), each between 0 and 1.

    ``min(SNR, gamma) / SNR`` for epsilon and ``min(SNR, gamma) / (SNR + 1)`` for v, ``gamma`` > 0
    (5 in the paper). Finite everywhere: at zero terminal SNR the epsilon weight is its limit, 1.
    """
    assert gamma > 0, gamma
    return MIN_SNR[prediction](snr, gamma)


def _min_snr_epsilon(snr: Tensor, gamma: float) -> Tensor:
    # min(SNR, g) / SNR = min(1, g / SNR), which needs no guard where SNR is 0.
    return (gamma / snr).clamp(max=1.0)


def _min_snr_v(snr: Tensor, gamma: float) -> Tensor:
    return snr.clamp(max=gamma) / (snr + 1.0)


MIN_SNR: dict[str, Callable[[Tensor, float], Tensor]] = {
    "epsilon": _min_snr_epsilon,
    "v": _min_snr_v,
}
