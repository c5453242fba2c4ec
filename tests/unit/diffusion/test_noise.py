from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import pytest
import torch
from scipy import stats
from tests.tolerances import FORMULA, LAYER, assert_near
from torch import Tensor

from lorasmith.config.sections.loss import LossSettings
from lorasmith.diffusion import noise as noise_module
from lorasmith.diffusion.global_batch import GlobalBatch
from lorasmith.diffusion.noise import Noise, uniform_per_sample

SHAPE = (4, 8, 8)

KINDS = {
    "plain": Noise(),
    "offset": Noise(LossSettings(noise_offset=0.1)),
    "random offset": Noise(LossSettings(noise_offset=0.1, noise_offset_random=True)),
    "adaptive offset": Noise(LossSettings(noise_offset=0.1, adaptive_noise_scale=0.5)),
    "pyramid": Noise(LossSettings(multires_iterations=6, multires_discount=0.5)),
    "perturbed": Noise(LossSettings(input_perturbation=0.1)),
    "perturbed at random": Noise(
        LossSettings(input_perturbation=0.1, input_perturbation_random=True)
    ),
    "nearest": Noise(LossSettings(noise_candidates=4)),
}


def latents(count: int, shape: tuple[int, ...] = SHAPE) -> torch.Tensor:
    """Each sample at its own level, so that what depends on it shows."""
    levels = torch.arange(1.0, count + 1).view(-1, 1, 1, 1)
    return levels + torch.zeros(count, *shape)


def draw(noise: Noise, samples: range | list[int], step: int = 0, seed: int = 0) -> torch.Tensor:
    return noise.draw(latents(len(samples)), seed, step, samples)


@pytest.mark.parametrize("noise", KINDS.values(), ids=list(KINDS))
def test_the_noise_of_a_sample_does_not_depend_on_its_batch(noise: Noise) -> None:
    samples, x0 = [10, 20, 30], latents(3)
    together = noise.draw(x0, 1, 2, samples)
    assert together.shape == (3, *SHAPE)
    assert together.dtype == torch.float32
    seen = noise.perturb(together, 1, 2, samples)
    for i, sample in enumerate(samples):
        alone = noise.draw(x0[i : i + 1], 1, 2, [sample])
        assert torch.equal(together[i : i + 1], alone)
        assert torch.equal(seen[i : i + 1], noise.perturb(alone, 1, 2, [sample]))
    assert not torch.equal(together[0], together[1])
    assert not torch.equal(together, noise.draw(x0, 1, 3, samples))
    assert not torch.equal(together, noise.draw(x0, 2, 2, samples))


def test_noise_is_standard_normal() -> None:
    noise = draw(Noise(), range(400))
    assert abs(noise.mean()) < 0.01
    assert abs(noise.std() - 1) < 0.01


def test_the_offset_is_one_number_per_sample_and_channel() -> None:
    added = draw(Noise(LossSettings(noise_offset=0.5)), range(400)) - draw(Noise(), range(400))
    assert_near(added, added[..., :1, :1].expand_as(added), FORMULA)
    assert abs(added[..., 0, 0].std() - 0.5) < 0.03


def test_the_offset_scales_one_fixed_draw() -> None:
    plain = draw(Noise(), [7])
    small = draw(Noise(LossSettings(noise_offset=0.1)), [7]) - plain
    large = draw(Noise(LossSettings(noise_offset=0.3)), [7]) - plain
    assert_near(3 * small, large, LAYER)


def ratio(noise: Noise, other: Noise, count: int = 300) -> torch.Tensor:
    """How much stronger each sample's offset is, (B,)."""
    plain = draw(Noise(), range(count))
    here, there = draw(noise, range(count)) - plain, draw(other, range(count)) - plain
    return here.flatten(1).norm(dim=1) / there.flatten(1).norm(dim=1)


def test_a_random_offsets_strength_is_uniform_up_to_the_whole() -> None:
    share = ratio(
        Noise(LossSettings(noise_offset=0.4, noise_offset_random=True)),
        Noise(LossSettings(noise_offset=0.4)),
    )
    assert stats.kstest(share.numpy(), "uniform").pvalue > 1e-3


def test_strengths_and_levels_are_drawn_apart() -> None:
    strengths = uniform_per_sample(0, "noise_offset_strength", 0, range(300)).flatten()
    others = uniform_per_sample(0, "perturbation_strength", 0, range(300)).flatten()
    assert abs(torch.corrcoef(torch.stack([strengths, others]))[0, 1]) < 0.2


def test_the_adaptive_offset_follows_each_channels_distance_from_the_middle() -> None:
    x0 = torch.zeros(1, *SHAPE)
    x0[0, 1] += torch.linspace(-3, 1, 64).view(8, 8)  # Mean -1.
    x0[0, 2] += 2.0
    plain = Noise().draw(x0, 0, 0, [3])
    added = (
        Noise(LossSettings(noise_offset=0.1, adaptive_noise_scale=0.2)).draw(x0, 0, 0, [3]) - plain
    )
    whole = Noise(LossSettings(noise_offset=1.0)).draw(x0, 0, 0, [3]) - plain
    strength = (added / whole).mean((0, 2, 3))
    assert_near(strength, torch.tensor([0.1, 0.3, 0.5, 0.1]), FORMULA)
    lowered = (
        Noise(LossSettings(noise_offset=0.1, adaptive_noise_scale=-0.08)).draw(x0, 0, 0, [3])
        - plain
    )
    strength = (lowered / whole).mean((0, 2, 3))
    assert_near(strength, torch.tensor([0.1, 0.02, 0.0, 0.1]), FORMULA)


def test_perturbation_adds_independent_noise_of_its_strength() -> None:
    noise = Noise(LossSettings(input_perturbation=0.3))
    plain = draw(noise, range(300))
    assert torch.equal(plain, draw(Noise(), range(300)))
    more = noise.perturb(plain, 0, 0, range(300)) - plain
    assert abs(more.std() - 0.3) < 0.005
    assert abs((more * plain).mean()) < 0.005
    share = torch.stack(
        [
            s.std()
            for s in Noise(
                LossSettings(input_perturbation=0.3, input_perturbation_random=True)
            ).perturb(plain, 0, 0, range(300))
            - plain
        ]
    )
    assert stats.kstest((share / 0.3).clamp(max=1).numpy(), "uniform").pvalue > 1e-3
    assert Noise().perturb(plain, 0, 0, range(300)) is plain


def pyramid(iterations: int, discount: float, size: int = 32, count: int = 60) -> torch.Tensor:
    x0 = torch.zeros(count, 4, size, size)
    return Noise(LossSettings(multires_iterations=iterations, multires_discount=discount)).draw(
        x0, 0, 0, range(count)
    )


def coarseness(noise: torch.Tensor) -> float:
    """Share of the energy at the lowest frequencies, three by three of them."""
    power = torch.fft.fft2(noise, norm="ortho").abs().square().mean((0, 1))
    kept = [*range(-1, 2)]
    return float(power[kept][:, kept].sum() / power.sum())


@pytest.mark.parametrize("discount", [0.1, 0.3, 0.8])
def test_pyramid_noise_has_a_standard_deviation_of_one_in_each_sample(discount: float) -> None:
    noise = pyramid(6, discount)
    assert_near(noise.flatten(1).std(1), torch.ones(60), FORMULA)


def test_pyramid_noise_is_coarser_the_less_its_layers_are_discounted() -> None:
    white = coarseness(pyramid(1, 0.5))
    assert white == pytest.approx(9 / 32**2, rel=0.15)
    shares = [coarseness(pyramid(6, discount)) for discount in (0.1, 0.3, 0.6, 0.9)]
    assert white < shares[0] < shares[1] < shares[2] < shares[3]
    assert shares[3] > 0.1


def test_more_layers_are_coarser_until_one_is_a_single_pixel() -> None:
    assert coarseness(pyramid(2, 0.9)) < coarseness(pyramid(4, 0.9))
    # Each layer is at least twice as small as the one before: 32 pixels leave six at most.
    assert torch.equal(pyramid(6, 0.9, count=3), pyramid(30, 0.9, count=3))


def test_layers_of_pyramid_noise_are_two_to_four_times_as_coarse(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """J. Whitaker's r ** i, r drawn evenly from 2 to 4 for each layer anew."""
    heights: dict[int, list[int]] = {}

    def recorded(shape: Sequence[int], *where: object) -> Tensor:
        heights.setdefault(cast(int, where[-1]), []).append(shape[2])
        return torch.zeros(*shape)

    monkeypatch.setattr(noise_module, "normal", recorded)
    noise_module.pyramid(torch.randn(400, 1, 256, 256), 3, 0.3, 7, 0, range(400))
    assert set(heights[0]) == {256}
    ratios = [256 / height for height in heights[1]]
    assert 2.0 <= min(ratios) < 2.05
    assert 3.9 < max(ratios) <= 4.02
    assert 16 <= min(heights[2]) < 18
    assert 62 < max(heights[2]) <= 64


def test_pyramid_noise_fits_any_shape() -> None:
    x0 = torch.zeros(2, 4, 3, 17)
    noise = Noise(LossSettings(multires_iterations=10)).draw(x0, 0, 0, [1, 2])
    assert noise.shape == x0.shape
    assert torch.isfinite(noise).all()


ANTITHETIC = Noise(LossSettings(antithetic_noise=True))
# Two samples of the same image, between them one of another.
STEP = GlobalBatch((20, 21, 22), (4, 5, 4), (6, 3, 7))


def test_every_second_showing_of_an_image_turns_the_sign_of_the_one_before() -> None:
    seen = {}
    for first in range(0, 8, 2):
        whole = GlobalBatch((1, 2), (4, 4), (first, first + 1))
        seen[first], turned = ANTITHETIC.draw(latents(2), 0, first, [1, 2], whole)
        assert torch.equal(turned, -seen[first])
        # Whatever step, or sample of its epoch, the second one is.
        later = GlobalBatch((9,), (4,), (first + 1,))
        assert torch.equal(ANTITHETIC.draw(latents(1), 0, 77, [9], later)[0], turned)
    assert abs(torch.corrcoef(torch.stack([n.flatten() for n in seen.values()]))[0, 1]) < 0.2


def test_antithetic_noise_is_standard_normal_in_every_place() -> None:
    whole = GlobalBatch(tuple(range(400)), (3,) * 400, tuple(range(400)))
    noise = ANTITHETIC.draw(latents(400), 0, 0, range(400), whole)
    firsts = noise[::2]
    assert stats.kstest(firsts.flatten().numpy(), "norm").pvalue > 1e-3
    assert_near(noise.sum(0), torch.zeros(SHAPE), FORMULA)
    assert abs(noise.std() - 1) < 0.01


def test_antithetic_noise_does_not_depend_on_how_a_step_is_cut() -> None:
    together = ANTITHETIC.draw(latents(3), 2, 5, [20, 21, 22], STEP)
    for index, sample in enumerate([20, 21, 22]):
        assert torch.equal(ANTITHETIC.draw(latents(1), 2, 5, [sample], STEP)[0], together[index])
    assert torch.equal(together[2], -together[0])
    assert not torch.equal(ANTITHETIC.draw(latents(3), 3, 5, [20, 21, 22], STEP), together)


def test_the_nearest_candidate_is_chosen() -> None:
    x0 = torch.randn(64, *SHAPE, generator=torch.Generator().manual_seed(1))
    before = Noise().draw(x0, 0, 0, range(64))
    distances = [(before - x0).flatten(1).norm(dim=1)]
    for count in (2, 4, 16):
        noise = Noise(LossSettings(noise_candidates=count)).draw(x0, 0, 0, range(64))
        distances.append((noise - x0).flatten(1).norm(dim=1))
        # The plain draw is a candidate like the others.
        assert (distances[-1] <= distances[0]).all()
        plain = (noise == before).flatten(1).all(1).double().mean()
        assert plain == pytest.approx(1 / count, abs=3.5 * (1 / count / 64) ** 0.5)
    means = [float(distance.mean()) for distance in distances]
    assert means == sorted(means, reverse=True)


def test_the_nearest_of_several_leans_to_the_image_and_is_said_to() -> None:
    """The largest of four standard normal numbers is 1.03 in the mean; so is the noise along the
    latents. Everywhere else it is what it was."""
    x0 = torch.zeros(2000, *SHAPE)
    x0[:, 0, 0, 0] = 100.0
    noise = Noise(LossSettings(noise_candidates=4)).draw(x0, 0, 0, range(2000))
    assert noise[:, 0, 0, 0].mean() == pytest.approx(1.03, abs=0.06)
    elsewhere = noise.flatten(1)[:, 1:]
    assert abs(elsewhere.mean()) < 0.01
    assert abs(elsewhere.std() - 1) < 0.01
