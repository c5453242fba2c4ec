"""What a picture will be, seen while it is drawn: latents as colours, without the VAE.

The VAE's decoder takes longer than a step. What it makes of a latent is nearly a linear function
of the latent's channels, one for each of red, green and blue; the function is fitted to the VAE at
hand.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from lorasmith.diffusion.prediction import PREDICTIONS
from lorasmith.diffusion.schedule import scaled_linear_alphas_cumprod, zero_terminal_snr
from lorasmith.models.diffusion_model import DiffusionModel

Watch = Callable[[Sequence[int], Callable[[], Tensor]], object]

# Signal below which a prediction of noise says nothing of the picture.
_LEAST_SIGNAL = 0.02
# The picture that colours are fitted to: latent elements along a side, and patches of colour.
_SIDE, _PATCHES = 32, (4, 8, 16)


def clean_latents(
    model: DiffusionModel, noisy: Tensor, predicted: Tensor, timestep: Tensor
) -> Tensor:
    """(B, C, h, w) what remains of noisy latents without the noise that is predicted in them.

    Args:
        noisy, predicted: (B, C, h, w).
        timestep: a scalar, 0 to 999; whole or not.
    """
    alphas = scaled_linear_alphas_cumprod()
    if model.architecture.zero_terminal_snr:
        alphas = zero_terminal_snr(alphas)
    place = float(timestep)
    low = min(max(int(place), 0), len(alphas) - 1)
    high = min(low + 1, len(alphas) - 1)
    alpha = float(torch.lerp(alphas[low].double(), alphas[high].double(), place - low))
    signal, sigma = max(alpha**0.5, _LEAST_SIGNAL), max(1.0 - alpha, 0.0) ** 0.5
    return PREDICTIONS[model.prediction].parts(noisy.float(), predicted, signal, sigma)[0]


class LatentColors:
    """The colours that latents of a model stand for.

    Args:
        weights: (C + 1, 3) the shares of the channels in red, green and blue, -1 to 1; the last
            row is added.
    """

    def __init__(self, weights: Tensor) -> None:
        self.weights = weights

    @classmethod
    @torch.inference_mode()
    def of(cls, model: DiffusionModel) -> LatentColors:
        """Fitted, by least squares, to what the model's VAE makes of a picture of colours."""
        generator = torch.Generator().manual_seed(0)
        pixels = torch.zeros(1, 3, _SIDE * model.latent_factor, _SIDE * model.latent_factor)
        for patches in _PATCHES:
            colors = torch.rand(1, 3, patches, patches, generator=generator) * 2 - 1
            pixels += interpolate(colors, pixels.shape[2:], mode="bilinear") / len(_PATCHES) ** 0.5
        pixels = pixels.clamp(-1, 1)
        latents = model.encode_images(pixels)[0].cpu().double()
        rows = _with_one(latents[0].flatten(1).T)
        colors = avg_pool2d(pixels, model.latent_factor)[0].flatten(1).T.double()
        return cls(torch.linalg.lstsq(rows, colors).solution.float())

    def images(self, latents: Tensor) -> list[Image.Image]:
        """A small picture, w x h px, of each of latents (B, C, h, w)."""
        rows = _with_one(latents.detach().float().cpu().permute(0, 2, 3, 1))
        colors = (rows @ self.weights).nan_to_num(-1.0)
        levels = ((colors + 1.0) * 127.5).round().clamp(0, 255).to(torch.uint8)
        return [Image.fromarray(each) for each in levels.numpy()]


def _with_one(rows: Tensor) -> Tensor:
    return torch.cat([rows, torch.ones_like(rows[..., :1])], dim=-1)
