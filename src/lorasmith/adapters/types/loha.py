"""LoHa: the product, element by element, of two low-rank changes (FedPara, Hyeon-Woo et al. 2022).

ΔW = (alpha / r) (w1_a w1_b) ∘ (w2_a w2_b): of rank r² at most, from twice LoRA's numbers. Names and
shapes are LyCORIS'; its Tucker form for convolutions gives each of the two a core with the kernel.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar, Self

import torch
from torch import Tensor

from lorasmith.adapters.additive import AdditiveAdapter, new_magnitude, read_magnitude
from lorasmith.adapters.base import PLAIN, AdapterOptions, Layer


class LoHa(AdditiveAdapter):
    """w_a (O, r); w_b (r, I), or (r, I·kh·kw) of a convolution; two of each, all float32.

    In Tucker form w_a is (r, O), w_b (r, I) and the cores t are (r, r, kh, kw).
    """

    weight_names: ClassVar[tuple[str, ...]] = ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b")
    optional_names: ClassVar[tuple[str, ...]] = (
        *AdditiveAdapter.optional_names, "hada_t1", "hada_t2",
    )  # fmt: skip

    def __init__(
        self,
        tensors: Mapping[str, Tensor],
        shape: tuple[int, ...],
        *,
        alpha: float,
        magnitude: Tensor | None = None,
    ) -> None:
        rank = tensors["hada_w1_b"].shape[0]
        super().__init__(
            alpha=alpha,
            scale=alpha / rank,
            outputs=shape[0],
            magnitude=magnitude,
            device=tensors["hada_w1_b"].device,
        )
        self.shape = shape
        self._rank = rank
        for name, tensor in tensors.items():
            self.register_parameter(name, torch.nn.Parameter(tensor))

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
        """Normal numbers as LyCORIS draws them: 0.1 for w1_a and the cores, 1 for both w_b; w2_a is
        zero."""
        shape = tuple(layer.weight.shape)
        tucker = options.tucker and math.prod(shape[2:]) > 1
        device = layer.weight.device
        tensors = {}
        for name, size in _shapes(shape, rank, tucker).items():
            std = 1.0 if name.endswith("_b") else 0.0 if name == "hada_w2_a" else 0.1
            tensors[name] = torch.empty(size).normal_(std=std, generator=generator).to(device)
        alpha = alpha or rank
        return cls(
            tensors,
            shape,
            alpha=alpha * math.sqrt(rank) if options.rs_lora else alpha,
            magnitude=new_magnitude(layer.weight, options),
        )

    @classmethod
    def from_tensors(cls, layer: Layer, tensors: Mapping[str, Tensor]) -> Self:
        shape = tuple(layer.weight.shape)
        rank = tensors["hada_w1_b"].shape[0]
        factors = {}
        for name, size in _shapes(shape, rank, "hada_t1" in tensors).items():
            if name not in tensors:
                raise ValueError(f"{name} is missing beside hada_t1")
            factor = tensors[name]
            if factor.shape[0] != size[0] or factor.numel() != math.prod(size):
                raise ValueError(f"{name} is {tuple(factor.shape)}, but the layer takes {size}")
            factors[name] = factor.detach().to(layer.weight.device, torch.float32, copy=True)
            factors[name] = factors[name].reshape(size)
        alpha = float(tensors["alpha"]) if "alpha" in tensors else 0.0
        return cls(factors, shape, alpha=alpha or rank, magnitude=read_magnitude(layer, tensors))

    @property
    def rank(self) -> int:
        return self._rank

    def compose(self, factors: Mapping[str, Tensor]) -> Tensor:
        first, second = (self._low_rank(factors, number) for number in (1, 2))
        return (first * second).mul(self.scale).reshape(self.shape)

    def compose_onto(
        self, weight: Tensor, factors: Mapping[str, Tensor], strength: float
    ) -> Tensor:
        first, second = (self._low_rank(factors, n).reshape(self.shape) for n in (1, 2))
        return torch.addcmul(weight, first, second, value=self.scale * strength)

    def _low_rank(self, factors: Mapping[str, Tensor], number: int) -> Tensor:
        a, b = factors[f"hada_w{number}_a"], factors[f"hada_w{number}_b"]
        core = factors.get(f"hada_t{number}")
        if core is None:
            return a @ b
        return tucker_product(core, a, b)


def tucker_product(core: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Σ core[m, n] a[m] b[n] over the ranks: core (r, r, kh, kw), a (r, O), b (r, I) ->
    (O, I, kh, kw)."""
    rank, kernel = core.shape[0], core.shape[2:]
    # The larger sum second, as one matrix product whose result needs no turning.
    inner = torch.einsum("mnk,ni->mik", core.flatten(2), b)
    return (a.t() @ inner.reshape(rank, -1)).reshape(a.shape[1], b.shape[1], *kernel)


def _shapes(shape: tuple[int, ...], rank: int, tucker: bool) -> dict[str, tuple[int, ...]]:
    outputs, inputs, *kernel = shape
    if not tucker:
        a, b = (outputs, rank), (rank, inputs * math.prod(kernel))
        return {"hada_w1_a": a, "hada_w1_b": b, "hada_w2_a": a, "hada_w2_b": b}
    a, b, core = (rank, outputs), (rank, inputs), (rank, rank, *kernel)
    return {
        "hada_t1": core,
        "hada_w1_a": a,
        "hada_w1_b": b,
        "hada_t2": core,
        "hada_w2_a": a,
        "hada_w2_b": b,
    }
