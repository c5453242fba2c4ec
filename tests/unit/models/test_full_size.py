"""A full-size Stable Diffusion 1.5 of random weights, against diffusers' own converter."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers.loaders.single_file_utils import (
    convert_ldm_clip_checkpoint,
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
)
from safetensors.torch import load_file, save_file
from torch import Tensor

from lorasmith.models.checkpoint import empty_modules, ldm_weights, load_model
from lorasmith.models.family import FAMILIES, Architecture
from lorasmith.tensor_random import normal

# The published model's configuration, from its repository's config.json files.
SD15 = Architecture(
    family="sd1",
    unet={
        **FAMILIES["sd1"].unet,
        "sample_size": 64,
        "in_channels": 4,
        "out_channels": 4,
        "block_out_channels": [320, 640, 1280, 1280],
        "layers_per_block": 2,
        "down_block_types": [*["CrossAttnDownBlock2D"] * 3, "DownBlock2D"],
        "up_block_types": ["UpBlock2D", *["CrossAttnUpBlock2D"] * 3],
        "mid_block_type": "UNetMidBlock2DCrossAttn",
        "cross_attention_dim": 768,
        "transformer_layers_per_block": 1,
        "use_linear_projection": False,
    },
    vae={
        **FAMILIES["sd1"].vae,
        "sample_size": 512,
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
    },
    text={
        **FAMILIES["sd1"].text,
        "vocab_size": 49408,
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "max_position_embeddings": 77,
        "projection_dim": 768,
        "bos_token_id": 49406,
        "eos_token_id": 49407,
        "pad_token_id": 49407,
    },
    prediction="epsilon",
    latent_channels=4,
    latent_factor=8,
    size_multiple=64,
    native_resolution=512,
)


def random_state(architecture: Architecture) -> dict[str, Tensor]:
    """Cheap float16 weights under LDM names: slices of one draw, none like another."""
    draw = (normal((1 << 20,), 0, "full size") * 0.02).half()
    state = {}
    for number, (name, empty) in enumerate(ldm_weights(**empty_modules(architecture))):
        repeats = 1 + (number + empty.numel()) // draw.numel()
        values = draw.repeat(repeats)[number : number + empty.numel()]
        state[name] = values.reshape(empty.shape).clone()
    return state


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("full") / "sd15.safetensors"
    state = random_state(SD15)
    # What the published file has besides.
    positions = "cond_stage_model.transformer.text_model.embeddings.position_ids"
    state[positions] = torch.arange(77)[None]
    state["alphas_cumprod"] = torch.ones(1000)
    state["model_ema.decay"] = torch.ones(())
    save_file(state, path)
    return path


@pytest.mark.slow
def test_loads_what_diffusers_converts(checkpoint: Path) -> None:
    model = load_model(checkpoint, dtype=torch.float16, vae_dtype=torch.float16)

    assert model.architecture == SD15
    assert model.notes == ()
    state = load_file(checkpoint)
    # Counts of the published file: 686 + 248 + 196 weights.
    wanted_unet = convert_ldm_unet_checkpoint(state, SD15.unet)
    wanted_vae = convert_ldm_vae_checkpoint(state, SD15.vae)
    text = convert_ldm_clip_checkpoint(state)
    wanted_text = {
        name.removeprefix("text_model."): tensor
        for name, tensor in text.items()
        if not name.endswith("position_ids")
    }
    for module, wanted, count in (
        (model.unet, wanted_unet, 686),
        (model.vae, wanted_vae, 248),
        (model.text_encoder, wanted_text, 196),
    ):
        found = dict(module.named_parameters())
        assert found.keys() == wanted.keys()
        assert len(found) == count
        for name, tensor in wanted.items():
            assert torch.equal(found[name], tensor), name
