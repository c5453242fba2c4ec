"""A random model of Stable Diffusion 1's architecture, small enough for any test.

The real vocabulary and tokenizer, cross-attention at every level of the UNet but the last, a
mid block, latents of 4 channels: everything that SD 1 has, under a million parameters.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from lorasmith.models.diffusion_model import DiffusionModel
from lorasmith.models.export import save_ldm
from lorasmith.models.families.base import Family
from lorasmith.models.families.table import FAMILIES, Architecture
from lorasmith.models.load import empty_modules, fill_buffers, set_weight
from lorasmith.tensors.rng import normal


def tiny_architecture(
    *,
    family: str = "sd1",
    latent_factor: int = 8,
    prediction: str | None = None,
    linear: bool | None = None,
    hidden: int = 16,
    layers: int = 1,
) -> Architecture:
    """``latent_factor`` is a power of two; ``linear`` makes the UNet's projections Linear;
    ``layers`` is how many residual blocks a level of the UNet has.

    The families but SD 1 have heads of 64 channels, so their UNets are a little larger.
    """
    known = FAMILIES[family]
    levels = latent_factor.bit_length()
    resolution = 64
    vae = {
        **known.vae,
        "in_channels": 3,
        "out_channels": 3,
        "latent_channels": 4,
        "block_out_channels": [8] * (levels - 1) + [16],
        "layers_per_block": 1,
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
        "use_quant_conv": True,
        "use_post_quant_conv": True,
        "mid_block_add_attention": True,
        "sample_size": resolution,
        "norm_num_groups": 4,
    }
    texts = tuple(
        {
            **text.config,
            "vocab_size": 49408,
            "hidden_size": hidden,
            "intermediate_size": 2 * hidden,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "max_position_embeddings": 77,
            "projection_dim": hidden,
            "bos_token_id": 49406,
            "eos_token_id": 49407,
            "pad_token_id": text.pad,
        }
        for text in known.text_encoders
    )
    return Architecture(
        family_name=family,
        denoiser={
            **_tiny_unet(known, resolution // latent_factor, linear, hidden),
            "layers_per_block": layers,
        },
        vae=vae,
        texts=texts,
        prediction=prediction or known.prediction,
        latent_channels=4,
        latent_factor=latent_factor,
        size_multiple=4 * latent_factor,
        native_resolution=resolution,
    )


def _tiny_unet(known: Family, side: int, linear: bool | None, hidden: int) -> dict[str, Any]:
    first = known.name == "sd1"
    unet = {
        **known.denoiser_config,
        "sample_size": side,
        "in_channels": 4,
        "out_channels": 4,
        "block_out_channels": [8, 16, 16] if first else [64, 64, 128],
        "down_block_types": ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
        "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
        "mid_block_type": "UNetMidBlock2DCrossAttn",
        "cross_attention_dim": hidden * len(known.text_encoders),
        "transformer_layers_per_block": 1,
        "use_linear_projection": not first if linear is None else linear,
        "attention_head_dim": 2,
        "norm_num_groups": 4,
    }
    if unet.pop("head_width", 0):
        unet["attention_head_dim"] = [width // 64 for width in unet["block_out_channels"]]
    if known.size_conditioning:
        unet |= {
            "down_block_types": ["DownBlock2D", *["CrossAttnDownBlock2D"] * 2],
            "up_block_types": [*["CrossAttnUpBlock2D"] * 2, "UpBlock2D"],
            "transformer_layers_per_block": [1, 1, 2],
            "projection_class_embeddings_input_dim": hidden + 6 * 256,
        }
    return unet


def tiny_model(
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
    *,
    clip_skip: int = 1,
    max_tokens: int = 75,
    architecture: Architecture | None = None,
) -> DiffusionModel:
    """The model on the CPU, its weights fixed by ``seed``; the VAE is float32 always."""
    architecture = architecture or tiny_architecture()
    modules = empty_modules(architecture)
    for number, (part, module) in enumerate(modules.items()):
        fill_randomly(module, torch.float32 if part == "vae" else dtype, seed + 1000 * number)
        fill_buffers(module, "cpu")
    return DiffusionModel(
        denoiser=modules["unet"],
        vae=modules["vae"],
        text_encoders={part: modules[part] for part in architecture.family.parts[2:]},
        architecture=architecture,
        dtype=dtype,
        clip_skip=clip_skip,
        max_tokens=max_tokens,
    )


def fill_randomly(module: nn.Module, dtype: torch.dtype, seed: int) -> None:
    """Weights of variance 1 / fan-in, scales near one, biases near nought."""
    for number, (name, parameter) in enumerate(list(module.named_parameters())):
        values = normal(parameter.shape, seed, "test weights", number)
        if parameter.ndim > 1:
            values /= parameter[0].numel() ** 0.5
        else:
            values = values * 0.05 + float(name.endswith("weight"))
        set_weight(module, name, values.to(dtype))


def tiny_checkpoint(
    path: Path, seed: int = 0, dtype: torch.dtype = torch.float16, *, family: str = "sd1"
) -> Path:
    """The model as one LDM file."""
    model = tiny_model(seed=seed, architecture=tiny_architecture(family=family))
    save_ldm(
        path,
        unet=model.denoiser,
        vae=model.vae,
        text_encoders=model.text_encoders,
        family=family,
        prediction=model.prediction,
        dtype=dtype,
    )
    return path
