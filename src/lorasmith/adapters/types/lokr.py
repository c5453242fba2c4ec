"""LoKr: a Kronecker product of a small matrix and a larger one (LyCORIS; Edalati et al. 2022).

ΔW = (alpha / r) w1 ⊗ w2, so that ΔW[a·C + c, b·D + d] = w1[a, b] w2[c, d] with w1 (A, B) and
w2 (C, D[, kh, kw]). Either may itself be low-rank: w1_a w1_b, w2_a w2_b, or w2 in Tucker form with
the core t2. Where neither is, no rank scales it. The product is never made for a Linear layer or
a convolution alone: (w1 ⊗ w2) x is w1 X w2ᵀ with X (B, D) the input's numbers.

Here A, B, C, D are sizes; B x D = I inputs and A x C = O outputs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lorasmith.adapters.additive import AdditiveAdapter, new_magnitude, read_magnitude
from lorasmith.adapters.base import PLAIN, AdapterOptions, Layer, apply_weight, in_dtype
from lorasmith.adapters.types.loha import tucker_product
from lorasmith.adapters.types.lora import kaiming

_MANY_ROWS = 256
_W1, _W1_PAIR = "lokr_w1", ("lokr_w1_a", "lokr_w1_b")
_W2, _W2_PAIR, _CORE = "lokr_w2", ("lokr_w2_a", "lokr_w2_b"), "lokr_t2"


class LoKr(AdditiveAdapter):
    """w1 (A, B) or w1_a (A, r), w1_b (r, B); w2 (C, D[, kh, kw]) or w2_a (C, r),
    w2_b (r, D[·kh·kw]), or t2 (r, r, kh, kw), w2_a (r, C), w2_b (r, D); all float32."""

    weight_names: ClassVar[tuple[str, ...]] = ()
    optional_names: ClassVar[tuple[str, ...]] = (
        *AdditiveAdapter.optional_names, _W1, *_W1_PAIR, _W2, *_W2_PAIR, _CORE,
    )  # fmt: skip

    def __init__(
        self,
        tensors: Mapping[str, Tensor],
        shape: tuple[int, ...],
        *,
        alpha: float,
        rank: int,
        magnitude: Tensor | None = None,
    ) -> None:
        full = _W1 in tensors and _W2 in tensors
        super().__init__(
            alpha=alpha,
            scale=1.0 if full else alpha / rank,
            outputs=shape[0],
            magnitude=magnitude,
            device=next(iter(tensors.values())).device,
        )
        self.shape = shape
        self._rank = rank
        for name, tensor in tensors.items():
            self.register_parameter(name, nn.Parameter(tensor))
        self._heavy = 3 * _work(tensors, shape, rank) > math.prod(shape)

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
        """Kaiming-uniform with a = sqrt(5) as LyCORIS'; w2, or w2_b, is zero."""
        shape = tuple(layer.weight.shape)
        device = layer.weight.device
        zero = (_W2, _W2_PAIR[1])
        tensors = {
            name: torch.zeros(size, device=device)
            if name in zero
            else kaiming(*size, generator=generator).to(device)
            for name, size in _new_shapes(shape, rank, options).items()
        }
        alpha = alpha or rank
        if _W1 in tensors and _W2 in tensors:
            alpha = rank  # Read by nobody, and what LyCORIS writes.
        elif options.rs_lora:
            alpha *= math.sqrt(rank)
        return cls(
            tensors,
            shape,
            alpha=alpha,
            rank=rank,
            magnitude=new_magnitude(layer.weight, options),
        )

    @classmethod
    def from_tensors(cls, layer: Layer, tensors: Mapping[str, Tensor]) -> Self:
        shape = tuple(layer.weight.shape)
        device = layer.weight.device
        factors = {
            name: tensor.detach().to(device, torch.float32, copy=True)
            for name, tensor in tensors.items()
            if name not in ("alpha", "dora_scale")
        }
        _check(factors, shape)
        if _W2 in factors:
            factors[_W2] = factors[_W2].reshape(*factors[_W2].shape[:2], *shape[2:])
        pair = _W2_PAIR if _W2_PAIR[1] in factors else _W1_PAIR
        rank = factors[pair[1]].shape[0] if pair[1] in factors else 1
        alpha = float(tensors["alpha"]) if "alpha" in tensors else 0.0
        return cls(
            factors,
            shape,
            alpha=alpha or rank,
            rank=rank,
            magnitude=read_magnitude(layer, tensors),
        )

    @classmethod
    def claims(cls, tensors: Mapping[str, Tensor]) -> bool:
        names = set(tensors)
        first = _W1 in names or names.issuperset(_W1_PAIR)
        second = _W2 in names or names.issuperset(_W2_PAIR)
        return first and second and names <= set(cls.optional_names)

    @property
    def rank(self) -> int:
        return self._rank

    def compose(self, factors: Mapping[str, Tensor]) -> Tensor:
        w1, w2 = _first(factors) * self.scale, self._second(factors)
        a, b = w1.shape
        c, d, *kernel = w2.shape
        product = w1.view(a, 1, b, 1, 1) * w2.reshape(1, c, 1, d, math.prod(kernel))
        return product.reshape(self.shape)

    def delta(self, x: Tensor, layer: Layer) -> Tensor:
        if self.dora_scale is not None:
            return super().delta(x, layer)
        if isinstance(layer, nn.Conv2d):
            delta = self._convolved(x, layer)
            return self.drop(delta.movedim(1, -1)).movedim(-1, 1) if self.dropping else delta
        delta = self._multiplied(x)
        return self.drop(delta) if self.dropping else delta

    def forward_with_base(self, x: Tensor, layer: Layer) -> Tensor:
        if self.dora_scale is not None or self._dense_is_less_work(x):
            return super().forward_with_base(x, layer)
        return self.forward(x, layer(x), layer)

    def norm(self) -> Tensor:
        return self.norms([self])[0]

    @classmethod
    def norms(cls, adapters: Sequence[Self]) -> Tensor:
        """‖w1 ⊗ w2‖ = ‖w1‖ ‖w2‖."""
        factors = [adapter.factors() for adapter in adapters]
        first = torch._foreach_norm([_first(adapter_factors) for adapter_factors in factors])
        second = torch._foreach_norm(
            [
                a._second(adapter_factors)
                for a, adapter_factors in zip(adapters, factors, strict=True)
            ]
        )
        norms = torch.stack(list(first)) * torch.stack(list(second))
        scales = [abs(adapter.scale) for adapter in adapters]
        if len(set(scales)) == 1:
            return norms * scales[0]
        return torch.stack([norm * scale for norm, scale in zip(norms, scales, strict=True)])

    def _dense_is_less_work(self, x: Tensor) -> bool:
        """Whether W + ΔW, one product more in the backward pass, beats w1 and w2 by themselves.

        So it is for a large w2 and enough rows to pay for making the weight.
        """
        return self._heavy and x.numel() >= _MANY_ROWS * self.shape[1]

    def _second(self, factors: Mapping[str, Tensor]) -> Tensor:
        """w2, (C, D) or (C, D, kh, kw)."""
        if _W2 in factors:
            return factors[_W2]
        a, b = (factors[name] for name in _W2_PAIR)
        if _CORE in factors:
            return tucker_product(factors[_CORE], a, b)
        return (a @ b).reshape(a.shape[0], -1, *self.shape[2:])

    def _multiplied(self, x: Tensor) -> Tensor:
        """(w1 ⊗ w2) x for x (..., I): w2 first on the D numbers, then w1 across the B."""
        factors = {name: in_dtype(tensor, x.dtype) for name, tensor in self.factors().items()}
        w1 = _first(factors) * self.scale
        a, b = w1.shape
        rows = x.reshape(-1, x.shape[-1] // b)
        if _W2 not in factors:
            wide, narrow = (factors[name] for name in _W2_PAIR)
            (c, rank), d = wide.shape, narrow.shape[1]
            if rank * (c + d) < c * d:
                mixed = mix(w1, F.linear(rows, narrow).view(-1, b, rank))
                return F.linear(mixed, wide).view(*x.shape[:-1], a * c)
        w2 = self._second(factors)
        mixed = mix(w1, F.linear(rows, w2).view(-1, b, w2.shape[0]))
        return mixed.view(*x.shape[:-1], a * w2.shape[0])

    def _convolved(self, x: Tensor, layer: nn.Conv2d) -> Tensor:
        """The same for images (N, I, H, W): B groups of D channels, one convolution for all."""
        factors = {name: in_dtype(tensor, x.dtype) for name, tensor in self.factors().items()}
        w1 = _first(factors) * self.scale
        b = w1.shape[1]
        groups = x.reshape(x.shape[0] * b, -1, *x.shape[2:])
        h = self._low_rank_convolved(groups, factors, layer)
        if h is None:
            h = apply_weight(layer, groups, self._second(factors))
        mixed = mix(w1, h.reshape(x.shape[0], b, -1))
        return mixed.view(x.shape[0], -1, *h.shape[2:])

    def _low_rank_convolved(
        self, groups: Tensor, factors: Mapping[str, Tensor], layer: nn.Conv2d
    ) -> Tensor | None:
        """w2 as a chain of convolutions, or None where w2 itself is less work."""
        if _W2 in factors:
            return None
        a, b = (factors[name] for name in _W2_PAIR)
        rank, kernel = b.shape[0], self.shape[2:]
        size = math.prod(kernel)
        if _CORE in factors:
            c, d = a.shape[1], b.shape[1]
            if rank * (d + rank * size + c) >= c * d * size:
                return None
            h = apply_weight(layer, F.conv2d(groups, b.view(rank, d, 1, 1)), factors[_CORE])
            return F.conv2d(h, a.t().reshape(c, rank, 1, 1))
        c, d = a.shape[0], b.shape[1] // size
        if rank * (d * size + c) >= c * d * size:
            return None
        h = apply_weight(layer, groups, b.reshape(rank, d, *kernel))
        return F.conv2d(h, a.reshape(c, rank, 1, 1))


def factorization(size: int, factor: int = -1) -> tuple[int, int]:
    """LyCORIS' division of a side into (smaller, larger), whose product is ``size``.

    ``factor`` itself where it divides ``size``; otherwise the largest divisor that is neither
    above ``factor`` (-1: any) nor above the square root.
    """
    if factor > 0 and size % factor == 0:
        return min(factor, size // factor), max(factor, size // factor)
    limit = math.isqrt(size) if factor < 0 else min(factor, math.isqrt(size))
    small = next(n for n in range(max(limit, 1), 0, -1) if size % n == 0)
    return small, size // small


def mix(w1: Tensor, h: Tensor) -> Tensor:
    """w1 (A, B) across the middle of h (N, B, Q) -> (N, A, Q)."""
    # Batched small products: no turning of h, which is several times as fast as one large product.
    return torch.bmm(w1.expand(h.shape[0], *w1.shape), h)


def _first(factors: Mapping[str, Tensor]) -> Tensor:
    """w1, (A, B)."""
    if _W1 in factors:
        return factors[_W1]
    a, b = (factors[name] for name in _W1_PAIR)
    return a @ b


def _work(tensors: Mapping[str, Tensor], shape: tuple[int, ...], rank: int) -> int:
    """Multiplications for one row, or one position, by way of w1 and w2."""
    a = tensors[_W1 if _W1 in tensors else _W1_PAIR[0]].shape[0]
    b = tensors[_W1 if _W1 in tensors else _W1_PAIR[1]].shape[1]
    c, d = shape[0] // a, shape[1] // b
    size = math.prod(shape[2:])
    full_work = b * c * (d * size + a)
    return full_work if _W2 in tensors else min(full_work, rank * (b * d * size + a * b + a * c))


def _new_shapes(
    shape: tuple[int, ...], rank: int, options: AdapterOptions
) -> dict[str, tuple[int, ...]]:
    """LyCORIS' rule: w1 is full unless asked otherwise, w2 low-rank where that is smaller."""
    outputs, inputs, *kernel = shape
    size = math.prod(kernel)
    (a, c), (b, d) = (factorization(side, options.factor) for side in (outputs, inputs))
    shapes: dict[str, tuple[int, ...]] = {}
    if options.decompose_both and rank < max(a, b) / 2 and not options.full_matrix:
        shapes |= {_W1_PAIR[0]: (a, rank), _W1_PAIR[1]: (rank, b)}
    else:
        shapes[_W1] = (a, b)
    if rank >= max(c, d) / 2 or options.full_matrix:
        shapes[_W2] = (c, d, *kernel)
    elif options.tucker and size > 1:
        shapes |= {_CORE: (rank, rank, *kernel), _W2_PAIR[0]: (rank, c), _W2_PAIR[1]: (rank, d)}
    else:
        shapes |= {_W2_PAIR[0]: (c, rank), _W2_PAIR[1]: (rank, d * size)}
    return shapes


def _check(factors: Mapping[str, Tensor], shape: tuple[int, ...]) -> None:
    """Whether the tensors of a file make a weight of this shape.

    Raises:
        ValueError: they do not; says both.
    """
    outputs, inputs, *kernel = shape
    sizes = {name: tuple(tensor.shape) for name, tensor in factors.items()}
    listing = ", ".join(f"{name} {size}" for name, size in sizes.items())
    ranks_fit = True
    a, b = sizes[_W1][:2] if _W1 in sizes else (sizes[_W1_PAIR[0]][0], sizes[_W1_PAIR[1]][-1])
    if _W1 not in sizes:
        ranks_fit = sizes[_W1_PAIR[0]][-1] == sizes[_W1_PAIR[1]][0]
    numbers = math.prod(kernel)
    if _W2 in sizes:
        c, d = sizes[_W2][:2]
        ranks_fit &= math.prod(sizes[_W2][2:]) == numbers
    else:
        left, right = (sizes[name] for name in _W2_PAIR)
        if _CORE in sizes:
            c, d = left[1], right[1]
            ranks_fit &= sizes[_CORE] == (left[0], right[0], *kernel)
        else:
            c, d = left[0], math.prod(right[1:]) // numbers
            ranks_fit &= left[1] == right[0] and d * numbers == math.prod(right[1:])
    if not ranks_fit or (a * c, b * d) != (outputs, inputs):
        raise ValueError(f"{listing} make no weight of {shape}")
