"""Low-rank weight changes: their singular values and best approximations, never multiplied out.

ΔW = up · down with up (O, r) and down (r, I). With Gram matrices G_u = upᵀ up, G_d = down downᵀ and
the Cholesky factor G_u = L Lᵀ, up L⁻ᵀ has orthonormal columns, so that ΔW has the singular values
and right vectors of the r x I matrix Lᵀ down; these are the eigenvalues and eigenvectors of
Lᵀ G_d L, r x r. Everything that is as long as the layer is one product of a long matrix with an
r x r one. By Eckart and Young (1936) the first k singular triples are the best approximation of
rank k in the Frobenius norm.

Gram matrices square the condition, so they are taken in float64, the factor that is inverted is
the better conditioned of the two, and where neither is well enough, Householder's QR of both and
an SVD of the small core take over (slower, and exact for every input).

A sum of such changes is their factors side by side. Where the rank would reach the smaller side of
the weight, the weight itself is the smaller thing, and is used.

Sizes: O outputs, I inputs (times the kernel's of a convolution), r rank.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

# The least share of a Gram matrix's diagonal that its Cholesky pivots may leave: below it, what
# rounding does to the pivot (1e-16 of the diagonal) is felt in the sixth digit of a vector.
_LEAST_PIVOT = 1e-9
# A pivot that is good enough not to look whether the other factor has a better one.
_GOOD_PIVOT = 1e-4
# What is cut off, over the largest singular value: from here down, the rounding of its square in
# float64 shows in the sixth digit; and from here down, it is less than float32 files can hold.
_SQUARES_REACH, _NOTHING = 1e-4, 1e-7
# Where so many times fewer vectors are wanted than there are, float32 makes a start; with so many
# more than are wanted; and the squared residual, over what is cut off and the least value kept.
_MANY, _MORE, _CONVERGED = 3, 8, 1e-9


class Decomposition(Protocol):
    """A weight change by its singular values.

    ``values`` (n,), float64, falling; all but those that must be 0.
    """

    @property
    def values(self) -> Tensor: ...

    def factors(self, rank: int) -> tuple[Tensor, Tensor]:
        """up (O, rank) and down (rank, I), float64: the best approximation of that rank.

        The singular values are shared evenly between the two, which suits half precision best.
        """
        ...


@dataclass(frozen=True, slots=True)
class Product:
    """ΔW = scale · up · down.

    Args:
        up: (O, r), of any floating dtype, as stored.
        down: (r, I).
    """

    up: Tensor
    down: Tensor
    scale: float = 1.0

    @property
    def rank(self) -> int:
        return self.down.shape[0]

    @property
    def shape(self) -> tuple[int, int]:
        """(O, I)."""
        return self.up.shape[0], self.down.shape[1]

    @property
    def sign(self) -> float:
        return math.copysign(1.0, self.scale)

    def dense(self) -> Tensor:
        """ΔW itself, (O, I), float64."""
        return (self.up.double() * self.scale) @ self.down.double()

    def norm(self) -> float:
        """Frobenius norm: ‖up down‖² = <upᵀ up, down downᵀ>.

        Raises:
            NotFinite: a factor holds NaN or infinity.
        """
        square = float((gram(self.up.double().t()) * gram(self.down.double())).sum())
        if not math.isfinite(square):
            raise NotFinite("holds NaN or infinity")
        return math.sqrt(max(square, 0.0)) * abs(self.scale)

    def decompose(self) -> Decomposition:
        """
        Raises:
            NotFinite: a factor holds NaN or infinity.
        """
        if self.rank >= min(self.shape):
            return decompose_dense(self.dense())
        return decompose_product(self)


@dataclass(frozen=True, slots=True)
class Kronecker:
    """ΔW = scale · first ⊗ second, (A·C, B·D) of (A, B) and (C, D)."""

    first: Tensor
    second: Tensor
    scale: float = 1.0

    @property
    def shape(self) -> tuple[int, int]:
        (a, b), (c, d) = self.first.shape, self.second.shape
        return a * c, b * d

    @property
    def rank(self) -> int:
        """The most it can be."""
        return min(self.first.shape) * min(self.second.shape)

    def dense(self) -> Tensor:
        return torch.kron(self.first.double() * self.scale, self.second.double())

    def norm(self) -> float:
        """‖first ⊗ second‖ = ‖first‖ ‖second‖."""
        return float(self.first.double().norm() * self.second.double().norm()) * abs(self.scale)

    def decompose(self) -> Decomposition:
        """
        Raises:
            NotFinite: a factor holds NaN or infinity.
        """
        first, second = self.first.double(), self.second.double()
        check_finite(first, second)
        return _KroneckerSvd.of(first * self.scale, second)


class NotFinite(ValueError):
    """A factor holds NaN or infinity."""


Change = Product | Kronecker
"""A weight change in a form that is smaller than the weight, or no larger."""


def check_finite(*tensors: Tensor) -> None:
    """
    Raises:
        NotFinite: one holds NaN or infinity.
    """
    for tensor in tensors:
        # Of 8-bit numbers, torch does not tell.
        wide = tensor.float() if tensor.itemsize == 1 else tensor
        if not bool(torch.isfinite(wide).all()):
            raise NotFinite("holds NaN or infinity")


def gram(rows: Tensor) -> Tensor:
    """rows rowsᵀ, (r, r), of a float64 matrix (r, n)."""
    # NumPy sees that both operands are one matrix and computes half of the product; torch does not.
    matrix = rows.numpy()
    return torch.from_numpy(matrix @ matrix.T)


def as_product(change: Change) -> Product:
    """``change`` as one product of two matrices, of as small a rank as can be seen."""
    if isinstance(change, Product):
        return change
    if change.rank >= min(change.shape):
        return whole(change.dense())
    up, down = change.decompose().factors(change.rank)
    return Product(up, down)


def concatenate(terms: Sequence[tuple[float, Product]]) -> Product:
    """Σ weight · product, as one product; float64. Exact: the factors stand side by side."""
    outputs, inputs = terms[0][1].shape
    ranks = [product.rank for _, product in terms]
    up = torch.empty(outputs, sum(ranks), dtype=torch.float64)
    down = torch.empty(sum(ranks), inputs, dtype=torch.float64)
    places = zip(terms, up.split(ranks, 1), down.split(ranks), strict=True)
    for (weight, product), own_up, own_down in places:
        own_up.copy_(product.up).mul_(weight * product.scale)
        own_down.copy_(product.down)
    return Product(up, down)


def decompose_dense(weight: Tensor) -> Decomposition:
    """Of a whole matrix (O, I), float64.

    Raises:
        NotFinite: it holds NaN or infinity.
    """
    return decompose_product(whole(weight))


def whole(weight: Tensor) -> Product:
    """A matrix (O, I) as the product of itself with the identity of its smaller side."""
    outputs, inputs = weight.shape
    if outputs <= inputs:
        return Product(torch.eye(outputs, dtype=weight.dtype), weight)
    return Product(weight, torch.eye(inputs, dtype=weight.dtype))


def decompose_product(product: Product) -> Decomposition:
    """
    Raises:
        NotFinite: a factor holds NaN or infinity.
    """
    core = _Core.of(product)
    if core is None:
        return _by_qr(product)
    squares, vectors = torch.linalg.eigh(core.matrix)
    return _ProductSvd(product, core, squares.clamp(min=0.0).flip(0).sqrt(), vectors.flip(1))


@dataclass(frozen=True, slots=True)
class _Core:
    """The r x r matrix whose eigenvalues are the squares of a product's singular values, without
    its scale.

    Args:
        matrix: Lᵀ G L, float64.
        lower: L, the Cholesky factor of the one factor's Gram matrix; G is the other's.
        of_up: whether L is of up.
    """

    matrix: Tensor
    lower: Tensor
    of_up: bool

    @classmethod
    def of(cls, product: Product) -> _Core | None:
        """None where both factors are in too bad a condition.

        Raises:
            NotFinite: a factor holds NaN or infinity.
        """
        of_up, of_down = gram(product.up.double().t()), gram(product.down.double())
        # A diagonal entry is the length of a column: it tells of every number if it is finite.
        check_finite(of_up.diagonal(), of_down.diagonal())
        best, best_pivot = None, _LEAST_PIVOT
        # Training starts from a random down, which is mostly the better conditioned.
        for own, other, is_up in ((of_down, of_up, False), (of_up, of_down, True)):
            lower, info = torch.linalg.cholesky_ex(own)
            pivot = _least_pivot(own, lower) if int(info) == 0 else 0.0
            if pivot > best_pivot:
                best, best_pivot = (lower, other, is_up), pivot
            if best_pivot > _GOOD_PIVOT:
                break
        if best is None:
            return None
        lower, other, is_up = best
        return cls(lower.t() @ other @ lower, lower, is_up)


def _least_pivot(matrix: Tensor, lower: Tensor) -> float:
    """The least share of a column's square that earlier columns do not explain."""
    return float((lower.diagonal().square() / matrix.diagonal()).min())


def _by_qr(product: Product) -> Decomposition:
    left, left_core = torch.linalg.qr(product.up.double())
    right, right_core = torch.linalg.qr(product.down.double().t())
    x, values, y = torch.linalg.svd(left_core @ right_core.t() * product.scale)
    return _Svd(values, left @ x, y @ right.t())


@dataclass(frozen=True, slots=True)
class _Svd:
    """values (n,), left (O, n), right (n, I)."""

    values: Tensor
    left: Tensor
    right: Tensor

    def factors(self, rank: int) -> tuple[Tensor, Tensor]:
        roots = self.values[:rank].sqrt()
        return self.left[:, :rank] * roots, self.right[:rank] * roots[:, None]


@dataclass(frozen=True, slots=True)
class _ProductSvd:
    """
    Args:
        lengths: (n,), falling: the singular values without the product's scale.
        vectors: (r, n), the core's eigenvectors.
    """

    product: Product
    core: _Core
    lengths: Tensor
    vectors: Tensor

    @property
    def values(self) -> Tensor:
        return self.lengths * abs(self.product.scale)

    def factors(self, rank: int) -> tuple[Tensor, Tensor]:
        """up L⁻ᵀ X has orthonormal columns and Xᵀ Lᵀ down the right vectors times the values, for L
        of up and the core's eigenvectors X; the other way round for L of down."""
        if self._rounded(rank):
            return _by_qr(self.product).factors(rank)
        lengths, vectors = self.lengths[:rank], self.vectors[:, :rank]
        lower, scale = self.core.lower, self.product.scale
        roots = (lengths * abs(scale)).sqrt()
        first = torch.linalg.solve_triangular(lower.t(), vectors, upper=True) * roots
        inverses = torch.where(lengths > 0, self.product.sign / lengths, 0.0)
        second = lower @ (vectors * (roots * inverses))
        on_up, on_down = (first, second) if self.core.of_up else (second, first)
        return self.product.up.double() @ on_up, on_down.t() @ self.product.down.double()

    def _rounded(self, rank: int) -> bool:
        """Whether what is cut off is so small that squared values do not show it rightly."""
        cut_off, largest = float(self.lengths[rank:].norm()), float(self.lengths[0])
        return _NOTHING * largest < cut_off < _SQUARES_REACH * largest


@dataclass(frozen=True, slots=True)
class _KroneckerSvd:
    """Singular triples of first ⊗ second are the products of theirs, largest first."""

    values: Tensor
    first: _Svd
    second: _Svd
    order: Tensor

    @classmethod
    def of(cls, first: Tensor, second: Tensor) -> _KroneckerSvd:
        one, other = (_Svd(s, u, v) for u, s, v in map(_thin_svd, (first, second)))
        products = torch.outer(one.values, other.values).flatten()
        values, order = products.sort(descending=True, stable=True)
        return cls(values, one, other, order)

    def factors(self, rank: int) -> tuple[Tensor, Tensor]:
        order, roots = self.order[:rank], self.values[:rank].sqrt()
        i, j = order // len(self.second.values), order % len(self.second.values)
        left = torch.einsum("ar,cr->acr", self.first.left[:, i], self.second.left[:, j])
        right = torch.einsum("rb,rd->rbd", self.first.right[i], self.second.right[j])
        return left.flatten(0, 1) * roots, right.flatten(1) * roots[:, None]


def _thin_svd(matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    return left, values, right


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
    core = _Core.of(product) if product.rank < min(product.shape) else None
    if core is not None and _MANY * (rank + _MORE) <= product.rank:
        largest = _largest(core.matrix, rank)
        if largest is not None:
            squares, vectors, left = largest
            lengths = squares.sqrt()
            up, down = _ProductSvd(product, core, lengths, vectors).factors(rank)
            norm = math.sqrt(float(core.matrix.trace())) * abs(product.scale)
            return Truncated(up, down, norm, math.sqrt(left) * abs(product.scale))
    svd = product.decompose()
    values = svd.values
    return Truncated(*svd.factors(rank), float(values.norm()), float(values[rank:].norm()))


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
    enough = left > _SQUARES_REACH * float(squares[0]) and residual**2 <= (
        _CONVERGED * left * float(squares[-1])
    )
    return (squares, vectors, left) if enough else None
