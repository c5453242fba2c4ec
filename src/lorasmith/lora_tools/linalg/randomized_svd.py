"""The best low-rank approximation of a large matrix, nearly, by a randomised block Krylov method.

D (m, n) is multiplied by blocks of b vectors only: V_0 random and orthonormal, V_{j+1} what DᵀD V_j
adds to all blocks before. The best approximation whose rows lie in the span of all V_j is then
found by a small eigenproblem (Rayleigh-Ritz). Halko, Martinsson and Tropp (2011) for the random
start, the oversampling and the error identity; Musco and Musco (2015) for keeping all blocks: for
the same number of products with D, a flat spectrum's error is a fraction of what power iterations
of one block reach.

The error is measured, not bounded: for a projector P, ‖D - DP‖² = ‖D‖² - ‖DP‖². How far it can be
above the optimum is estimated from how the last steps still lowered it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

TOLERANCE = 0.01
"""The error may be above the optimum by this share."""

# Of the tolerance, what the estimate of the excess may use: estimates are short by up to a third.
_MARGIN = 0.7
# Errors below this share of ‖D‖² are rounding: of the products, and of factors stored as float16.
_ROUNDING = 1e-7
ROUNDING_ERROR = math.sqrt(_ROUNDING)
"""The same of ‖D‖: 0.03 %."""
# Below this share of ‖D‖² an error is no difference of float32 sums, but measured more precisely.
_SMALL = 1e-3
# Directions that the flattest spectrum takes, counted in ranks.
_USUAL = 3
# A space of this share of all directions has cost about as much as the exact way.
_LARGEST_SPACE = 0.75


@dataclass(frozen=True, slots=True)
class RankLimit:
    """What an approximation is to reach: a rank, a share of the norm, or both.

    Args:
        rank: at most this.
        retain: the smallest rank at which ‖approximation‖ >= retain ‖D‖ (Frobenius), if the rank
            allows; 0 < retain <= 1.
    """

    rank: int | None = None
    retain: float | None = None

    def rank_of(self, energy: Tensor, total: float) -> int | None:
        """The rank to take of cumulative energies (K,), or None if K directions are too few."""
        limit = self.rank or len(energy) + 1
        if self.retain is not None:
            # Rounding must not ask for directions that are not there.
            goal = self.retain**2 * total * (1.0 - _ROUNDING)
            limit = min(limit, 1 + int((energy < goal).sum()))
        return limit if limit <= len(energy) else None


@dataclass(frozen=True, slots=True)
class LowRank:
    """D ≈ up @ down, the singular values' roots in each.

    Args:
        up: (m, r).
        down: (r, n).
        singular_values: (r,), descending.
        total: ‖D‖², squared Frobenius norm.
        residual: ‖D - up down‖², measured.
        excess: by what share ‖D - up down‖ may be above the least possible; an estimate, 0 where
            it was computed exactly. None where the error is below :data:`ROUNDING_ERROR` of ‖D‖:
            single precision does not tell how far below the least is.
    """

    up: Tensor
    down: Tensor
    singular_values: Tensor
    total: float
    residual: float
    excess: float | None

    @property
    def rank(self) -> int:
        return self.down.shape[0]


def low_rank(matrix: Tensor, rank_limit: RankLimit, generator: torch.Generator) -> LowRank:
    """An approximation of what is wanted, its error within :data:`TOLERANCE` of the least, or below
    :data:`ROUNDING_ERROR`.

    Args:
        matrix: (m, n) float32, finite and not all zero. **It is overwritten.**
        generator: draws the first block.
    """
    if matrix.shape[0] < matrix.shape[1]:
        turned = low_rank(matrix.t(), rank_limit, generator)
        return LowRank(
            turned.down.t(), turned.up.t(), turned.singular_values,
            turned.total, turned.residual, turned.excess,
        )  # fmt: skip
    total = squared_norm(matrix)
    sides = matrix.shape[1]
    rank = rank_limit.rank or 0
    limit = int(_LARGEST_SPACE * sides)
    if _USUAL * max(rank, 16) > limit:
        return _exactly(matrix, rank_limit, total)
    space = _Krylov(matrix, _block_size(rank_limit), generator)
    history: list[Tensor] = []
    measured = 0
    while space.size + space.block <= limit:
        space.grow()
        # Where the rank is not known many sizes are asked; in steps that grow with them.
        if space.size < rank or (rank_limit.rank is None and space.size < 1.2 * measured):
            continue
        measured = space.size
        history.append(space.energies(total))
        size = rank_limit.rank_of(history[-1], total)
        if size is not None:
            excess = _excess(history, size, total)
            if excess <= _MARGIN * TOLERANCE:
                small = total - float(history[-1][size - 1]) < _SMALL * total
                directions, products = space.leading(size, precise=small)
                return _balanced(matrix, directions, products, total, excess)
    return _exactly(matrix, rank_limit, total)


def squared_norm(matrix: Tensor) -> float:
    """‖D‖² of (m, n), summed over rows in float64."""
    return float(torch.linalg.vector_norm(matrix, dim=1).double().square().sum())


class _Krylov:
    """Blocks of orthonormal vectors, and D's products with them, as rows.

    Args:
        matrix: (m, n), m >= n.
        block: vectors that are added at a time.
    """

    def __init__(self, matrix: Tensor, block: int, generator: torch.Generator) -> None:
        m, n = matrix.shape
        self.matrix, self.block, self.size = matrix, block, 0
        self.start = torch.randn(block, n, generator=generator)
        # Room for the longest possible; what is not written takes no memory.
        self._vectors = torch.empty(n, n)
        self._products = torch.empty(n, m)
        self._gram = torch.zeros(n, n)

    @property
    def vectors(self) -> Tensor:
        """(K, n), orthonormal rows."""
        return self._vectors[: self.size]

    @property
    def products(self) -> Tensor:
        """D times each, (K, m)."""
        return self._products[: self.size]

    def grow(self) -> None:
        """One block more: K grows by ``block``."""
        begin, end = self.size, self.size + self.block
        if begin == 0:
            new = _orthonormal(self.start)
        else:
            new = self._products[begin - self.block : begin] @ self.matrix
            # What rounding leaves of vectors that are nearly in the space already is made
            # orthogonal to it by the second turn, which sees it at its full length.
            for _ in range(2):
                new = _orthonormal(new.addmm_(new @ self.vectors.t(), self.vectors, alpha=-1.0))
        self.size = end
        self._vectors[begin:end] = new
        torch.mm(new, self.matrix.t(), out=self._products[begin:end])
        self._gram[begin:end, :end] = self._products[begin:end] @ self.products.t()

    def energies(self, total: float) -> Tensor:
        """‖D P‖² for the projectors P on the best 1, 2, …, K directions of the space, (K,)."""
        energies = _cumulated(torch.linalg.eigvalsh(self._products_gram()))
        if total - float(energies[-1]) < _SMALL * total:
            energies = _cumulated(torch.linalg.eigvalsh(self._precise_gram()))
        return energies

    def leading(self, rank: int, *, precise: bool) -> tuple[Tensor, Tensor]:
        """The ``rank`` leading directions, (rank, n), and D times each, (rank, m)."""
        gram = self._precise_gram() if precise else self._products_gram()
        weights = torch.linalg.eigh(gram).eigenvectors[:, -rank:].flip(1).t().float()
        return weights @ self.vectors, weights @ self.products

    def _products_gram(self) -> Tensor:
        """The products of D's products with each other, (K, K); the lower half is filled."""
        return self._gram[: self.size, : self.size]

    def _precise_gram(self) -> Tensor:
        """The same in float64: squares halve the digits."""
        products = self.products.double()
        return products @ products.t()


def _block_size(rank_limit: RankLimit) -> int:
    """Half of the rank: narrower blocks lose speed in products, wider ones accuracy."""
    return 32 if rank_limit.rank is None else max(8, math.ceil(rank_limit.rank / 16) * 8)


def _orthonormal(rows: Tensor) -> Tensor:
    return torch.linalg.qr(rows.t()).Q.t()


def _cumulated(eigenvalues: Tensor) -> Tensor:
    """Sums of the largest 1, 2, … of ascending eigenvalues, float64."""
    return eigenvalues.flip(0).double().clamp(min=0.0).cumsum(0)


def _excess(history: list[Tensor], rank: int, total: float) -> float:
    """By what share the error may be above the optimum, from the energies of the last steps.

    The energy of the space's best ``rank`` directions converges from below, and about
    geometrically; what is still to come is extrapolated, and at least what the last step brought.
    """
    now = float(history[-1][rank - 1])
    error = max(total - now, 0.0)
    if error <= _ROUNDING * total:
        return 0.0
    if len(history) < 3 or len(history[-3]) < rank:
        return math.inf
    before, long_before = (float(energy[rank - 1]) for energy in (history[-2], history[-3]))
    gain, earlier = max(now - before, 0.0), max(before - long_before, 0.0)
    ratio = min(gain / earlier, 0.95) if earlier > 0.0 else 0.0
    missing = gain * max(1.0, ratio / (1.0 - ratio))
    return math.sqrt(error / (error - missing)) - 1.0 if missing < error else math.inf


def _exactly(matrix: Tensor, rank_limit: RankLimit, total: float) -> LowRank:
    """By the eigenvectors of DᵀD in float64, which unlike an SVD always converges."""
    precise = matrix.double()
    values, vectors = torch.linalg.eigh(precise.t() @ precise)
    energy = _cumulated(values)
    rank = rank_limit.rank_of(energy, float(energy[-1])) or len(energy)
    directions = vectors[:, -rank:].flip(1).t()
    products = (directions @ precise.t()).float()
    return _balanced(matrix, directions.float(), products, total, 0.0)


def _balanced(
    matrix: Tensor, directions: Tensor, products: Tensor, total: float, excess: float
) -> LowRank:
    """From directions v (r, n) and D v (r, m): each factor gets the root of the singular values,
    which keeps both far from what half precision cannot hold."""
    lengths = torch.linalg.vector_norm(products, dim=1)
    roots = lengths.sqrt()
    up = (products / roots.clamp(min=torch.finfo(torch.float32).tiny)[:, None]).t().contiguous()
    down = directions * roots[:, None]
    residual = total - float(lengths.double().square().sum())
    if residual < _SMALL * total:
        residual = squared_norm(matrix.addmm_(up, down, alpha=-1.0))
    known_excess = None if residual <= _ROUNDING * total else excess
    return LowRank(up, down, lengths, total, residual, known_excess)


def clamped(approximation: LowRank, quantile: float) -> tuple[Tensor, Tensor]:
    """up (m, r) and down (r, n) as sd-scripts has them: the singular values in ``up`` alone, and
    both cut off at the quantile of the values of the two together."""
    roots = approximation.singular_values.sqrt()
    up, down = approximation.up * roots, approximation.down / roots[:, None]
    values = torch.cat([up.flatten(), down.flatten()])
    place = max(1, math.ceil(quantile * values.numel()))
    limit = float(values.kthvalue(place).values)
    return up.clamp(-limit, limit), down.clamp(-limit, limit)


def with_clamping(approximation: LowRank, residual: float) -> float | None:
    """The excess of what was clamped, whose squared error is ``residual``."""
    if approximation.excess is None:
        return None
    longer = math.sqrt(residual / approximation.residual)
    return max(longer * (1.0 + approximation.excess) - 1.0, 0.0)
