"""What the watchdog takes for trouble, number by number."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lorasmith.training.monitoring.metrics import Reading
from lorasmith.training.monitoring.watchdog import GROWTH_STEPS, Limits, Trouble, Vitals

LIMITS = Limits(growth=5.0, loss_scale=1.0, small=0.1)


def reading(
    first: int = 1,
    losses: tuple[float, ...] = (0.1,),
    grads: tuple[float, ...] | None = None,
    norm: float = 1.0,
    scale: float | None = None,
) -> Reading:
    return Reading(first, losses, grads or (0.5,) * len(losses), norm, scale)


@pytest.mark.parametrize(
    ("bad", "step", "what"),
    [
        (reading(11, (0.1, math.nan, math.nan)), 12, "the loss became nan"),
        (reading(11, (math.inf, 0.1)), 11, "the loss became inf"),
        (reading(11, (0.1, 0.1), (0.5, math.inf)), 12, "the norm of the gradient became inf"),
        # The gradient of a step comes before the loss of the next.
        (reading(11, (0.1, math.nan), (math.nan, math.nan)), 11, "the norm of the gradient"),
        (reading(11, (0.1, 0.1), norm=math.nan), 12, "the norm of the weights became nan"),
        (reading(11, (0.1, 0.1), norm=5.1), 12, "the norm of the weights grew 5.1 times"),
        (reading(11, (0.1, 0.1), (1.0, math.inf), scale=0.5), 12, "the loss scale fell to 0.5"),
        (reading(11, (math.nan,), scale=64.0), 11, "the loss became nan"),
    ],
)
def test_trouble(bad: Reading, step: int, what: str) -> None:
    vitals = Vitals(LIMITS, 10, 1.0)
    with pytest.raises(Trouble) as caught:
        vitals.check(bad)
    assert caught.value.step == step
    assert caught.value.what.startswith(what)


@pytest.mark.parametrize(
    "good",
    [
        reading(11, (0.1, 1e9)),
        reading(11, norm=4.9),
        reading(11, (0.1, 0.1), (math.inf, math.nan), scale=1.0),  # Steps that were skipped.
    ],
)
def test_no_trouble(good: Reading) -> None:
    Vitals(LIMITS, 10, 1.0).check(good)


def test_slow_growth_is_training() -> None:
    """Ten times in a run of ten windows is nothing."""
    vitals, norm = Vitals(LIMITS, 0, 1.0), 1.0
    for step in range(1, 10 * GROWTH_STEPS):
        norm *= 10 ** (1 / (10 * GROWTH_STEPS))
        vitals.check(reading(step, norm=norm))


def test_growth_over_many_steps_is_seen() -> None:
    """Each step looks harmless beside the one before."""
    vitals = Vitals(LIMITS, 0, 1.0)
    norms = [1.0 + 0.1 * step for step in range(GROWTH_STEPS)]
    for step in range(1, 41):
        vitals.check(reading(step, norm=norms[step]))
    with pytest.raises(Trouble, match="grew"):
        vitals.check(reading(41, norm=norms[41]))


@given(st.floats(0, 0.5))
def test_weights_from_nought_may_grow(norm: float) -> None:
    Vitals(LIMITS, 0, 0.0).check(reading(norm=norm))


def test_growth_can_be_off() -> None:
    Vitals(Limits(None, 1.0), 0, 1.0).check(reading(norm=1e30))


def test_a_scale_that_overflows_each_step_is_seen_in_time() -> None:
    """torch's scaler halves from 2**16 at each overflow: below 1 at the seventeenth."""
    scaler = torch.amp.GradScaler("cpu")
    weight = torch.nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    vitals = Vitals(LIMITS, 0, 1.0)
    for step in range(1, 18):
        weight.grad = torch.full((1,), math.inf)
        scaler.scale(torch.zeros(()))
        scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update()
        now = reading(step, grads=(math.inf,), scale=scaler.get_scale())
        if step < 17:
            vitals.check(now)
    with pytest.raises(Trouble, match="at step 17"):
        vitals.check(now)
    assert float(weight.detach()) == 1.0
