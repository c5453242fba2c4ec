"""GLoRA: a low-rank change of the weight, and one that the weight is in (Chavan et al. 2023).

W' = W + alpha / r · (W A + B), A (I, I) and B (O, I) of rank r each. As LyCORIS' "glora" writes
them: A = a1 a2, B = b1 b2; before its version 2, A = a2 a1 and B = b2 b1, which the shapes tell. It
is read, not trained here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar, Self

import torch
from torch import Tensor

from lorasmith.adapters.base import Adapter, Layer


class GLoRA(Adapter):
    """
    Args:
        factors: of A, (I, r) and (r, I), and of B, (O, r) and (r, I[ · kh · kw]), float32.
    """

    weight_names: ClassVar[tuple[str, ...]] = ("a1.weight", "a2.weight", "b1.weight", "b2.weight")

    def __init__(self, factors: tuple[Tensor, Tensor, Tensor, Tensor], *, alpha: float) -> None:
        rank = factors[1].shape[0]
        super().__init__(
            alpha=alpha or float(rank), scale=(alpha or rank) / rank, device=factors[0].device
        )
        for name, factor in zip(("a_up", "a_down", "b_up", "b_down"), factors, strict=True):
            self.register_buffer(name, factor)

    a_up: Tensor
    a_down: Tensor
    b_up: Tensor
    b_down: Tensor

    @classmethod
    def from_tensors(cls, layer: Layer, tensors: Mapping[str, Tensor]) -> Self:
        outputs, inputs, *kernel = layer.weight.shape
        columns = inputs * math.prod(kernel)
        a1, a2, b1, b2 = (tensors[name].flatten(1) for name in cls.weight_names)
        rank = min(a1.shape)
        for factors in ((a1, a2, b1, b2), (a2, a1, b2, b1)):
            sides = (inputs, rank), (rank, inputs), (outputs, rank), (rank, columns)
            if tuple(tuple(factor.shape) for factor in factors) == sides:
                break
        else:
            shapes = ", ".join(f"{name} {tuple(tensors[name].shape)}" for name in cls.weight_names)
            size = f"{outputs} outputs and {inputs} inputs"
            raise ValueError(f"its shapes are {shapes}, but the layer has {size}")
        copies = tuple(
            factor.detach().to(layer.weight.device, torch.float32, copy=True) for factor in factors
        )
        alpha = float(tensors["alpha"]) if "alpha" in tensors else 0.0
        return cls(copies, alpha=alpha)  # type: ignore[arg-type]

    @property
    def rank(self) -> int:
        return self.a_down.shape[0]

    def delta_weight(self, layer: Layer) -> Tensor:
        weight = layer.weight.to(self.b_up.dtype)
        product = torch.einsum("oi...,ir->or...", weight, self.a_up)
        product = torch.einsum("or...,rj->oj...", product, self.a_down)
        return (product + (self.b_up @ self.b_down).view(weight.shape)) * self.scale
