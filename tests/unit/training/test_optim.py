"""Flat tensors change nothing: the same trajectory as the library's optimizer on single tensors."""

import pytest
import torch
from prodigyopt import Prodigy
from torch import nn

from lorasmith.errors import SettingsError
from lorasmith.training.optim import FlatGroup, adaptive_rates, build_optimizer, clip_gradients

SHAPES = [(3, 5), (5,), (2, 2, 3)]


def parameters(seed: int) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(seed)
    return [nn.Parameter(torch.randn(*shape, generator=generator)) for shape in SHAPES]


def loss_of(params: list[nn.Parameter], step: int) -> torch.Tensor:
    return sum(((p - 0.1 * step) ** 2 * (i + 1)).sum() for i, p in enumerate(params))


def run_flat(name: str, lr: float, steps: int, **args: object) -> list[nn.Parameter]:
    params = parameters(0)
    group = FlatGroup("unet", params, lr)
    optimizer = build_optimizer(name, [group], args)
    for step in range(steps):
        group.grad.zero_()
        loss_of(params, step).backward()
        optimizer.step()
    return params


def run_plain(cls: type, lr: float, steps: int, **args: object) -> list[nn.Parameter]:
    params = parameters(0)
    optimizer = cls(params, lr=lr, **args)
    for step in range(steps):
        optimizer.zero_grad()
        loss_of(params, step).backward()
        optimizer.step()
    return params


@pytest.mark.parametrize(
    ("name", "cls", "lr", "args"),
    [
        ("AdamW", torch.optim.AdamW, 1e-2, {"weight_decay": 0.1, "betas": (0.9, 0.99)}),
        ("Prodigy", Prodigy, 1.0, {"weight_decay": 0.01, "use_bias_correction": True}),
    ],
)
def test_flat_equals_library(name: str, cls: type, lr: float, args: dict) -> None:
    ours = run_flat(name, lr, 30, **args)
    wanted = run_plain(cls, lr, 30, **args)
    for left, right in zip(ours, wanted, strict=True):
        torch.testing.assert_close(left, right, rtol=2e-5, atol=1e-6)


def test_adamw8bit_follows_adamw() -> None:
    pytest.importorskip("bitsandbytes")
    ours = run_flat("AdamW8bit", 1e-2, 30)
    wanted = run_plain(torch.optim.AdamW, 1e-2, 30)
    for left, right in zip(ours, wanted, strict=True):
        torch.testing.assert_close(left, right, rtol=0.05, atol=0.02)


def test_parameters_and_gradients_are_views() -> None:
    params = parameters(1)
    before = [p.detach().clone() for p in params]
    group = FlatGroup("unet", params, 1e-3)
    for p, value in zip(params, before, strict=True):
        torch.testing.assert_close(p.detach(), value, rtol=0, atol=0)
    loss_of(params, 3).backward()
    assert group.grad.abs().sum() > 0
    group.flat.data.zero_()
    assert all(p.abs().sum() == 0 for p in params)


@pytest.mark.parametrize("max_norm", [0.0, 0.5, 1e6])
def test_clipping_equals_torch(max_norm: float) -> None:
    ours, wanted = parameters(2), parameters(2)
    group = FlatGroup("unet", ours, 1e-3)
    loss_of(ours, 1).backward()
    loss_of(wanted, 1).backward()
    norm = clip_gradients([group], max_norm)
    limit = max_norm or float("inf")
    torch.testing.assert_close(norm, torch.nn.utils.clip_grad_norm_(wanted, limit))
    for left, right in zip(ours, wanted, strict=True):
        torch.testing.assert_close(left.grad, right.grad)


def test_adaptive_rates_report_d() -> None:
    group = FlatGroup("unet", parameters(0), 1.0)
    assert adaptive_rates(build_optimizer("AdamW", [group], {})) == {}
    rates = adaptive_rates(build_optimizer("Prodigy", [group], {"d0": 1e-5}))
    assert rates == {"unet": pytest.approx(1e-5)}


def test_wrong_argument_names_the_setting() -> None:
    group = FlatGroup("unet", parameters(0), 1.0)
    with pytest.raises(SettingsError, match=r"optimizer\.args.*decopule"):
        build_optimizer("Prodigy", [group], {"decopule": True})
