"""Enlarging an image between two passes ("hires fix").

Shapes: B images, C latent channels, h and w latent size, H and W in pixels.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from lorasmith.models.diffusion_model import DiffusionModel
from lorasmith.sampling.img2img import pixels_of
from lorasmith.sampling.request import UPSCALERS


def enlarge(
    model: DiffusionModel,
    latents: Tensor,
    size: tuple[int, int],
    upscaler: str,
    decode: Callable[[Tensor], list[Image.Image]],
) -> Tensor:
    """(B, C, H / factor, W / factor) latents of the same images, larger.

    Args:
        latents: (B, C, h, w).
        size: width and height in pixels.
        upscaler: a name in :data:`lorasmith.sampling.request.UPSCALERS`.
        decode: latents to images.
    """
    chosen = UPSCALERS[upscaler]
    if chosen.latent:
        width, height = (side // model.latent_factor for side in size)
        return interpolate(latents, (height, width), mode=chosen.method, antialias=chosen.antialias)
    method = Image.Resampling[chosen.method]
    large = [image.resize(size, method) for image in decode(latents)]
    # One by one: the encoder's activations are the peak of memory.
    return torch.cat([model.encode_images(pixels_of([image]))[0] for image in large])
