"""(IA)^3: one trained factor for each output or input channel of a layer (Liu et al. 2022).

W' = W (1 + w): on the rows of W where outputs are scaled (keys and values), on its columns where
inputs are (the second layer of the feed-forward). Names, shapes and the choice of layers are
LyCORIS'. There is no alpha; the bias is not scaled.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from lorasmith.adapters.base import (
    PLAIN,
    Adapter,
    AdapterOptions,
    Layer,
    base_output,
    in_dtype,
    over_channels,
    weight_dtype,
)

# The layers whose inputs LyCORIS' preset "ia3" scales.
_INPUT_LAYERS = ("ff.net.2", "mlp.fc2")


class IA3(Adapter):
    """weight (C,) of a Linear layer, (1, C, 1, 1) of a convolution, float32; C is O, or I where
    ``on_input`` is 1."""

    weight_names: ClassVar[tuple[str, ...]] = ("weight", "on_input")
    optional_names: ClassVar[tuple[str, ...]] = ()
    float32_names: ClassVar[tuple[str, ...]] = ("on_input",)

    on_input: Tensor

    def __init__(self, weight: Tensor, *, outputs: int, on_input: bool) -> None:
        super().__init__(alpha=1.0, scale=1.0, device=weight.device)
        self.register_buffer("alpha", self.alpha, persistent=False)
        self.register_buffer("on_input", torch.tensor(int(on_input), device=weight.device))
        self.weight = nn.Parameter(weight)
        self.outputs = outputs
        self._on_input = on_input

    @classmethod
    def options_at(cls, path: str, options: AdapterOptions) -> AdapterOptions:
        """``on_input`` of None becomes what LyCORIS does at this layer."""
        if options.train_on_input is not None:
            return options
        return replace(options, train_on_input=path.endswith(_INPUT_LAYERS))

    @classmethod
    def create(
        cls,
        layer: Layer,
        *,
        rank: int,
        alpha: float | None,
        generator: torch.Generator,
        options: AdapterOptions = PLAIN,
    ) -> Self:
        """Zeros. ``rank`` and ``alpha`` mean nothing; ``on_input`` of None scales the outputs."""
        on_input = bool(options.train_on_input)
        weight = torch.zeros(_shape(layer, on_input), device=layer.weight.device)
        return cls(weight, outputs=layer.weight.shape[0], on_input=on_input)

    @classmethod
    def from_tensors(cls, layer: Layer, tensors: Mapping[str, Tensor]) -> Self:
        on_input, weight = bool(tensors["on_input"]), tensors["weight"]
        shape = _shape(layer, on_input)
        if weight.numel() != math.prod(shape):
            side = "inputs" if on_input else "outputs"
            raise ValueError(f"weight is {tuple(weight.shape)}, but the {side} take {shape}")
        factors = weight.detach().to(layer.weight.device, torch.float32, copy=True).reshape(shape)
        return cls(factors, outputs=layer.weight.shape[0], on_input=on_input)

    @property
    def rank(self) -> int:
        """1: each channel has one number."""
        return 1

    @property
    def gates(self) -> int:
        return self.outputs

    def delta_weight(self, layer: Layer) -> Tensor:
        weight = layer.weight.to(self.weight.dtype)
        size = [1] * weight.ndim
        size[1 if self._on_input else 0] = -1
        return weight * self.weight.view(size)

    def delta(self, x: Tensor, layer: Layer) -> Tensor:
        factors = over_channels(in_dtype(self.weight, x.dtype), layer)
        if self._on_input:
            change = base_output(layer, x * factors)
        else:
            change = base_output(layer, x) * factors
        if not self.dropping:
            return change
        if isinstance(layer, nn.Conv2d):
            return self.drop(change.movedim(1, -1)).movedim(-1, 1)
        return self.drop(change)

    def forward_with_base(self, x: Tensor, layer: Layer) -> Tensor:
        """One product with the layer's weight, where :meth:`delta` takes another beside it."""
        exact = x.dtype == weight_dtype(layer) == self.weight.dtype
        if self.dropping or (self._on_input and not exact):
            # Half precision has few numbers near 1: small factors would be lost in x (1 + w).
            return self.forward(x, layer(x), layer)
        scaled_weight = self.weight if self.strength == 1.0 else self.weight * self.strength
        factors = over_channels(scaled_weight, layer)
        if self._on_input:
            scaled: Tensor = layer(x * (factors + 1.0))
            return scaled
        y = base_output(layer, x)
        if y.dtype == factors.dtype:
            factors = factors + 1.0
            if layer.bias is None:
                return y * factors
            return torch.addcmul(over_channels(layer.bias, layer), y, factors)
        y = torch.addcmul(y, y, over_channels(in_dtype(scaled_weight, y.dtype), layer))
        return y if layer.bias is None else y.add_(over_channels(layer.bias, layer).to(y.dtype))

    def norm(self) -> Tensor:
        """Of the factors, not of the weight's change, which the layer's weight decides as well."""
        return self.weight.norm()

    def shrink(self, factor: Tensor) -> None:
        self.weight.mul_(factor)


def _shape(layer: Layer, on_input: bool) -> tuple[int, ...]:
    channels = layer.weight.shape[1 if on_input else 0]
    return (1, channels, 1, 1) if isinstance(layer, nn.Conv2d) else (channels,)
