"""A model as the single file, in LDM names, that every Stable Diffusion program reads."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextModel

from lorasmith.formats.ldm_keys import (
    OPEN_CLIP,
    OPEN_CLIP_LAYER,
    QKV,
    UNET_PREFIX,
    VAE_PREFIX,
    inverted,
    is_vae_projection,
    translate,
    unet_plan_of_diffusers,
    unet_table,
    vae_plan_of_diffusers,
    vae_table,
)
from lorasmith.models.architecture import header_entry
from lorasmith.models.families.base import Family, TextEncoderSpec
from lorasmith.models.families.table import FAMILIES, METADATA_KEY, Overrides, pick_allowed
from lorasmith.tensors.files import save_tensors


def save_ldm(
    path: Path,
    *,
    unet: UNet2DConditionModel,
    vae: AutoencoderKL,
    text_encoders: Mapping[str, CLIPTextModel],
    family: str = "sd1",
    metadata: Mapping[str, str] | None = None,
    dtype: torch.dtype = torch.float16,
    prediction: str = "epsilon",
    native_resolution: int | None = None,
) -> None:
    """Write one LDM-format ``.safetensors``; equal weights give equal bytes.

    What the shapes of the weights do not say (heads, groups, latent scale, the resolution it was
    trained at) goes into the header as ``lorasmith.model``, and only if it is not the family's own.

    Args:
        native_resolution: side in pixels that the model was trained at; None takes it from the
            UNet's ``sample_size``.

    Raises:
        RunError: the disk is full or the folder cannot be written to.
    """
    model_family = FAMILIES[family]
    overrides = Overrides(
        unet=pick_allowed("unet", unet.config),
        vae=pick_allowed("vae", vae.config),
        texts={
            part: pick_allowed("text", encoder.config.to_dict())
            for part, encoder in text_encoders.items()
        },
        prediction=prediction,
        native_resolution=native_resolution
        or unet.config.sample_size * 2 ** (len(vae.config.block_out_channels) - 1),
    )
    modules: dict[str, nn.Module] = {"unet": unet, "vae": vae, **text_encoders}
    header = dict(metadata or {})
    if entry := _header_of(modules, model_family, overrides):
        header[METADATA_KEY] = json.dumps(entry, sort_keys=True)
    header.setdefault("format", "pt")
    tensors = {
        name: tensor.detach().to("cpu", dtype)
        for name, tensor in ldm_weights(modules, model_family)
    }
    save_tensors(path, tensors, header)


def _header_of(
    modules: Mapping[str, nn.Module], family: Family, overrides: Overrides
) -> dict[str, Any]:
    """The header entry: how this model differs from what its shapes alone would be read as."""
    shapes = {
        part: {name: tuple(p.shape) for name, p in module.named_parameters()}
        for part, module in modules.items()
    }
    return header_entry(shapes, family, overrides)


def ldm_weights(modules: Mapping[str, nn.Module], family: Family) -> Iterator[tuple[str, Tensor]]:
    """Every weight of UNet, VAE and text encoders under its LDM name, in LDM's shape."""
    unet, vae = (dict(modules[part].named_parameters()) for part in ("unet", "vae"))
    names = inverted(unet_table(unet_plan_of_diffusers(unet)))
    for name, tensor in unet.items():
        yield UNET_PREFIX + _require_ldm_name(translate(name, names), name), tensor
    names = inverted(vae_table(vae_plan_of_diffusers(vae)))
    for name, tensor in vae.items():
        shaped = tensor[:, :, None, None] if is_vae_projection(name) else tensor
        yield VAE_PREFIX + _require_ldm_name(translate(name, names), name), shaped
    for text in family.text_encoders:
        weights = dict(modules[text.part].named_parameters())
        if text.style == "open_clip":
            yield from _open_clip_weights(weights, text)
        else:
            for name, tensor in weights.items():
                yield f"{text.ldm_prefix}text_model.{name}", tensor


def _open_clip_weights(
    weights: Mapping[str, Tensor], text: TextEncoderSpec
) -> Iterator[tuple[str, Tensor]]:
    back, back_layer = inverted(OPEN_CLIP), inverted(OPEN_CLIP_LAYER)
    layers = 1 + max(int(name.split(".")[2]) for name in weights if name.startswith("encoder."))
    for name, tensor in weights.items():
        if name in back:
            shaped = tensor.t() if name == "text_projection.weight" else tensor
            yield text.ldm_prefix + back[name], shaped
    # Layers that no program runs are written all the same, as the last one again: programs that
    # read such files look for them.
    for number in range(layers + text.unused_layers):
        source = f"encoder.layers.{min(number, layers - 1)}"
        block = f"{text.ldm_prefix}transformer.resblocks.{number}"
        for kind in ("weight", "bias"):
            joined = [weights[f"{source}.self_attn.{each}.{kind}"] for each in QKV]
            yield f"{block}.attn.in_proj_{kind}", torch.cat(joined)
            for new, old in back_layer.items():
                yield f"{block}.{old}.{kind}", weights[f"{source}.{new}.{kind}"]


def _require_ldm_name(translated: str | None, name: str) -> str:
    assert translated is not None, f"{name} has no LDM name"
    return translated
