"""Tiny checkpoints of each family, what tuning makes of them, and LoRAs for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tests.tiny_models import tiny_architecture, tiny_checkpoint, tiny_model
from torch import Tensor

from lorasmith.adapters.file import save_lora
from lorasmith.adapters.network import AdapterNetwork
from lorasmith.models.diffusion_model import DiffusionModel
from lorasmith.models.export import save_ldm
from lorasmith.models.families.table import FAMILIES
from lorasmith.models.load import load_model
from lorasmith.models.open import open_checkpoint
from lorasmith.models.weights import read_weights
from lorasmith.tensors.rng import normal

NAMES = tuple(FAMILIES)


@cache
def base_file(family: str, dtype: torch.dtype = torch.float32) -> Path:
    folder = Path(mkdtemp(prefix="lorasmith-test-"))
    return tiny_checkpoint(folder / f"{family}.safetensors", dtype=dtype, family=family)


def plain_checkpoint(path: Path) -> Path:
    """An SD1 file that needs no header to be read: its heads and groups are the family's own."""
    tiny = tiny_architecture(hidden=64)
    unet = tiny.denoiser | {
        "block_out_channels": [32, 32, 64], "norm_num_groups": 32, "attention_head_dim": 8,
        "sample_size": 64,
    }  # fmt: skip
    vae = tiny.vae | {
        "block_out_channels": [32, 32, 32, 32], "norm_num_groups": 32, "sample_size": 512,
    }  # fmt: skip
    text = tiny.text | {"num_attention_heads": 1}
    model = tiny_model(architecture=replace(tiny, denoiser=unet, vae=vae, texts=(text,)))
    save_ldm(path, unet=model.denoiser, vae=model.vae, text_encoders=model.text_encoders)
    assert "lorasmith.model" not in metadata_of(path)
    return path


def metadata_of(path: Path) -> dict[str, str]:
    with safe_open(path, "pt") as file:
        return file.metadata() or {}


def changed(path: Path, base: Path, change: Callable[[str, Tensor], Tensor]) -> Path:
    """``base`` with every tensor put through ``change``, in its own type."""
    made = {
        name: change(name, tensor).to(tensor.dtype).contiguous()
        for name, tensor in load_file(base).items()
    }
    save_file(made, path, metadata_of(base))
    return path


def tuned(path: Path, base: Path, scale: float = 0.02) -> Path:
    """Matrices and kernels of the UNet and the text encoders get a random change."""

    def change(name: str, tensor: Tensor) -> Tensor:
        if name.startswith("first_stage_model.") or tensor.ndim < 2:
            return tensor
        return tensor + scale * normal(tensor.shape, 0, f"tuning {name}")

    return changed(path, base, change)


def random_lora(
    path: Path,
    base: Path,
    *,
    algorithm: str = "lora",
    rank: int = 3,
    conv_rank: int = 0,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
) -> Path:
    """A LoRA of all of its layers, whose every tensor is random."""
    network = AdapterNetwork.create(
        loaded(base).adapter_roots(),
        algorithm=algorithm,
        rank=rank,
        alpha=rank / 2,
        conv_rank=conv_rank,
    )
    for key, adapter in network.adapters.items():
        for name, parameter in adapter.named_parameters():
            noise = 0.1 * normal(parameter.shape, seed, f"test {key} {name}")
            with torch.no_grad():
                parameter.copy_(parameter + noise if name == "dora_scale" else noise)
    save_lora(path, network.state_dict(), {}, dtype=dtype)
    return path


@cache
def loaded(base: Path) -> DiffusionModel:
    """Loaded once; nothing is attached to it."""
    return load_model(base)


def weights_of(model: Path) -> dict[str, Tensor]:
    """Every weight of UNet and text encoders, float32, by part and canonical name."""
    return {
        f"{part}.{name}": weight
        for part, weights in open_checkpoint(model).weights.items()
        for name, weight in read_weights(part, weights, torch.float32, "cpu")
        if part != "vae"
    }


def deltas(lora: Path, base: Path) -> dict[str, Tensor]:
    """ΔW by part and weight, as the adapters that training attaches have them."""
    network = AdapterNetwork.load(load_file(lora), loaded(base).adapter_roots())
    assert not network.report.unmatched
    found = {}
    for key, adapter in network.adapters.items():
        target = network.targets[key]
        name = f"{target.root.folder}.{target.path}.weight"
        found[name] = adapter.delta_weight(target.layer).detach()
    return found


def expected_weights(
    base: Path, loras: list[tuple[Path, float, float]]
) -> tuple[dict[str, Tensor], set[str]]:
    """(the weights with the LoRAs added, names of those that change), by the adapters that
    training and generating attach."""
    model = loaded(base)
    weights = weights_of(base)
    sums = {name: weight.clone() for name, weight in weights.items()}
    names = set()
    for path, unet, text in loras:
        network = AdapterNetwork.load(load_file(path), model.adapter_roots())
        for key, adapter in network.adapters.items():
            target = network.targets[key]
            name = f"{target.root.folder}.{target.path}.weight"
            strength = unet if target.part == "unet" else text
            with torch.no_grad():
                sums[name] += adapter.merged_weight(target.layer, strength) - weights[name]
            names.add(name)
    return sums, names
