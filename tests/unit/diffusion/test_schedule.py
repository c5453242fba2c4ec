"""The forward process against diffusers' own scheduler and against closed forms."""

from __future__ import annotations

import pytest
import torch
from diffusers import DDPMScheduler
from hypothesis import given, settings
from hypothesis import strategies as st

from lorasmith.diffusion.schedule import NUM_TIMESTEPS, NoiseSchedule

PREDICTIONS = {"epsilon": "epsilon", "v": "v_prediction"}


def reference(prediction: str = "epsilon") -> DDPMScheduler:
    return DDPMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        num_train_timesteps=1000,
        prediction_type=PREDICTIONS[prediction],
    )


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    t = torch.tensor([0, 1, 17, 500, 998, 999])
    x0, noise = torch.randn(2, len(t), 4, 6, 5, generator=generator)
    return x0, noise, t


def test_alphas_cumprod_are_those_of_diffusers() -> None:
    ours = NoiseSchedule().alphas_cumprod
    # diffusers multiplies 1000 factors in float32, which costs it the last digits.
    torch.testing.assert_close(ours, reference().alphas_cumprod, rtol=5e-5, atol=0)
    assert ours.shape == (NUM_TIMESTEPS,)


def test_alphas_cumprod_are_those_stored_in_stable_diffusion_checkpoints() -> None:
    # `alphas_cumprod` of sd-v1-5: its first and last values.
    ours = NoiseSchedule().alphas_cumprod
    assert ours[0].item() == pytest.approx(0.99915, abs=1e-6)
    assert ours[-1].item() == pytest.approx(0.0046602, abs=1e-6)


def test_noise_is_added_as_diffusers_adds_it(batch) -> None:
    x0, noise, t = batch
    torch.testing.assert_close(
        NoiseSchedule().add_noise(x0, noise, t),
        reference().add_noise(x0, noise, t),
        rtol=1e-4,
        atol=1e-5,
    )


def test_the_v_target_is_diffusers_velocity(batch) -> None:
    x0, noise, t = batch
    torch.testing.assert_close(
        NoiseSchedule("v").target(x0, noise, t),
        reference("v").get_velocity(x0, noise, t),
        rtol=1e-4,
        atol=1e-5,
    )


def test_the_epsilon_target_is_the_noise(batch) -> None:
    x0, noise, t = batch
    assert torch.equal(NoiseSchedule().target(x0, noise, t), noise)


def test_noise_and_latents_follow_from_x_t_and_v(batch) -> None:
    # The two definitions invert: x0 = sqrt(abar) x_t - sqrt(1 - abar) v, and so for the noise.
    x0, noise, t = (tensor.double() if tensor.is_floating_point() else tensor for tensor in batch)
    schedule = NoiseSchedule("v")
    signal, sigma = schedule.coefficients(t, x0)
    x_t, v = schedule.add_noise(x0, noise, t), schedule.target(x0, noise, t)
    torch.testing.assert_close(signal * x_t - sigma * v, x0, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(sigma * x_t + signal * v, noise, rtol=1e-5, atol=1e-6)


def test_snr_is_the_ratio_of_variances(batch) -> None:
    _, _, t = batch
    schedule = NoiseSchedule()
    signal, sigma = schedule.coefficients(t, torch.ones(1, 1, 1, 1))
    torch.testing.assert_close(schedule.snr(t), (signal / sigma).flatten() ** 2)


def test_half_precision_latents_stay_half_precision(batch) -> None:
    x0, noise, t = batch
    schedule = NoiseSchedule("v")
    assert schedule.add_noise(x0.bfloat16(), noise.bfloat16(), t).dtype == torch.bfloat16
    assert schedule.target(x0.bfloat16(), noise.bfloat16(), t).dtype == torch.bfloat16


def test_a_timestep_depends_on_its_sample_alone() -> None:
    draw_timesteps = NoiseSchedule().draw_timesteps
    alone = [draw_timesteps(3, 7, [sample]).item() for sample in (5, 9, 11)]
    assert draw_timesteps(3, 7, [5, 9, 11]).tolist() == alone
    assert draw_timesteps(3, 7, [11, 5]).tolist() == [alone[2], alone[0]]
    assert draw_timesteps(3, 8, [5, 9, 11]).tolist() != alone
    assert draw_timesteps(4, 7, [5, 9, 11]).tolist() != alone


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 999), st.integers(1, 1000), st.integers(0, 2**40))
def test_timesteps_stay_in_their_range(low: int, span: int, sample: int) -> None:
    high = min(low + span, NUM_TIMESTEPS)
    t = NoiseSchedule().draw_timesteps(0, 0, [sample], low=low, high=high)
    assert t.dtype == torch.int64
    assert low <= t.item() < high


def test_timesteps_are_uniform() -> None:
    t = NoiseSchedule().draw_timesteps(0, 0, range(20_000))
    counts = torch.bincount(t // 100, minlength=10)
    # Ten cells of 2000 expected: chi-square with 9 degrees of freedom, 99.9th percentile 27.9.
    assert ((counts - 2000.0) ** 2 / 2000).sum() < 27.9
    assert t.min() == 0
    assert t.max() == 999
