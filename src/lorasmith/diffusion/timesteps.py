"""Which noise level each sample is trained at, drawn per sample.

A distribution is a quantile function: it takes a number from (0, 1) to one from (0, 1), and the
result is spread over the timesteps of the range. So each draw is a function of seed, step and
sample alone. Stratifying over a batch would make a draw depend on who shares it, and is left out.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from statistics import NormalDist

import torch
from torch import Tensor

from lorasmith.core.rng import derive
from lorasmith.diffusion.schedule import NUM_TIMESTEPS

Quantile = Callable[[float], float]
"""The inverse of a cumulative distribution function, from (0, 1) into [0, 1]."""


def logit_normal(mean: float = 0.0, std: float = 1.0) -> Quantile:
    """The logistic function of a normal number (Esser et al. 2024, Stable Diffusion 3)."""
    normal = NormalDist(mean, std)
    return lambda u: 1.0 / (1.0 + math.exp(-normal.inv_cdf(u)))


def leaning_low(power: float) -> Quantile:
    """``u ** power``: the share below ``x`` is ``x ** (1 / power)``, so most is near 0."""
    return lambda u: u**power


def leaning_high(power: float) -> Quantile:
    """``1 - u ** power``, the mirror image; with power 3 known as cubic sampling."""
    return lambda u: 1.0 - u**power


def as_weighed(weights: Sequence[float]) -> Quantile:
    """Each of ``len(weights)`` equal cells as often as its weight says, uniform within a cell."""
    total, cells = math.fsum(weights), len(weights)
    assert total > 0, "all weights are zero"
    upto = list(accumulate(weights))

    def quantile(u: float) -> float:
        return min(bisect.bisect_right(upto, u * total), cells - 1) / cells + 0.5 / cells

    return quantile


@dataclass(frozen=True, slots=True)
class Timesteps:
    """Draws timesteps ``low`` to ``high - 1``, distributed by ``quantile``; uniform when None."""

    low: int = 0
    high: int = NUM_TIMESTEPS
    quantile: Quantile | None = None

    def __post_init__(self) -> None:
        assert 0 <= self.low < self.high <= NUM_TIMESTEPS, (self.low, self.high)

    def draw(self, seed: int, step: int, samples: Sequence[int]) -> Tensor:
        """(B,) int64 CPU timesteps; row ``i`` depends on ``samples[i]`` alone."""
        draws = [derive(seed, "timestep", step, sample) for sample in samples]
        return torch.tensor([self._timestep(draw) for draw in draws], dtype=torch.int64)

    def _timestep(self, draw: int) -> int:
        span = self.high - self.low
        if self.quantile is None:
            return self.low + draw % span
        return self.low + min(int(self.quantile(_unit(draw)) * span), span - 1)


def _unit(draw: int) -> float:
    """A 63-bit number as one from the open interval (0, 1)."""
    # 52 bits and a half are exact in a double, so that neither end can be rounded to.
    return ((draw >> 11) + 0.5) / 2.0**52


def even_timesteps(count: int, total: int) -> Tensor:
    """(count,) int64: the middles of ``count`` equal parts of 0 to ``total - 1``."""
    return ((torch.arange(count) * 2 + 1) * total) // (2 * count)
