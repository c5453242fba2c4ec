"""What images are compared by: the model's own features, or those of a CLIP image encoder.

* *Layout*: the VAE's latents, averaged over an 8 x 8 grid: what is where, in which colour. Two
  images with one layout are copies of each other.
* *Content*: the output of the UNet's middle block for the slightly noised image, averaged over
  its places; the base model without an adapter computes it, with an empty prompt. That layer is the
  "semantic latent space" of Kwon et al. 2023 (arXiv 2210.10960), and that such features of noised
  images tell what they show is from Tang et al. 2023 (DIFT, arXiv 2306.03881). With ``--clip``
  it is the embedding of that encoder instead.

Shapes: B images, C latent channels, F features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from lorasmith.core.errors import UserError
from lorasmith.data.cache.latents import image_tensor, stacked
from lorasmith.diffusion.schedule import NoiseSchedule
from lorasmith.models.diffusion_model import DiffusionModel
from lorasmith.tensors.rng import normal
from lorasmith.tensors.transfer import to_device

GRID = 8
# DIFT's choice for what an image shows as a whole.
FEATURE_TIMESTEP = 261
SEED = 0


@dataclass(frozen=True, slots=True)
class ImageFeatures:
    """Features of images, float32 on the CPU.

    Args:
        layout: (B, C * 64).
        content: (B, F).
    """

    layout: Tensor
    content: Tensor

    @staticmethod
    def cat(parts: Sequence[ImageFeatures]) -> ImageFeatures:
        return ImageFeatures(
            torch.cat([part.layout for part in parts]), torch.cat([part.content for part in parts])
        )


@torch.inference_mode()
def encode(model: DiffusionModel, image: Image.Image) -> Tensor:
    """(C, h, w) float32 an image's latents, scaled, on the CPU."""
    levels = stacked([np.asarray(image.convert("RGB"))], model.device)
    return model.encode_images(image_tensor(to_device(levels, model.device)))[0][0].float().cpu()


class Content(Protocol):
    """Turns an image into (F,) features."""

    name: str

    def __call__(self, image: Image.Image, latents: Tensor) -> Tensor:
        """``latents`` (C, h, w) are the image's."""
        ...


class FeatureExtractor:
    """Looks at images; no adapter may be attached meanwhile."""

    def __init__(self, model: DiffusionModel, content: Content) -> None:
        self._model, self._content = model, content

    @torch.inference_mode()
    def look(self, images: Sequence[Image.Image]) -> ImageFeatures:
        """Features of images of any sizes."""
        return ImageFeatures.cat([self._one(image) for image in images])

    def _one(self, image: Image.Image) -> ImageFeatures:
        latents = encode(self._model, image)
        layout = F.adaptive_avg_pool2d(latents[None], GRID).flatten(1)
        return ImageFeatures(layout, self._content(image, latents)[None])


class MiddleBlock:
    """The denoiser's own features; see the module."""

    name = "the model's middle block"

    def __init__(self, model: DiffusionModel, schedule: NoiseSchedule) -> None:
        self._model, self._schedule = model, schedule

    def __call__(self, image: Image.Image, latents: Tensor) -> Tensor:
        model, outputs = self._model, []

        def keep(module: nn.Module, inputs: Any, output: Tensor) -> None:
            outputs.append(output.float().mean((2, 3))[0].cpu())

        noise = normal(latents.shape, SEED, "pick features")[None]
        timestep = torch.tensor([FEATURE_TIMESTEP])
        noisy = self._schedule.add_noise(latents[None], noise, timestep)
        width, height = map(float, image.size)
        sizes = torch.tensor([[height, width, 0.0, 0.0, height, width]])
        handle = model.denoiser.get_submodule(
            model.architecture.family.denoiser.middle
        ).register_forward_hook(keep)
        try:
            model.denoise(noisy, timestep, model.encode_text([""]).with_size_ids(sizes))
        finally:
            handle.remove()
        return torch.as_tensor(outputs[0])


class ClipImages:
    """The projected embedding of a CLIP image encoder, of length 1.

    Args:
        folder: a transformers folder with the encoder and its preprocessor.

    Raises:
        UserError: there is no such folder, or no image encoder in it.
    """

    name = "CLIP"

    def __init__(self, folder: Path) -> None:
        from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection

        if not (folder / "config.json").is_file():
            raise UserError.of(
                "--clip",
                f"{folder} is no folder with a CLIP image encoder: it has no config.json",
                "give a folder as transformers saves it, or leave --clip out",
            )
        try:
            self._prepare = CLIPImageProcessor.from_pretrained(folder, local_files_only=True)
            self._encoder = CLIPVisionModelWithProjection.from_pretrained(
                folder, local_files_only=True
            )
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise UserError.of(
                "--clip",
                f"the CLIP image encoder in {folder} cannot be read: {str(error).splitlines()[0]}",
                "it needs config.json, preprocessor_config.json and model.safetensors",
            ) from error
        self._encoder.eval()

    def __call__(self, image: Image.Image, latents: Tensor) -> Tensor:
        inputs = self._prepare(image.convert("RGB"), return_tensors="pt")
        embedded: Tensor = self._encoder(**inputs).image_embeds[0].float()
        return embedded / embedded.norm().clamp(min=1e-12)


def distances(one: Tensor, other: Tensor) -> Tensor:
    """(A, B) Euclidean distances between the rows of (A, F) and (B, F)."""
    return torch.cdist(one.double(), other.double(), compute_mode="donot_use_mm_for_euclid_dist")


def mean_within(features: Tensor) -> float:
    """Mean distance of two different rows of (A, F); 0 where there are not two."""
    count = len(features)
    if count < 2:
        return 0.0
    return float(distances(features, features).sum()) / (count * (count - 1))


def nearest(features: Tensor, others: Tensor | None = None) -> Tensor:
    """(A,) distance of each row to the nearest of ``others``, or of the other rows."""
    if others is not None:
        return distances(features, others).min(1).values
    matrix = distances(features, features)
    matrix.fill_diagonal_(float("inf"))
    return matrix.min(1).values
