from __future__ import annotations

import pytest
import torch

from lorasmith.diffusion.loss import min_snr_weight, per_sample_mse
from lorasmith.diffusion.schedule import NoiseSchedule


def test_each_samples_loss_is_torchs_mse_of_that_sample() -> None:
    a, b = torch.randn(2, 3, 4, 5, 6, generator=torch.Generator().manual_seed(0))
    loss = per_sample_mse(a, b)
    assert loss.shape == (3,)
    for i in range(3):
        torch.testing.assert_close(loss[i], torch.nn.functional.mse_loss(a[i], b[i]))


def test_the_loss_is_float32_whatever_the_network_computes_in() -> None:
    a = torch.full((1, 1, 2, 2), 300.0, dtype=torch.float16)
    # 300 squared is beyond float16.
    assert per_sample_mse(a, torch.zeros_like(a)).item() == 90_000


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
    torch.testing.assert_close(result, torch.tensor([weight]))


@pytest.mark.parametrize("prediction", ["epsilon", "v"])
def test_weights_are_finite_at_zero_terminal_snr(prediction) -> None:
    abar = NoiseSchedule().alphas_cumprod.double().clone()
    abar[-1] = 0.0
    schedule = NoiseSchedule(prediction, alphas_cumprod=abar)
    weights = min_snr_weight(schedule.snr(torch.arange(1000)), 5.0, prediction)
    assert torch.isfinite(weights).all()
    assert (weights >= 0).all()
    assert (weights <= 1).all()


@pytest.mark.parametrize("gamma", [1.0, 5.0, 20.0])
def test_both_predictions_weigh_the_same_error_in_x0_the_same(gamma) -> None:
    # The paper defines one weight on the x0 error, min(SNR, gamma). The epsilon loss is SNR times
    # the x0 loss and the v loss SNR + 1 times it.
    snr = torch.tensor([0.01, 0.5, 3.0, 7.0, 50.0, 900.0])
    epsilon = min_snr_weight(snr, gamma, "epsilon") * snr
    v = min_snr_weight(snr, gamma, "v") * (snr + 1)
    torch.testing.assert_close(epsilon, snr.clamp(max=gamma))
    torch.testing.assert_close(v, epsilon)
