"""Distributions of timesteps against their closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from lorasmith.diffusion.global_batch import GlobalBatch
from lorasmith.diffusion.schedule import NUM_TIMESTEPS
from lorasmith.diffusion.timesteps import (
    BITS,
    Quantile,
    Strata,
    Timesteps,
    as_weighed,
    even_timesteps,
    leaning_high,
    leaning_low,
    logit_normal,
    spread_draws,
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


SPREAD: list[Strata] = ["batch", "image", "both"]
# Three images, one of which comes three times, one twice: six samples of a step.
STEP = GlobalBatch((10, 11, 12, 13, 14, 15), (0, 1, 0, 2, 1, 0), (7, 3, 8, 0, 4, 9))


def is_uniform(values: torch.Tensor, cells: int = 8) -> bool:
    """Whether numbers from 0 to 1 may be (chi-square, refused once in ten thousand)."""
    counts = torch.bincount((values * cells).long(), minlength=cells).double()
    expected = len(values) / cells
    chi_square = float(((counts - expected) ** 2 / expected).sum())
    return chi_square < float(stats.chi2(cells - 1).ppf(1 - 1e-4))


def discrepancy(values: torch.Tensor) -> float:
    """The largest difference of the share below any x and x (Kolmogorov-Smirnov's)."""
    return float(stats.kstest(values.numpy(), "uniform").statistic)


@pytest.mark.parametrize("strata", SPREAD)
def test_every_spread_draw_by_itself_is_uniform(strata: Strata) -> None:
    """So is each of an image that comes several times in a step, and at every step."""
    for step in (0, 5):
        draws = torch.tensor([spread_draws(strata, seed, step, STEP) for seed in range(1200)])
        shares = draws.double() / 2.0**BITS
        assert shares.min() >= 0
        assert shares.max() < 1
        for sample in range(6):
            assert is_uniform(shares[:, sample]), (step, sample)


@pytest.mark.parametrize("name", QUANTILES)
@pytest.mark.parametrize("strata", SPREAD)
def test_spread_timesteps_have_the_distribution_of_plain_ones(name: str, strata: Strata) -> None:
    plain = Timesteps(100, 900, QUANTILES[name])
    spread = Timesteps(100, 900, QUANTILES[name], strata)
    theirs = plain.draw(0, 0, range(3000))
    ours = torch.tensor([int(spread.draw(seed, 3, [12], STEP)) for seed in range(1000)])
    assert ours.min() >= 100
    assert ours.max() < 900
    assert stats.ks_2samp(ours.numpy(), theirs.numpy()).pvalue > 1e-3


@pytest.mark.parametrize("strata", ["batch", "both"])
@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**63), st.integers(0, 10_000), st.integers(1, 40))
def test_a_step_has_one_sample_in_each_stratum(
    strata: Strata, seed: int, step: int, count: int
) -> None:
    images = tuple(index % 5 for index in range(count))
    whole = GlobalBatch(tuple(range(count)), images, tuple(index // 5 for index in range(count)))
    draws = spread_draws(strata, seed, step, whole)
    assert sorted(draw * count >> BITS for draw in draws) == list(range(count))


def test_the_mean_over_a_step_varies_less_than_over_plain_draws() -> None:
    """Of eight numbers the mean has a variance of 1/96; of one in each of eight strata, with one
    place for all, of 1/768."""
    whole = GlobalBatch.of_strangers(range(8))
    means = torch.tensor([spread_draws("batch", seed, 0, whole) for seed in range(2000)]).double()
    assert float((means / 2.0**BITS).mean(1).var()) == pytest.approx(1 / 768, rel=0.15)


def test_steps_that_follow_one_another_are_spread() -> None:
    """With one sample a step, too, where a stratum is the whole."""
    whole = GlobalBatch.of_strangers([4])
    for first in (0, 1000):
        draws = [spread_draws("batch", 3, step, whole)[0] for step in range(first, first + 32)]
        # Chance gives 0.1 to 0.3, the best of all ways 1/64.
        assert discrepancy(torch.tensor(draws).double() / 2.0**BITS) < 0.07


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**63), st.integers(0, 5), st.integers(0, 100))
def test_the_showings_of_an_image_go_through_all_strata(
    seed: int, halvings: int, part: int
) -> None:
    """Any 2, 4, 8, 16 or 32 of them, from a multiple of that on."""
    count = 2**halvings
    first = part * count
    showings = [GlobalBatch((n,), (6,), (n,)) for n in range(first, first + count)]
    draws = [spread_draws("image", seed, 0, whole)[0] for whole in showings]
    assert sorted(draw * count >> BITS for draw in draws) == list(range(count))


def test_both_spreads_the_showings_of_each_image_and_the_samples_of_each_step() -> None:
    """Against strata given out at random, which do the second alone."""
    images, steps = 8, 16

    def mean_discrepancy(strata: Strata) -> float:
        total = 0.0
        for seed in range(10):
            step = [
                GlobalBatch(tuple(range(images)), tuple(range(images)), (n,) * images)
                for n in range(steps)
            ]
            rows = torch.tensor(
                [spread_draws(strata, seed, n, whole) for n, whole in enumerate(step)]
            )
            shares = rows.double() / 2.0**BITS
            total += sum(discrepancy(shares[:, image]) for image in range(images))
        return total

    assert mean_discrepancy("both") < 0.9 * mean_discrepancy("batch")


@pytest.mark.parametrize("strata", SPREAD)
def test_spread_timesteps_do_not_depend_on_how_a_step_is_cut(strata: Strata) -> None:
    """Into micro-batches and among processes."""
    draw = Timesteps(strata=strata).draw
    together = dict(zip(STEP.samples, draw(3, 7, STEP.samples, STEP).tolist(), strict=True))
    for part in ([10, 12, 14], [15, 11], [13]):
        assert draw(3, 7, part, STEP).tolist() == [together[sample] for sample in part]
    assert draw(4, 7, STEP.samples, STEP).tolist() != list(together.values())


def test_plain_timesteps_are_what_they_were_whoever_shares_the_step() -> None:
    # Written down from before there were strata: a run that is resumed must see the same.
    expected = [[633, 246, 803]]
    assert [Timesteps().draw(3, 7, [5, 9, 11], STEP).tolist()] == expected
    assert [Timesteps().draw(3, 7, [5, 9, 11]).tolist()] == expected


def test_even_timesteps_are_the_middles_of_equal_parts() -> None:
    assert even_timesteps(4, 1000).tolist() == [125, 375, 625, 875]
    assert even_timesteps(1, 1000).tolist() == [500]
    assert even_timesteps(1000, 1000).tolist() == list(range(1000))
    assert 0 <= int(even_timesteps(7, 1000).min()) <= int(even_timesteps(7, 1000).max()) < 1000
