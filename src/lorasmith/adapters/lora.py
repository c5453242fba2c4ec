"""LoRA: a low-rank weight change, W' = W + (alpha / r) up · down (Hu et al. 2021).

Convolutions as in kohya's LoRA-C3Lier: down is the layer's own k x k convolution into r channels,
up a 1 x 1 one; 1 x 1 convolutions are the case k = 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lorasmith.adapters.base import Adapter, Factor, Layer


class LoRA(Adapter):
    """down (r, I) or (r, I, kh, kw); up (O, r) or (O, r, 1, 1); both float32."""

    weight_names = ("lora_down.weight", "lora_up.weight")

    def __init__(self, down: Tensor, up: Tensor, *, alpha: float) -> None:
        super().__init__(alpha=alpha, scale=alpha / down.shape[0])
        self.lora_down = Factor(down)
        self.lora_up = Factor(up)

    @classmethod
    def create(
        cls, layer: Layer, *, rank: int, alpha: float | None, generator: torch.Generator
    ) -> Self:
        """down is Kaiming-uniform with a = sqrt(5), as Microsoft's and kohya's; up is zero."""
        outputs, inputs, *kernel = layer.weight.shape
        down = torch.empty(rank, inputs, *kernel)
        bound = 1.0 / math.sqrt(inputs * math.prod(kernel))
        down.uniform_(-bound, bound, generator=generator)
        up = torch.zeros(outputs, rank, *(1 for _ in kernel))
        device = layer.weight.device
        return cls(down.to(device), up.to(device), alpha=alpha or rank)

    @classmethod
    def from_tensors(cls, layer: Layer, tensors: Mapping[str, Tensor]) -> Self:
        down, up = (tensors[name] for name in cls.weight_names)
        outputs, inputs, *kernel = layer.weight.shape
        if down.ndim < 2 or up.ndim < 2:
            raise ValueError(f"down {tuple(down.shape)} and up {tuple(up.shape)} are not matrices")
        rank = down.shape[0]
        wanted_down = (rank, inputs, *kernel)
        wanted_up = (outputs, rank, *(1 for _ in kernel))
        for name, tensor, wanted in (("down", down, wanted_down), ("up", up, wanted_up)):
            # Linear weights of a 1 x 1 convolution (and the other way round) mean the same thing.
            if tensor.numel() != math.prod(wanted) or tensor.shape[:2] != wanted[:2]:
                raise ValueError(f"{name} is {tuple(tensor.shape)}, but the layer takes {wanted}")
        alpha = float(tensors["alpha"]) if "alpha" in tensors else 0.0
        device = layer.weight.device
        return cls(
            down.detach().to(device, torch.float32, copy=True).reshape(wanted_down),
            up.detach().to(device, torch.float32, copy=True).reshape(wanted_up),
            alpha=alpha or rank,
        )

    @property
    def rank(self) -> int:
        return self.lora_down.weight.shape[0]

    def delta_weight(self) -> Tensor:
        down, up = self.lora_down.weight, self.lora_up.weight
        product = up.flatten(1) @ down.flatten(1)
        return (product * self.scale).reshape(up.shape[0], *down.shape[1:])

    def forward(self, x: Tensor, y: Tensor, layer: Layer) -> Tensor:
        down, up = self.lora_down.weight.to(x.dtype), self.lora_up.weight.to(y.dtype)
        if isinstance(layer, nn.Conv2d):
            h = F.conv2d(x, down, None, layer.stride, layer.padding, layer.dilation)
            if self.dropping:
                h = self.drop(h.movedim(1, -1)).movedim(-1, 1)
            return y.add_(F.conv2d(h, up), alpha=self.scale * self.strength)
        h = F.linear(x, down)
        if self.dropping:
            h = self.drop(h)
        return y.add_(F.linear(h, up), alpha=self.scale * self.strength)

    def adapt(self, x: Tensor, layer: Layer) -> Tensor:
        """Linear: on rows (N, I), so that the second product is accumulated into the layer's own
        output by the matrix multiplication; no other tensor of the output's size is made."""
        if isinstance(layer, nn.Conv2d):
            return super().adapt(x, layer)
        rows = x.reshape(-1, x.shape[-1])
        y = layer(rows)
        h = F.linear(rows, self.lora_down.weight.to(x.dtype))
        if self.dropping:
            h = self.drop(h.view(*x.shape[:-1], -1)).view(h.shape)
        up = self.lora_up.weight.to(y.dtype)
        y.addmm_(h, up.t(), alpha=self.scale * self.strength)
        out: Tensor = y.view(*x.shape[:-1], -1)
        return out

    def norm(self) -> Tensor:
        return self.norms([self])[0]

    @classmethod
    def norms(cls, adapters: Sequence[Self]) -> Tensor:
        """||up down||² = <upᵀup, down downᵀ>: two r x r Gram matrices, equal shapes batched."""
        groups: dict[tuple[torch.Size, torch.Size], list[int]] = {}
        for index, adapter in enumerate(adapters):
            shapes = adapter.lora_down.weight.shape, adapter.lora_up.weight.shape
            groups.setdefault(shapes, []).append(index)
        norms: list[Tensor] = [torch.empty(0)] * len(adapters)
        for members in groups.values():
            downs = torch.stack([adapters[i].lora_down.weight.flatten(1) for i in members])
            ups = torch.stack([adapters[i].lora_up.weight.flatten(1) for i in members])
            squares = ((ups.mT @ ups) * (downs @ downs.mT)).sum((1, 2))
            # Rounding may leave a tiny negative number where the product vanishes.
            for i, square in zip(members, squares.clamp(min=0).unbind(), strict=True):
                norms[i] = square.sqrt() * abs(adapters[i].scale)
        return torch.stack(norms)

    def rescale(self, factor: Tensor) -> None:
        root = factor.sqrt()
        self.lora_down.weight.mul_(root)
        self.lora_up.weight.mul_(root)
