"""Base models from disk.

:func:`load_model` builds the modules without memory, then fills them weight by weight from the
file, straight into the wanted precision, so its peak is about one model.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel

from lorasmith.core.errors import CheckpointError, Problem
from lorasmith.core.text import quantity, shortlist
from lorasmith.models.diffusion_model import DiffusionModel
from lorasmith.models.families.base import DENOISER, Config, TextEncoderSpec
from lorasmith.models.families.table import Architecture, check_clip_skip
from lorasmith.models.layout import canonical_shape
from lorasmith.models.open import OpenedCheckpoint, open_checkpoint
from lorasmith.models.placement import IN_FULL, WeightPlacement, WeightPlacer
from lorasmith.models.reference import ModelReference
from lorasmith.models.weights import read_weights

NAMED = 5  # how many weights an error names before it only counts


def load_model(
    model: str | Path | ModelReference,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    vae_dtype: torch.dtype = torch.float32,
) -> DiffusionModel:
    """Load a base model, frozen.

    Args:
        model: a path, or a reference that says more: another VAE, what it predicts.
        dtype: of denoiser and text encoders, whatever the file stores.
        vae_dtype: of the VAE; float16 overflows in Stable Diffusion's.

    Raises:
        CheckpointError: it is missing, damaged, unsafe, of another family, not whole, or holds
            NaN; every weight that is missing, misshapen or too many is counted, the first named.
    """
    checkpoint = open_checkpoint(model)
    loading = Loading(checkpoint, dtype=dtype, device=device, vae_dtype=vae_dtype)
    loading.fill(*checkpoint.architecture.family.parts)
    return loading.model


class Loading:
    """A model that is filled part by part, for those who need its parts one after the other.

    Args:
        opened: the checkpoint; checked here.
        placement: how the denoiser's weights are kept.

    Raises:
        CheckpointError: as :func:`load_model`, but for numbers that are read later.
    """

    def __init__(
        self,
        checkpoint: OpenedCheckpoint,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        vae_dtype: torch.dtype = torch.float32,
        placement: WeightPlacement = IN_FULL,
    ) -> None:
        self.checkpoint, self.placement = checkpoint, placement
        self.dtype, self.vae_dtype = dtype, vae_dtype
        reference = checkpoint.reference
        skip_notes = check_clip_skip(
            checkpoint.architecture, reference.clip_skip, checkpoint.source
        )
        self._modules = empty_modules(checkpoint.architecture)
        check_weights(checkpoint, self._modules)
        self.model = assemble(
            checkpoint.architecture, self._modules, dtype, device,
            clip_skip=reference.clip_skip, max_tokens=reference.max_tokens,
            notes=[*checkpoint.notes, *skip_notes],
        )  # fmt: skip

    def fill(self, *parts: str) -> None:
        """Read the weights of these parts from the file, each onto its device at once.

        Raises:
            CheckpointError: a file is damaged, or holds NaN.
        """
        for part in parts:
            module, device = self._modules[part], self.model.device
            fill_buffers(module, device)
            dtype = self.vae_dtype if part == "vae" else self.dtype
            keeper = None
            if part == DENOISER:
                blocks = self.checkpoint.architecture.block_paths
                keeper = WeightPlacer(module, blocks, self.placement, device)
            for name, tensor in read_weights(part, self.checkpoint.weights[part], dtype, device):
                if self.model.memory_format == torch.channels_last and tensor.ndim == 4:
                    tensor = tensor.contiguous(memory_format=torch.channels_last)
                if keeper is None or not keeper.place(name, tensor):
                    set_weight(module, name, tensor)
            if keeper is not None:
                self.model.notes += tuple(keeper.notes)


def assemble(
    architecture: Architecture,
    modules: Mapping[str, Any],
    dtype: torch.dtype,
    device: torch.device | str,
    **options: Any,
) -> DiffusionModel:
    """The model of these modules, by part name; ``options`` are those of the class."""
    return DiffusionModel(
        denoiser=modules[DENOISER],
        vae=modules["vae"],
        text_encoders={part: modules[part] for part in architecture.family.parts[2:]},
        architecture=architecture,
        dtype=dtype,
        device=device,
        **options,
    )


def exchange_vae(model: DiffusionModel, reference: ModelReference) -> None:
    """Give a model another VAE, without reading its other weights again.

    Args:
        reference: that of ``model``, with another VAE.

    Raises:
        CheckpointError: see :func:`load_model`.
    """
    checkpoint = open_checkpoint(reference)
    modules = empty_modules(checkpoint.architecture)
    check_weights(checkpoint, modules)
    module = modules["vae"]
    weights = checkpoint.weights["vae"]
    for name, tensor in read_weights("vae", weights, model.vae_dtype, model.device):
        set_weight(module, name, tensor)
    fill_buffers(module, model.device)
    model.vae = module.eval().to(memory_format=model.memory_format)
    model.architecture = checkpoint.architecture


def empty_modules(architecture: Architecture) -> dict[str, Any]:
    """Denoiser, VAE and text encoders by part name, on the meta device: shapes without memory."""
    specs = architecture.family.text_encoders
    module, _, name = architecture.family.denoiser.module.rpartition(".")
    denoiser = getattr(importlib.import_module(module), name)
    with torch.device("meta"):
        return {
            DENOISER: denoiser(**architecture.denoiser),
            "vae": AutoencoderKL(**architecture.vae),
            **{
                spec.part: empty_text_encoder(spec, config)
                for spec, config in zip(specs, architecture.texts, strict=True)
            },
        }


def empty_text_encoder(spec: TextEncoderSpec, config: Config) -> CLIPTextModel:
    """A text encoder, with its projection as a module of its own where it has one."""
    text_encoder = CLIPTextModel(CLIPTextConfig(**config, attn_implementation="sdpa"))
    if spec.projected:
        text_encoder.text_projection = nn.Linear(
            config["hidden_size"], config["projection_dim"], bias=False
        )
    return text_encoder


def check_weights(checkpoint: OpenedCheckpoint, modules: Mapping[str, nn.Module]) -> None:
    """Compare what the file has with what the modules want, before anything is read.

    Raises:
        CheckpointError: weights are missing, too many or of another shape.
    """
    problems = []
    extra = [name for _, name in checkpoint.unknown]
    for part in checkpoint.architecture.family.parts:
        shapes = {name: tuple(p.shape) for name, p in modules[part].named_parameters()}
        weights = checkpoint.weights[part]
        missing = [f"{part} {name}" for name in shapes if name not in weights]
        extra += [weight.place.name for name, weight in weights.items() if name not in shapes]
        misshapen = []
        for name in shapes.keys() & weights.keys():
            weight = weights[name]
            place = weight.place
            shape = canonical_shape(part, name, weight.file.shapes[place.name], place)
            if shape != shapes[name]:
                misshapen.append(f"{place.name} is {list(shape)}, not {list(shapes[name])}")
        problems += _count(checkpoint.source, "missing", missing)
        problems += _count(checkpoint.source, "of the wrong shape", sorted(misshapen))
    problems += _count(checkpoint.source, "too many", extra)
    if problems:
        raise CheckpointError(problems)


def _count(source: str, what: str, names: list[str]) -> list[Problem]:
    if not names:
        return []
    listed = shortlist(names, NAMED)
    hint = "the file is damaged, or is not a plain Stable Diffusion model"
    return [Problem(source, f"{quantity(len(names), 'weight', 'is')} {what}: {listed}", hint)]


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
