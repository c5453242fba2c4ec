"""Distributions of timesteps against their closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from lorasmith.diffusion.schedule import NUM_TIMESTEPS
from lorasmith.diffusion.timesteps import (
    Quantile,
    Timesteps,
    as_weighed,
    even_timesteps,
    leaning_high,
    leaning_low,
    logit_normal,
)

QUANTILES: dict[str, Quantile | None] = {
    "uniform": None,
    "logit normal": logit_normal(),
    "low": leaning_low(3.0),
    "high": leaning_high(3.0),
    "as weighed": as_weighed([float(t % 7) for t in range(1000)]),
}


def test_a_timestep_depends_on_its_sample_alone() -> None:
    draw = Timesteps().draw
    alone = [draw(3, 7, [sample]).item() for sample in (5, 9, 11)]
    assert draw(3, 7, [5, 9, 11]).tolist() == alone
    assert draw(3, 7, [11, 5]).tolist() == [alone[2], alone[0]]
    assert draw(3, 8, [5, 9, 11]).tolist() != alone
    assert draw(4, 7, [5, 9, 11]).tolist() != alone


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(sorted(QUANTILES)),
    st.integers(0, 999),
    st.integers(1, 1000),
    st.integers(0, 2**40),
)
def test_timesteps_stay_in_their_range(name: str, low: int, span: int, sample: int) -> None:
    high = min(low + span, NUM_TIMESTEPS)
    t = Timesteps(low, high, QUANTILES[name]).draw(0, 0, [sample])
    assert t.dtype == torch.int64
    assert low <= t.item() < high


def test_timesteps_are_uniform() -> None:
    t = Timesteps().draw(0, 0, range(20_000))
    counts = torch.bincount(t // 100, minlength=10)
    # Ten cells of 2000 expected: chi-square with 9 degrees of freedom, 99.9th percentile 27.9.
    assert ((counts - 2000.0) ** 2 / 2000).sum() < 27.9
    assert t.min() == 0
    assert t.max() == 999


CDFS = [
    (logit_normal(), lambda x: stats.norm.cdf(math.log(x / (1 - x)))),
    (logit_normal(0.8, 0.5), lambda x: stats.norm.cdf(math.log(x / (1 - x)), 0.8, 0.5)),
    # Powers of a uniform number are beta distributed.
    (leaning_low(3.0), stats.beta(1 / 3, 1).cdf),
    (leaning_high(2.0), stats.beta(1, 1 / 2).cdf),
]


@pytest.mark.parametrize(("quantile", "cdf"), CDFS)
def test_the_share_below_each_timestep_is_the_closed_forms(quantile, cdf) -> None:
    count = 20_000
    t = Timesteps(0, 1000, quantile).draw(1, 0, range(count))
    below = torch.bincount(t, minlength=1000).cumsum(0) / count
    expected = torch.tensor([cdf((k + 1) / 1000) for k in range(999)])
    # Kolmogorov-Smirnov: beyond 1.95 / sqrt(n) once in a thousand.
    assert (below[:-1] - expected).abs().max() < 1.95 / count**0.5


def test_a_range_holds_the_whole_distribution() -> None:
    t = Timesteps(200, 400, logit_normal()).draw(1, 0, range(4000)).double()
    # Symmetric about the middle of the cells 200 to 399.
    assert abs(t.mean() - 299.5) < 3 * t.std() / 4000**0.5
    assert abs(t.std() / 200 - 0.2083) < 0.01  # of logistic(normal), known by quadrature


def test_weighed_timesteps_come_as_often_as_they_weigh() -> None:
    weights = [0.0, 1.0, 0.0, 3.0, 4.0]
    t = Timesteps(10, 15, as_weighed(weights)).draw(0, 0, range(16_000)) - 10
    counts = torch.bincount(t, minlength=5).double()
    assert counts[0] == counts[2] == 0
    expected = torch.tensor(weights)[[1, 3, 4]].double() * 2000
    # Two degrees of freedom, 99.9th percentile.
    assert ((counts[[1, 3, 4]] - expected) ** 2 / expected).sum() < 13.8


def test_even_timesteps_are_the_middles_of_equal_parts() -> None:
    assert even_timesteps(4, 1000).tolist() == [125, 375, 625, 875]
    assert even_timesteps(1, 1000).tolist() == [500]
    assert even_timesteps(1000, 1000).tolist() == list(range(1000))
    assert 0 <= int(even_timesteps(7, 1000).min()) <= int(even_timesteps(7, 1000).max()) < 1000
