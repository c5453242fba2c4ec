"""A random model of Stable Diffusion 1's architecture, small enough for any test.

The real vocabulary and tokenizer, cross-attention at every level of the UNet but the last, a
mid block, latents of 4 channels: everything that SD 1 has, under a million parameters.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from lorasmith.models.checkpoint import empty_modules, fill_buffers, save_ldm, set_weight
from lorasmith.models.family import FAMILIES, Architecture
from lorasmith.models.sd import DiffusionModel
from lorasmith.tensor_random import normal


def tiny_architecture(
    *, latent_factor: int = 8, prediction: str = "epsilon", linear: bool = False, hidden: int = 16
) -> Architecture:
    """``latent_factor`` is a power of two; ``linear`` makes the UNet's projections Linear."""
    family = FAMILIES["sd1"]
    levels = latent_factor.bit_length()
    resolution = 64
    unet = {
        **family.unet,
        "sample_size": resolution // latent_factor,
        "in_channels": 4,
        "out_channels": 4,
        "block_out_channels": [8, 16, 16],
        "layers_per_block": 1,
        "down_block_types": ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
        "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
        "mid_block_type": "UNetMidBlock2DCrossAttn",
        "cross_attention_dim": hidden,
        "transformer_layers_per_block": 1,
        "use_linear_projection": linear,
        "attention_head_dim": 2,
        "norm_num_groups": 4,
    }
    vae = {
        **family.vae,
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
    text = {
        **family.text,
        "vocab_size": 49408,
        "hidden_size": hidden,
        "intermediate_size": 2 * hidden,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 77,
        "projection_dim": hidden,
        "bos_token_id": 49406,
        "eos_token_id": 49407,
        "pad_token_id": 49407,
    }
    return Architecture(
        family="sd1",
        unet=unet,
        vae=vae,
        text=text,
        prediction=prediction,
        latent_channels=4,
        latent_factor=latent_factor,
        size_multiple=4 * latent_factor,
        native_resolution=resolution,
    )


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
        unet=modules["unet"],
        vae=modules["vae"],
        text_encoder=modules["text_encoder"],
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


def tiny_checkpoint(path: Path, seed: int = 0, dtype: torch.dtype = torch.float16) -> Path:
    """The model as one LDM file."""
    model = tiny_model(seed=seed)
    save_ldm(path, unet=model.unet, vae=model.vae, text_encoder=model.text_encoder, dtype=dtype)
    return path
