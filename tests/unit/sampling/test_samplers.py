"""Samplers against a problem with a known answer, and their names.

For Gaussian data of variance s² the best epsilon prediction has a closed form, so a sampler that
starts from unit noise must end in samples of that variance.
"""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pytest
import torch
from scipy.stats import beta

from lorasmith.config.sample_prompts import SamplerName
from lorasmith.core.errors import PromptError
from lorasmith.diffusion.schedule import DDPMSchedule
from lorasmith.sampling.samplers import SAMPLERS, SCHEDULES, find_sampler

# diffusers' DPM2 hands numpy what it no longer likes.
pytestmark = pytest.mark.filterwarnings("ignore:__array_wrap__")

DATA_STD = 0.5


# Latent consistency models jump to the end in each step, which this problem's best answer can't.
CONVERGING = [name for name in SAMPLERS if name != "lcm"]


def sample(
    name: str, prediction: str, steps: int, count: int = 800, schedule: str = "automatic"
) -> torch.Tensor:
    sampler = find_sampler(name, schedule)
    abar = DDPMSchedule().alphas_cumprod.double()
    scheduler = sampler.start(steps, prediction)
    generators = [torch.Generator().manual_seed(i) for i in range(count)]
    x = torch.stack([torch.randn(1, 1, 1, generator=g) for g in generators])
    x = x * scheduler.init_noise_sigma
    for t in scheduler.timesteps:
        noisy = scheduler.scale_model_input(x, t)
        # abar between timesteps, as Euler's fractional timesteps ask for.
        low = int(t)
        high = min(low + 1, 999)
        a = torch.lerp(abar[low], abar[high], float(t) - low)
        # E[x0 | x_t] of N(0, s²), and epsilon and v from it.
        x0 = noisy * (a.sqrt() * DATA_STD**2 / (a * DATA_STD**2 + 1 - a)).float()
        epsilon = (noisy - a.sqrt().float() * x0) / (1 - a).sqrt().float()
        v = a.sqrt().float() * epsilon - (1 - a).sqrt().float() * x0
        x = sampler.advance(scheduler, epsilon if prediction == "epsilon" else v, t, x, generators)
    return x


@pytest.mark.slow_but_first
@pytest.mark.parametrize("prediction", ["epsilon", "v"])
@pytest.mark.parametrize("name", CONVERGING)
def test_a_gaussian_comes_out_with_its_own_variance(name, prediction) -> None:
    # 400 draws have a standard error of 3.5%, and 60 steps of Euler a lose 4%.
    assert sample(name, prediction, 60, 400).std().item() == pytest.approx(DATA_STD, rel=0.14)


@pytest.mark.slow_but_first
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("name", ["euler", "heun", "dpmpp_2m", "unipc", "deis", "dpmpp_2s_a"])
def test_every_schedule_ends_in_the_same_place(name, schedule) -> None:
    assert sample(name, "epsilon", 60, 200, schedule).std().item() == pytest.approx(
        DATA_STD, rel=0.2
    )


@pytest.mark.slow_but_first
@pytest.mark.parametrize("name", SAMPLERS)
def test_any_number_of_steps_runs(name) -> None:
    for steps in (1, 2, 3, 25):
        assert torch.isfinite(sample(name, "epsilon", steps, count=2)).all()


# DPM2 rounds Karras' timesteps; the others take the noise levels alone from a schedule.
K_DIFFUSION = ["euler", "euler_a", "lms", "heun", "dpm2_a", "dpmpp_2s_a", "dpmpp_sde"]


@pytest.mark.slow_but_first
@pytest.mark.parametrize("name", K_DIFFUSION)
def test_schedules_are_what_their_names_say(name) -> None:
    """Against the formulas of k-diffusion and of Karras et al. 2022."""
    abar = DDPMSchedule().alphas_cumprod.double().numpy()
    table = ((1 - abar) / abar) ** 0.5
    low, high, n = table[0], table[-1], 10
    ramp = np.linspace(0, 1, n)
    expected = {
        "uniform": np.interp(np.linspace(999, 0, n), np.arange(1000), table),
        "sgm_uniform": np.interp(np.linspace(999, 0, n + 1)[:-1], np.arange(1000), table),
        "simple": table[[999 - 100 * i for i in range(n)]],
        "karras": (high ** (1 / 7) + ramp * (low ** (1 / 7) - high ** (1 / 7))) ** 7,
        "beta": np.interp(999 * beta.ppf(1 - ramp, 0.6, 0.6), np.arange(1000), table),
        "exponential": np.exp(np.linspace(np.log(high), np.log(low), n)),
    }
    for schedule, sigmas in expected.items():
        scheduler: Any = find_sampler(name, schedule).start(n, "epsilon")
        found = list(dict.fromkeys(scheduler.sigmas.tolist()))
        if scheduler.order == 2 and name.startswith("dpmpp"):
            found = scheduler.sigmas[::2].tolist()
        assert found[:n] == pytest.approx(sigmas.tolist(), rel=1e-4), schedule


@pytest.mark.parametrize(
    ("spelling", "name", "schedule"),
    [
        ("DDIM", "ddim", "automatic"),
        ("Euler", "euler", "uniform"),
        ("Euler a", "euler_a", "uniform"),
        ("k_euler_a", "euler_a", "uniform"),
        ("euler ancestral", "euler_a", "uniform"),
        ("DPM++ 2M", "dpmpp_2m", "karras"),
        ("DPM++ 2M Karras", "dpmpp_2m", "karras"),
        ("dpmpp-2m-karras", "dpmpp_2m", "karras"),
        ("dpmpp_2m_sde_heun_exponential", "dpmpp_2m_sde_heun", "exponential"),
        ("DPM++ 2M SDE Heun Karras", "dpmpp_2m_sde_heun", "karras"),
        ("DPM++ 2M SDE SGMUniform", "dpmpp_2m_sde", "sgm_uniform"),
        ("LMS Karras", "lms", "karras"),
        ("DPM2 a Karras", "dpm2_a", "karras"),
        ("dpm_2_ancestral", "dpm2_a", "karras"),
        ("dpmpp_2s_ancestral", "dpmpp_2s_a", "karras"),
        ("uni_pc", "unipc", "sgm_uniform"),
        ("PLMS", "plms", "automatic"),
    ],
)
def test_spellings(spelling, name, schedule) -> None:
    found = find_sampler(spelling)
    assert (found.name, found.schedule) == (name, schedule)


def test_samples_while_training_can_have_each_of_their_settings() -> None:
    names = get_args(SamplerName)
    assert {find_sampler(name).name for name in names} == set(SAMPLERS) - {
        "lcm",
        "dpmpp_2m_sde_heun",
    }


def test_a_schedule_beside_the_name() -> None:
    assert find_sampler("Euler a", "SGM Uniform").schedule == "sgm_uniform"
    assert find_sampler("DPM++ 2M Karras", "Karras").schedule == "karras"
    assert find_sampler("DPM++ 2M Karras", "Automatic").schedule == "karras"
    assert find_sampler("euler", "normal").schedule_title == "Automatic"
    # Of a sampler whose automatic schedule is another, uniform must be told.
    assert find_sampler("dpmpp_2m", "uniform").schedule_title == "Uniform"
    for sampler, schedule, message in (
        ("DPM++ 2M Karras", "exponential", "say it in one place"),
        ("DDIM", "karras", "a schedule of its own"),
        ("Euler", "karas", r"did you mean karras\?"),
    ):
        with pytest.raises(PromptError, match=message):
            find_sampler(sampler, schedule)


@pytest.mark.parametrize("name", ["DPM fast", "DPM adaptive", "DPM adaptive Karras", "Restart"])
def test_what_diffusers_lacks_is_refused_with_the_nearest(name) -> None:
    with pytest.raises(PromptError, match="the nearest is DPM"):
        find_sampler(name)


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(PromptError, match=r"did you mean dpmpp_2m\?"):
        find_sampler("DPM++ 2N")
    with pytest.raises(PromptError, match="known are ddim, plms, euler, euler_a"):
        find_sampler("zzz")
