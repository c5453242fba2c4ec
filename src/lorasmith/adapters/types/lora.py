"""LoRA: a low-rank weight change, W' = W + (alpha / r) up · down (Hu et al. 2021).

Convolutions as in kohya's LoRA-C3Lier: down is the layer's own k x k convolution into r channels,
up a 1 x 1 one; 1 x 1 convolutions are the case k = 1. In Tucker form (LyCORIS' LoCon) down is
1 x 1 and a third convolution between the two, r to r channels, has the kernel. DoRA is LoRA with
``dora_scale``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lorasmith.adapters.additive import (
    AdditiveAdapter,
    is_by_input,
    magnitude_of,
    new_magnitude,
    read_magnitude,
)
from lorasmith.adapters.base import (
    PLAIN,
    AdapterOptions,
    Factor,
    Layer,
    apply_weight,
    base_output,
    in_dtype,
    over_channels,
    weight_dtype,
)
from lorasmith.tensors.offload import StoredLayer


class LoRA(AdditiveAdapter):
    """down (r, I) or (r, I, kh, kw); up (O, r) or (O, r, 1, 1); all float32.

    In Tucker form down is (r, I, 1, 1) and mid (r, r, kh, kw).

    Args:
        lengths: of the layer's own weight where there is a ``magnitude``: of its inputs', (I,), or
            its outputs', (O,).
    """

    weight_names: ClassVar[tuple[str, ...]] = ("lora_down.weight", "lora_up.weight")
    optional_names: ClassVar[tuple[str, ...]] = (*AdditiveAdapter.optional_names, "lora_mid.weight")

    lengths: Tensor | None

    def __init__(
        self,
        down: Tensor,
        up: Tensor,
        mid: Tensor | None = None,
        *,
        alpha: float,
        magnitude: Tensor | None = None,
        lengths: Tensor | None = None,
    ) -> None:
        super().__init__(
            alpha=alpha,
            scale=alpha / down.shape[0],
            outputs=up.shape[0],
            magnitude=magnitude,
            device=down.device,
        )
        self.lora_down = Factor(down)
        self.lora_up = Factor(up)
        self.lora_mid = None if mid is None else Factor(mid)
        self.register_buffer("lengths", lengths, persistent=False)

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
        """down and mid are Kaiming-uniform with a = sqrt(5), as Microsoft's, kohya's and LyCORIS';
        up is zero."""
        outputs, inputs, *kernel = layer.weight.shape
        ones = [1] * len(kernel)
        tucker = options.tucker and math.prod(kernel) > 1
        down = kaiming(rank, inputs, *(ones if tucker else kernel), generator=generator)
        mid = kaiming(rank, rank, *kernel, generator=generator) if tucker else None
        alpha = alpha or rank
        magnitude = new_magnitude(layer.weight, options)
        device = layer.weight.device
        return cls(
            down.to(device),
            torch.zeros(outputs, rank, *ones, device=device),
            None if mid is None else mid.to(device),
            alpha=alpha * math.sqrt(rank) if options.rs_lora else alpha,
            magnitude=magnitude,
            lengths=None if magnitude is None else magnitude.detach().flatten().clone(),
        )

    @classmethod
    def from_tensors(cls, layer: Layer, tensors: Mapping[str, Tensor]) -> Self:
        down, up = (tensors[name] for name in cls.weight_names)
        mid = tensors.get("lora_mid.weight")
        outputs, inputs, *kernel = layer.weight.shape
        ones = [1] * len(kernel)
        if down.ndim < 2 or up.ndim < 2:
            raise ValueError(f"down {tuple(down.shape)} and up {tuple(up.shape)} are not matrices")
        rank = down.shape[0]
        factors = {
            "down": (down, (rank, inputs, *(kernel if mid is None else ones))),
            "up": (up, (outputs, rank, *ones)),
        }
        if mid is not None:
            factors["mid"] = (mid, (rank, rank, *kernel))
        for name, (tensor, shape) in factors.items():
            # Linear weights of a 1 x 1 convolution (and the other way round) mean the same thing.
            if tensor.numel() != math.prod(shape) or tensor.shape[:2] != shape[:2]:
                raise ValueError(f"{name} is {tuple(tensor.shape)}, but the layer takes {shape}")
        magnitude = read_magnitude(layer, tensors)
        lengths = None
        if magnitude is not None:
            by_input = is_by_input(magnitude, outputs)
            lengths = magnitude_of(layer.weight, by_input=by_input).flatten()
        alpha = float(tensors["alpha"]) if "alpha" in tensors else 0.0
        device = layer.weight.device
        return cls(
            *(
                tensor.detach().to(device, torch.float32, copy=True).reshape(shape)
                for tensor, shape in factors.values()
            ),
            alpha=alpha or rank,
            magnitude=magnitude,
            lengths=lengths,
        )

    @property
    def rank(self) -> int:
        return self.lora_down.weight.shape[0]

    @property
    def gates(self) -> int:
        return self.rank

    @property
    def _by_input(self) -> bool:
        """Whether there are lengths, and of each input's weights."""
        return self.dora_scale is not None and is_by_input(self.dora_scale, self.outputs)

    def compose(self, factors: Mapping[str, Tensor]) -> Tensor:
        up = factors["lora_up.weight"]
        down = whole_down(factors["lora_down.weight"], factors.get("lora_mid.weight"))
        product = (up.flatten(1) * self.scale) @ down.flatten(1)
        return product.reshape(up.shape[0], *down.shape[1:])

    def delta(self, x: Tensor, layer: Layer) -> Tensor:
        if self.dora_scale is None:
            return self._low_rank(x, layer) * self.scale
        ratio = over_channels(self._ratio(layer), layer)
        if self._by_input:
            # (W + ΔW) r x - W x, where r x is x + (r - 1) x.
            added = x * (ratio - 1.0).to(x.dtype)
            change = base_output(layer, added)
            change = change + self._low_rank(x + added, layer) * self.scale
        else:
            bare = base_output(layer, x)
            change = (ratio - 1.0).to(bare.dtype) * bare
            change = change + ratio.to(bare.dtype) * (self._low_rank(x, layer) * self.scale)
        if self.dropping:
            assert self.masks is not None
            # The masks within the low-rank part have left it out; its length is to go with it.
            kept = self.masks.kept
            kept = kept.repeat_interleave(len(x) // len(kept), 0)
            change = change * kept.to(change.dtype).view(-1, *(1 for _ in change.shape[1:]))
        return change

    def forward(self, x: Tensor, y: Tensor, layer: Layer) -> Tensor:
        if self.dora_scale is not None:
            return super().forward(x, y, layer)
        return self._plus_low_rank(x, y, layer)

    def forward_with_base(self, x: Tensor, layer: Layer) -> Tensor:
        if self.dora_scale is None:
            return self._with_low_rank(x, layer)
        if self.strength != 1.0 or self.dropping:
            return self.forward(x, layer(x), layer)
        if self._by_input:
            return self._with_low_rank(_scaled(x, self._ratio(layer), layer), layer)
        return self._decomposed(x, layer)

    def _plus_low_rank(self, x: Tensor, y: Tensor, layer: Layer) -> Tensor:
        return y.add_(self._low_rank(x, layer), alpha=self.scale * self.strength)

    def _with_low_rank(self, x: Tensor, layer: Layer) -> Tensor:
        """The layer and up · down x.

        Linear: on rows (N, I), so that the second product is accumulated into the layer's own
        output by the matrix multiplication; no other tensor of the output's size is made.
        """
        if isinstance(layer, nn.Conv2d):
            return self._plus_low_rank(x, layer(x), layer)
        rows = x.reshape(-1, x.shape[-1])
        y = layer(rows)
        h = F.linear(rows, in_dtype(self.lora_down.weight, x.dtype))
        if self.dropping:
            h = self.drop(h.view(*x.shape[:-1], -1)).view(h.shape)
        up = in_dtype(self.lora_up.weight, y.dtype)
        y.addmm_(h, up.t(), alpha=self.scale * self.strength)
        out: Tensor = y.view(*x.shape[:-1], -1)
        return out

    def norm(self) -> Tensor:
        return self.norms([self])[0]

    @classmethod
    def norms(cls, adapters: Sequence[Self]) -> Tensor:
        """‖up down‖² = <upᵀup, down downᵀ>: two r x r Gram matrices, equal shapes batched."""
        wide = [whole_down(a.lora_down.weight, a._mid).flatten(1) for a in adapters]
        groups: dict[tuple[torch.Size, int, float], list[int]] = {}
        for index, adapter in enumerate(adapters):
            key = (wide[index].shape, adapter.outputs, adapter.scale)
            groups.setdefault(key, []).append(index)
        norms: list[Tensor] = [torch.empty(0)] * len(adapters)
        for (*_, scale), members in groups.items():
            downs = torch.stack([wide[i] for i in members])
            ups = torch.stack([adapters[i].lora_up.weight.flatten(1) for i in members])
            squares = ((ups.mT @ ups) * (downs @ downs.mT)).sum((1, 2))
            # Rounding may leave a tiny negative number where the product vanishes.
            group_norms = squares.clamp(min=0).sqrt() * abs(scale)
            for i, norm in zip(members, group_norms.unbind(), strict=True):
                norms[i] = norm
        return torch.stack(norms)

    @property
    def _mid(self) -> Tensor | None:
        return None if self.lora_mid is None else self.lora_mid.weight

    def _low_rank(self, x: Tensor, layer: Layer) -> Tensor:
        """up · down x, the step's masks on what is between them."""
        down = in_dtype(self.lora_down.weight, x.dtype)
        up = in_dtype(self.lora_up.weight, x.dtype)
        if isinstance(layer, nn.Linear):
            h = F.linear(x, down)
            return F.linear(self.drop(h) if self.dropping else h, up)
        if self._mid is None:
            h = apply_weight(layer, x, down)
        else:
            h = apply_weight(layer, F.conv2d(x, down), in_dtype(self._mid, x.dtype))
        if self.dropping:
            h = self.drop(h.movedim(1, -1)).movedim(-1, 1)
        return F.conv2d(h, up)

    def _ratio(self, layer: Layer) -> Tensor:
        """dora_scale over the lengths of W + ΔW, (O,) or (I,), float32; without making either.

        ‖w + δ‖² = ‖w‖² + 2 <w, δ> + ‖δ‖². Of a row, δ = up_o · down: r products with W's row and
        the r x r Gram matrix of down. Of a column, δ = up · down_i: those of up with W's column and
        the Gram matrix of up.
        """
        assert self.lengths is not None
        assert self.dora_scale is not None
        down = whole_down(self.lora_down.weight, self._mid)
        up = self.lora_up.weight.flatten(1) * self.scale
        dtype, rows = weight_dtype(layer), down.flatten(1)
        if self._by_input:
            columns = up.t().to(dtype)
            if isinstance(layer, StoredLayer):
                onto = layer.columns_product(columns)
            else:
                onto = columns @ layer.weight.flatten(1)
            added = rows * (2.0 * onto.to(up.dtype) + (up.t() @ up) @ rows)
            added = added.view(*down.shape[:2], -1).sum((0, 2))
        else:
            if isinstance(layer, StoredLayer):
                onto = layer.rows_product(rows.to(dtype)).t()
            else:
                onto = layer.weight.flatten(1) @ rows.t().to(dtype)
            added = (up * (2.0 * onto.to(up.dtype) + up @ (rows @ rows.t()))).sum(1)
        smallest = torch.finfo(added.dtype).eps ** 2
        lengths = (self.lengths.square() + added).clamp(min=smallest).sqrt()
        return self.dora_scale.flatten() / lengths

    def _decomposed(self, x: Tensor, layer: Layer) -> Tensor:
        """DoRA of outputs at strength 1: each of W + ΔW times one number, then the bias."""
        scale, ratio = self.scale, self._ratio(layer)
        if isinstance(layer, nn.Linear):
            rows = x.reshape(-1, x.shape[-1])
            y = base_output(layer, rows)
            h = F.linear(rows, in_dtype(self.lora_down.weight, x.dtype))
            y.addmm_(h, in_dtype(self.lora_up.weight, y.dtype).t(), alpha=scale)
        else:
            y = base_output(layer, x)
            y.add_(self._low_rank(x, layer), alpha=scale)
        bias = None if layer.bias is None else over_channels(layer.bias, layer)
        if bias is not None and y.dtype == ratio.dtype:
            y = torch.addcmul(bias, y, over_channels(ratio, layer))
        else:
            y = _scaled(y, ratio, layer)
            y = y if bias is None else y + bias.to(y.dtype)
        return y if isinstance(layer, nn.Conv2d) else y.view(*x.shape[:-1], -1)


def kaiming(*shape: int, generator: torch.Generator) -> Tensor:
    """Kaiming-uniform with a = sqrt(5): within ± 1 / sqrt(fan in)."""
    bound = 1.0 / math.sqrt(math.prod(shape[1:]))
    return torch.empty(shape).uniform_(-bound, bound, generator=generator)


def whole_down(down: Tensor, mid: Tensor | None) -> Tensor:
    """down, (r, I) or (r, I, kh, kw), with the Tucker form's core multiplied into it."""
    if mid is None:
        return down
    product = torch.einsum("mnk,ni->mik", mid.flatten(2), down.flatten(1))
    return product.reshape(*product.shape[:2], *mid.shape[2:])


def _scaled(values: Tensor, ratio: Tensor, layer: Layer) -> Tensor:
    """What goes into a layer or comes out, times one number a channel that is near 1."""
    ratio = over_channels(ratio, layer)
    if values.dtype == ratio.dtype:
        return values * ratio
    # Half precision has few numbers near 1; the distance to 1 fares well.
    return torch.addcmul(values, values, (ratio - 1.0).to(values.dtype))
