"""Stochastic rounding to bfloat16: to a neighbour, right in the mean, a function of its name."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from lorasmith.tensors.rng import normal
from lorasmith.tensors.rounding import StochasticRounding

SPACING = 2.0**-7  # Of bfloat16 between 1 and 2.


def rounded(values: Tensor, step: int = 0, number: int = 0, seed: int = 0) -> Tensor:
    rounding = StochasticRounding(seed)
    rounding.step = step
    target = torch.empty_like(values, dtype=torch.bfloat16)
    rounding.round_into(target, values.clone(), number)
    return target.float()


@pytest.mark.parametrize("share", [0.01, 0.25, 0.5, 0.875])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_goes_up_in_the_share_of_cases_that_makes_the_mean_right(share: float, sign: float) -> None:
    draws, value = 100_000, sign * (1 + share * SPACING)
    found = rounded(torch.full((draws,), value)).abs()
    assert found.unique().tolist() == [1.0, 1 + SPACING]
    ups = int((found > 1).sum())
    # Binomial: five standard deviations, which a right one leaves once in two million times.
    assert abs(ups - draws * share) < 5 * math.sqrt(draws * share * (1 - share))


def test_is_unbiased_over_all_sizes() -> None:
    values = normal((100_000,), 0, "values") * 10 ** normal((100_000,), 1, "sizes")
    spacing = torch.ldexp(torch.ones(()), values.abs().log2().floor() - 7)
    errors = (rounded(values) - values) / spacing
    assert bool((errors.abs() < 1).all())
    # The error is that of a Bernoulli draw, whose variance is at most 1/4.
    assert abs(float(errors.double().mean())) < 5 * 0.5 / math.sqrt(len(values))


def test_many_small_changes_add_up() -> None:
    """A thousand changes that rounding to the nearest would all lose."""
    weights, nearest = (torch.ones(4000, dtype=torch.bfloat16) for _ in range(2))
    rounding, change = StochasticRounding(0), 1e-4
    for step in range(1000):
        rounding.step = step
        rounding.round_into(weights, weights.float() + change, 0)
        nearest += change
    assert bool((nearest == 1).all())
    variance = 1000 * change * SPACING / len(weights)
    assert abs(float(weights.double().mean()) - 1.1) < 5 * math.sqrt(variance)


def test_what_bfloat16_can_hold_stays() -> None:
    values = normal((1000,), 0, "values").bfloat16().float()
    values[:3] = torch.tensor([0.0, 1.0, -(2.0**-130)])
    assert torch.equal(rounded(values), values)


def test_what_is_no_number_is_none_afterwards() -> None:
    bits = torch.tensor([0x7FC00000, 0x7FFFFFFF, -1, 0x7F800000], dtype=torch.int32)
    assert bool(rounded(bits.view(torch.float32)).isnan().all())


def test_is_a_function_of_seed_step_and_number() -> None:
    values = normal((1000,), 0, "values")
    first = rounded(values, step=3, number=5, seed=7)
    assert torch.equal(rounded(values, step=3, number=5, seed=7), first)
    for other in ((4, 5, 7), (3, 6, 7), (3, 5, 8)):
        step, number, seed = other
        assert not torch.equal(rounded(values, step=step, number=number, seed=seed), first)
