"""Base models to and from disk.

:func:`load_model` builds the modules without memory, then fills them weight by weight from the
file, straight into the wanted precision, so its peak is about one model. :func:`save_ldm` writes
the single LDM file that every Stable Diffusion program reads.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel

from lorasmith.errors import CheckpointError, Problem
from lorasmith.models.architecture import header_entry
from lorasmith.models.family import (
    FAMILIES,
    METADATA_KEY,
    PARTS,
    Architecture,
    Overrides,
    pick_allowed,
)
from lorasmith.models.key_maps import (
    TEXT_PREFIX,
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
from lorasmith.models.layout import canonical_shape
from lorasmith.models.reading import read_weights
from lorasmith.models.sd import DiffusionModel
from lorasmith.models.source import OpenedCheckpoint, open_checkpoint
from lorasmith.tensor_files import save_tensors

NAMED = 5  # how many weights an error names before it only counts


def load_model(
    source: str | Path,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    vae: str | Path | None = None,
    family: str = "auto",
    prediction: str = "auto",
    clip_skip: int = 1,
    max_tokens: int = 75,
    vae_dtype: torch.dtype = torch.float32,
) -> DiffusionModel:
    """Load a base model, frozen.

    Args:
        source: see :func:`lorasmith.models.source.open_checkpoint`.
        dtype: of UNet and text encoder, whatever the file stores.
        vae: a VAE to use instead of the model's own.
        clip_skip, max_tokens: see :class:`~lorasmith.models.sd.DiffusionModel`.
        vae_dtype: of the VAE; float16 overflows in Stable Diffusion's.

    Raises:
        CheckpointError: it is missing, damaged, unsafe, of another family, not whole, or holds
            NaN; every weight that is missing, misshapen or too many is counted, the first named.
    """
    opened = open_checkpoint(source, vae=vae, family=family, prediction=prediction)
    layers = opened.architecture.text["num_hidden_layers"]
    if not 1 <= clip_skip <= layers:
        what = f"its text encoder has {layers} layers, so CLIP skip {clip_skip} does not exist"
        raise CheckpointError.of(source, what, f"choose 1 to {layers}")
    modules = empty_modules(opened.architecture)
    check_weights(opened, modules)
    for part, module in modules.items():
        wanted = vae_dtype if part == "vae" else dtype
        for name, tensor in read_weights(part, opened.weights[part], wanted, device):
            set_weight(module, name, tensor)
        fill_buffers(module, device)
    return DiffusionModel(
        unet=modules["unet"],
        vae=modules["vae"],
        text_encoder=modules["text_encoder"],
        architecture=opened.architecture,
        dtype=dtype,
        device=device,
        clip_skip=clip_skip,
        max_tokens=max_tokens,
        notes=opened.notes,
    )


def empty_modules(architecture: Architecture) -> dict[str, Any]:
    """UNet, VAE and text encoder by part name, on the meta device: shapes without memory."""
    with torch.device("meta"):
        return {
            "unet": UNet2DConditionModel(**architecture.unet),
            "vae": AutoencoderKL(**architecture.vae),
            "text_encoder": CLIPTextModel(text_config_of(architecture)),
        }


def text_config_of(architecture: Architecture) -> CLIPTextConfig:
    return CLIPTextConfig(**architecture.text, attn_implementation="sdpa")


def check_weights(opened: OpenedCheckpoint, modules: Mapping[str, nn.Module]) -> None:
    """Compare what the file has with what the modules want, before anything is read.

    Raises:
        CheckpointError: weights are missing, too many or of another shape.
    """
    problems = []
    extra = [name for _, name in opened.unknown]
    for part in PARTS:
        wanted = {name: tuple(p.shape) for name, p in modules[part].named_parameters()}
        found = opened.weights[part]
        missing = [f"{part} {name}" for name in wanted if name not in found]
        extra += [stored.name for name, stored in found.items() if name not in wanted]
        misshapen = []
        for name in wanted.keys() & found.keys():
            stored = found[name]
            shape = canonical_shape(part, name, stored.file.shapes[stored.name])
            if shape != wanted[name]:
                misshapen.append(f"{stored.name} is {list(shape)}, not {list(wanted[name])}")
        problems += _count(opened.source, "missing", missing)
        problems += _count(opened.source, "of the wrong shape", sorted(misshapen))
    problems += _count(opened.source, "too many", extra)
    if problems:
        raise CheckpointError(problems)


def _count(source: str, what: str, names: list[str]) -> list[Problem]:
    if not names:
        return []
    listed = ", ".join(names[:NAMED]) + (", …" if len(names) > NAMED else "")
    todo = "the file is damaged, or is not a plain Stable Diffusion 1 model"
    return [Problem(source, f"{len(names)} weights are {what}: {listed}", todo)]


def set_weight(module: nn.Module, name: str, tensor: Tensor) -> None:
    """Make ``tensor`` itself, frozen, the parameter called ``name``."""
    path, _, leaf = name.rpartition(".")
    parameter = nn.Parameter(tensor, requires_grad=False)
    module.get_submodule(path).register_parameter(leaf, parameter)


def fill_buffers(module: nn.Module, device: torch.device | str) -> None:
    """Fill what no file stores: CLIP's position numbers."""
    for name, buffer in list(module.named_buffers()):
        assert name.endswith("position_ids"), f"no value known for the buffer {name}"
        path, _, leaf = name.rpartition(".")
        numbers = torch.arange(buffer.shape[-1], device=device).expand(buffer.shape)
        setattr(module.get_submodule(path), leaf, nn.Buffer(numbers, persistent=False))


def save_ldm(
    path: Path,
    *,
    unet: UNet2DConditionModel,
    vae: AutoencoderKL,
    text_encoder: CLIPTextModel,
    metadata: Mapping[str, str] | None = None,
    dtype: torch.dtype = torch.float16,
    prediction: str = "epsilon",
    native_resolution: int | None = None,
) -> None:
    """Write one LDM-format ``.safetensors``; equal weights give equal bytes.

    What the shapes of the weights do not say (heads, groups, latent scale, the resolution it was
    trained at) goes into the header as ``lorasmith.model``, and only if it is not SD 1's own.

    Args:
        native_resolution: side in pixels that the model was trained at; None takes it from the
            UNet's ``sample_size``.

    Raises:
        RunError: the disk is full or the folder cannot be written to.
    """
    header = dict(metadata or {})
    said = _said_of(unet, vae, text_encoder, prediction, native_resolution)
    if said:
        header[METADATA_KEY] = json.dumps(said, sort_keys=True)
    header.setdefault("format", "pt")
    tensors = {
        name: tensor.detach().to("cpu", dtype)
        for name, tensor in ldm_weights(unet=unet, vae=vae, text_encoder=text_encoder)
    }
    save_tensors(path, tensors, header)


def ldm_weights(
    *, unet: nn.Module, vae: nn.Module, text_encoder: nn.Module
) -> Iterator[tuple[str, Tensor]]:
    """Every weight under its LDM name, in LDM's shape."""
    unet_weights, vae_weights = dict(unet.named_parameters()), dict(vae.named_parameters())
    names = inverted(unet_table(unet_plan_of_diffusers(unet_weights)))
    for name, tensor in unet_weights.items():
        yield UNET_PREFIX + _known(translate(name, names), name), tensor
    names = inverted(vae_table(vae_plan_of_diffusers(vae_weights)))
    for name, tensor in vae_weights.items():
        shaped = tensor[:, :, None, None] if is_vae_projection(name) else tensor
        yield VAE_PREFIX + _known(translate(name, names), name), shaped
    for name, tensor in text_encoder.named_parameters():
        yield TEXT_PREFIX + name.removeprefix("text_model."), tensor


def _known(translated: str | None, name: str) -> str:
    assert translated is not None, f"{name} has no LDM name"
    return translated


def _said_of(
    unet: UNet2DConditionModel, vae: AutoencoderKL, text_encoder: CLIPTextModel,
    prediction: str, native_resolution: int | None,
) -> dict[str, Any]:  # fmt: skip
    """The header entry: how this model differs from what its shapes alone would be read as."""
    own = Overrides(
        unet=pick_allowed("unet", unet.config),
        vae=pick_allowed("vae", vae.config),
        text=pick_allowed("text", text_encoder.config.to_dict()),
        prediction=prediction,
        native_resolution=native_resolution
        or unet.config.sample_size * 2 ** (len(vae.config.block_out_channels) - 1),
    )
    modules: dict[str, nn.Module] = {"unet": unet, "vae": vae, "text_encoder": text_encoder}
    shapes = {
        part: {
            name.removeprefix("text_model."): tuple(p.shape)
            for name, p in module.named_parameters()
        }
        for part, module in modules.items()
    }
    return header_entry(shapes, FAMILIES["sd1"], own)
