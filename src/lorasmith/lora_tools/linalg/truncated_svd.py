"""The best approximation of a weight change at a rank far below its own.

As :mod:`lora_tools.linalg.low_rank`, without the singular values that are cut off.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lorasmith.lora_tools.linalg.low_rank import SQUARES_REACH, Core, Product, ProductSvd

# Where so many times fewer vectors are wanted than there are, float32 makes a start; with so many
# more than are wanted; and the squared residual, over what is cut off and the least value kept.
_MANY, _MORE, _CONVERGED = 3, 8, 1e-9


@dataclass(frozen=True, slots=True)
class Truncated:
    """The best approximation of a rank: up (O, r), down (r, I), float64.

    Args:
        norm: Frobenius norm of what is approximated.
        error: of the difference.
    """

    up: Tensor
    down: Tensor
    norm: float
    error: float


def truncate(product: Product, rank: int) -> Truncated:
    """The best approximation of a low rank, without the other singular values.

    The eigenvectors are those of the core in float32, with a few more than are wanted, after a step
    of subspace iteration and a Rayleigh-Ritz projection in float64: as the energy that a subspace
    holds is flat at its maximum, what is left of float32's rounding is its square. Where the
    residuals say otherwise, and where most vectors are wanted, all are computed in float64.

    Raises:
        NotFinite: a factor holds NaN or infinity.
    """
    rank = min(rank, product.rank, *product.shape)
    core = Core.of(product) if product.rank < min(product.shape) else None
    if core is not None and _MANY * (rank + _MORE) <= product.rank:
        found = _largest(core.matrix, rank)
        if found is not None:
            squares, vectors, left = found
            lengths = squares.sqrt()
            up, down = ProductSvd(product, core, lengths, vectors).factors(rank)
            norm = math.sqrt(float(core.matrix.trace())) * abs(product.scale)
            return Truncated(up, down, norm, math.sqrt(left) * abs(product.scale))
    whole = product.decompose()
    values = whole.values
    return Truncated(*whole.factors(rank), float(values.norm()), float(values[rank:].norm()))


def _largest(matrix: Tensor, rank: int) -> tuple[Tensor, Tensor, float] | None:
    """The largest eigenvalues of a positive matrix, falling, their vectors, and the sum of the
    others; None where float32 is not enough of a start."""
    rough = torch.linalg.eigh((matrix / matrix.trace()).float())[1][:, -(rank + _MORE) :]
    basis = torch.linalg.qr(matrix @ rough.double()).Q
    image = matrix @ basis
    ritz, turn = torch.linalg.eigh(basis.t() @ image)
    squares, turn = ritz.flip(0)[:rank], turn.flip(1)[:, :rank]
    vectors = basis @ turn
    left = float(matrix.trace() - squares.sum())
    residual = float((image @ turn - vectors * squares).norm())
    # Energy lost is at most the squared residual over the gap to what was left out.
    enough = left > SQUARES_REACH * float(squares[0]) and residual**2 <= (
        _CONVERGED * left * float(squares[-1])
    )
    return (squares, vectors, left) if enough else None
