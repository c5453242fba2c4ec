"""How much a search may take, and what it makes of losses; with a model: tests/recipes."""

from __future__ import annotations

import math
import re

import pytest

from lorasmith.config.load import load_settings
from lorasmith.core.errors import SettingsError
from lorasmith.training.found_lr import rate_lines, use_lines
from lorasmith.training.lr_finder import Curve
from lorasmith.training.lr_search import (
    FEWEST_SAMPLES,
    LENGTHS,
    RateSearch,
    Trial,
    search_size,
    size_for,
)


@pytest.mark.parametrize("samples", [1, 2, 3, 4, 8, 64, 500])
def test_a_search_takes_a_tenth_of_the_run_at_most(samples: int) -> None:
    settings = load_settings(None, {"optimizer.lr": "find", "train.batch": str(samples)})
    for steps in (1, 50, 90, 150, 440, 1400, 100_000):
        size = search_size(steps, samples)
        if size is None:
            with pytest.raises(SettingsError) as error:
                size_for(settings, steps, 1)
            match = re.search(r"run of (\d+) steps", str(error.value))
            assert match
            assert search_size(int(match[1]), samples) is not None
            assert search_size(int(match[1]) - 1, samples) is None
        else:
            assert size.steps <= steps / 10
            assert size.batches * samples >= FEWEST_SAMPLES
    assert search_size(100_000, samples) is not None


def bowl(best: float, *, breaks_at: float = math.inf, base: float = 1.0) -> Curve:
    """Lowest at ``best``, in log(rate); no number from ``breaks_at`` on."""

    def loss(rate: float) -> float | None:
        if rate >= breaks_at:
            return None
        return base - math.exp(-(math.log(rate / best) ** 2) / 8) if rate < 20 * best else 2 * base

    return Curve(base, loss)


@pytest.mark.parametrize("first", [1e-4, 1e-2])
@pytest.mark.parametrize("best", [3e-4, 1e-3, 7e-3, 0.1])
def test_the_lowest_loss_is_found(first: float, best: float) -> None:
    curve = bowl(best)
    curve.look_from(first)
    lowest = curve.lowest()
    assert lowest is not None
    assert lowest == pytest.approx(best, rel=0.15)
    assert len(curve.losses) < LENGTHS


def test_no_number_is_an_upper_bound() -> None:
    curve = bowl(5e-3, breaks_at=2e-2)
    curve.look_from(1e-4)
    lowest = curve.lowest()
    assert lowest is not None
    assert lowest == pytest.approx(5e-3, rel=0.35)
    assert None in curve.losses.values()


def test_a_loss_that_never_falls_gives_no_rate() -> None:
    curve = Curve(1.0, lambda rate: 1.0 + rate)
    curve.look_from(1e-4)
    assert curve.lowest() is None
    assert len(curve.losses) < LENGTHS


@pytest.mark.parametrize("falls", [True, False])
def test_a_search_ends(falls: bool) -> None:
    """At the highest rate that can be set, or after so many tries downwards."""
    curve = Curve(1.0, lambda rate: 1.0 - 1e-6 * rate if falls else None)
    curve.look_from(1e-2)
    assert len(curve.losses) < LENGTHS
    assert (curve.lowest() is not None) == falls


def test_what_was_seen_is_said() -> None:
    trials = (Trial(1e-3, 0.4), Trial(4e-3, 0.2), Trial(1.6e-2, 0.9), Trial(6.4e-2, None))
    rates = {"unet": 3e-3, "text_encoder": 1.5e-3}
    search = RateSearch(30.0, rates, 0.5, trials, 4e-3, 0.8, 12.0)
    lines = rate_lines(search)
    assert [line.split()[0] for line in lines[1:5]] == ["0.001", "0.004", "0.016", "0.064"]
    assert lines[1].count("#") < lines[2].count("#")
    assert "#" not in lines[3]
    assert "no number" in lines[4]
    assert "unet 0.003, text_encoder 0.0015" in lines[5]
    assert "--optimizer.unet_lr 0.003 --optimizer.text_encoder_lr 0.0015" in use_lines(search)[1]
