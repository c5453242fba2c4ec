"""The published models' architectures, from the config.json files of their repositories."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lorasmith.models.export import ldm_weights
from lorasmith.models.families.table import FAMILIES, Architecture
from lorasmith.models.load import empty_modules
from lorasmith.tensors.rng import normal


def _architecture(
    family: str,
    *,
    prediction: str,
    widths: list[int],
    attention: list[bool],
    texts: list[dict[str, Any]],
    unet: dict[str, Any],
    scale: float,
    side: int,
) -> Architecture:
    known = FAMILIES[family]
    down = ["CrossAttnDownBlock2D" if there else "DownBlock2D" for there in attention]
    unet_config = {
        **known.denoiser_config,
        "sample_size": side // 8,
        "in_channels": 4,
        "out_channels": 4,
        "block_out_channels": widths,
        "layers_per_block": 2,
        "down_block_types": down,
        "up_block_types": [name.replace("Down", "Up") for name in reversed(down)],
        "mid_block_type": "UNetMidBlock2DCrossAttn",
        **unet,
    }
    unet_config.pop("head_width", None)
    vae = {
        **known.vae,
        "sample_size": side,
        "in_channels": 3,
        "out_channels": 3,
        "latent_channels": 4,
        "block_out_channels": [128, 256, 512, 512],
        "layers_per_block": 2,
        "down_block_types": ["DownEncoderBlock2D"] * 4,
        "up_block_types": ["UpDecoderBlock2D"] * 4,
        "use_quant_conv": True,
        "use_post_quant_conv": True,
        "mid_block_add_attention": True,
        "scaling_factor": scale,
    }
    clips = tuple(
        {
            **spec.config,
            "vocab_size": 49408,
            "max_position_embeddings": 77,
            "projection_dim": text["hidden_size"],
            "intermediate_size": 4 * text["hidden_size"],
            "bos_token_id": 49406,
            "eos_token_id": 49407,
            "pad_token_id": spec.pad,
            **text,
        }
        for spec, text in zip(known.text_encoders, texts, strict=True)
    )
    return Architecture(
        family_name=family, denoiser=unet_config, vae=vae, texts=clips, prediction=prediction,
        latent_channels=4, latent_factor=8, size_multiple=8 * 2 ** (len(widths) - 1),
        native_resolution=side,
    )  # fmt: skip


CLIP_L = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12}
OPEN_CLIP_H = {"hidden_size": 1024, "num_hidden_layers": 23, "num_attention_heads": 16}
OPEN_CLIP_G = {"hidden_size": 1280, "num_hidden_layers": 32, "num_attention_heads": 20}

SD15 = _architecture(
    "sd1", prediction="epsilon", widths=[320, 640, 1280, 1280], attention=[True] * 3 + [False],
    texts=[CLIP_L], scale=0.18215, side=512,
    unet={
        "attention_head_dim": 8, "cross_attention_dim": 768, "transformer_layers_per_block": 1,
        "use_linear_projection": False,
    },
)  # fmt: skip
SD21 = _architecture(
    "sd2", prediction="v", widths=[320, 640, 1280, 1280], attention=[True] * 3 + [False],
    texts=[OPEN_CLIP_H], scale=0.18215, side=768,
    unet={
        "attention_head_dim": [5, 10, 20, 20], "cross_attention_dim": 1024,
        "transformer_layers_per_block": 1, "use_linear_projection": True,
    },
)  # fmt: skip
SDXL = _architecture(
    "sdxl", prediction="epsilon", widths=[320, 640, 1280], attention=[False, True, True],
    texts=[CLIP_L, OPEN_CLIP_G], scale=0.13025, side=1024,
    unet={
        "attention_head_dim": [5, 10, 20], "cross_attention_dim": 2048,
        "transformer_layers_per_block": [1, 2, 10], "use_linear_projection": True,
        "addition_embed_type": "text_time", "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    },
)  # fmt: skip
PUBLISHED = {"sd15": SD15, "sd21": SD21, "sdxl": SDXL}


def random_state(
    architecture: Architecture, dtype: torch.dtype = torch.float16
) -> dict[str, Tensor]:
    """Cheap weights under LDM names: slices of one draw, none like another."""
    draw = (normal((1 << 20,), 0, "full size") * 0.02).to(dtype)
    state = {}
    weights = ldm_weights(empty_modules(architecture), architecture.family)
    for number, (name, empty) in enumerate(weights):
        repeats = 1 + (number + empty.numel()) // draw.numel()
        values = draw.repeat(repeats)[number : number + empty.numel()]
        state[name] = values.reshape(empty.shape).clone()
    return state


def write_hole(path: Path, architecture: Architecture) -> dict[str, tuple[int, ...]]:
    """A float32 checkpoint whose numbers are a hole in the file, which takes no space; the shapes
    of its weights under LDM names."""
    modules = empty_modules(architecture)
    weights = ldm_weights(modules, architecture.family)
    shapes = {name: tuple(empty.shape) for name, empty in weights}
    header, end = {}, 0
    for name, shape in shapes.items():
        begin, end = end, end + 4 * math.prod(shape)
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)
    return shapes
