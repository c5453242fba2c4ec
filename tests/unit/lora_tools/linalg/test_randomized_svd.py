"""Against full decompositions in float64."""

from __future__ import annotations

import math

import pytest
import torch
from tests.tolerances import LAYER, near
from torch import Tensor

from lorasmith.adapters.types.lokr import LoKr
from lorasmith.lora_tools.linalg.kronecker import kronecker_shapes, nearest_kronecker
from lorasmith.lora_tools.linalg.randomized_svd import TOLERANCE, RankLimit, low_rank
from lorasmith.tensors.rng import generator, normal


def orthonormal(rows: int, columns: int, number: int) -> Tensor:
    return torch.linalg.qr(normal((rows, columns), 0, "test basis", number).double()).Q


def with_spectrum(m: int, n: int, values: Tensor) -> Tensor:
    k = min(m, n)
    return ((orthonormal(m, k, 0) * values.double()) @ orthonormal(n, k, 1).T).float()


def spectrum(name: str, k: int) -> Tensor:
    i = torch.arange(1, k + 1).double()
    return {
        "slow": i**-0.25,
        "fast": i**-2.0,
        "geometric": 0.9**i,
        "a step at the rank": (i <= 24) + 0.3,
        "a step behind it": (i <= 40) + 0.2,
        "a gap before it": torch.where(i <= 10, 10.0, 0.5) + 0.0 * i,
    }[name]


def matrix(kind: str, m: int, n: int) -> Tensor:
    noise = normal((m, n), 0, "test noise")
    if kind == "noise":
        return 1e-4 * noise
    if kind == "low rank and noise":
        up, down = normal((m, 12), 0, "test up"), normal((12, n), 0, "test down")
        return up @ down / 3 + noise
    return with_spectrum(m, n, spectrum(kind, min(m, n)))


KINDS = (
    "noise", "low rank and noise", "slow", "fast", "geometric", "a step at the rank",
    "a step behind it", "a gap before it",
)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(320, 320), (200, 640), (640, 160)])
def test_the_error_is_nearly_the_least_and_measured(kind: str, size: tuple[int, int]) -> None:
    change = matrix(kind, *size)
    values = torch.linalg.svdvals(change.double())
    for rank in (1, 24, 100):
        found = low_rank(change.clone(), RankLimit(rank=rank), generator(0, "test"))
        product = found.up.double() @ found.down.double()
        error = float((change.double() - product).norm())
        least = float(values[rank:].square().sum().sqrt())
        assert found.rank == rank
        assert error <= (1.0 + TOLERANCE) * least
        assert math.sqrt(found.residual) == pytest.approx(error, rel=2e-3)
        assert math.sqrt(found.total) == near(float(change.double().norm()), LAYER)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.5, 0.9, 0.999])
def test_a_share_is_retained_at_nearly_the_smallest_rank(kind: str, share: float) -> None:
    change = matrix(kind, 320, 400)
    energy = torch.linalg.svdvals(change.double()).square().cumsum(0)
    smallest = 1 + int((energy < share**2 * energy[-1]).sum())
    found = low_rank(change.clone(), RankLimit(retain=share), generator(0, "test"))
    assert smallest <= found.rank <= smallest + max(1, smallest // 50)
    assert found.residual <= (1.0 - share**2) * found.total * (1 + 1e-3)


def test_a_rank_caps_what_is_retained() -> None:
    found = low_rank(matrix("noise", 320, 320), RankLimit(7, 0.99), generator(0, "test"))
    assert found.rank == 7


@pytest.mark.parametrize("rank", [1, 8, 40, 300])
def test_what_has_a_low_rank_is_found_exactly(rank: int) -> None:
    change = normal((300, 8), 0, "up") @ normal((8, 350), 0, "down")
    found = low_rank(change.clone(), RankLimit(rank=rank), generator(0, "test"))
    assert found.up.isfinite().all()
    assert found.down.isfinite().all()
    if rank >= 8:
        assert math.sqrt(found.residual / found.total) < 1e-5
    # How near to the least an error of mere rounding is, cannot be told.
    assert (found.excess is None) == (rank >= 8)


def test_the_result_is_a_function_of_the_seed() -> None:
    change = matrix("noise", 320, 320)
    one, same, other = (
        low_rank(change.clone(), RankLimit(rank=8), generator(seed, "test")).up
        for seed in (0, 0, 1)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


@pytest.mark.parametrize("shape", [(320, 320), (96, 640), (64, 32, 3, 3)])
@pytest.mark.parametrize("factor", [-1, 4])
@pytest.mark.parametrize("rank", [None, 3])
def test_the_nearest_kronecker_product(
    shape: tuple[int, ...], factor: int, rank: int | None
) -> None:
    change = normal(shape, 0, "change")
    # At a rank too high to save anything the second factor stays whole.
    wanted = RankLimit(rank=rank or 10_000)
    found = nearest_kronecker(change.clone(), factor, wanted, generator(0, "test"))
    tensors = dict(found.tensors)
    layer = torch.nn.Linear(shape[1], shape[0])
    if len(shape) == 4:
        layer = torch.nn.Conv2d(shape[1], shape[0], shape[2:])  # type: ignore[assignment]
    if found.rank:
        tensors["alpha"] = torch.tensor(float(found.rank))
    ours = LoKr.from_tensors(layer, tensors).delta_weight(layer)
    error = float((change - ours.detach()).norm())
    assert math.sqrt(found.residual) == near(error, LAYER)
    shapes = {name: tuple(tensor.shape) for name, tensor in found.tensors.items()}
    assert shapes == kronecker_shapes(shape, factor, wanted.rank)
    # Van Loan and Pitsianis: the rest of the rearranged matrix' singular values.
    (a, b) = found.tensors["lokr_w1"].shape
    c = shape[0] // a
    rows = change.double().reshape(a, c, b, -1).transpose(1, 2).reshape(a * b, -1)
    values = torch.linalg.svdvals(rows)
    least = float(values[1:].square().sum().sqrt())
    if rank is None:
        assert error <= (1 + TOLERANCE) * least
    else:
        assert found.rank == rank
        assert least < error < float(change.norm())
