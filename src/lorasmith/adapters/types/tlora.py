"""T-LoRA: a LoRA of which fewer ranks learn the higher the noise is (Soboleva et al. 2025,
arXiv 2507.05964; AAAI 2026).

At high noise there is little of the image to see, and what a large adapter learns there is the
training images by heart: their poses and their backgrounds. So a sample at timestep t of T trains
the first ``(1 - t / T)^power (r - min_rank) + min_rank`` of r ranks; at timestep 0 all of them.

Ranks that are left out only matter where each has something of its own, so they start orthogonal:
ΔW = P Λ Q - P0 Λ0 Q0, the columns of P and the rows of Q orthonormal at first, Λ a diagonal; what
they start as, P0 Λ0 Q0, is taken off, so that a new adapter changes nothing. The authors take those
singular vectors of a random matrix that belong to its smallest singular values. Of a Gaussian
matrix, these are orthonormal vectors of even distribution; they are drawn as such, without the
decomposition, and the values are those of such a matrix at their typical sizes.

The file is a LoRA of rank 2r that holds all of the change: of each rank in turn, Q and Q - Q0
below, P Λ - P0 Λ0 and P0 Λ0 above. Nothing is taken from something nearly as large there, so that
half precision costs no more than it does any LoRA, and cut to 2k ranks it is the adapter's first k.

The authors and LyCORIS leave ranks out when they generate, too. Other programs cannot, and what is
shown and measured here is what they show: all ranks at all noise levels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache, lru_cache
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from lorasmith.adapters.base import PLAIN, AdapterOptions, Factor, Layer
from lorasmith.adapters.types.lora import LoRA


class TLoRA(LoRA):
    """As :class:`LoRA`, of twice the rank where it starts orthogonal."""

    needs_noise_level: ClassVar[bool] = True

    min_rank: int | None = None
    power: float = 1.0
    orthogonal: bool = False

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
        if options.orthogonal:
            adapter = cls._orthogonal(layer, rank, alpha or rank, generator)
        else:
            adapter = super().create(
                layer, rank=rank, alpha=alpha, generator=generator, options=options
            )
        adapter.take_options(options)
        return adapter

    @classmethod
    def _orthogonal(cls, layer: Layer, rank: int, alpha: float, generator: torch.Generator) -> Self:
        outputs, inputs, *kernel = layer.weight.shape
        columns, ones, device = inputs * math.prod(kernel), [1] * len(kernel), layer.weight.device
        down = orthonormal_rows(rank, columns, generator).reshape(rank, inputs, *kernel)
        up = orthonormal_rows(rank, outputs, generator).t().reshape(outputs, rank, *ones)
        values = torch.tensor(smallest_singular_values(rank, outputs, columns))
        lower = DownFromStart(down.to(device))
        upper = UpFromStart(up.to(device), values.to(device))
        # The scale stays alpha / rank at twice the rank.
        adapter = cls(lower.weight.detach(), upper.weight.detach(), alpha=2.0 * alpha)
        adapter.lora_down, adapter.lora_up, adapter.orthogonal = lower, upper, True
        return adapter

    def take_options(self, options: AdapterOptions) -> None:
        self.min_rank, self.power = options.min_rank, options.rank_power

    @property
    def rank(self) -> int:
        """Of the file."""
        if isinstance(self.lora_down, DownFromStart):
            return 2 * self.lora_down.vectors.shape[0]
        return super().rank

    def gates_open(self, noise_gone: float) -> int:
        each = 2 if self.orthogonal else 1
        return each * ranks_at(noise_gone, self.rank // each, self.min_rank, self.power)

    def _tensors(self) -> dict[str, Tensor]:
        return {"lora_down.weight": self.lora_down.weight, "lora_up.weight": self.lora_up.weight}


@lru_cache(maxsize=1 << 14)
def ranks_at(noise_gone: float, rank: int, min_rank: int | None = None, power: float = 1.0) -> int:
    """How many of ``rank`` ranks take part where (T - t) / T is ``noise_gone``; as LyCORIS'
    ``compute_timestep_mask`` has them."""
    least = max(1, rank // 2) if min_rank is None else min(min_rank, rank)
    return min(rank, int(noise_gone**power * (rank - least)) + least)


class DownFromStart(Factor):
    """Q, (r, I[, kh, kw]); as a file's down of 2r ranks, Q and Q - Q0 of each rank in turn."""

    start: Tensor

    def __init__(self, vectors: Tensor) -> None:
        nn.Module.__init__(self)
        self.vectors = nn.Parameter(vectors)
        self.register_buffer("start", vectors.clone(), persistent=False)

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        return torch.stack([self.vectors, self.vectors - self.start], 1).flatten(0, 1)

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        destination[f"{prefix}weight"] = self.weight if keep_vars else self.weight.detach()

    def _load_from_state_dict(
        self, state_dict: Mapping[str, Any], prefix: str, *others: Any
    ) -> None:
        weight = state_dict[f"{prefix}weight"]
        self.vectors.copy_(weight[0::2])
        self.start.copy_(weight[0::2] - weight[1::2])


class UpFromStart(Factor):
    """P, (O, r[, 1, 1]), and Λ, (r,); as a file's up of 2r ranks, P Λ - P0 Λ0 and P0 Λ0 of each
    rank in turn."""

    start: Tensor

    def __init__(self, vectors: Tensor, values: Tensor) -> None:
        nn.Module.__init__(self)
        self.vectors = nn.Parameter(vectors)
        self.values = nn.Parameter(values)
        self.register_buffer("start", self._product().detach().clone(), persistent=False)

    def _product(self) -> Tensor:
        return self.vectors * self.values.view(1, -1, *(1 for _ in self.vectors.shape[2:]))

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        return torch.stack([self._product() - self.start, self.start], 2).flatten(1, 2)

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        destination[f"{prefix}weight"] = self.weight if keep_vars else self.weight.detach()

    def _load_from_state_dict(
        self, state_dict: Mapping[str, Any], prefix: str, *others: Any
    ) -> None:
        """The product is the file's; how it falls into P and Λ is not told there, and the columns
        of P get length 1."""
        weight = state_dict[f"{prefix}weight"]
        self.start.copy_(weight[:, 1::2])
        product = weight[:, 0::2] + weight[:, 1::2]
        lengths = product.flatten(1).norm(dim=0)
        self.values.copy_(lengths)
        self.vectors.copy_(nn.functional.normalize(product, dim=0))


def orthonormal_rows(count: int, width: int, generator: torch.Generator) -> Tensor:
    """(count, width) float32 of even distribution; of more rows than columns, the columns are.

    In float64, so that a run that is resumed on another machine starts from the same numbers.
    """
    tall = torch.randn(
        max(count, width), min(count, width), generator=generator, dtype=torch.float64
    )
    q, r = torch.linalg.qr(tall)
    q = q * r.diagonal().sign()  # Without this LAPACK's choice of signs, not chance.
    return (q if count > width else q.t()).to(torch.float32).contiguous()


@cache
def smallest_singular_values(rank: int, outputs: int, inputs: int) -> list[float]:
    """The ``rank`` smallest of a Gaussian matrix with a standard deviation of 1 / rank, descending.

    Their typical sizes: of the bidiagonal form of such a matrix (Dumitriu and Edelman 2002), with
    the chi numbers in it at the roots of their degrees. Ranks beyond the matrix's repeat the last.
    """
    many, few = max(outputs, inputs), min(outputs, inputs)
    diagonal = torch.arange(many, many - few, -1, dtype=torch.float64).sqrt()
    below = torch.arange(few - 1, 0, -1, dtype=torch.float64).sqrt()
    values = torch.linalg.svdvals(diagonal.diag() + below.diag(-1))[-rank:] / rank
    return [*values.tolist(), *[float(values[-1])] * (rank - len(values))]
