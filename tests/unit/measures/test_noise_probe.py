"""Predictions on fixed noise, for denoisers whose error is known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lorasmith.diffusion.schedule import DDPMSchedule
from lorasmith.measures.noise_probe import Probe, Row
from lorasmith.models.diffusion_model import Conditioning, DiffusionModel

TIMESTEPS = 8


@pytest.mark.parametrize("off", [0.0, 0.5])
def test_loss_is_the_mean_squared_error_of_the_predicted_noise(
    model: DiffusionModel, monkeypatch: pytest.MonkeyPatch, off: float
) -> None:
    """For clean latents of zero, what is noised is ``sqrt(1 - abar)`` times the noise."""
    schedule = DDPMSchedule("epsilon")
    spread = (1 - schedule.alphas_cumprod).sqrt().float()

    def perfect(noisy: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        return noisy / spread[timesteps].view(-1, 1, 1, 1) + off

    monkeypatch.setattr(model, "denoise", perfect)
    row = Row(torch.zeros(4, 8, 8), "a", 1, torch.zeros(1, 6))
    probe = Probe(model, schedule, [row, row], seed=0, timesteps=TIMESTEPS)
    predictions = probe.predict()
    assert len(predictions.rows[0]) == TIMESTEPS
    assert probe.losses(predictions).tolist() == pytest.approx([off**2] * 2, abs=1e-9)
    assert predictions.moved(predictions).tolist() == [0.0, 0.0]


def test_change_is_in_shares_of_the_base_models_loss(
    model: DiffusionModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Off by 2 at first, by 1 then: three quarters of the squared error are gone."""
    schedule = DDPMSchedule("epsilon")
    spread = (1 - schedule.alphas_cumprod).sqrt().float()
    off = 2.0

    def denoise(noisy: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        return noisy / spread[timesteps].view(-1, 1, 1, 1) + off

    monkeypatch.setattr(model, "denoise", denoise)
    rows = [Row(torch.zeros(4, 8, 8), "a", number, torch.zeros(1, 6)) for number in (1, 2)]
    probe = Probe(model, schedule, rows, seed=0, timesteps=TIMESTEPS)
    off = 1.0
    later = probe.predict()
    assert probe.change(probe.base).tolist() == [0.0, 0.0]
    assert probe.change(later).tolist() == pytest.approx([-0.75, -0.75], abs=1e-5)
    assert later.moved(probe.base).tolist() == pytest.approx([1.0, 1.0], abs=1e-5)
