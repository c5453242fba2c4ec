"""A model's own weights stepped one by one, within the backward pass, and in bfloat16."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lorasmith.tensors.rng import normal
from lorasmith.tensors.rounding import StochasticRounding
from lorasmith.training.kinds.weight_groups import ParameterwiseOptimizer, WeightGroup
from lorasmith.training.optim import build_optimizer, clip_gradients

STEPS = 5
NAMES = ["AdamW", "SGDNesterov", "torch.optim.RMSprop", "AdaFactor", "AdamW8bit"]
ARGS = {"AdaFactor": {"relative_step": False, "scale_parameter": False}}


def network(dtype: torch.dtype = torch.float32) -> nn.Sequential:
    layers = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.GroupNorm(2, 8), nn.SiLU(), nn.Conv2d(8, 3, 1)
    )
    for number, parameter in enumerate(layers.parameters()):
        parameter.data = normal(parameter.shape, 3, "weights", number).mul_(0.3).to(dtype)
    return layers


def loss_of(layers: nn.Module, step: int) -> Tensor:
    dtype = next(layers.parameters()).dtype
    out = layers(normal((2, 3, 6, 6), 4, "images", step).to(dtype))
    return (out.float() - normal(tuple(out.shape), 4, "targets", step)).square().mean()


def group_of(layers: nn.Module, *, masters: bool = False) -> WeightGroup:
    weights = list(layers.parameters())
    kept = [nn.Parameter(weight.detach().float()) for weight in weights] if masters else None
    return WeightGroup("unet", weights, kept, 1e-2)


class Run:
    """The steps of one way to train."""

    def __init__(
        self,
        make: Callable[[WeightGroup, StochasticRounding], torch.optim.Optimizer],
        *,
        dtype: torch.dtype = torch.float32,
        masters: bool = False,
        passes: int = 1,
    ) -> None:
        self.layers = network(dtype)
        self.group, self.passes = group_of(self.layers, masters=masters), passes
        self.rounding = StochasticRounding(0)
        self.optimizer = make(self.group, self.rounding)
        self.norms: list[float] = []

    def steps(self, first: int, end: int) -> Run:
        for step in range(first, end):
            self.rounding.step = step
            self.group.zero_grad()
            for number in range(self.passes):
                loss_of(self.layers, step * self.passes + number).backward()
            self.norms.append(float(clip_gradients([self.group], 0.0)))
            self.optimizer.step()
            self.group.sync()
        return self


def plain(name: str) -> Callable[..., torch.optim.Optimizer]:
    return lambda group, _: build_optimizer(name, [group], ARGS.get(name, {}))


def parameterwise(name: str, **options: Any) -> Callable[..., torch.optim.Optimizer]:
    return lambda group, rounding: ParameterwiseOptimizer(
        name, [group], ARGS.get(name, {}), rounding, **options
    )


def skip_without(name: str) -> None:
    if name.endswith("8bit"):
        pytest.importorskip("bitsandbytes")


@pytest.mark.parametrize("name", NAMES)
def test_a_step_within_the_backward_pass_gives_the_same_weights(name: str) -> None:
    skip_without(name)
    after = Run(plain(name)).steps(0, STEPS)
    within = Run(parameterwise(name, fused=True)).steps(0, STEPS)
    for expected, found in zip(after.group.tensors, within.group.tensors, strict=True):
        assert torch.equal(expected, found)
    assert within.norms == pytest.approx(after.norms, rel=1e-6)
    assert not within.group.grads


def test_the_numbers_in_float32_beside_a_half_precision_model() -> None:
    """Gradients are summed in float32, changes too small for the model are kept, and the model has
    the numbers rounded."""
    run = Run(plain("AdamW"), dtype=torch.bfloat16, masters=True, passes=2).steps(0, 1)
    layers = network(torch.bfloat16)
    grads = [torch.zeros(weight.shape) for weight in layers.parameters()]
    for number in range(2):
        one = torch.autograd.grad(loss_of(layers, number), list(layers.parameters()))
        grads = [grad + part.float() for grad, part in zip(grads, one, strict=True)]
    members = [nn.Parameter(weight.detach().float()) for weight in layers.parameters()]
    for member, grad in zip(members, grads, strict=True):
        member.grad = grad
    torch.optim.AdamW(members, lr=1e-2, fused=True).step()
    for expected, found, weight in zip(members, run.group.tensors, run.group.weights, strict=True):
        assert torch.equal(expected, found)
        assert torch.equal(weight, found.bfloat16())
    assert all(weight.grad is None for weight in run.group.weights)


@pytest.mark.parametrize("fused", [False, True])
def test_bfloat16_weights_take_a_step_of_float32_rounded_by_chance(fused: bool) -> None:
    run = Run(parameterwise("AdamW", fused=fused), dtype=torch.bfloat16)
    layers = network(torch.bfloat16)
    loss_of(layers, 0).backward()
    run.steps(0, 1)
    for number, (before, after) in enumerate(
        zip(layers.parameters(), run.group.weights, strict=True)
    ):
        single = nn.Parameter(before.detach().float())
        single.grad = before.grad.float()
        torch.optim.AdamW([single], lr=1e-2, fused=True).step()
        expected = torch.empty_like(after)
        StochasticRounding(0).round_into(expected, single.detach(), number)
        assert torch.equal(after, expected)


def test_bfloat16_weights_learn_what_rounding_to_the_nearest_would_lose() -> None:
    """At a rate whose steps are all below half a spacing: the mean goes where float32 goes."""
    weights = {dtype: nn.Parameter(torch.ones(5000, dtype=dtype)) for dtype in (torch.bfloat16,)}
    weight = weights[torch.bfloat16]
    group, rounding = WeightGroup("unet", [weight], None, 1e-4), StochasticRounding(0)
    optimizer = ParameterwiseOptimizer("SGDNesterov", [group], {"momentum": 0.0, "nesterov": False},
                                       rounding)  # fmt: skip
    for step in range(200):
        rounding.step = step
        weight.grad = torch.ones_like(weight)
        optimizer.step()
    assert abs(float(weight.detach().double().mean()) - 0.98) < 5 * (0.02 * 2**-8 / 5000) ** 0.5


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", NAMES)
def test_goes_on_from_its_state_bit_for_bit(name: str, dtype: torch.dtype) -> None:
    skip_without(name)
    unbroken = Run(parameterwise(name, fused=True), dtype=dtype).steps(0, STEPS)
    first = Run(parameterwise(name, fused=True), dtype=dtype).steps(0, 2)
    buffer = io.BytesIO()
    torch.save([first.group.tensors, first.optimizer.state_dict()], buffer)
    buffer.seek(0)
    tensors, state = torch.load(buffer, weights_only=True)
    second = Run(parameterwise(name, fused=True), dtype=dtype)
    second.group.take(tensors)
    second.optimizer.load_state_dict(copy.deepcopy(state))
    second.steps(2, STEPS)
    for expected, found in zip(unbroken.group.tensors, second.group.tensors, strict=True):
        assert torch.equal(expected, found)


def test_each_gradient_is_clipped_by_itself_within_the_backward_pass() -> None:
    """With plain gradient descent a tensor's change is its gradient."""
    args = {"momentum": 0.0, "nesterov": False}
    run = Run(
        lambda group, rounding: ParameterwiseOptimizer(
            "SGDNesterov", [group], args, rounding, fused=True, max_grad_norm=0.1
        )
    )
    before = [tensor.clone() for tensor in run.group.tensors]
    run.steps(0, 1)
    changes = [
        float((now - then).norm()) for now, then in zip(run.group.tensors, before, strict=True)
    ]
    assert max(changes) == pytest.approx(1e-2 * 0.1, rel=1e-3)
    assert run.norms[0] > 0.1


def test_a_weight_without_a_gradient_stays() -> None:
    layers = network()
    group = group_of(layers)
    layers[3].requires_grad_(False)
    optimizer = ParameterwiseOptimizer("AdamW", [group], {}, StochasticRounding(0))
    before = [tensor.clone() for tensor in group.tensors]
    loss_of(layers, 0).backward()
    optimizer.step()
    moved = [not torch.equal(now, then) for now, then in zip(group.tensors, before, strict=True)]
    assert moved == [True, True, True, True, False, False]


def fused_one() -> tuple[nn.Module, WeightGroup, ParameterwiseOptimizer]:
    layers = network()
    group = WeightGroup("unet", list(layers.parameters()), None, 1e-2, fused=True)
    return layers, group, ParameterwiseOptimizer("AdamW", [group], {}, StochasticRounding(0),
                                                 fused=True)  # fmt: skip


def test_a_second_backward_pass_in_a_step_is_no_second_step() -> None:
    layers, _, optimizer = fused_one()
    loss_of(layers, 0).backward()
    stepped = [tensor.clone() for tensor in layers.parameters()]
    with pytest.raises(AssertionError, match="second backward pass"):
        loss_of(layers, 1).backward()
    assert all(map(torch.equal, stepped, layers.parameters()))
    optimizer.step()
    for weight in layers.parameters():
        weight.grad = None
    loss_of(layers, 1).backward()
    assert not any(map(torch.equal, stepped, layers.parameters()))


def test_gradients_of_other_processes_are_not_waited_for_in_vain() -> None:
    """What is stepped has no gradient; one of noughts would be a second step."""
    layers, group, _ = fused_one()
    loss_of(layers, 0).backward()
    with pytest.raises(AssertionError, match="other processes"):
        group.complete_grads()
