"""The forward process of latent diffusion, and what the network is asked to predict.

Letters as in the papers: ``x0`` clean latents, ``eps`` noise, ``abar`` the cumulative product of
``1 - beta`` (DDPM, Ho et al. 2020), ``v = sqrt(abar) eps - sqrt(1 - abar) x0``
(Salimans & Ho 2022).
Shapes: B samples, C latent channels, H and W latent height and width, T = 1000 timesteps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from lorasmith.diffusion.prediction import PREDICTIONS

NUM_TIMESTEPS = 1000
BETA_START = 0.00085
BETA_END = 0.012


def scaled_linear_alphas_cumprod(
    num_timesteps: int = NUM_TIMESTEPS, beta_start: float = BETA_START, beta_end: float = BETA_END
) -> Tensor:
    """(T,) float64 ``abar`` of the Stable Diffusion schedule: beta is linear in its square root."""
    betas = torch.linspace(beta_start**0.5, beta_end**0.5, num_timesteps, dtype=torch.float64) ** 2
    return (1.0 - betas).cumprod(0)


def zero_terminal_snr(alphas_cumprod: Tensor) -> Tensor:
    """(T,) float64 ``abar`` that ends in 0, so that the last timestep is nothing but noise.

    Lin et al. 2023, "Common Diffusion Noise Schedules and Sample Steps are Flawed", algorithm 1:
    ``sqrt(abar)`` is shifted to end in 0 and scaled to begin where it did.
    """
    root = alphas_cumprod.to(torch.float64).sqrt()
    first, last = root[0], root[-1]
    return ((root - last) * (first / (first - last))).square()


class NoiseSchedule(Protocol):
    """How latents and noise are mixed by timestep, and what a network learns from it.

    Timesteps are on :attr:`device`, so that looking a coefficient up never waits for the
    accelerator.
    """

    prediction: str
    """A key of :data:`.prediction.PREDICTIONS`."""
    num_timesteps: int
    device: torch.device

    def snr(self, t: Tensor) -> Tensor:
        """(B,) signal-to-noise ratio at timesteps ``t`` (B,)."""

    def add_noise(self, x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """(B, C, H, W) the mixture that the network is given."""

    def target(self, x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """(B, C, H, W) what the network should have predicted for ``add_noise(x0, noise, t)``."""

    def step(self, x_t: Tensor, prediction: Tensor, t: int, earlier: int) -> Tensor:
        """(B, C, H, W) the mixture at a timestep with less noise, by what was predicted at ``t``
        for ``x_t``; on the device of ``x_t``."""


class DDPMSchedule:
    """The discrete schedule of diffusion: coefficients by timestep, in tables.

    Args:
        prediction: what the network predicts, a key of :data:`.prediction.PREDICTIONS`.
        alphas_cumprod: (T,) ``abar``, from little noise to much; SD's own when None. A rescaled one
            (zero terminal SNR) may end in 0.
        device: where the tables live.
    """

    def __init__(
        self,
        prediction: str = "epsilon",
        *,
        alphas_cumprod: Tensor | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        abar = scaled_linear_alphas_cumprod() if alphas_cumprod is None else alphas_cumprod
        abar = abar.to(torch.float64)
        self.prediction, self._kind = prediction, PREDICTIONS[prediction]
        self.num_timesteps, self.device = len(abar), torch.device(device)
        self.alphas_cumprod = abar.to(device, torch.float32)
        self._signal = abar.sqrt().to(device, torch.float32)
        self._noise = (1.0 - abar).sqrt().to(device, torch.float32)
        self._snr = (abar / (1.0 - abar)).to(device, torch.float32)

    def snr(self, t: Tensor) -> Tensor:
        """(B,) signal-to-noise ratio ``abar / (1 - abar)`` at timesteps ``t`` (B,)."""
        return self._snr[t]

    def coefficients(self, t: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """``sqrt(abar)`` and ``sqrt(1 - abar)``, each (B, 1, 1, 1), in the dtype of ``like``."""
        shape = (-1,) + (1,) * (like.ndim - 1)
        return (
            self._signal[t].to(like.dtype).view(shape),
            self._noise[t].to(like.dtype).view(shape),
        )

    def add_noise(self, x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """(B, C, H, W) ``x_t = sqrt(abar) x0 + sqrt(1 - abar) noise``."""
        signal, sigma = self.coefficients(t, x0)
        return signal * x0 + sigma * noise

    def target(self, x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """(B, C, H, W) what the network should have predicted for ``add_noise(x0, noise, t)``."""
        return self._kind.target(x0, noise, *self.coefficients(t, x0))

    def step(self, x_t: Tensor, prediction: Tensor, t: int, earlier: int) -> Tensor:
        """(B, C, H, W) a deterministic step (DDIM, Song et al. 2021, equation 12 with sigma 0)."""
        x0, noise = self._kind.parts(x_t, prediction, float(self._signal[t]), float(self._noise[t]))
        return float(self._signal[earlier]) * x0 + float(self._noise[earlier]) * noise


def _scaled_linear(prediction: str, to_noise: bool) -> NoiseSchedule:
    abar = scaled_linear_alphas_cumprod()
    return DDPMSchedule(prediction, alphas_cumprod=zero_terminal_snr(abar) if to_noise else abar)


NOISE_SCHEDULES: dict[str, Callable[[str, bool], NoiseSchedule]] = {"scaled_linear": _scaled_linear}
"""By the name that a family gives: from what is predicted, and whether it ends in nothing but
noise."""
