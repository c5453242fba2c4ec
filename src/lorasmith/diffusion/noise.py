"""The noise that training adds, drawn per sample.

A kind of noise takes standard normal noise and gives other noise. Every strength that is drawn is
drawn per sample, not per batch: what a sample sees must not depend on who shares its batch. What it
may depend on, with antithetic noise, is how often its image was shown before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional

from lorasmith.config.sections.loss import LossSettings
from lorasmith.core.rng import python_rng
from lorasmith.diffusion.global_batch import GlobalBatch
from lorasmith.tensors.rng import normal, normal_per_sample


@dataclass(frozen=True, slots=True)
class Noise:
    """How noise is made.

    The plain part is the same whatever the settings say, so two runs that differ in one of them can
    be compared.
    """

    settings: LossSettings = field(default_factory=LossSettings)

    def draw(
        self,
        latents: Tensor,
        seed: int,
        step: int,
        samples: Sequence[int],
        whole: GlobalBatch | None = None,
    ) -> Tensor:
        """(B, C, H, W) float32 CPU noise for ``latents`` (B, C, H, W).

        Args:
            whole: what the step consists of, ``samples`` among it; antithetic noise needs it.
        """
        s = self.settings
        if s.antithetic_noise:
            assert whole is not None, "pairs are of an image's showings"
            noise = antithetic(latents.shape[1:], seed, samples, whole)
        else:
            noise = normal_per_sample(latents.shape[1:], seed, "noise", step, samples)
        if s.noise_candidates > 1:
            noise = nearest(latents, noise, s.noise_candidates, seed, step, samples)
        if s.noise_offset or s.adaptive_noise_scale:
            strength = self._offset_strength(latents, seed, step, samples)
            noise = add_offset(noise, strength, seed, step, samples)
        if s.multires_iterations:
            layers, discount = s.multires_iterations, s.multires_discount
            noise = pyramid(noise, layers, discount, seed, step, samples)
        return noise

    def perturb(self, noise: Tensor, seed: int, step: int, samples: Sequence[int]) -> Tensor:
        """(B, C, H, W) what is added to the latents where ``noise`` is what is predicted.

        Source: Ning et al. 2023, "Input Perturbation Reduces Exposure Bias".
        """
        strength: Tensor | float = self.settings.input_perturbation
        if not strength:
            return noise
        if self.settings.input_perturbation_random:
            strength = strength * uniform_per_sample(seed, "perturbation_strength", step, samples)
        more = normal_per_sample(noise.shape[1:], seed, "perturbation", step, samples)
        return noise + strength * more

    def _offset_strength(
        self, latents: Tensor, seed: int, step: int, samples: Sequence[int]
    ) -> Tensor | float:
        strength: Tensor | float = self.settings.noise_offset
        if self.settings.noise_offset_random:
            strength = strength * uniform_per_sample(seed, "noise_offset_strength", step, samples)
        if self.settings.adaptive_noise_scale:
            distance = latents.mean((2, 3), keepdim=True).abs()
            strength = (strength + self.settings.adaptive_noise_scale * distance).clamp(min=0.0)
        return strength


def uniform_per_sample(seed: int, purpose: str, step: int, samples: Sequence[int]) -> Tensor:
    """(B, 1, 1, 1) float32 numbers from 0 to 1, one per sample."""
    draws = [python_rng(seed, purpose, step, sample).random() for sample in samples]
    return torch.tensor(draws, dtype=torch.float32).view(-1, 1, 1, 1)


def antithetic(
    shape: Sequence[int], seed: int, samples: Sequence[int], whole: GlobalBatch
) -> Tensor:
    """(B, *shape) standard normal noise, of which every second showing of an image has that of the
    showing before, with its sign turned."""
    showings = whole.of(list(zip(whole.images, whole.showings, strict=True)), samples)
    pairs = [
        (1 - showing % 2 * 2) * normal(shape, seed, "noise/pair", image, showing // 2)
        for image, showing in showings
    ]
    return torch.stack(pairs)


def nearest(
    latents: Tensor, noise: Tensor, candidates: int, seed: int, step: int, samples: Sequence[int]
) -> Tensor:
    """(B, C, H, W) of ``candidates`` draws, of which ``noise`` is the first, the one with the least
    distance to the sample's latents.

    Li et al. 2025, "Improved Immiscible Diffusion" (arXiv 2505.18521): less of the space of noise
    belongs to each image, so that there is less to average over. The noise is no longer independent
    of the image, so neither loss nor gradient is that of plain noise in the mean.
    """
    chosen = []
    for latent, plain, sample in zip(latents, noise, samples, strict=True):
        others = normal((candidates - 1, *plain.shape), seed, "noise/candidates", step, sample)
        pool = torch.cat([plain[None], others])
        distance = (pool - latent).flatten(1).square().sum(1)
        chosen.append(pool.index_select(0, distance.argmin(0, keepdim=True))[0])
    return torch.stack(chosen)


def add_offset(
    noise: Tensor, strength: Tensor | float, seed: int, step: int, samples: Sequence[int]
) -> Tensor:
    """(B, C, H, W) ``noise`` plus ``strength`` times one normal number per sample and channel.

    "Diffusion with offset noise" (N. Guttenberg, 2023): lets a model learn darker and lighter
    images than the schedule's leftover signal allows. Usual strengths are 0.03 to 0.1.

    Args:
        strength: one number, or one per sample (B, 1, 1, 1) or per channel (B, C, 1, 1).
    """
    channels = noise.shape[1]
    levels = normal_per_sample((channels, 1, 1), seed, "noise_offset", step, samples)
    return noise + strength * levels.to(noise)


def pyramid(
    noise: Tensor,
    iterations: int,
    discount: float,
    seed: int,
    step: int,
    samples: Sequence[int],
) -> Tensor:
    """(B, C, H, W) multi-resolution noise: ``noise`` with coarser and coarser noise in it.

    "Multi-Resolution Noise for Diffusion Model Training" (J. Whitaker, 2023). Layer ``i`` is
    ``r ** i`` times smaller in height and width, enlarged bilinearly, and weighs
    ``discount ** i``; ``r`` is drawn between 2 and 4 for each. As in its first version and in
    sd-scripts, layer 0 is of full size. The layers end where one is a single pixel high or wide.

    The sum is divided by its own standard deviation, over one sample: with a batch of one that is
    what sd-scripts does; it takes that of the whole batch.
    """
    return torch.stack(
        [
            _pyramid_of_one(plain, iterations, discount, seed, step, sample)
            for plain, sample in zip(noise, samples, strict=True)
        ]
    )


def _pyramid_of_one(
    noise: Tensor, iterations: int, discount: float, seed: int, step: int, sample: int
) -> Tensor:
    channels, height, width = noise.shape
    ratios = python_rng(seed, "multires_ratio", step, sample)
    for layer in range(iterations):
        ratio = ratios.uniform(2.0, 4.0) ** layer
        size = max(1, int(height / ratio)), max(1, int(width / ratio))
        coarse = normal((1, channels, *size), seed, "multires", step, sample, layer)
        fine = functional.interpolate(coarse, (height, width), mode="bilinear")
        noise = noise + discount**layer * fine[0]
        if 1 in size:
            break
    return noise / noise.std()
