"""Learning-rate factors against the schedulers that the field uses (diffusers.optimization)."""

import pytest
import torch
from diffusers.optimization import get_scheduler

from lorasmith.training.lr import LearningRate, warmup_steps


def reference(name: str, steps: int, warmup: int, cycles: int) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = get_scheduler(
        name, optimizer, num_warmup_steps=warmup, num_training_steps=steps, num_cycles=cycles
    )
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


@pytest.mark.parametrize(
    ("name", "cycles"),
    [
        ("constant", 1),
        ("constant_with_warmup", 1),
        ("linear", 1),
        ("cosine", 1),
        ("cosine_with_restarts", 1),
        ("cosine_with_restarts", 3),
    ],
)
@pytest.mark.parametrize("warmup", [0, 7])
def test_equals_diffusers_after_warmup(name: str, cycles: int, warmup: int) -> None:
    if name == "constant" and warmup:
        pytest.skip("constant has no warm-up there")
    # "cosine" takes its number of half waves under the same argument; the default is a half.
    steps = 53
    if name == "cosine":
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        from diffusers.optimization import get_cosine_schedule_with_warmup

        scheduler = get_cosine_schedule_with_warmup(optimizer, warmup, steps)
        wanted = []
        for _ in range(steps):
            wanted.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step()
    else:
        wanted = reference(name, steps, warmup, cycles)
    ours = LearningRate(name, steps, warmup, cycles)
    assert [ours.factor(step) for step in range(warmup, steps)] == pytest.approx(
        wanted[warmup:], abs=1e-9
    )


def test_warmup_rises_to_full_rate_and_never_wastes_a_step() -> None:
    rate = LearningRate("cosine", 100, warmup=4)
    assert [rate.factor(step) for step in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]


def test_floor_is_reached_and_kept() -> None:
    rate = LearningRate("linear", 10, min_ratio=0.1)
    assert rate.factor(0) == 1.0
    assert rate.factor(10) == pytest.approx(0.1)
    assert rate.factor(50) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("warmup", "steps"),
    [(100, 100), (0, 0), (0.05, 50), ("5%", 50), ("0.1", 100), ("20", 20), ("12.5%", 125)],
)
def test_warmup_forms(warmup: float | str, steps: int) -> None:
    assert warmup_steps(warmup, 1000) == steps
