"""What files hold as it is: changes of whole weights, of biases, and of norms.

LyCORIS' "full" has ``diff`` and ``diff_b``, its ``train_norm`` ``w_norm`` and ``b_norm``:
W' = W + ΔW, b' = b + Δb. They are read, not trained here. A bias may stand beside the factors of
another type too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lorasmith.adapters.base import Adapter, Layer, Norm, apply_weight

BIAS = "diff_b"
WEIGHTS, BIASES = ("diff", "w_norm"), (BIAS, "b_norm")
"""Names of the two changes in files."""


class Difference(Adapter):
    """A change of a Linear, a Conv2d or a norm, by its numbers.

    Args:
        weight: ΔW in the layer's shape, float32, or None.
        bias: Δb (O,), float32, or None.
    """

    optional_names: ClassVar[tuple[str, ...]] = (*WEIGHTS, *BIASES, "alpha")

    def __init__(self, weight: Tensor | None, bias: Tensor | None) -> None:
        tensor = weight if weight is not None else bias
        assert tensor is not None, "a change of nothing"
        super().__init__(alpha=1.0, scale=1.0, device=tensor.device)
        self.register_buffer("change", weight)
        self.register_buffer("bias_change", bias)

    change: Tensor | None
    bias_change: Tensor | None

    @classmethod
    def claims(cls, tensors: Mapping[str, Tensor]) -> bool:
        return super().claims(tensors) and bool(tensors.keys() & {*WEIGHTS, *BIASES})

    @classmethod
    def from_tensors(cls, layer: Layer | Norm, tensors: Mapping[str, Tensor]) -> Self:
        shape = layer.weight.shape
        return cls(_like(shape, layer, tensors, WEIGHTS), _like(shape[:1], layer, tensors, BIASES))

    @property
    def rank(self) -> int:
        """0: it has none."""
        return 0

    def norm(self) -> Tensor:
        """Of both changes together."""
        norms = [change.norm() for change in (self.change, self.bias_change) if change is not None]
        return torch.stack(norms).norm()

    def delta_weight(self, layer: Layer) -> Tensor:
        return layer.weight.new_zeros(layer.weight.shape) if self.change is None else self.change

    def delta(self, x: Tensor, layer: Layer | Norm) -> Tensor:
        """What is added to the output at strength 1, the bias's change with it."""
        weight, bias = (
            None if change is None else change.to(x.dtype)
            for change in (self.change, self.bias_change)
        )
        if weight is None:
            weight = layer.weight.new_zeros(layer.weight.shape, dtype=x.dtype)
        if isinstance(layer, nn.LayerNorm):
            return F.layer_norm(x, layer.normalized_shape, weight, bias, layer.eps)
        if isinstance(layer, nn.GroupNorm):
            return F.group_norm(x, layer.num_groups, weight, bias, layer.eps)
        return apply_weight(layer, x, weight, bias)

    def forward(self, x: Tensor, y: Tensor, layer: Layer) -> Tensor:
        # Autocast makes a norm's output of another precision than its input.
        return y.add_(self.delta(x, layer).to(y.dtype), alpha=self.strength)


class WithBias(Adapter):
    """Another type's adapter, and a change of the layer's bias beside it.

    Args:
        inner: the adapter.
        bias: Δb (O,), float32.
    """

    def __init__(self, inner: Adapter, bias: Tensor) -> None:
        super().__init__(alpha=1.0, scale=1.0, device=bias.device)
        self.inner = inner
        self.register_buffer("bias_change", bias)

    bias_change: Tensor

    @classmethod
    def of(cls, inner: Adapter, layer: Layer, tensors: Mapping[str, Tensor]) -> Self:
        """
        Raises:
            ValueError: the bias does not fit the layer.
        """
        bias = _like(layer.weight.shape[:1], layer, tensors, (BIAS,))
        assert bias is not None
        return cls(inner, bias)

    @property
    def rank(self) -> int:
        return self.inner.rank

    def norm(self) -> Tensor:
        return self.inner.norm()

    def delta_weight(self, layer: Layer) -> Tensor:
        return self.inner.delta_weight(layer)

    def merged_weight(self, layer: Layer, strength: float = 1.0) -> Tensor:
        return self.inner.merged_weight(layer, strength)

    def forward(self, x: Tensor, y: Tensor, layer: Layer) -> Tensor:
        self.inner.strength = self.strength
        out: Tensor = self.inner(x, y, layer)
        bias = self.bias_change.to(out.dtype)
        return out.add_(
            bias.view(-1, 1, 1) if isinstance(layer, nn.Conv2d) else bias, alpha=self.strength
        )


def _like(
    shape: tuple[int, ...],
    layer: Layer | Norm,
    tensors: Mapping[str, Tensor],
    names: tuple[str, ...],
) -> Tensor | None:
    """
    Raises:
        ValueError: it is of another shape.
    """
    name = next((name for name in names if name in tensors), None)
    if name is None:
        return None
    change = tensors[name].detach()
    # A matrix may be written for a 1 x 1 convolution, and a vector with sides of 1.
    if [side for side in change.shape if side != 1] != [side for side in shape if side != 1]:
        raise ValueError(f"{name} is {tuple(change.shape)}, but the layer has {tuple(shape)}")
    return change.to(layer.weight.device, torch.float32, copy=True).reshape(shape)
