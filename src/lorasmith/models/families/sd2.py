"""Stable Diffusion 2: OpenCLIP ViT-H text encoder; the 768 px models predict v, the 512 ones noise.

The text encoder's last layer is never run: what single files store as 24 layers are 23 here, as in
diffusers' folders, and its final norm follows the 23rd. Single files that were made of such folders
lack the 24th.
"""

from __future__ import annotations

from lorasmith.models.families.base import (
    GUIDES_LENGTH,
    LATENT_DIFFUSION_VAE,
    Family,
    Shapes,
    TextEncoderSpec,
    has,
    reads_context,
)
from lorasmith.models.families.unet import LATENT_DIFFUSION_UNET, UNET


def _recognised(shapes: Shapes) -> bool:
    return has(r"^cond_stage_model\.model\.")(shapes) or reads_context(1024)(shapes)


SD2 = Family(
    name="sd2",
    title="Stable Diffusion 2",
    matches=_recognised,
    modelspec={"epsilon": "stable-diffusion-v2-512", "v": "stable-diffusion-v2-768-v"},
    base_model_version={"epsilon": "sd_v2", "v": "sd_v2_v"},
    native_resolution={"epsilon": 512, "v": 768},
    denoiser=UNET,
    denoiser_config={**LATENT_DIFFUSION_UNET, "head_width": 64},
    vae=LATENT_DIFFUSION_VAE,
    text_encoders=(
        TextEncoderSpec(
            part="text_encoder",
            key_prefix="lora_te",
            ldm_prefix="cond_stage_model.model.",
            style="open_clip",
            config={"hidden_act": "gelu", "layer_norm_eps": 1e-5},
            pad=0,
            unused_layers=1,
            pruned_layers=23,
        ),
    ),
    prediction="v",
    # ComfyUI's test: no other sign tells the 512 px models from the 768 px ones.
    v_prediction_marker=("up_blocks.3.attentions.2.transformer_blocks.0.norm1.bias", 0.09),
    card_version="SD2",
    # Half of the UNet's, as guides have it for Stable Diffusion 1.
    defaults={"optimizer.text_encoder_lr": 5e-5, **GUIDES_LENGTH},
)
