"""The objective's pieces together: what settings make of it, and that samples stay independent."""

from __future__ import annotations

from copy import copy
from dataclasses import replace
from functools import partial

import pytest
import torch
from tests.tiny_models import tiny_model
from tests.tolerances import LAYER, NETWORK, assert_near
from torch import Tensor

from lorasmith.config.load import load_settings
from lorasmith.config.sections.loss import LossSettings
from lorasmith.diffusion.global_batch import GlobalBatch
from lorasmith.diffusion.loss import Loss
from lorasmith.diffusion.noise import Noise
from lorasmith.diffusion.schedule import DDPMSchedule
from lorasmith.diffusion.timesteps import Timesteps, leaning_high
from lorasmith.models.diffusion_model import Conditioning, DiffusionModel
from lorasmith.tensors.rng import normal_per_sample
from lorasmith.training.objective import (
    MicroBatch,
    Objective,
    build_objective,
    prediction_error,
)

SHAPE = (4, 4, 4)
T = torch.arange(1000)


@pytest.fixture(scope="module")
def model() -> DiffusionModel:
    return tiny_model()


def micro_batch(model: DiffusionModel, samples: list[int], *, masked: bool = False) -> MicroBatch:
    mean = normal_per_sample(SHAPE, 1, "test mean", 0, samples)
    captions = [f"a picture of number {sample}" for sample in samples]
    mask = normal_per_sample((1, 4, 4), 1, "test mask", 0, samples).clamp(0, 1) if masked else None
    weight = torch.tensor([1.0 + 0.5 * (sample % 3) for sample in samples])
    return MicroBatch(
        mean,
        torch.full_like(mean, 0.1),
        partial(model.encode_text, captions),
        weight,
        samples,
        mask,
        whole=GlobalBatch((1, 2, 3, 4), (8, 9, 8, 7), (3, 4, 4, 0)),
    )


def objective(model: DiffusionModel, **settings: object) -> Objective:
    values = {f"loss.{name}": str(value) for name, value in settings.items()}
    loaded = load_settings(None, values)
    # Loading a model takes the user's word for the schedule that it was trained with.
    told, to_noise = copy(model), loaded.loss.zero_terminal_snr is True
    told.architecture = replace(model.architecture, zero_terminal_snr=to_noise)
    return build_objective(loaded, told)


EVERYTHING = {
    "defaults": {},
    "huber, perturbed pyramid noise, logit-normal": {
        "type": "huber",
        "huber_schedule": "exponential",
        "multires_iterations": 4,
        "input_perturbation": 0.1,
        "input_perturbation_random": "true",
        "timesteps": "logit_normal",
    },
    "smooth l1, random and adaptive offset, debiased": {
        "type": "smooth_l1",
        "noise_offset": 0.1,
        "noise_offset_random": "true",
        "adaptive_noise_scale": 0.1,
        "debiased": "true",
        "timesteps": "high",
    },
    "l1, normalized masks, importance": {
        "type": "l1",
        "mask_floor": 0.1,
        "mask_normalize": "true",
        "timesteps": "importance",
    },
    "spread timesteps, antithetic noise": {"timestep_strata": "both", "antithetic_noise": "true"},
    "the nearest of three": {"timestep_strata": "batch", "noise_candidates": 3},
}


@pytest.mark.parametrize("name", EVERYTHING)
def test_the_loss_of_a_batch_is_the_sum_over_its_samples(name: str, model: DiffusionModel) -> None:
    whole = objective(model, **EVERYTHING[name])
    with torch.no_grad():
        together = whole.loss_sum(model, micro_batch(model, [1, 2, 3, 4], masked=True), 5)
        parts = [
            whole.loss_sum(model, micro_batch(model, samples, masked=True), 5)
            for samples in ([4], [2, 3], [1])
        ]
    assert_near(sum(parts), together, NETWORK)


def test_the_default_is_min_snr_weighted_mse_of_uniform_timesteps(model: DiffusionModel) -> None:
    made = objective(model)
    assert made.loss == Loss(LossSettings())
    assert made.timesteps == Timesteps()
    assert isinstance(made.schedule, DDPMSchedule)
    assert_near(made.schedule.alphas_cumprod, DDPMSchedule().alphas_cumprod, NETWORK)


CHANGES: dict[str, dict[str, object]] = {
    "noise_offset": {"noise_offset": 0.07},
    "noise_offset_random": {"noise_offset": 0.07, "noise_offset_random": "true"},
    "adaptive_noise_scale": {"noise_offset": 0.07, "adaptive_noise_scale": -0.02},
    "multires_iterations": {"multires_iterations": 6},
    "multires_discount": {"multires_iterations": 6, "multires_discount": 0.2},
    "input_perturbation": {"input_perturbation": 0.1},
    "input_perturbation_random": {
        "input_perturbation": 0.1,
        "input_perturbation_random": "true",
    },
    "type": {"type": "smooth_l1"},
    "huber_c": {"type": "smooth_l1", "huber_c": 0.3},
    "huber_schedule": {"type": "smooth_l1", "huber_schedule": "constant"},
    "huber_scale": {"type": "smooth_l1", "huber_scale": 1.5},
    "mask_floor": {"mask_floor": 0.2},
    "mask_normalize": {"mask_normalize": "true"},
    "min_snr_gamma": {"min_snr_gamma": 1},
    "debiased": {"debiased": "true"},
    "v_like": {"v_like": 0.5},
    "zero_terminal_snr": {"zero_terminal_snr": "true"},
    "min_timestep": {"min_timestep": 500},
    "max_timestep": {"max_timestep": 500},
    "timesteps": {"timesteps": "low"},
    "timestep_mean": {"timesteps": "logit_normal", "timestep_mean": 1},
    "timestep_std": {"timesteps": "logit_normal", "timestep_std": 0.5},
    "timestep_power": {"timesteps": "low", "timestep_power": 2},
    "timestep_strata": {"timestep_strata": "image"},
    "antithetic_noise": {"antithetic_noise": "true"},
    "noise_candidates": {"noise_candidates": 8},
}
# Of images, folders, adapters and models that predict velocity: tests of their own.
ELSEWHERE = {"masked", "mask_folder", "outside_mask", "prior_weight", "scale_v_like_noise"}


def test_every_setting_of_the_loss_is_looked_at() -> None:
    assert CHANGES.keys() | ELSEWHERE == LossSettings.model_fields.keys()


@pytest.mark.parametrize("name", CHANGES)
def test_every_setting_of_the_loss_acts(name: str, model: DiffusionModel) -> None:
    changes = CHANGES[name]
    without = {key: value for key, value in changes.items() if key != name}
    with torch.no_grad():
        losses = [
            objective(model, **settings).loss_sum(model, micro_batch(model, [1, 2], masked=True), 5)
            for settings in (without, changes)
        ]
    assert not torch.equal(*losses)


def test_v_like_adds_the_loss_of_the_velocity_behind_the_noise(model: DiffusionModel) -> None:
    made = objective(model, min_snr_gamma=0, v_like=0.5)
    t = torch.tensor([10, 300, 500])
    generator = torch.Generator().manual_seed(0)
    latents, noise, wrong = torch.randn(3, 3, *SHAPE, generator=generator, dtype=torch.float64)
    assert isinstance(made.schedule, DDPMSchedule)
    signal, sigma = made.schedule.coefficients(t, latents)
    noisy = signal * latents + sigma * noise
    # v = signal noise - sigma latents, and the latents follow from the noise that is predicted.
    v, wrong_v = (
        signal * each - sigma * (noisy - sigma * each) / signal for each in (noise, wrong)
    )
    error = (noise - wrong).square().mean((1, 2, 3))
    both = error + 0.5 * (v - wrong_v).square().mean((1, 2, 3))
    weight = made.weights.apply(torch.ones(3), made.schedule, t)
    assert_near((weight * error).float(), both.float(), LAYER)


@pytest.mark.parametrize(
    ("settings", "high_half"),
    [
        ({"timesteps": "low", "timestep_power": 1}, 0.5),
        ({"timesteps": "low", "timestep_power": 2}, 1 - 0.5**0.5),
        ({"timesteps": "high", "timestep_power": 3}, 0.5 ** (1 / 3)),
        ({"timesteps": "logit_normal", "timestep_mean": 1, "timestep_std": 2}, 0.6915),
    ],
)
def test_timesteps_lean_as_told(settings, high_half: float, model: DiffusionModel) -> None:
    made = objective(model, min_timestep=200, max_timestep=600, **settings)
    t = made.timesteps.draw(0, 0, range(4000))
    assert t.min() >= 200
    assert t.max() < 600
    assert (t >= 400).double().mean().item() == pytest.approx(high_half, abs=0.025)


@pytest.mark.parametrize("weighing", [{}, {"debiased": "true"}])
def test_importance_draws_give_the_same_mean_as_weights(weighing, model: DiffusionModel) -> None:
    spread = {"min_timestep": 100, "max_timestep": 900, **weighing}
    weighed = objective(model, **spread)
    drawn = objective(model, timesteps="importance", **spread)
    # Some loss that differs by timestep; both ways to its mean.
    loss = torch.linspace(0.1, 1.0, 1000, dtype=torch.float64) ** 3
    expected = (weighed.weights.table(weighed.schedule).double() * loss)[100:900].mean()
    t = drawn.timesteps.draw(0, 0, range(20_000))
    weight = drawn.weights.apply(torch.ones(len(t)), drawn.schedule, t).double()
    assert weight.unique().numel() == 1
    found = weight * loss[t]
    assert abs(found.mean() - expected) < 3.5 * found.std() / len(t) ** 0.5


class OneNumber:
    """A model of one parameter, whose error and gradient hang on noise level, image and noise."""

    device = torch.device("cpu")

    def __init__(self) -> None:
        self.weight = torch.tensor(0.7, requires_grad=True)

    def denoise(self, noisy: Tensor, t: Tensor, text: object) -> Tensor:
        level = (t.float() / 1000).view(-1, 1, 1, 1)
        return self.weight * (1.5 * level - 0.2) * noisy + 0.1 * self.weight**2


def gradients_of_one_number(made: Objective, seeds: int) -> Tensor:
    """(seeds,) of a step of four samples of three images."""
    whole = GlobalBatch((1, 2, 3, 4), (8, 9, 8, 7), (3, 4, 4, 0))
    mean = normal_per_sample(SHAPE, 1, "test mean", 0, [8, 9, 8, 7])
    nothing = Conditioning(torch.zeros(4, 1, 1))
    model = OneNumber()
    batch = MicroBatch(
        mean, 0.1 + 0 * mean, lambda: nothing, torch.ones(4), whole.samples, whole=whole
    )
    rows = []
    for seed in range(seeds):
        loss = replace(made, seed=seed).loss_sum(model, batch, 6)  # type: ignore[arg-type]
        rows.append(torch.autograd.grad(loss, model.weight)[0])
    return torch.stack(rows).double()


UNBIASED: dict[str, dict[str, object]] = {
    "batch": {"timestep_strata": "batch"},
    "image": {"timestep_strata": "image"},
    "both": {"timestep_strata": "both"},
    "antithetic": {"antithetic_noise": "true"},
    "both, antithetic": {"timestep_strata": "both", "antithetic_noise": "true"},
}


@pytest.mark.slow_but_first
@pytest.mark.parametrize("name", UNBIASED)
def test_draws_that_hang_together_leave_the_mean_gradient(name: str, model: DiffusionModel) -> None:
    count = 1000
    plain = gradients_of_one_number(objective(model), count)
    ours = gradients_of_one_number(objective(model, **UNBIASED[name]), count)
    error = ((plain.var() + ours.var()) / count).sqrt()
    assert abs(plain.mean() - ours.mean()) < 3.5 * error
    if "batch" in name or "both" in name:  # The others spread what lies outside of the step.
        assert ours.var() < 0.8 * plain.var()


@pytest.mark.slow
def test_the_nearest_noise_changes_the_mean_gradient(model: DiffusionModel) -> None:
    """As its setting says: it is for those who want that."""
    count = 1000
    plain = gradients_of_one_number(objective(model), count)
    ours = gradients_of_one_number(objective(model, noise_candidates=16), count)
    error = ((plain.var() + ours.var()) / count).sqrt()
    assert abs(plain.mean() - ours.mean()) > 3.5 * error


def test_input_perturbation_leaves_the_target_alone(model: DiffusionModel) -> None:
    seen: list[Tensor] = []

    class Watched:
        device = model.device

        def denoise(self, noisy: Tensor, t: Tensor, text: object) -> Tensor:
            seen.append(noisy)
            return torch.zeros_like(noisy)

    schedule = DDPMSchedule()
    plain = Objective(schedule, 3)
    perturbed = replace(plain, noise=Noise(LossSettings(input_perturbation=0.5)))
    batch = micro_batch(model, [1, 2])
    losses = [o.loss_sum(Watched(), batch, 0) for o in (plain, perturbed)]  # type: ignore[arg-type]
    # A prediction of zero: the loss is that of the target alone.
    assert torch.equal(*losses)
    _, sigma = schedule.coefficients(plain.timesteps.draw(3, 0, [1, 2]), batch.mean)
    more = normal_per_sample(SHAPE, 3, "perturbation", 0, [1, 2])
    assert_near(seen[1] - seen[0], 0.5 * sigma * more, NETWORK)


def test_masked_places_give_no_gradient(model: DiffusionModel) -> None:
    batch = micro_batch(model, [1, 2])
    mask = torch.ones(2, 1, 4, 4)
    mask[:, :, :, 2:] = 0.0
    prediction = torch.zeros(2, *SHAPE, requires_grad=True)

    class Fixed:
        device = model.device

        def denoise(self, noisy: Tensor, t: Tensor, text: object) -> Tensor:
            return prediction

    def gradient(objective: Objective) -> Tensor:
        masked = replace(batch, mask=mask)
        loss = objective.loss_sum(Fixed(), masked, 0)  # type: ignore[arg-type]
        return torch.autograd.grad(loss, prediction)[0]

    alone = gradient(Objective(DDPMSchedule(), 0))
    assert not alone[..., 2:].any()
    assert (alone[..., :2] != 0).all()
    floor = gradient(Objective(DDPMSchedule(), 0, loss=Loss(LossSettings(mask_floor=0.25))))
    assert_near(floor[..., :2], alone[..., :2], NETWORK)
    assert (floor[..., 2:] != 0).all()


def test_prediction_error_is_torchs_mse_against_the_target(model: DiffusionModel) -> None:
    schedule, t = DDPMSchedule("v"), torch.tensor([10, 500, 990])
    latents, noise = torch.randn(2, 3, *SHAPE, generator=torch.Generator().manual_seed(0))
    text = model.encode_text(["a", "b", "c"])
    with torch.no_grad():
        error = prediction_error(model, schedule, latents, noise, t, text)
        predicted = model.denoise(schedule.add_noise(latents, noise, t), t, text)
    target = schedule.target(latents, noise, t)
    assert error.shape == (3,)
    for i in range(3):
        expected = torch.nn.functional.mse_loss(predicted[i], target[i])
        assert_near(error[i], expected, NETWORK)


def test_leaning_by_name_is_the_function_of_that_name(model: DiffusionModel) -> None:
    by_name = objective(model, timesteps="high").timesteps.draw(0, 0, range(50))
    assert torch.equal(by_name, Timesteps(quantile=leaning_high(3.0)).draw(0, 0, range(50)))


CHOICES: dict[str, dict[str, object]] = {
    "nothing": {},
    "type": {"type": "l1"},
    "huber": {"type": "huber"},
    "huber_c": {"type": "huber", "huber_c": 0.2},
    "huber_schedule": {"type": "huber", "huber_schedule": "constant"},
    "huber_scale": {"type": "huber", "huber_scale": 2.0},
    "smooth_l1": {"type": "smooth_l1"},
    "min_snr_gamma": {"min_snr_gamma": 1},
    "debiased": {"debiased": "true"},
    "noise_offset": {"noise_offset": 0.1},
    "noise_offset_random": {"noise_offset": 0.1, "noise_offset_random": "true"},
    "adaptive_noise_scale": {"adaptive_noise_scale": 0.1},
    "multires_iterations": {"multires_iterations": 3},
    "multires_discount": {"multires_iterations": 3, "multires_discount": 0.5},
    "input_perturbation": {"input_perturbation": 0.1},
    "input_perturbation_random": {"input_perturbation": 0.1, "input_perturbation_random": "true"},
    "zero_terminal_snr": {"zero_terminal_snr": "true"},
    "min_timestep": {"min_timestep": 500},
    "max_timestep": {"max_timestep": 500},
    "logit_normal": {"timesteps": "logit_normal"},
    "timestep_mean": {"timesteps": "logit_normal", "timestep_mean": 1},
    "timestep_std": {"timesteps": "logit_normal", "timestep_std": 0.3},
    "low": {"timesteps": "low"},
    "high": {"timesteps": "high"},
    "timestep_power": {"timesteps": "high", "timestep_power": 2},
    "importance": {"timesteps": "importance"},
    "strata of a batch": {"timestep_strata": "batch"},
    "strata of images": {"timestep_strata": "image"},
    "strata of both": {"timestep_strata": "both"},
    "antithetic_noise": {"antithetic_noise": "true"},
    "noise_candidates": {"noise_candidates": 8},
    "mask_floor": {"masked": "alpha", "mask_floor": 0.5},
    "mask_normalize": {"masked": "alpha", "mask_normalize": "true"},
}


def test_each_choice_is_another_loss(model: DiffusionModel) -> None:
    """Or the setting would do nothing."""
    batch = micro_batch(model, [1, 2, 3, 4], masked=True)
    with torch.no_grad():
        losses = {
            name: float(objective(model, **choice).loss_sum(model, batch, 0))
            for name, choice in CHOICES.items()
        }
    assert len(set(losses.values())) == len(CHOICES), losses
