"""Flat tensors change nothing: the same trajectory as the library's optimizer on single tensors."""

from __future__ import annotations

import importlib
import io
import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from tests.tolerances import LAYER, NETWORK, assert_near
from torch import nn

from lorasmith.config.optimizers import OPTIMIZERS, optimizer_facts
from lorasmith.core.errors import SettingsError
from lorasmith.training.optim import (
    FlatGroup,
    adaptive_rates,
    build_optimizer,
    clip_gradients,
    flat_groups,
)

SHAPES = [(3, 5), (5,), (2, 2, 3, 3), (64, 96)]
STEPS = 30

# What each is trained with below: (arguments as guides give them, those that the class needs more).
ADAPTIVE = {"decouple": True, "weight_decay": 0.01, "betas": (0.9, 0.99)}
PRODIGY = {**ADAPTIVE, "d_coef": 2, "use_bias_correction": True, "safeguard_warmup": True}
RELATIVE = {"relative_step": True, "scale_parameter": True, "warmup_init": True}
FIXED = {"relative_step": False, "scale_parameter": False, "warmup_init": False}
NESTEROV = {"nesterov": True, "momentum": 0.9}
CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "AdamW": ("AdamW", {"weight_decay": 0.1, "betas": (0.9, 0.99)}, {}),
    "AdamWScheduleFree": ("AdamWScheduleFree", {"weight_decay": 0.1}, {}),
    "Lion": ("Lion", {"weight_decay": 0.1}, {}),
    "SGDNesterov": ("SGDNesterov", {"weight_decay": 0.1}, NESTEROV),
    "AdaFactor, adaptive": ("AdaFactor", RELATIVE, {"lr": None}),
    "AdaFactor, fixed": ("AdaFactor", FIXED, {}),
    "DAdaptAdam": ("DAdaptAdam", ADAPTIVE, {}),
    "DAdaptLion": ("DAdaptLion", {"weight_decay": 0.01}, {}),
    "DAdaptSGD": ("DAdaptSGD", {"momentum": 0.9}, {}),
    "DAdaptAdaGrad": ("DAdaptAdaGrad", {}, {}),
    "DAdaptAdan": ("DAdaptAdan", {}, {}),
    "DAdaptAdanIP": ("DAdaptAdanIP", {}, {}),
    "Prodigy": ("Prodigy", PRODIGY, {}),
    "torch.optim.RMSprop": ("torch.optim.RMSprop", {"momentum": 0.5}, {}),
}
IN_8_BITS = {
    "AdamW8bit": ("AdamW8bit", {}, {}),
    "PagedAdamW8bit": ("PagedAdamW8bit", {}, {}),
    "Lion8bit": ("Lion8bit", {}, {}),
    "SGDNesterov8bit": ("SGDNesterov8bit", {}, NESTEROV),
}
CATALOGUE = {
    name: (f"pytorch_optimizer.{name}", {}, {})
    for name in ("CAME", "Shampoo", "SOAP", "Adan", "Muon", "ScheduleFreeAdamW")
}
ADAPTIVE_NAMES = [name for name, facts in OPTIMIZERS.items() if facts.adaptive]
ALL = CASES | IN_8_BITS | CATALOGUE


def needs(name: str) -> None:
    """Skip where the optional library is missing."""
    package = optimizer_facts(name).path.partition(".")[0]
    if package in ("bitsandbytes", "pytorch_optimizer"):
        pytest.importorskip(package)


def parameters(seed: int, dtype: torch.dtype = torch.float32) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(seed)
    return [nn.Parameter(torch.randn(*shape, generator=generator, dtype=dtype)) for shape in SHAPES]


def loss_of(params: Sequence[nn.Parameter], step: int) -> torch.Tensor:
    losses = [((p - 0.1 * step) ** 2 * (i + 1)).sum() for i, p in enumerate(params)]
    return torch.stack(losses).sum()


def rate_of(name: str) -> float:
    return optimizer_facts(name).lr or 1e-3


def run_flat(name: str, lr: float, steps: int, **args: object) -> list[nn.Parameter]:
    params = parameters(0)
    group = FlatGroup("unet", params, lr)
    optimizer = build_optimizer(name, [group], args)
    train(optimizer, [group], 0, steps)
    return params


def train(
    optimizer: torch.optim.Optimizer, groups: Sequence[FlatGroup], start: int, end: int
) -> None:
    members = [member for group in groups for member in group.members]
    for step in range(start, end):
        for group in groups:
            group.grad.zero_()
        loss_of(members, step).backward()
        optimizer.step()


def run_plain(
    cls: Callable[..., torch.optim.Optimizer],
    steps: int,
    params: list[nn.Parameter] | None = None,
    **args: Any,
) -> list[nn.Parameter]:
    params = params or parameters(0)
    optimizer = cls(params, **args)
    if hasattr(optimizer, "train"):
        optimizer.train()
    for step in range(steps):
        optimizer.zero_grad()
        loss_of(params, step).backward()
        optimizer.step()
    return params


def library_class(name: str) -> Callable[..., torch.optim.Optimizer]:
    module, _, attribute = optimizer_facts(name).path.rpartition(".")
    cls: Callable[..., torch.optim.Optimizer] = getattr(importlib.import_module(module), attribute)
    return cls


@pytest.mark.parametrize("case", CASES)
def test_trajectory_is_the_librarys(case: str) -> None:
    """In float64, where it does not matter in which order ``d`` is summed."""
    name, args, more = CASES[case]
    lr = rate_of(name)
    ours, wanted = parameters(0, torch.float64), parameters(0, torch.float64)
    group = FlatGroup("unet", ours, lr)
    train(build_optimizer(name, [group], args), [group], 0, STEPS)
    run_plain(library_class(name), STEPS, wanted, **{"lr": lr, **args, **more})
    start = parameters(0, torch.float64)
    assert not any(torch.equal(p, q) for p, q in zip(start, wanted, strict=True))
    for left, right in zip(ours, wanted, strict=True):
        assert_near(left, right, STEPS * NETWORK)


@pytest.mark.parametrize("case", IN_8_BITS)
def test_8_bit_trajectory_is_the_librarys_on_one_tensor(case: str) -> None:
    """Blocks of 256 numbers share a scale; in one tensor they run on over the seams of ours."""
    name, args, more = IN_8_BITS[case]
    needs(name)
    ours = parameters(0)
    group = FlatGroup("unet", ours, 1e-2)
    plain = nn.Parameter(group.flat.detach().clone())
    sizes = [p.numel() for p in ours]
    optimizer = build_optimizer(name, [group], args)
    reference = library_class(name)([plain], lr=1e-2, **args, **more)
    for step in range(STEPS):
        train(optimizer, [group], step, step + 1)
        reference.zero_grad()
        pieces = zip(plain.split(sizes), ours, strict=True)
        members = [piece.view(p.shape) for piece, p in pieces]
        loss_of(members, step).backward()
        reference.step()
    assert torch.equal(group.flat, plain)


def test_adamw8bit_follows_adamw() -> None:
    needs("AdamW8bit")
    ours = run_flat("AdamW8bit", 1e-2, STEPS)
    wanted = run_plain(torch.optim.AdamW, STEPS, lr=1e-2)
    for left, right in zip(ours, wanted, strict=True):
        torch.testing.assert_close(left, right, rtol=0.05, atol=0.03)


def test_bitsandbytes_takes_no_heed_of_nesterov() -> None:
    """As the table of optimizers says; should this fail, they have mended it."""
    needs("SGDNesterov8bit")
    cls = library_class("SGDNesterov8bit")
    with_it = run_plain(cls, STEPS, lr=1e-3, momentum=0.9, nesterov=True)
    without = run_plain(cls, STEPS, lr=1e-3, momentum=0.9, nesterov=False)
    assert all(torch.equal(p, q) for p, q in zip(with_it, without, strict=True))


@pytest.mark.slow_but_first
@pytest.mark.parametrize("case", ALL)
def test_goes_on_from_its_state_bit_for_bit(case: str) -> None:
    name, args, _ = ALL[case]
    needs(name)
    whole = two_groups(name)
    optimizer = build_optimizer(name, whole, args)
    train(optimizer, whole, 0, 8)
    buffer = io.BytesIO()
    torch.save(optimizer.state_dict(), buffer)
    broken = two_groups(name)
    for group, other in zip(broken, whole, strict=True):
        group.flat.data.copy_(other.flat.data)
    again = build_optimizer(name, broken, args)
    buffer.seek(0)
    again.load_state_dict(torch.load(buffer, map_location="cpu", weights_only=True))
    train(optimizer, whole, 8, 16)
    train(again, broken, 8, 16)
    for group, other in zip(broken, whole, strict=True):
        assert torch.equal(group.flat, other.flat)
        assert bool(group.flat.isfinite().all())
    assert adaptive_rates(again) == adaptive_rates(optimizer)


def two_groups(name: str) -> list[FlatGroup]:
    rate = rate_of(name)
    pieces = [("unet", parameters(1), rate), ("text_encoder", parameters(2), rate / 2)]
    return flat_groups(name, pieces)


@pytest.mark.parametrize("case", ALL)
def test_with_a_loss_scale_the_same_and_overflow_skips(case: str) -> None:
    """As fp16 trains: scaled gradients, taken back before the step."""
    name, args, _ = ALL[case]
    needs(name)
    plain, scaled = two_groups(name), two_groups(name)
    optimizer, other = build_optimizer(name, plain, args), build_optimizer(name, scaled, args)
    train(optimizer, plain, 0, 6)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    members = [member for group in scaled for member in group.members]
    for step in [0, 1, 2, -1, 3, 4, 5]:
        for group in scaled:
            group.grad.zero_()
        before = [group.flat.detach().clone() for group in scaled]
        scaler.scale(loss_of(members, abs(step))).backward()
        if step < 0:
            scaled[0].grad[3] = math.inf
        scaler.unscale_(other)
        scaler.step(other)
        scaler.update(1024.0)
        moved = [not torch.equal(g.flat, b) for g, b in zip(scaled, before, strict=True)]
        assert step >= 0 or not any(moved)
    for group, wanted in zip(scaled, plain, strict=True):
        assert_near(group.flat, wanted.flat, LAYER)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_memory_is_what_estimates_say(name: str) -> None:
    needs(name)
    group = FlatGroup("unet", [nn.Parameter(torch.randn(16, 320)) for _ in range(4)], 1e-3)
    optimizer = build_optimizer(name, [group], {})
    group.grad.normal_()
    optimizer.step()
    kept = sum(_bytes(state) for state in optimizer.state.values())
    table = 4 * 2 * 256  # bitsandbytes' code books, one for all weights.
    expected = 4 * group.flat.numel() * OPTIMIZERS[name].values_per_weight
    assert 0.3 * expected < kept < 1.05 * expected + table


def _bytes(value: Any) -> int:
    if isinstance(value, torch.Tensor):
        return value.numel() * value.element_size()
    return sum(_bytes(item) for item in value.values()) if isinstance(value, dict) else 0


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
    assert_near(norm, torch.nn.utils.clip_grad_norm_(wanted, limit), LAYER)
    for left, right in zip(ours, wanted, strict=True):
        assert_near(left.grad, right.grad, LAYER)


def test_adaptive_rates_report_d() -> None:
    group = FlatGroup("unet", parameters(0), 1.0)
    assert adaptive_rates(build_optimizer("AdamW", [group], {})) == {}
    for name in ADAPTIVE_NAMES:
        rates = adaptive_rates(build_optimizer(name, [group], {"d0": 1e-5}))
        assert rates == {"unet": pytest.approx(1e-5)}, name


def test_adafactors_rate_is_what_its_authors_schedule_reads() -> None:
    from transformers.optimization import Adafactor, AdafactorSchedule

    one = [nn.Parameter(torch.randn(4, 6, generator=torch.Generator().manual_seed(3)))]
    reference = Adafactor([nn.Parameter(one[0].detach().clone())], **RELATIVE)
    schedule = AdafactorSchedule(reference)
    group = FlatGroup("unet", one, 0.5)
    optimizer = build_optimizer("AdaFactor", [group], RELATIVE)
    assert adaptive_rates(optimizer) == {}
    for _ in range(5):
        group.grad.fill_(1.0)
        reference.param_groups[0]["params"][0].grad = torch.ones(4, 6)
        optimizer.step()
        reference.step()
    assert adaptive_rates(optimizer)["unet"] == pytest.approx(float(schedule.get_lr()[0]))


@pytest.mark.parametrize("name", ADAPTIVE_NAMES)
def test_one_step_size_for_all_parts_whose_rates_set_a_ratio(name: str) -> None:
    """With the same d, a part at half the rate makes half the change."""
    ours, theirs = parameters(1, torch.float64), parameters(2, torch.float64)
    full = [FlatGroup("unet", ours, 1.0), FlatGroup("text_encoder", theirs, 1.0)]
    ours, theirs = parameters(1, torch.float64), parameters(2, torch.float64)
    half = flat_groups(name, [("unet", ours, 1.0), ("text_encoder", theirs, 0.5)])
    assert [group.lr for group in half] == [1.0, 1.0]
    start = half[1].flat.detach().clone()
    for groups in (full, half):
        train(build_optimizer(name, groups, {}), groups, 0, 1)
    assert torch.equal(half[0].flat, full[0].flat)
    moved = full[1].flat - start
    assert moved.abs().sum() > 0
    assert_near(half[1].flat - start, moved / 2, LAYER, dtype=torch.float32)


@pytest.mark.parametrize("name", ADAPTIVE_NAMES)
@pytest.mark.parametrize("still", [0, 1])
def test_a_rate_of_zero_stays_zero(name: str, still: int) -> None:
    rates = [1.0, 1.0]
    rates[still] = 0.0
    pieces = [("unet", parameters(1), rates[0]), ("text_encoder", parameters(2), rates[1])]
    groups = flat_groups(name, pieces)
    before = [group.flat.detach().clone() for group in groups]
    train(build_optimizer(name, groups, {}), groups, 0, 5)
    moved = [not torch.equal(g.flat, b) for g, b in zip(groups, before, strict=True)]
    assert moved == [rate > 0 for rate in rates]


def test_a_state_does_not_bring_back_an_old_ratio() -> None:
    old = flat_groups("Prodigy", [("unet", parameters(1), 1.0), ("text", parameters(2), 0.5)])
    optimizer = build_optimizer("Prodigy", old, {})
    train(optimizer, old, 0, 3)
    new = flat_groups("Prodigy", [("unet", parameters(1), 1.0), ("text", parameters(2), 0.25)])
    again = build_optimizer("Prodigy", new, {})
    again.load_state_dict(optimizer.state_dict())
    train(again, new, 3, 4)
    rates = adaptive_rates(again)
    assert rates["text"] == pytest.approx(rates["unet"] / 4)


def test_wrong_argument_names_the_setting() -> None:
    group = FlatGroup("unet", parameters(0), 1.0)
    with pytest.raises(SettingsError, match=r"optimizer\.args.*decopule"):
        build_optimizer("Prodigy", [group], {"decopule": True})
