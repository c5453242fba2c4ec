"""What settings do to how fast a LoRA learns, against layers, optimizers and noise themselves."""

from __future__ import annotations

import pytest
import torch
from tests.tiny_models import tiny_architecture

from lorasmith.advice.advise.damping import (
    alpha_factor,
    damping_of,
    first_step,
    min_snr_factor,
    noise_offset_factor,
    schedule_of,
    shape_levels,
)
from lorasmith.config.schema import TrainSettings, replace_settings
from lorasmith.diffusion.noise import add_offset
from lorasmith.diffusion.schedule import DDPMSchedule
from lorasmith.tensors.rng import normal


def _gain_of_a_first_step(rank: int, alpha: float) -> float:
    """How much AdamW's first step lowers a linear loss of the product of two matrices."""
    inputs, outputs, count = 64, 64, 200
    gradient = normal((outputs, inputs), 0, "gradient", 0).double()
    gains = []
    for number in range(count):
        down = normal((rank, inputs), 1, "down", number).double()
        up = torch.zeros(outputs, rank, dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.AdamW([up], lr=1e-3, weight_decay=0.0)
        loss = (alpha / rank) * (gradient * (up @ down)).sum()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            gains.append(-float((alpha / rank) * (gradient * (up @ down)).sum()))
    return sum(gains) / count


@pytest.mark.parametrize(("rank", "alpha"), [(8, 8.0), (8, 4.0), (16, 1.0), (4, 8.0)])
def test_a_first_step_goes_as_far_as_alpha_is_large(rank: int, alpha: float) -> None:
    reference = _gain_of_a_first_step(4, 4.0) / first_step(4, 4.0)
    # The mean over 200 x 64 x rank numbers: within 5 standard errors, 1 / sqrt(51200) each.
    measured = _gain_of_a_first_step(rank, alpha) / first_step(rank, alpha)
    assert measured == pytest.approx(reference, rel=0.03)


def test_alpha_is_the_guides_factor() -> None:
    assert [alpha_factor(128, alpha) for alpha in (1, 64, 128, 256)] == [1 / 128, 0.5, 1, 2]
    assert alpha_factor(64, 8, rs_lora=True) == 1


def test_an_offset_adds_its_square_to_the_power_of_noise() -> None:
    noise = normal((64, 4, 32, 32), 0, "noise", 0)
    shifted = add_offset(noise, 0.5, 0, 0, range(64))
    power = float(shifted.square().mean() / noise.square().mean())
    # 256 shifts: their mean square has a standard error of sqrt(2 / 256), of which 0.25 counts.
    assert power == pytest.approx(noise_offset_factor(0.5) ** -2, abs=4 * 0.25 * (2 / 256) ** 0.5)
    assert noise_offset_factor(0) == 1


def test_min_snr_damps_as_an_optimizer_that_divides_by_the_gradients_size() -> None:
    schedule = DDPMSchedule()
    snr = schedule.snr(torch.arange(schedule.num_timesteps))
    for gamma in (1.0, 5.0, 20.0):
        weights = (snr.clamp(max=gamma) / snr).double()
        # Gradients of all levels: one that is the same, among chance a hundred times as large.
        chance = 100 * normal((4000, len(snr)), 0, "chance", 0).double()
        plain, weighed = 1 + chance, weights * (1 + chance)
        ratio = (weights.mean() / weighed.square().mean().sqrt()) * plain.square().mean().sqrt()
        assert min_snr_factor(gamma, schedule) == pytest.approx(float(ratio), rel=0.01)
        assert 0 < min_snr_factor(gamma, schedule) <= 1
    assert min_snr_factor(None, schedule) == 1
    assert min_snr_factor(1e9, schedule) == pytest.approx(1)


def test_larger_pictures_leave_fewer_levels_to_shapes() -> None:
    schedule = DDPMSchedule()
    shares = [shape_levels((side / 512) ** 2, schedule) for side in (448, 512, 576, 640, 768)]
    assert shares[1] == 1
    assert shares == sorted(shares, reverse=True)
    # Averaging 2 x 2 pixels quarters the power of noise: twice the side at 4 times the ratio.
    snr = schedule.snr(torch.arange(1000))
    assert shape_levels(4, schedule) == pytest.approx(float((4 * snr < 1).sum() / (snr < 1).sum()))


def test_settings_have_their_damping() -> None:
    architecture = tiny_architecture()
    settings = replace_settings(
        TrainSettings(),
        {
            "adapter.alpha": 4.0,
            "adapter.rank": 16,
            "loss.noise_offset": 0.1,
            "data.resolution": (64, 128),
        },
    )
    damping = damping_of(settings, architecture)
    schedule = schedule_of(architecture)
    assert damping.alpha == 0.25
    assert damping.resolution == shape_levels(2, schedule)
    assert damping.rate == 0.25 * noise_offset_factor(0.1) * min_snr_factor(5, schedule)
    without = replace_settings(settings, {"adapter.type": "ia3"})
    assert damping_of(without, architecture).alpha == 1
