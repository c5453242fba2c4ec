"""Stable Diffusion XL and its kin (Pony, Illustrious, NoobAI): two text encoders.

The UNet reads the states of CLIP ViT-L and OpenCLIP ViT-bigG side by side, each before its last
layer and without the final norm; besides, the pooled embedding of the second one and six numbers:
the image's original size, its crop and its target size, each (height, width) or (top, left).
"""

from __future__ import annotations

from lorasmith.models.families.base import (
    GUIDES_LENGTH,
    LATENT_DIFFUSION_VAE,
    Family,
    TextEncoderSpec,
    has,
)
from lorasmith.models.families.unet import LATENT_DIFFUSION_UNET, UNET

SDXL = Family(
    name="sdxl",
    title="Stable Diffusion XL",
    matches=has(r"^conditioner\.embedders\.|\.label_emb\.|(^|\.)add_embedding\.|^text_encoder_2\."),
    modelspec=dict.fromkeys(("epsilon", "v"), "stable-diffusion-xl-v1-base"),
    base_model_version=dict.fromkeys(("epsilon", "v"), "sdxl_base_v1-0"),
    native_resolution={"epsilon": 1024, "v": 1024},
    denoiser=UNET,
    denoiser_config={
        **LATENT_DIFFUSION_UNET,
        "head_width": 64,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
    },
    vae={**LATENT_DIFFUSION_VAE, "scaling_factor": 0.13025},
    text_encoders=(
        TextEncoderSpec(
            part="text_encoder",
            key_prefix="lora_te1",
            ldm_prefix="conditioner.embedders.0.transformer.",
            style="hf",
            config={"hidden_act": "quick_gelu", "layer_norm_eps": 1e-5},
            layer=-2,
        ),
        TextEncoderSpec(
            part="text_encoder_2",
            key_prefix="lora_te2",
            ldm_prefix="conditioner.embedders.1.model.",
            style="open_clip",
            config={"hidden_act": "gelu", "layer_norm_eps": 1e-5},
            pad=0,
            layer=-2,
            projected=True,
        ),
    ),
    lora_names="ldm",
    size_conditioning=True,
    zero_negative=True,
    card_version="SDXL",
    # A quarter of the UNet's, of a guide for Pony: there are two, and they are quickly rigid.
    defaults={"optimizer.text_encoder_lr": 2.5e-5, **GUIDES_LENGTH},
)
