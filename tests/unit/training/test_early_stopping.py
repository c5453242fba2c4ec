"""When snapshots are judged, and what a schedule has to do with it."""

from __future__ import annotations

import pytest

from lorasmith.config.sections.optimizer import ScheduleSettings
from lorasmith.training.early_stopping import SHARE, JudgingCost, has_settled
from lorasmith.training.lr_schedules import LearningRate

STEPS = 100


@pytest.mark.parametrize(("base", "snapshot"), [(200.0, 116.0), (0.0, 1.0), (5000.0, 300.0)])
def test_judging_takes_no_more_than_its_share(base: float, snapshot: float) -> None:
    """Whatever the number of steps: the base model, those on the way and the last one."""
    cost = JudgingCost(3.0, base, snapshot)
    for done in (1, 100, 1000, 20_000):
        judged = cost.snapshots(done)
        if judged > 0:
            assert base + (judged + 1) * snapshot <= SHARE * 3.0 * done
            assert base + (judged + 2) * snapshot > SHARE * 3.0 * done


def rate(**schedule: object) -> LearningRate:
    return LearningRate(ScheduleSettings.model_validate(schedule), STEPS)


def test_a_run_whose_rate_is_still_to_rise_goes_on() -> None:
    warming = rate(name="constant_with_warmup", warmup=50)
    restarting = rate(name="cosine_with_restarts", cycles=2)
    for one in (warming, restarting):
        assert not has_settled(one, 40, well=True)
        assert has_settled(one, 90, well=True)


def test_what_is_not_well_trained_waits_for_a_rate_that_falls() -> None:
    cosine = rate(name="cosine")
    assert not has_settled(cosine, 40, well=False)
    assert has_settled(cosine, 60, well=False)
    assert has_settled(cosine, 40, well=True)
    assert has_settled(rate(name="constant"), 10, well=False)
    assert has_settled(cosine, STEPS, well=False)
