"""Within the block the weights to use, after it those of the training, bit for bit."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import pytest
import torch
from schedulefree import AdamWScheduleFree
from tests.tolerances import LAYER, assert_near
from torch import Tensor, nn

from lorasmith.adapters.network import AdapterNetwork
from lorasmith.tensors.rng import normal
from lorasmith.training.ema import Ema
from lorasmith.training.eval_weights import eval_weights
from lorasmith.training.kinds.weight_groups import WeightGroup
from lorasmith.training.optim import FlatGroup
from lorasmith.training.step import TrainStep

TARGET = normal((30,), 3, "target")


@dataclass
class Toy:
    """The parts of a trainer that rest: a few weights that learn to be :data:`TARGET`."""

    groups: list[FlatGroup]
    optimizer: torch.optim.Optimizer
    ema: Ema | None = None
    trained: AdapterNetwork = field(default_factory=lambda: AdapterNetwork([], []))

    @classmethod
    def make(cls, kind: type[torch.optim.Optimizer], decay: float = 0.0) -> Toy:
        members = [nn.Parameter(normal((10,), 4, "member", n)) for n in range(3)]
        group = FlatGroup("unet", members, 0.1)
        optimizer = kind([{"params": [group.flat], "name": "unet"}], lr=0.1)  # type: ignore[call-arg]
        if hasattr(optimizer, "train"):
            optimizer.train()
        return cls([group], optimizer, Ema([group], decay) if decay else None)

    @property
    def flat(self) -> Tensor:
        return self.groups[0].flat.detach()

    def trainer(self) -> TrainStep:
        return cast(TrainStep, self)

    def step(self, number: int) -> None:
        group = self.groups[0]
        group.grad.copy_(self.flat - TARGET)
        self.optimizer.step()
        if self.ema is not None:
            self.ema.update(number)


KINDS: list[Any] = [
    pytest.param(torch.optim.AdamW, 0.0, id="plain"),
    pytest.param(torch.optim.AdamW, 0.9, id="average"),
    pytest.param(AdamWScheduleFree, 0.0, id="schedule-free"),
    pytest.param(AdamWScheduleFree, 0.9, id="both"),
]


@pytest.mark.parametrize(("kind", "decay"), KINDS)
def test_resting_does_not_disturb_the_training(
    kind: type[torch.optim.Optimizer], decay: float
) -> None:
    disturbed, alone = Toy.make(kind, decay), Toy.make(kind, decay)
    for number in range(12):
        with eval_weights(disturbed.trainer()):
            pass
        disturbed.step(number)
        alone.step(number)
        assert torch.equal(disturbed.flat, alone.flat)
    for one, other in zip(
        disturbed.optimizer.state.values(), alone.optimizer.state.values(), strict=True
    ):
        assert all(torch.equal(torch.as_tensor(one[k]), torch.as_tensor(other[k])) for k in one)


def test_shows_the_average() -> None:
    toy = Toy.make(torch.optim.AdamW, 0.9)
    for number in range(5):
        toy.step(number)
    assert toy.ema is not None
    with eval_weights(toy.trainer()):
        assert torch.equal(toy.flat, toy.ema.averages["unet"][0])
    assert not torch.equal(toy.flat, toy.ema.averages["unet"][0])


def test_shows_the_point_that_a_schedule_free_optimizer_has_found() -> None:
    toy = Toy.make(AdamWScheduleFree)
    for number in range(5):
        toy.step(number)
    optimizer = toy.optimizer
    z, beta = optimizer.state[toy.groups[0].flat]["z"], optimizer.param_groups[0]["betas"][0]
    # The paper's y = (1 - beta) z + beta x, solved for x.
    expected = (toy.flat - (1 - beta) * z) / beta
    with eval_weights(toy.trainer()):
        assert_near(toy.flat, expected, LAYER)
        assert not optimizer.param_groups[0]["train_mode"]
    assert optimizer.param_groups[0]["train_mode"]


def test_a_model_in_half_precision_has_the_point_too() -> None:
    master = nn.Parameter(normal((10,), 4, "member", 0))
    weight = nn.Parameter(master.detach().bfloat16())
    group = WeightGroup("unet", [weight], [master], 0.1)
    optimizer = AdamWScheduleFree(group.members, lr=0.1)
    optimizer.train()
    for _ in range(5):
        master.grad = master.detach() - TARGET[:10]
        optimizer.step()
        group.sync()
    toy = cast(TrainStep, Toy([group], optimizer))  # type: ignore[list-item]
    trained = weight.detach().clone()
    with eval_weights(toy):
        assert torch.equal(weight, master.bfloat16())
        assert not torch.equal(weight, trained)
    assert torch.equal(weight, trained)


def test_weights_come_back_after_an_error() -> None:
    toy = Toy.make(AdamWScheduleFree, 0.9)
    toy.step(0)
    toy.step(1)
    before = toy.flat.clone()

    def fail_at_rest() -> None:
        with eval_weights(toy.trainer()):
            assert not torch.equal(toy.flat, before)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_at_rest()
    assert torch.equal(toy.flat, before)
