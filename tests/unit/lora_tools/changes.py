"""LoRA files of a few layers at SD1.5's sizes, and what they change, by other arithmetic."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from lorasmith.adapters.base import AdapterOptions
from lorasmith.adapters.registry import adapter_class, algorithm_of, fixed_options

# Layers of SD1.5 by kohya's key: (O, I, kernel).
LAYERS: dict[str, tuple[int, ...]] = {
    "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q": (320, 320),
    "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k": (1280, 768),
    "lora_unet_up_blocks_3_attentions_0_proj_in": (320, 320, 1, 1),
    "lora_te_text_model_encoder_layers_0_self_attn_q_proj": (768, 768),
}
CONV = {"lora_unet_down_blocks_0_resnets_0_conv1": (320, 320, 3, 3)}


def lora_module(
    shape: tuple[int, ...], rank: int, seed: int, decades: float = 2.0
) -> dict[str, Tensor]:
    """A LoRA's float32 tensors whose singular values fall over about so many decades."""
    generator = torch.Generator().manual_seed(seed)
    outputs, inputs, *kernel = shape
    down = torch.randn(rank, inputs, *kernel, generator=generator)
    up = torch.randn(outputs, rank, *(1 for _ in kernel), generator=generator)
    fall = torch.logspace(0, -decades, rank)
    return {
        "lora_down.weight": down,
        "lora_up.weight": 0.01 * up * fall.view(1, -1, *(1 for _ in kernel)),
    }


def lora_tensors(
    layers: Mapping[str, tuple[int, ...]],
    rank: int,
    *,
    alpha: float | None = None,
    seed: int = 0,
    decades: float = 2.0,
) -> dict[str, Tensor]:
    made: dict[str, Tensor] = {}
    for number, (key, shape) in enumerate(layers.items()):
        module = lora_module(shape, rank, 100 * seed + number, decades)
        if alpha is not None:
            module["alpha"] = torch.tensor(alpha)
        made.update({f"{key}.{name}": tensor for name, tensor in module.items()})
    return made


def write(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> Path:
    save_file(dict(tensors), path, dict(metadata or {}))
    return path


def deltas(path: Path, layers: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """The change of each layer's weight, (O, I), as the adapters of training make it."""
    modules: dict[str, dict[str, Tensor]] = {}
    for name, tensor in load_file(path).items():
        key, _, own = name.partition(".")
        modules.setdefault(key, {})[own] = tensor
    return {key: delta(layers[key], module) for key, module in modules.items()}


def delta(shape: tuple[int, ...], tensors: Mapping[str, Tensor]) -> Tensor:
    """(O, I) in float64: LoRA's multiplied out here, other types' by their adapters, which are
    held against lycoris where they are tested."""
    if "lora_down.weight" in tensors and "lora_mid.weight" not in tensors:
        down, up = (tensors[f"lora_{side}.weight"].double().flatten(1) for side in ("down", "up"))
        return up @ down * (float(tensors.get("alpha", down.shape[0])) / down.shape[0])
    cls = algorithm_of(tensors)
    assert cls is not None
    layer = empty_layer(shape)
    with torch.no_grad():
        return cls.from_tensors(layer, tensors).delta_weight(layer).double().flatten(1)


def empty_layer(shape: tuple[int, ...]) -> nn.Linear | nn.Conv2d:
    """A layer with a weight of this shape, all zeros."""
    outputs, inputs, *kernel = shape
    layer: nn.Linear | nn.Conv2d
    if kernel:
        layer = nn.Conv2d(inputs, outputs, tuple(kernel), padding="same", bias=False)
    else:
        layer = nn.Linear(inputs, outputs, bias=False)
    nn.init.zeros_(layer.weight)
    return layer


def made_by(
    algorithm: str, shape: tuple[int, ...], rank: int = 4, seed: int = 0, **options: object
) -> dict[str, Tensor]:
    """A file's tensors of one layer's adapter of any type, none of them zero."""
    generator = torch.Generator().manual_seed(seed)
    adapter = adapter_class(algorithm).create(
        empty_layer(shape),
        rank=rank,
        alpha=rank / 2,
        generator=generator,
        options=fixed_options(algorithm, AdapterOptions(**options)),  # type: ignore[arg-type]
    )
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.normal_(std=0.3, generator=generator)
    return {name: tensor.detach().clone() for name, tensor in adapter.state_dict().items()}


def least_error(weight: Tensor, rank: int) -> float:
    """Of any matrix of that rank, by a full SVD in float64 (Eckart and Young)."""
    return float(torch.linalg.svdvals(weight)[rank:].norm())
