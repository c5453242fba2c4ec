"""The noise that training adds, drawn per sample.

A kind of noise takes standard normal noise and gives other noise; kinds are applied in turn, so
that another one (multi-resolution, input perturbation) is one more function here.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from lorasmith.tensor_random import normal_per_sample


def draw_noise(
    shape: Sequence[int], seed: int, step: int, samples: Sequence[int], *, offset: float = 0.0
) -> Tensor:
    """(B, C, H, W) float32 CPU noise; row ``i`` depends on ``samples[i]`` alone.

    Args:
        shape: (C, H, W) of one sample's latents.
        offset: strength of :func:`add_offset`, 0 for none. The plain part of the noise is the
            same at every offset, so two runs that differ in it can be compared.
    """
    noise = normal_per_sample(shape, seed, "noise", step, samples)
    if offset:
        noise = add_offset(noise, offset, seed, step, samples)
    return noise


def add_offset(
    noise: Tensor, offset: float, seed: int, step: int, samples: Sequence[int]
) -> Tensor:
    """(B, C, H, W) ``noise`` plus ``offset`` times one normal number per sample and channel.

    "Diffusion with offset noise" (N. Guttenberg, 2023): lets a model learn darker and lighter
    pictures than the schedule's leftover signal allows. Usual strengths are 0.03 to 0.1.
    """
    channels = noise.shape[1]
    levels = normal_per_sample((channels, 1, 1), seed, "noise_offset", step, samples)
    return noise + offset * levels.to(noise)
