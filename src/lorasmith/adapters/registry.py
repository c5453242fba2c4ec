"""The table of adapter types: name in the settings -> class, and how files speak of it.

A file does not say its type; each class is asked whether a module's tensor names are its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from lorasmith.adapters.base import Adapter
from lorasmith.adapters.options import AdapterOptions
from lorasmith.adapters.types.boft import BOFT
from lorasmith.adapters.types.differences import Difference, WithBias
from lorasmith.adapters.types.dylora import DyLoRA
from lorasmith.adapters.types.glora import GLoRA
from lorasmith.adapters.types.ia3 import IA3
from lorasmith.adapters.types.loha import LoHa
from lorasmith.adapters.types.lokr import LoKr
from lorasmith.adapters.types.lora import LoRA
from lorasmith.adapters.types.oft import OFT

LYCORIS = "lycoris.kohya"


@dataclass(frozen=True, slots=True)
class Algorithm:
    """
    Args:
        cls: what is made for each layer.
        conv: 3x3 convolutions get one too, unless their rank is said to be 0.
        targets: the preset of layers that the type has of its own.
        fixed: options that make the type what it is, whatever was asked for.
        module: ``ss_network_module`` of its files.
        algo: LyCORIS' name of it in ``ss_network_args``.
    """

    cls: type[Adapter]
    conv: bool = False
    targets: str | None = None
    fixed: Mapping[str, Any] = field(default_factory=dict)
    module: str = LYCORIS
    algo: str | None = None

    def options(self, asked: AdapterOptions) -> AdapterOptions:
        return replace(asked, **self.fixed)


ALGORITHMS: dict[str, Algorithm] = {
    "lora": Algorithm(LoRA, module="networks.lora"),
    "c3lier": Algorithm(LoRA, conv=True, module="networks.lora"),
    "locon": Algorithm(LoRA, conv=True, algo="locon"),
    "loha": Algorithm(LoHa, conv=True, algo="loha"),
    "lokr": Algorithm(LoKr, conv=True, algo="lokr"),
    "ia3": Algorithm(IA3, targets="ia3", algo="ia3"),
    "dylora": Algorithm(DyLoRA, module="networks.dylora"),
    "dora": Algorithm(LoRA, fixed={"weight_decompose": True}, algo="locon"),
    "oft": Algorithm(OFT, conv=True, algo="diag-oft"),
    "boft": Algorithm(BOFT, conv=True, algo="boft"),
}

READ_ONLY: tuple[type[Adapter], ...] = (GLoRA, Difference, WithBias)
"""What is applied, and not trained."""

_TYPES: tuple[type[Adapter], ...] = (
    *dict.fromkeys(row.cls for row in ALGORITHMS.values()),
    GLoRA,
    Difference,
)


def algorithm_of(tensors: Mapping[str, Tensor]) -> type[Adapter] | None:
    """The type whose tensors, by declared name, these are, or ``None``."""
    return next((cls for cls in _TYPES if cls.claims(tensors)), None)
