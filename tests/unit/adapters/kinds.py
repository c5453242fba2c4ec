"""The types that add a weight, and lycoris' modules for the same, as the tests compare them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from lycoris.modules.base import LycorisBaseModule
from lycoris.modules.locon import LoConModule
from lycoris.modules.loha import LohaModule
from lycoris.modules.lokr import LokrModule
from torch import Tensor, nn

from lorasmith.adapters.base import AdapterOptions

RANK, ALPHA = 1, 0.7


@dataclass
class Kind:
    """A type with its options, and lycoris' module and arguments for the same."""

    name: str
    theirs: type[LycorisBaseModule]
    ours: dict[str, Any] = field(default_factory=dict)
    arguments: dict[str, Any] = field(default_factory=dict)

    @property
    def options(self) -> AdapterOptions:
        return AdapterOptions(**self.ours)


def kind(name: str, theirs: type[LycorisBaseModule], **options: Any) -> Kind:
    on_output = options.get("decompose_on_output", False)
    arguments = {key: value for key, value in options.items() if key != "decompose_on_output"}
    arguments |= {"use_tucker": options.get("tucker", False), "wd_on_out": on_output}
    return Kind(name, theirs, options, arguments)


DECOMPOSED = {"weight_decompose": True}
ON_OUTPUT = {"weight_decompose": True, "decompose_on_output": True}


KINDS = {
    "lora": kind("lora", LoConModule),
    "rs": kind("lora", LoConModule, rs_lora=True),
    "locon tucker": kind("locon", LoConModule, tucker=True),
    "dora": Kind("dora", LoConModule, {}, {"weight_decompose": True, "wd_on_out": False}),
    "dora tucker": kind("locon", LoConModule, tucker=True, **DECOMPOSED),
    "dora out": kind("lora", LoConModule, **ON_OUTPUT),
    "dora out tucker": kind("locon", LoConModule, tucker=True, **ON_OUTPUT),
    "loha": kind("loha", LohaModule),
    "loha tucker": kind("loha", LohaModule, tucker=True, rs_lora=True),
    "loha decomposed": kind("loha", LohaModule, **DECOMPOSED),
    "loha out": kind("loha", LohaModule, **ON_OUTPUT),
    "lokr": kind("lokr", LokrModule),
    "lokr full": kind("lokr", LokrModule, full_matrix=True, factor=2),
    "lokr both": kind("lokr", LokrModule, decompose_both=True, factor=4),
    "lokr tucker": kind("lokr", LokrModule, tucker=True, factor=2),
    "lokr decomposed": kind("lokr", LokrModule, factor=2, **DECOMPOSED),
    "lokr out": kind("lokr", LokrModule, factor=2, **ON_OUTPUT),
}


def randomise(adapter: nn.Module, seed: int = 2) -> None:
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in adapter.named_parameters():
            change = torch.randn(p.shape, generator=g, dtype=p.dtype)
            p.copy_(p.abs() * (1 + 0.2 * change).abs() if name == "dora_scale" else change)


def tensors_of(adapter: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().float() for name, tensor in adapter.state_dict().items()}


def lycoris_of(name: str, layer: nn.Module, rank: int = RANK) -> LycorisBaseModule:
    wanted = KINDS[name]
    module = wanted.theirs(
        "lora_unet_x", layer, lora_dim=rank, alpha=ALPHA, **wanted.arguments
    ).eval()
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    randomise(module)
    return module


def merged_by(module: LycorisBaseModule, layer: nn.Module) -> Tensor:
    """The weight that lycoris' forward acts with.

    Not its ``get_merged_weight``, which in 4.1 applies the scale of LoHa and LoKr twice.
    """
    if isinstance(module, LoConModule):
        diff = module.get_diff_weight()[0]
    else:
        diff = module.get_weight(layer.weight.shape)
    weight = layer.weight + diff
    return module.apply_weight_decompose(weight) if module.wd else weight
