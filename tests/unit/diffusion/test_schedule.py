"""The forward process against diffusers' own scheduler and against closed forms."""

from __future__ import annotations

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler
from tests.tolerances import SCHEDULE, assert_near

from lorasmith.diffusion.schedule import (
    NUM_TIMESTEPS,
    DDPMSchedule,
    scaled_linear_alphas_cumprod,
    zero_terminal_snr,
)

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
    ours = DDPMSchedule().alphas_cumprod
    # diffusers multiplies 1000 factors in float32, which costs it the last digits.
    assert_near(ours, reference().alphas_cumprod, SCHEDULE)
    assert ours.shape == (NUM_TIMESTEPS,)


def test_alphas_cumprod_are_those_stored_in_stable_diffusion_checkpoints() -> None:
    # `alphas_cumprod` of sd-v1-5: its first and last values.
    ours = DDPMSchedule().alphas_cumprod
    assert ours[0].item() == pytest.approx(0.99915, abs=1e-6)
    assert ours[-1].item() == pytest.approx(0.0046602, abs=1e-6)


def test_noise_is_added_as_diffusers_adds_it(batch) -> None:
    x0, noise, t = batch
    assert_near(
        DDPMSchedule().add_noise(x0, noise, t), reference().add_noise(x0, noise, t), SCHEDULE
    )


def test_the_v_target_is_diffusers_velocity(batch) -> None:
    x0, noise, t = batch
    assert_near(
        DDPMSchedule("v").target(x0, noise, t), reference("v").get_velocity(x0, noise, t), SCHEDULE
    )


def test_the_epsilon_target_is_the_noise(batch) -> None:
    x0, noise, t = batch
    assert torch.equal(DDPMSchedule().target(x0, noise, t), noise)


def test_noise_and_latents_follow_from_x_t_and_v(batch) -> None:
    # The two definitions invert: x0 = sqrt(abar) x_t - sqrt(1 - abar) v, and so for the noise.
    x0, noise, t = (tensor.double() if tensor.is_floating_point() else tensor for tensor in batch)
    schedule = DDPMSchedule("v")
    signal, sigma = schedule.coefficients(t, x0)
    x_t, v = schedule.add_noise(x0, noise, t), schedule.target(x0, noise, t)
    assert_near(signal * x_t - sigma * v, x0, SCHEDULE, dtype=torch.float32)
    assert_near(sigma * x_t + signal * v, noise, SCHEDULE, dtype=torch.float32)


def test_snr_is_the_ratio_of_variances(batch) -> None:
    _, _, t = batch
    schedule = DDPMSchedule()
    signal, sigma = schedule.coefficients(t, torch.ones(1, 1, 1, 1))
    assert_near(schedule.snr(t), (signal / sigma).flatten() ** 2, SCHEDULE)


def test_half_precision_latents_stay_half_precision(batch) -> None:
    x0, noise, t = batch
    schedule = DDPMSchedule("v")
    assert schedule.add_noise(x0.bfloat16(), noise.bfloat16(), t).dtype == torch.bfloat16
    assert schedule.target(x0.bfloat16(), noise.bfloat16(), t).dtype == torch.bfloat16


def zero_terminal(prediction: str = "epsilon") -> DDPMScheduler:
    return DDPMScheduler.from_config(reference(prediction).config, rescale_betas_zero_snr=True)


@pytest.mark.parametrize("prediction", ["epsilon", "v"])
def test_a_step_is_that_of_diffusers_ddim(batch, prediction: str) -> None:
    x_t, predicted, _ = batch
    scheduler = DDIMScheduler.from_config(reference(prediction).config, clip_sample=False)
    scheduler.set_timesteps(4)  # steps of 250
    for t in (999, 749, 251):
        expected = scheduler.step(predicted, t, x_t).prev_sample
        assert_near(DDPMSchedule(prediction).step(x_t, predicted, t, t - 250), expected, SCHEDULE)


def test_a_step_by_the_right_prediction_leaves_image_and_noise_as_they_are(batch) -> None:
    x0, noise, _ = batch
    abar = zero_terminal_snr(scaled_linear_alphas_cumprod())
    schedule = DDPMSchedule("v", alphas_cumprod=abar)
    high, low = (torch.full((len(x0),), t) for t in (999, 130))
    x_t, target = schedule.add_noise(x0, noise, high), schedule.target(x0, noise, high)
    expected = schedule.add_noise(x0, noise, low)
    assert_near(schedule.step(x_t, target, 999, 130), expected, SCHEDULE)


def test_zero_terminal_snr_is_diffusers() -> None:
    ours = zero_terminal_snr(scaled_linear_alphas_cumprod())
    theirs = zero_terminal().alphas_cumprod
    assert_near(ours.float(), theirs, SCHEDULE)
    assert ours[-1] == 0
    assert ours[0].item() == pytest.approx(scaled_linear_alphas_cumprod()[0].item(), rel=1e-12)


def test_at_zero_terminal_snr_v_is_the_image(batch) -> None:
    x0, noise, t = batch
    schedule = DDPMSchedule("v", alphas_cumprod=zero_terminal_snr(scaled_linear_alphas_cumprod()))
    assert torch.equal(schedule.add_noise(x0, noise, t)[-1], noise[-1])
    assert torch.equal(schedule.target(x0, noise, t)[-1], -x0[-1])
    scheduler = zero_terminal("v")
    assert_near(schedule.add_noise(x0, noise, t), scheduler.add_noise(x0, noise, t), SCHEDULE)
    assert_near(schedule.target(x0, noise, t), scheduler.get_velocity(x0, noise, t), SCHEDULE)
