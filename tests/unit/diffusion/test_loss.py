from __future__ import annotations

import pytest
import torch
from tests.tolerances import FORMULA, assert_near
from torch.nn import functional

from lorasmith.config.sections.loss import LossSettings
from lorasmith.diffusion.loss import COSTS, Loss, per_sample_mse
from lorasmith.diffusion.schedule import (
    DDPMSchedule,
    scaled_linear_alphas_cumprod,
    zero_terminal_snr,
)


@pytest.fixture
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    a, b = torch.randn(2, 3, 4, 5, 6, generator=torch.Generator().manual_seed(0))
    return a, b


def test_each_samples_loss_is_torchs_mse_of_that_sample(pair) -> None:
    a, b = pair
    loss = per_sample_mse(a, b)
    assert loss.shape == (3,)
    for i in range(3):
        assert_near(loss[i], functional.mse_loss(a[i], b[i]), FORMULA)
    assert torch.equal(Loss().per_sample(a, b), loss)


def test_l1_is_torchs(pair) -> None:
    a, b = pair
    loss = Loss(LossSettings(type="l1")).per_sample(a, b)
    for i in range(3):
        assert_near(loss[i], functional.l1_loss(a[i], b[i]), FORMULA)


@pytest.mark.parametrize("kind", COSTS)
def test_the_loss_is_float32_whatever_the_network_computes_in(kind: str) -> None:
    a = torch.full((1, 1, 2, 2), 300.0, dtype=torch.float16)
    loss = Loss(LossSettings(type=kind)).per_sample(
        a, torch.zeros_like(a), threshold=torch.tensor([1e4])
    )
    assert loss.dtype == torch.float32
    # 300 squared is beyond float16.
    if kind == "l2":
        assert loss.item() == 90_000


def cost(kind: str, difference: torch.Tensor, c: float) -> torch.Tensor:
    return COSTS[kind](difference, torch.tensor(c, dtype=difference.dtype))


@pytest.mark.parametrize("c", [0.05, 0.3, 2.0])
def test_far_from_its_corner_pseudo_huber_is_twice_torchs_huber(c: float) -> None:
    zero = torch.zeros(2, dtype=torch.float64)
    near, far = zero + c * torch.tensor([1e-4, 1e-3]), zero + c * torch.tensor([1e4, 1e5])
    for kind, torchs in (
        ("huber", lambda d: functional.huber_loss(d, zero, delta=c, reduction="none")),
        ("smooth_l1", lambda d: functional.smooth_l1_loss(d, zero, beta=c, reduction="none")),
    ):
        torch.testing.assert_close(cost(kind, near, c), 2 * torchs(near), rtol=1e-5, atol=0)
        torch.testing.assert_close(cost(kind, far, c), 2 * torchs(far), rtol=1e-3, atol=0)


@pytest.mark.parametrize("kind", ["huber", "smooth_l1"])
def test_pseudo_hubers_slope(kind: str) -> None:
    d = torch.linspace(-3, 3, 13, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(cost(kind, d, 0.4).sum(), d)
    # By differentiating 2 (sqrt(d^2 + c^2) - c), times c for huber.
    expected = 2 * d.detach() / (d.detach() ** 2 + 0.16).sqrt() * (0.4 if kind == "huber" else 1)
    assert_near(slope, expected, FORMULA)
    assert slope[6] == 0


def test_large_and_small_c_are_l2_and_l1() -> None:
    d = torch.linspace(-2, 2, 9, dtype=torch.float64)
    torch.testing.assert_close(cost("huber", d, 1e5), d**2)
    torch.testing.assert_close(cost("smooth_l1", d, 1e-9), 2 * d.abs(), atol=1e-8, rtol=0)


def test_huber_is_exact_for_small_float32_differences() -> None:
    # The textbook form loses every digit here: sqrt(1e-8 + 1) - 1 is 0 in float32.
    d = torch.tensor([1e-4])
    assert_near(cost("huber", d, 1.0), d**2, FORMULA)


def test_the_threshold_goes_from_one_to_c() -> None:
    schedule = DDPMSchedule()
    t = torch.tensor([0, 500, 999])
    assert Loss().threshold(schedule, t) is None
    constant = Loss(LossSettings(type="huber", huber_c=0.2, huber_schedule="constant")).threshold(
        schedule, t
    )
    assert_near(constant, torch.full((3,), 0.2), FORMULA)
    exponential = Loss(
        LossSettings(type="huber", huber_c=0.2, huber_schedule="exponential")
    ).threshold(schedule, t)
    assert_near(exponential, torch.tensor([1.0, 0.2**0.5, 0.2**0.999]), FORMULA)
    by_snr = Loss(LossSettings(type="huber", huber_c=0.2, huber_schedule="snr")).threshold(
        schedule, t
    )
    abar = scaled_linear_alphas_cumprod()[t]
    sigma = ((1 - abar) / abar).sqrt()
    assert_near(by_snr, (0.8 / (1 + sigma) ** 2 + 0.2).float(), FORMULA)
    scaled = Loss(
        LossSettings(type="huber", huber_c=0.2, huber_schedule="snr", huber_scale=3.0)
    ).threshold(schedule, t)
    assert_near(scaled, 3 * by_snr, FORMULA)
    assert by_snr[0] > 0.9
    assert by_snr[-1] < 0.21


@pytest.mark.parametrize("kind", ["constant", "exponential", "snr"])
def test_the_threshold_is_finite_at_zero_terminal_snr(kind: str) -> None:
    schedule = DDPMSchedule("v", alphas_cumprod=zero_terminal_snr(scaled_linear_alphas_cumprod()))
    c = Loss(LossSettings(type="huber", huber_c=0.1, huber_schedule=kind)).threshold(
        schedule, torch.tensor([999])
    )
    assert c.item() == pytest.approx(0.1, rel=3e-3)


def test_each_sample_has_its_own_threshold(pair) -> None:
    a, b = pair
    loss = Loss(LossSettings(type="huber")).per_sample(
        a, b, threshold=torch.tensor([0.1, 0.5, 2.0])
    )
    for i, c in enumerate((0.1, 0.5, 2.0)):
        alone = Loss(LossSettings(type="huber")).per_sample(
            a[i : i + 1], b[i : i + 1], threshold=torch.tensor([c])
        )
        assert_near(loss[i : i + 1], alone, FORMULA)


@pytest.mark.parametrize("kind", COSTS)
def test_only_the_masks_places_count(kind: str, pair) -> None:
    a, b = pair
    c = torch.full((3,), 0.3)
    mask = torch.zeros(3, 1, 5, 6)
    mask[..., :2, :] = 1.0
    loss = Loss(LossSettings(type=kind)).per_sample(a, b, threshold=c, mask=mask)
    outside = a.clone()
    outside[..., 2:, :] += 7.0
    assert_near(
        Loss(LossSettings(type=kind)).per_sample(outside, b, threshold=c, mask=mask), loss, FORMULA
    )
    # The mean is over the whole image: two of five rows count.
    part = Loss(LossSettings(type=kind)).per_sample(a[..., :2, :], b[..., :2, :], threshold=c)
    assert_near(loss, part * 2 / 5, FORMULA)
    normalized = Loss(LossSettings(type=kind, mask_normalize=True)).per_sample(
        a, b, threshold=c, mask=mask
    )
    assert_near(normalized, part, FORMULA)


def test_a_full_mask_changes_nothing_and_an_empty_one_leaves_nothing(pair) -> None:
    a, b = pair
    for normalize in (False, True):
        loss = Loss(LossSettings(mask_normalize=normalize))
        full = loss.per_sample(a, b, mask=torch.ones(3, 1, 5, 6))
        assert_near(full, per_sample_mse(a, b), FORMULA)
        assert not loss.per_sample(a, b, mask=torch.zeros(3, 1, 5, 6)).any()


def test_the_floor_is_the_least_weight_of_any_place(pair) -> None:
    a, b = pair
    mask = torch.rand(3, 1, 5, 6, generator=torch.Generator().manual_seed(1)).round(decimals=1)
    assert_near(
        Loss(LossSettings(mask_floor=0.4)).per_sample(a, b, mask=mask),
        torch.stack([((a - b)[i] ** 2 * mask[i].clamp(min=0.4)).mean() for i in range(3)]),
        FORMULA,
    )
    assert_near(
        Loss(LossSettings(mask_floor=1.0)).per_sample(a, b, mask=mask),
        per_sample_mse(a, b),
        FORMULA,
    )
