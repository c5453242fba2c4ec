"""Against full singular value decompositions in float64."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.tolerances import LAYER, assert_near

from lorasmith.lora_tools.linalg.low_rank import (
    Kronecker,
    NotFinite,
    Product,
    as_product,
    concatenate,
    decompose_dense,
    truncate,
)


def random_product(
    outputs: int, inputs: int, rank: int, *, scale: float = 1.0, seed: int = 0, decades: float = 2.0
) -> Product:
    generator = torch.Generator().manual_seed(seed)
    up = torch.randn(outputs, rank, generator=generator) * torch.logspace(0, -decades, rank)
    return Product(up, torch.randn(rank, inputs, generator=generator), scale)


def assert_optimal(weight: torch.Tensor, up: torch.Tensor, down: torch.Tensor) -> None:
    least = torch.linalg.svdvals(weight)[down.shape[0] :].norm()
    error = (weight - up @ down).norm()
    assert error <= least * (1 + 1e-6) + 1e-7 * weight.norm()


@settings(max_examples=25, deadline=None)
@given(
    outputs=st.integers(1, 40),
    inputs=st.integers(1, 40),
    rank=st.integers(1, 24),
    kept=st.integers(1, 24),
    scale=st.sampled_from([1.0, 0.5, -3.0, 0.0]),
    decades=st.floats(0, 7),
)
def test_any_shape(
    outputs: int, inputs: int, rank: int, kept: int, scale: float, decades: float
) -> None:
    product = random_product(outputs, inputs, rank, scale=scale, decades=decades)
    weight = product.dense()
    found = product.decompose()
    expected = torch.linalg.svdvals(weight)[: len(found.values)]
    torch.testing.assert_close(found.values, expected, rtol=0, atol=2e-8 * float(expected[0]))
    assert product.norm() == pytest.approx(float(weight.norm()), rel=1e-7)
    assert_optimal(weight, *found.factors(min(kept, len(found.values))))


@pytest.mark.parametrize(
    ("outputs", "inputs", "rank"),
    [(320, 768, 128), (1280, 320, 64), (320, 1440, 32), (320, 320, 256), (96, 64, 80)],
)
def test_sizes_of_models(outputs: int, inputs: int, rank: int) -> None:
    product = random_product(outputs, inputs, rank, scale=0.5)
    up, down = product.decompose().factors(rank // 4)
    assert_optimal(product.dense(), up, down)
    lengths = (up.norm(dim=0), down.norm(dim=1))
    torch.testing.assert_close(*lengths)


@pytest.mark.parametrize(("rank", "kept"), [(120, 8), (120, 24), (120, 60), (120, 120), (400, 9)])
@pytest.mark.parametrize("decades", [0.0, 1.0, 3.0, 6.0])
def test_only_the_largest(rank: int, kept: int, decades: float) -> None:
    product = random_product(300, 200, rank, scale=-0.5, decades=decades)
    weight = product.dense()
    found = truncate(product, kept)
    assert_optimal(weight, found.up, found.down)
    assert found.norm == pytest.approx(float(weight.norm()), rel=1e-7)
    error = float((weight - found.up @ found.down).norm())
    assert found.error == pytest.approx(error, rel=1e-6, abs=1e-7 * found.norm)


def test_equal_singular_values() -> None:
    """Any of them are the largest."""
    q = torch.linalg.qr(torch.randn(200, 120, generator=torch.Generator().manual_seed(1)))[0]
    found = truncate(Product(q.double(), q.t().double()), 12)
    assert found.error == pytest.approx(108**0.5, rel=1e-6)
    assert found.norm == pytest.approx(120**0.5, rel=1e-6)


@pytest.mark.parametrize("decades", [4.0, 6.0, 9.0, 14.0])
def test_factors_in_bad_condition(decades: float) -> None:
    """Both factors of nearly dependent columns."""
    steep = random_product(120, 100, 24, decades=decades)
    mix = torch.linalg.qr(torch.randn(24, 24, generator=torch.Generator().manual_seed(5)))[0]
    product = Product(
        steep.up.double() @ mix.double(),
        mix.double().t() @ (torch.logspace(0, -decades, 24)[:, None] * steep.down).double(),
    )
    for rank in (1, 4, 12):
        assert_optimal(product.dense(), *product.decompose().factors(rank))


def test_a_lora_beside_itself_is_of_its_own_rank() -> None:
    product = random_product(80, 60, 8)
    twice = concatenate([(0.25, product), (0.75, product)])
    found = twice.decompose()
    assert float(found.values[8]) < 1e-12 * float(found.values[0])
    up, down = found.factors(8)
    assert_near(up @ down, product.dense(), LAYER)


def test_nothing_is_nothing() -> None:
    for up, down in ((0.0, 1.0), (1.0, 0.0), (0.0, 0.0)):
        found = Product(torch.full((20, 4), up), torch.full((4, 30), down)).decompose()
        assert found.values.abs().max() == 0
        left, right = found.factors(2)
        assert torch.equal(left @ right, torch.zeros(20, 30, dtype=torch.float64))


@settings(max_examples=25, deadline=None)
@given(sizes=st.tuples(*[st.integers(1, 9)] * 4), kept=st.integers(1, 12))
def test_kronecker_products(sizes: tuple[int, int, int, int], kept: int) -> None:
    generator = torch.Generator().manual_seed(math.prod(sizes))
    a, b, c, d = sizes
    change = Kronecker(
        torch.randn(a, b, generator=generator), torch.randn(c, d, generator=generator), -0.5
    )
    weight = torch.kron(change.first.double(), change.second.double()) * -0.5
    found = change.decompose()
    assert_near(found.values, torch.linalg.svdvals(weight)[: len(found.values)], LAYER)
    assert change.norm() == pytest.approx(float(weight.norm()))
    assert_optimal(weight, *found.factors(min(kept, len(found.values))))
    assert_near(as_product(change).dense(), weight, LAYER)


@settings(max_examples=25, deadline=None)
@given(ranks=st.lists(st.integers(1, 12), min_size=1, max_size=4))
def test_a_sum_is_the_factors_side_by_side(ranks: list[int]) -> None:
    terms = [
        (weight, random_product(30, 20, rank, scale=0.3, seed=number))
        for number, (rank, weight) in enumerate(zip(ranks, (1.0, -0.5, 2.0, 0.1), strict=False))
    ]
    expected = sum(weight * (product.up.double() @ product.down.double()) * 0.3
                   for weight, product in terms)  # fmt: skip
    summed = concatenate(terms)
    assert summed.rank == sum(ranks)
    assert_near(summed.dense(), expected, LAYER)
    assert_optimal(summed.dense(), *summed.decompose().factors(min(5, sum(ranks))))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_no_number_is_said(bad: float) -> None:
    product = random_product(30, 20, 4)
    product.up[3, 2] = bad
    for work in (
        product.decompose,
        product.norm,
        lambda: truncate(product, 1),
        lambda: decompose_dense(product.dense()),
    ):
        with pytest.raises(NotFinite, match="NaN or infinity"):
            work()
