"""Models of known sizes with random weights, made where they are to be, and batches for them."""

from __future__ import annotations

import math
from collections.abc import Collection

import torch
from tests.published import PUBLISHED
from tests.tiny_models import tiny_architecture

from lorasmith.models.diffusion_model import Conditioning, DiffusionModel
from lorasmith.models.families.table import Architecture
from lorasmith.models.load import assemble, empty_modules, fill_buffers, set_weight
from lorasmith.models.placement import IN_FULL, WeightPlacement, WeightPlacer
from lorasmith.training.objective import MicroBatch

TINY = "tiny "


def architecture_of(name: str) -> Architecture:
    """The published "sd15", "sd21" or "sdxl", or a tiny one of its family: "tiny sdxl"."""
    published = PUBLISHED[name.removeprefix(TINY)]
    return tiny_architecture(family=published.family_name) if name.startswith(TINY) else published


def random_model(
    architecture: Architecture,
    dtype: torch.dtype,
    device: torch.device | str,
    *,
    parts: Collection[str] = ("unet",),
    placement: WeightPlacement = IN_FULL,
    recomputed: Collection[str] | None = None,
    channels_last: bool = False,
) -> DiffusionModel:
    """The model with weights of variance 1 / fan-in, each put in its place before the next is made.

    Args:
        parts: the others stay on the meta device.
        placement: how the UNet's weights are kept.
        recomputed: blocks of the UNet that are checkpointed.
    """
    device, modules = torch.device(device), empty_modules(architecture)
    model: DiffusionModel = assemble(architecture, modules, dtype, device)
    if channels_last:
        model.memory_format = torch.channels_last
    for part in parts:
        module = modules[part]
        fill_buffers(module, device)
        blocks = architecture.block_paths if part == "unet" else []
        keeper = WeightPlacer(module, blocks, placement, device)
        for name, empty in list(module.named_parameters()):
            own = torch.float32 if part == "vae" else dtype
            weight = torch.empty(empty.shape, dtype=own, device=device)
            if weight.ndim > 1:
                weight.normal_(std=1 / math.sqrt(weight[0].numel()))
            else:
                weight.fill_(1.0 if name.endswith("weight") else 0.0)
            if channels_last and weight.ndim == 4:
                weight = weight.contiguous(memory_format=torch.channels_last)
            if not keeper.place(name, weight):
                set_weight(module, name, weight)
    if recomputed:
        model.enable_gradient_checkpointing(recomputed)
    return model


def random_conditioning(model: DiffusionModel, batch: int) -> Conditioning:
    """Of ``batch`` captions of 75 tokens, on the model's device."""
    architecture = model.architecture
    hidden = torch.randn(batch, 77, architecture.text_width)
    pooled, sizes = None, None
    if architecture.family.size_conditioning:
        pooled = torch.randn(batch, architecture.texts[-1]["projection_dim"])
        sizes = torch.zeros(batch, 6)
    return Conditioning(hidden, pooled, sizes).to(model.device, model.dtype)


def random_batch(model: DiffusionModel, batch: int, pixels: int) -> MicroBatch:
    """``batch`` square images as latents in main memory, as the cache gives them."""
    side = pixels // model.latent_factor
    shape = (batch, model.architecture.latent_channels, side, side)
    condition = random_conditioning(model, batch)
    return MicroBatch(
        torch.randn(shape), torch.full(shape, 0.01), lambda: condition,
        torch.ones(batch), list(range(batch)),
    )  # fmt: skip
