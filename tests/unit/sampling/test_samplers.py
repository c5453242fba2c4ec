"""Samplers against a problem with a known answer, and their names.

For Gaussian data of variance s² the best epsilon prediction has a closed form, so a sampler that
starts from unit noise must end in samples of that variance.
"""

from __future__ import annotations

import pytest
import torch

from lorasmith.diffusion.schedule import NoiseSchedule
from lorasmith.errors import PromptError
from lorasmith.sampling.samplers import SAMPLERS, find_sampler

DATA_STD = 0.5


def sample(name: str, prediction: str, steps: int, count: int = 800) -> torch.Tensor:
    sampler = SAMPLERS[name]
    abar = NoiseSchedule().alphas_cumprod.double()
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


@pytest.mark.parametrize("prediction", ["epsilon", "v"])
@pytest.mark.parametrize("name", SAMPLERS)
def test_a_gaussian_comes_out_with_its_own_variance(name, prediction) -> None:
    # 800 draws have a standard error of 2.5%, and 150 steps of Euler a lose 4%.
    assert sample(name, prediction, 150).std().item() == pytest.approx(DATA_STD, rel=0.1)


@pytest.mark.parametrize("name", SAMPLERS)
def test_any_number_of_steps_runs(name) -> None:
    for steps in (1, 2, 3, 7, 150, 500):
        assert torch.isfinite(sample(name, "epsilon", steps, count=2)).all()


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("DDIM", "ddim"),
        ("Euler", "euler"),
        ("Euler a", "euler_a"),
        ("k_euler_a", "euler_a"),
        ("euler ancestral", "euler_a"),
        ("DPM++ 2M Karras", "dpmpp_2m_karras"),
        ("dpmpp-2m-karras", "dpmpp_2m_karras"),
    ],
)
def test_spellings(spelling, name) -> None:
    assert find_sampler(spelling).name == name


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(PromptError, match=r"did you mean dpmpp_2m_karras\?"):
        find_sampler("DPM++ 2S Karras")
    with pytest.raises(PromptError, match="known are ddim, euler, euler_a, dpmpp_2m_karras"):
        find_sampler("zzz")
