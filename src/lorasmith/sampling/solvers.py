"""What k-diffusion and so the web UIs have and diffusers has not: spacings, and two solvers.

DPM++ 2S a and DPM++ SDE call the denoiser twice a step and add noise. Both are DPM-Solver++(2S)
(Lu et al. 2022) in ``t = -log sigma`` with ancestral noise; the SDE one adds noise to the point
in the middle too, from one Brownian path over both halves of the step.

A noise level is ``sigma``, noise over signal (Karras et al. 2022); a model's table has one for each
of its timesteps, smallest first.

Shapes: B images, C latent channels, h and w latent size, N steps.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import scipy.stats
import torch
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

Array = np.ndarray
BETA_SHAPE = 0.6


def sigmas_at_times(name: str, steps: int, table: Array) -> Array:
    """(steps,) noise levels of a schedule that spaces timesteps, largest first.

    Args:
        name: "uniform" goes evenly to the smallest level; "sgm_uniform" leaves that one out, as
            Stability AI's generative models do; "beta" is dense at both ends (Lee et al. 2024,
            "Beta Sampling is All You Need", alpha = beta = 0.6).
        table: (T,) the model's noise levels, smallest first.
    """
    last = len(table) - 1
    if name == "beta":
        times = last * scipy.stats.beta.ppf(np.linspace(1, 0, steps), BETA_SHAPE, BETA_SHAPE)
    else:
        times = np.linspace(last, 0, steps if name == "uniform" else steps + 1)[:steps]
    return np.interp(times, np.arange(len(table)), table)


def sigma_table(alphas_cumprod: Array) -> Array:
    """(T,) ``sqrt((1 - abar) / abar)``, float64."""
    abar = alphas_cumprod.astype(np.float64)
    return np.asarray(((1 - abar) / abar) ** 0.5)


class TwoStageScheduler:
    """The interface of diffusers' schedulers, for these two.

    Args:
        noisy_middle: DPM++ SDE; without it DPM++ 2S a.
        config: of EulerDiscreteScheduler, which makes the noise levels.
    """

    order = 2

    def __init__(self, *, noisy_middle: bool, **config: Any) -> None:
        self.levels = EulerDiscreteScheduler(**config)
        self._noisy_middle = noisy_middle
        self._v = config["prediction_type"] == "v_prediction"

    def set_timesteps(self, steps: int) -> None:
        """``timesteps`` (2 N - 1,): begin and middle of each step; the last has no middle."""
        self.levels.set_timesteps(steps)
        sigmas = self.levels.sigmas.double()
        begin, end = sigmas[:-1], sigmas[1:]
        reached = end if self._noisy_middle else ancestral(begin, end)[0]
        middle = (begin * reached).sqrt()
        self.sigmas = torch.stack([begin, middle], 1).flatten()[:-1]
        self._ends = end
        table = np.log(sigma_table(self.alphas_cumprod.numpy()))
        times = np.interp(self.sigmas.log().numpy(), table, np.arange(len(table)))
        self.timesteps = torch.from_numpy(times).float()
        self._index = 0

    @property
    def alphas_cumprod(self) -> Tensor:
        return self.levels.alphas_cumprod

    @property
    def init_noise_sigma(self) -> float:
        return float(self.levels.init_noise_sigma)

    def set_begin_index(self, index: int) -> None:
        self._index = index

    def scale_model_input(self, sample: Tensor, timestep: Tensor) -> Tensor:
        return sample / math.sqrt(float(self.sigmas[self._index]) ** 2 + 1)

    def add_noise(self, clean: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """``clean`` with the noise of where the solver stands."""
        return clean + noise * float(self.sigmas[self._index])

    def step(
        self,
        output: Tensor,
        timestep: Tensor,
        sample: Tensor,
        generator: list[torch.Generator],
        return_dict: bool = False,
    ) -> tuple[Tensor]:
        """(B, C, h, w) the sample one call further."""
        sigma = float(self.sigmas[self._index])
        clean = self._clean(output, sample, sigma)
        number, in_middle = divmod(self._index, 2)
        end = float(self._ends[number])
        self._index += 1
        if in_middle:
            return (self._finish(clean, float(self.sigmas[2 * number]), end, generator),)
        if end == 0.0:
            return (clean,)
        return (self._to_middle(sample, clean, sigma, number, generator),)

    def _clean(self, output: Tensor, sample: Tensor, sigma: float) -> Tensor:
        """The denoised image that a prediction says."""
        if not self._v:
            return sample - sigma * output
        return sample / (sigma**2 + 1) - output * sigma / math.sqrt(sigma**2 + 1)

    def _to_middle(
        self,
        sample: Tensor,
        clean: Tensor,
        sigma: float,
        number: int,
        generator: list[torch.Generator],
    ) -> Tensor:
        middle = float(self.sigmas[2 * number + 1])
        self._sample, self._first_noise = sample, None
        if not self._noisy_middle:
            return _towards(sample, clean, sigma, middle)
        down, up = (float(x) for x in ancestral(torch.tensor(sigma), torch.tensor(middle)))
        self._first_noise = _noise(sample, generator)
        return _towards(sample, clean, sigma, down) + up * self._first_noise

    def _finish(
        self, clean: Tensor, sigma: float, end: float, generator: list[torch.Generator]
    ) -> Tensor:
        down, up = (float(x) for x in ancestral(torch.tensor(sigma), torch.tensor(end)))
        moved = _towards(self._sample, clean, sigma, down)
        noise = _noise(moved, generator)
        if self._first_noise is not None:
            # Brownian motion over the whole step is the sum of that over its two parts.
            middle = math.sqrt(sigma * end)
            first = (sigma - middle) / (sigma - end)
            noise = math.sqrt(first) * self._first_noise + math.sqrt(1 - first) * noise
        return moved + up * noise


def ancestral(begin: Tensor, end: Tensor) -> tuple[Tensor, Tensor]:
    """Where to go without noise, and how much noise to add to arrive at ``end``."""
    up = torch.minimum(end, (end**2 * (begin**2 - end**2) / begin**2).sqrt())
    return (end**2 - up**2).clamp_min(0).sqrt(), up


def _towards(sample: Tensor, clean: Tensor, begin: float, end: float) -> Tensor:
    """The exact solution from one noise level to another, if ``clean`` stayed as it is."""
    ratio = end / begin
    return ratio * sample + (1 - ratio) * clean


def _noise(like: Tensor, generator: list[torch.Generator]) -> Tensor:
    return randn_tensor(like.shape, generator=generator, device=like.device, dtype=like.dtype)
