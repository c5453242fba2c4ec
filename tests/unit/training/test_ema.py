"""The average against diffusers' and PyTorch's own."""

from __future__ import annotations

import pytest
import torch
from diffusers.training_utils import EMAModel
from tests.tolerances import LAYER, assert_near
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from lorasmith.tensors.rng import normal
from lorasmith.training.ema import Ema
from lorasmith.training.optim import FlatGroup

STEPS = 40


def groups_and_parameters() -> tuple[list[FlatGroup], list[nn.Parameter]]:
    shapes = {"unet": [(3, 5), (7,)], "text_encoder": [(2, 2)]}
    parameters = {
        name: [nn.Parameter(normal(shape, 1, name, n)) for n, shape in enumerate(of_group)]
        for name, of_group in shapes.items()
    }
    groups = [FlatGroup(name, members, 1.0) for name, members in parameters.items()]
    return groups, [parameter for members in parameters.values() for parameter in members]


def move(groups: list[FlatGroup], step: int) -> None:
    """Any training step."""
    with torch.no_grad():
        for number, group in enumerate(groups):
            group.flat += 0.1 * normal(group.flat.shape, 2, "move", step, number)


def averages(ema: Ema, groups: list[FlatGroup]) -> torch.Tensor:
    return torch.cat([average for group in groups for average in ema.averages[group.name]])


def flattened(parameters: list[torch.Tensor]) -> torch.Tensor:
    return torch.cat([parameter.detach().reshape(-1) for parameter in parameters])


@pytest.mark.parametrize("decay", [0.1, 0.5, 0.9999])
def test_equals_diffusers_ema_with_its_warm_up(decay: float) -> None:
    groups, parameters = groups_and_parameters()
    ema, theirs = Ema(groups, decay), EMAModel(parameters, decay=decay)
    for step in range(STEPS):
        move(groups, step)
        ema.update(step)
        theirs.step(parameters)
        expected = flattened(theirs.shadow_params)
        assert_near(averages(ema, groups), expected, LAYER)


def test_equals_torch_averaged_model() -> None:
    decay = 0.15  # Below 2/11 the warm-up of the decay ends with the first step.
    groups, parameters = groups_and_parameters()
    model = nn.ParameterList(parameters)
    theirs = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay))
    ema = Ema(groups, decay)
    for step in range(STEPS):
        move(groups, step)
        ema.update(step)
        theirs.update_parameters(model)
    expected = flattened(list(theirs.parameters()))
    assert_near(averages(ema, groups), expected, LAYER)


def test_goes_on_from_its_state_bit_for_bit() -> None:
    groups, _ = groups_and_parameters()
    whole = Ema(groups, 0.9)
    for step in range(5):
        move(groups, step)
        whole.update(step)
    resumed = Ema(groups, 0.9)
    resumed.load_state_dict({name: value.clone() for name, value in whole.state_dict().items()})
    for step in range(5, 9):
        move(groups, step)
        whole.update(step)
        resumed.update(step)
    assert torch.equal(averages(whole, groups), averages(resumed, groups))


def test_averaging_leaves_the_weights_alone() -> None:
    groups, parameters = groups_and_parameters()
    before = flattened(parameters)
    ema = Ema(groups, 0.9)
    ema.update(0)
    ema.update(1)
    assert torch.equal(flattened(parameters), before)
