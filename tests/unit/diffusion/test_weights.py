"""Weights by SNR against their papers' formulas and diffusers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import DDPMScheduler
from diffusers.training_utils import compute_snr
from tests.tolerances import FORMULA, SCHEDULE, assert_near

from lorasmith.config.sections.loss import LossSettings
from lorasmith.diffusion.schedule import (
    DDPMSchedule,
    scaled_linear_alphas_cumprod,
    zero_terminal_snr,
)
from lorasmith.diffusion.weights import (
    Weights,
    debiased_weight,
    like_noise_weight,
    min_snr_weight,
)

ALL = torch.arange(1000)


def weighing(**settings: Any) -> Weights:
    return Weights(LossSettings(**settings))


@pytest.mark.parametrize(
    ("snr", "gamma", "prediction", "weight"),
    [
        (20.0, 5.0, "epsilon", 0.25),
        (5.0, 5.0, "epsilon", 1.0),
        (0.01, 5.0, "epsilon", 1.0),
        (0.0, 5.0, "epsilon", 1.0),
        (20.0, 1.0, "epsilon", 0.05),
        (19.0, 5.0, "v", 0.25),
        (4.0, 5.0, "v", 0.8),
        (1.0, 5.0, "v", 0.5),
        (0.0, 5.0, "v", 0.0),
    ],
)
def test_min_snr_weights_by_hand(snr, gamma, prediction, weight) -> None:
    result = min_snr_weight(torch.tensor([snr]), gamma, prediction)
    assert_near(result, torch.tensor([weight]), FORMULA)


@pytest.mark.parametrize(
    ("snr", "prediction", "weight"),
    [
        (4.0, "epsilon", 0.5),
        (0.04, "epsilon", 5.0),
        (4000.0, "epsilon", 1000**-0.5),
        (0.0, "epsilon", 1000**0.5),
        (3.0, "v", 0.25),
        (4000.0, "v", 1 / 1001),
        (0.0, "v", 1.0),
    ],
)
def test_debiased_weights_by_hand(snr, prediction, weight) -> None:
    result = debiased_weight(torch.tensor([snr]), prediction)
    assert_near(result, torch.tensor([weight]), FORMULA)


def test_on_sds_own_schedule_debiasing_needs_no_guard_at_the_noisy_end() -> None:
    noisy = DDPMSchedule().snr(ALL[500:])
    assert_near(debiased_weight(noisy, "epsilon"), noisy**-0.5, FORMULA)


@pytest.mark.parametrize("gamma", [1.0, 5.0, 20.0])
def test_both_predictions_weigh_the_same_error_in_x0_the_same(gamma) -> None:
    # The paper defines one weight on the x0 error, min(SNR, gamma). The epsilon loss is SNR times
    # the x0 loss and the v loss SNR + 1 times it.
    snr = torch.tensor([0.01, 0.5, 3.0, 7.0, 50.0, 900.0])
    epsilon = min_snr_weight(snr, gamma, "epsilon") * snr
    v = min_snr_weight(snr, gamma, "v") * (snr + 1)
    assert_near(epsilon, snr.clamp(max=gamma), FORMULA)
    assert_near(v, epsilon, FORMULA)


def test_weighing_v_like_noise_gives_the_error_of_the_noise_that_follows() -> None:
    schedule, t = DDPMSchedule("v"), torch.tensor([50, 300, 700, 999])
    generator = torch.Generator().manual_seed(0)
    x_t, v, wrong = torch.randn(3, 4, 4, 8, 8, generator=generator)
    signal, sigma = schedule.coefficients(t, x_t)
    noise, noise_said = signal * v + sigma * x_t, signal * wrong + sigma * x_t
    of_v = (v - wrong).square().mean((1, 2, 3))
    of_noise = (noise - noise_said).square().mean((1, 2, 3))
    assert_near(of_v * like_noise_weight(schedule.snr(t)), of_noise, FORMULA)


@pytest.mark.parametrize("prediction", ["epsilon", "v"])
@pytest.mark.parametrize(
    "weights",
    [
        Weights(),
        weighing(debiased=True),
        weighing(min_snr_gamma=None, scale_v_like_noise=True),
        weighing(scale_v_like_noise=True),
    ],
)
def test_weights_are_finite_at_zero_terminal_snr(prediction, weights) -> None:
    abar = zero_terminal_snr(scaled_linear_alphas_cumprod())
    table = weights.table(DDPMSchedule(prediction, alphas_cumprod=abar))
    assert torch.isfinite(table).all()
    assert (table >= 0).all()
    assert table.max() < 32


def test_the_weights_of_all_timesteps_follow_diffusers_snr() -> None:
    scheduler = DDPMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", num_train_timesteps=1000
    )
    snr = compute_snr(scheduler, ALL)
    # As in diffusers' training scripts.
    expected = torch.stack([snr, 5.0 * torch.ones_like(snr)], 1).min(1)[0]
    assert_near(Weights().table(DDPMSchedule()), expected / snr, SCHEDULE)
    assert_near(Weights().table(DDPMSchedule("v")), expected / (snr + 1), SCHEDULE)


def test_no_weights_are_one_and_a_level_stands_for_all() -> None:
    schedule, weight = DDPMSchedule(), torch.tensor([1.0, 0.5])
    t = torch.tensor([3, 900])
    none = weighing(min_snr_gamma=None, scale_v_like_noise=True)
    assert none.apply(weight, schedule, t) is weight
    assert Weights(level=0.25).apply(weight, schedule, t).tolist() == [0.25, 0.125]
