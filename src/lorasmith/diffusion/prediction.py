"""What a network predicts: one row for each kind, with all that follows from it.

Letters: ``x0`` clean latents, ``eps`` noise, signal and sigma their factors in ``x_t``; for
diffusion ``sqrt(abar)`` and ``sqrt(1 - abar)``. SNR is their ratio, squared.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

LARGEST_SNR = 1000.0
"""Where sd-scripts caps the SNR in weights that would vanish or grow without limit."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """
    Args:
        target: from x0, noise, signal and sigma (the last two broadcast over x0), what the
            network should have predicted.
        parts: from x_t, what was predicted, signal and sigma: the x0 and noise that it means.
        min_snr: min-SNR weights by SNR and gamma; see :func:`.weights.min_snr_weight`.
        debiased: weights by SNR, which is at most :data:`LARGEST_SNR`.
        like_noise: whether its loss can be made that of the noise which follows from it.
        diffusers: what diffusers' schedulers call it.
    """

    target: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
    parts: Callable[[Tensor, Tensor, float, float], tuple[Tensor, Tensor]]
    min_snr: Callable[[Tensor, float], Tensor]
    debiased: Callable[[Tensor], Tensor]
    like_noise: bool
    diffusers: str


PREDICTIONS: dict[str, Prediction] = {
    "epsilon": Prediction(
        target=lambda x0, noise, signal, sigma: noise,
        parts=lambda x_t, noise, signal, sigma: ((x_t - sigma * noise) / signal, noise),
        # min(SNR, g) / SNR = min(1, g / SNR), which needs no guard where SNR is 0.
        min_snr=lambda snr, gamma: (gamma / snr).clamp(max=1.0),
        debiased=lambda snr: snr.clamp(min=1.0 / LARGEST_SNR).rsqrt(),
        like_noise=False,
        diffusers="epsilon",
    ),
    # Salimans & Ho 2022.
    "v": Prediction(
        target=lambda x0, noise, signal, sigma: signal * noise - sigma * x0,
        parts=lambda x_t, v, signal, sigma: (signal * x_t - sigma * v, sigma * x_t + signal * v),
        min_snr=lambda snr, gamma: snr.clamp(max=gamma) / (snr + 1.0),
        debiased=lambda snr: 1.0 / (snr + 1.0),
        like_noise=True,
        diffusers="v_prediction",
    ),
}
