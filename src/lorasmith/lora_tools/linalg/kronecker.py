"""The nearest Kronecker product to a matrix (Van Loan and Pitsianis 1993), as a LoKr.

D (O, I[, kh, kw]) ≈ w1 ⊗ w2 with w1 (A, B), w2 (C, E[, kh, kw]), O = A C and I = B E. Put each of
D's A x B blocks into a row: the product becomes the rank-one matrix vec(w1) vec(w2)ᵀ, and the
nearest one is that of the largest singular value.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lorasmith.adapters.types.lokr import factorization
from lorasmith.lora_tools.linalg.randomized_svd import RankLimit, low_rank, squared_norm

_ONE = RankLimit(rank=1)


@dataclass(frozen=True, slots=True)
class KroneckerProduct:
    """D ≈ w1 ⊗ w2.

    Args:
        tensors: under LyCORIS' names: w1 (A, B), and w2 (C, E[, kh, kw]) or its two factors, of
            (C, E kh kw); ``alpha`` is for the caller.
        rank: of w2, where it has one; otherwise 0.
        total: ‖D‖², squared Frobenius norm.
        residual: ‖D - w1 ⊗ w2‖², measured.
    """

    tensors: dict[str, Tensor]
    rank: int
    total: float
    residual: float


def kronecker_shapes(
    shape: tuple[int, ...], factor: int, rank: int | None
) -> dict[str, tuple[int, ...]]:
    """Of the tensors that :func:`nearest_kronecker` makes of a change of ``shape``, at most."""
    outputs, inputs, *kernel = shape
    (a, c), (b, e) = (factorization(side, factor) for side in (outputs, inputs))
    size = math.prod(kernel)
    if rank is None or rank >= max(c, e) / 2:
        return {"lokr_w1": (a, b), "lokr_w2": (c, e, *kernel)}
    return {"lokr_w1": (a, b), "lokr_w2_a": (c, rank), "lokr_w2_b": (rank, e * size)}


def nearest_kronecker(
    change: Tensor, factor: int, rank_limit: RankLimit, generator: torch.Generator
) -> KroneckerProduct:
    """The nearest product of LyCORIS' sizes for ``factor``, w2 at the rank that is wanted of it.

    w2 stays whole where a rank would save nothing, by LyCORIS' rule: from half of its longer side.

    Args:
        change: (O, I[, kh, kw]) float32, finite and not all zero. **It is overwritten.**
        factor: how LyCORIS divides each side, see
            :func:`~lorasmith.adapters.types.lokr.factorization`.
        rank_limit: rank of w2, or the share of w2's norm to retain.
    """
    outputs, inputs, *kernel = change.shape
    size = math.prod(kernel)
    (a, c), (b, e) = (factorization(side, factor) for side in (outputs, inputs))
    blocks = change.view(a, c, b, e * size).transpose(1, 2)  # (A, B, C, E kh kw)
    rows = blocks.reshape(a * b, c * e * size).clone()
    total = squared_norm(change.flatten(1))
    best = low_rank(rows, _ONE, generator)
    w1, w2 = best.up.reshape(a, b), best.down.reshape(c, e * size)
    tensors, rank = {"lokr_w1": w1, "lokr_w2": w2.reshape(c, e, *kernel)}, 0
    if rank_limit.rank is None or rank_limit.rank < max(c, e) / 2:
        small = low_rank(w2.clone(), rank_limit, generator)
        if small.rank < max(c, e) / 2:
            w2, rank = small.up @ small.down, small.rank
            tensors = {"lokr_w1": w1, "lokr_w2_a": small.up, "lokr_w2_b": small.down}
    blocks -= w1[:, :, None, None] * w2
    return KroneckerProduct(tensors, rank, total, squared_norm(change.flatten(1)))
