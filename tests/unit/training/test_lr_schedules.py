"""Learning-rate factors against the field's schedulers (transformers) and closed forms."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers.optimization import get_scheduler

from lorasmith.config.load import load_settings
from lorasmith.config.sections.optimizer import ScheduleSettings
from lorasmith.training.lr_schedules import (
    SHAPES,
    LearningRate,
    learning_rate,
    warmup_oddities,
    warmup_steps,
)

STEPS = 53


def stepped(make: Callable[[torch.optim.Optimizer], Any]) -> list[float]:
    """The learning rates that a scheduler of ``make`` sets over :data:`STEPS` steps."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = make(optimizer)
    rates = []
    for _ in range(STEPS):
        rates.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        scheduler.step()
    return rates


def transformers_rates(name: str, warmup: int, **options: Any) -> list[float]:
    return stepped(lambda optimizer: get_scheduler(name, optimizer, warmup, STEPS, options or None))


@pytest.mark.parametrize("warmup", [0, 7])
@pytest.mark.parametrize(
    ("name", "ours", "theirs"),
    [
        ("constant", {}, {}),
        ("constant_with_warmup", {}, {}),
        ("linear", {}, {}),
        ("cosine", {}, {}),
        ("cosine_with_restarts", {"cycles": 1}, {"num_cycles": 1}),
        ("cosine_with_restarts", {"cycles": 3}, {"num_cycles": 3}),
        ("polynomial", {"power": 1.0}, {"power": 1.0, "lr_end": 0.0}),
        ("polynomial", {"power": 2.5, "min_ratio": 0.1}, {"power": 2.5, "lr_end": 0.1}),
        ("inverse_sqrt", {}, {}),
        ("inverse_sqrt", {"timescale": 20}, {"timescale": 20}),
    ],
)
def test_equals_transformers_after_warmup(
    name: str, ours: dict[str, Any], theirs: dict[str, Any], warmup: int
) -> None:
    if name == "constant" and warmup:
        pytest.skip("constant has no warm-up there")
    wanted = transformers_rates(name, warmup, **theirs)
    rate = LearningRate(ScheduleSettings(name=name, warmup=warmup, **ours), STEPS)
    found = [rate.factor(step) for step in range(warmup, STEPS)]
    assert found == pytest.approx(wanted[warmup:], abs=1e-9)


def test_a_floor_under_cosine_is_transformers_cosine_with_min_lr() -> None:
    wanted = transformers_rates("cosine_with_min_lr", 5, min_lr_rate=0.2)
    rate = LearningRate(ScheduleSettings(name="cosine", warmup=5, min_ratio=0.2), STEPS)
    assert [rate.factor(step) for step in range(5, STEPS)] == pytest.approx(wanted[5:], abs=1e-9)


def test_rex_equals_pytorch_optimizers() -> None:
    library = pytest.importorskip("pytorch_optimizer")
    wanted = stepped(lambda o: library.REXScheduler(o, STEPS, max_lr=1.0, min_lr=0.0))
    rate = LearningRate(ScheduleSettings(name="rex"), STEPS)
    # Theirs gives the first step no rate at all.
    assert [rate.factor(step) for step in range(1, STEPS)] == pytest.approx(wanted[1:])


CLOSED: dict[str, Callable[[float], float]] = {
    "constant": lambda p: 1.0,
    "constant_with_warmup": lambda p: 1.0,
    "linear": lambda p: 1 - p,
    "cosine": lambda p: math.cos(math.pi * p / 2) ** 2,
    "cosine_with_restarts": lambda p: math.cos(math.pi * (3 * p % 1) / 2) ** 2 if p < 1 else 0.0,
    "cosine_annealing": lambda p: math.cos(math.pi * p / 2) ** 2,
    "polynomial": lambda p: (1 - p) ** 2,
    "inverse_sqrt": lambda p: (1 + p * 90 / 10) ** -0.5,
    "rex": lambda p: 2 * (1 - p) / (2 - p),
}


@pytest.mark.parametrize("name", SHAPES)
def test_closed_forms_with_ten_steps_of_warmup_in_a_hundred(name: str) -> None:
    rate = LearningRate(ScheduleSettings(name=name, warmup=10, cycles=3, power=2.0), 100)
    assert [rate.factor(step) for step in range(10)] == pytest.approx(
        [i / 10 for i in range(1, 11)]
    )
    for step in range(10, 101):
        assert rate.factor(step) == pytest.approx(CLOSED[name]((step - 10) / 90), abs=1e-12)


@given(
    name=st.sampled_from(sorted(SHAPES)),
    steps=st.integers(1, 10_000),
    warmup=st.integers(0, 20_000),
    step=st.integers(0, 20_000),
    cycles=st.integers(1, 50),
    floor=st.floats(0, 1),
    power=st.floats(0.01, 100),
)
def test_factors_lie_between_floor_and_one(
    name: str, steps: int, warmup: int, step: int, cycles: int, floor: float, power: float
) -> None:
    schedule = ScheduleSettings(
        name=name, warmup=warmup, cycles=cycles, min_ratio=floor, power=power
    )
    factor = LearningRate(schedule, steps).factor(step)
    assert 0.0 <= factor <= 1.0 + 1e-12
    if step >= warmup:
        assert factor >= floor - 1e-12


def test_warmup_rises_to_full_rate_and_never_wastes_a_step() -> None:
    rate = LearningRate(ScheduleSettings(name="cosine", warmup=4), 100)
    assert [rate.factor(step) for step in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]


def test_floor_is_reached_and_kept() -> None:
    rate = LearningRate(ScheduleSettings(name="linear", min_ratio=0.1), 10)
    assert rate.factor(0) == 1.0
    assert rate.factor(10) == pytest.approx(0.1)
    assert rate.factor(50) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("warmup", "steps"),
    [(100, 100), (0, 0), (0.05, 50), ("5%", 50), ("0.1", 100), ("20", 20), ("12.5%", 125)],
)
def test_warmup_forms(warmup: float | str, steps: int) -> None:
    assert warmup_steps(warmup, 1000) == steps


def test_a_share_is_cut_to_whole_steps_as_sd_scripts_does() -> None:
    assert warmup_steps(0.29, 100) == 28, "int(0.29 * 100)"
    assert warmup_steps(0.07, 99) == 6


@pytest.mark.parametrize(
    ("name", "setting", "value"),
    [
        ("cosine", "warmup", "10%"),
        ("cosine", "min_ratio", "0.25"),
        ("cosine_with_restarts", "cycles", "5"),
        ("polynomial", "power", "3"),
        ("inverse_sqrt", "timescale", "40"),
    ],
)
def test_every_setting_of_the_schedule_is_used(name: str, setting: str, value: str) -> None:
    plain = {"schedule.name": name}
    rates = [
        learning_rate(load_settings(None, changes), 200)
        for changes in (plain, {**plain, f"schedule.{setting}": value})
    ]
    assert rates[0].factor(70) != rates[1].factor(70)


def test_a_warmup_that_does_not_end_is_odd() -> None:
    settings = load_settings(None, {"schedule.warmup": "100"})
    assert not list(warmup_oddities(settings, 101))
    (found,) = warmup_oddities(settings, 100)
    assert found.where == "schedule.warmup"
