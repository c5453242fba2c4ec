"""Stable Diffusion 1: one CLIP ViT-L text encoder, predicts the noise."""

from __future__ import annotations

from lorasmith.models.families.base import (
    GUIDES_LENGTH,
    LATENT_DIFFUSION_VAE,
    Family,
    TextEncoderSpec,
    has,
)
from lorasmith.models.families.unet import LATENT_DIFFUSION_UNET, UNET

SD1 = Family(
    name="sd1",
    title="Stable Diffusion 1",
    matches=has(r"^(model\.diffusion_model|unet)\.|(^|\.)(input|down)_blocks\.\d"),
    modelspec={"epsilon": "stable-diffusion-v1", "v": "stable-diffusion-v1"},
    base_model_version={"epsilon": "sd_v1", "v": "sd_v1_v"},
    native_resolution={"epsilon": 512, "v": 512},
    denoiser=UNET,
    denoiser_config={**LATENT_DIFFUSION_UNET, "attention_head_dim": 8},
    vae=LATENT_DIFFUSION_VAE,
    text_encoders=(
        TextEncoderSpec(
            part="text_encoder",
            key_prefix="lora_te",
            ldm_prefix="cond_stage_model.transformer.",
            style="hf",
            config={"hidden_act": "quick_gelu", "layer_norm_eps": 1e-5},
        ),
    ),
    card_version="SD1",
    # Half of the UNet's, as guides have it: it keeps the trigger apart from other words.
    defaults={"optimizer.text_encoder_lr": 5e-5, **GUIDES_LENGTH},
)
