"""Which noise level each sample is trained at.

A distribution is a quantile function: it takes a number from (0, 1) to one from (0, 1), and the
result is spread over the timesteps of the range. The number is drawn for each sample alone, or so
that several samples spread over the levels more evenly than chance would (:data:`Strata`). Each
draw by itself has the same distribution either way, so that the gradient is right in the mean; what
changes is how far draws lie from each other.

What is spread evenly hangs together: a draw then depends on which images share the step, or on how
often the image was shown before. Both follow from the order of samples, which is a function of seed
and epoch, so a resumed run and one on several processes draw the same. Runs that differ in their
batch size or their images do not, as their orders differ.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from statistics import NormalDist
from typing import Literal

import torch
from torch import Tensor

from lorasmith.core.rng import derive
from lorasmith.diffusion.global_batch import GlobalBatch
from lorasmith.diffusion.schedule import NUM_TIMESTEPS

Strata = Literal["none", "batch", "image", "both"]
"""What is spread evenly over the noise levels: nothing, the samples of each step and of steps that
follow one another, those of each image, or both."""

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
    strata: Strata = "none"

    def __post_init__(self) -> None:
        assert 0 <= self.low < self.high <= NUM_TIMESTEPS, (self.low, self.high)

    def draw(
        self, seed: int, step: int, samples: Sequence[int], whole: GlobalBatch | None = None
    ) -> Tensor:
        """(B,) int64 CPU timesteps, row ``i`` of ``samples[i]``.

        Args:
            whole: what the step consists of, ``samples`` among it; needed where draws hang
                together. Without strata each row depends on its sample alone.
        """
        if self.strata == "none":
            draws = [derive(seed, "timestep", step, sample) for sample in samples]
        else:
            assert whole is not None, "strata are of a whole step"
            draws = whole.of(spread_draws(self.strata, seed, step, whole), samples)
        return torch.tensor([self._timestep(draw) for draw in draws], dtype=torch.int64)

    def _timestep(self, draw: int) -> int:
        span = self.high - self.low
        if self.quantile is not None:
            return self.low + min(int(self.quantile(_unit(draw)) * span), span - 1)
        if self.strata == "none":
            return self.low + draw % span
        # The remainder would scatter what has been spread evenly.
        return self.low + (draw * span >> BITS)


BITS = 63
"""Draws are whole numbers below ``2 ** BITS``, as :func:`~lorasmith.core.rng.derive` gives them."""

GOLDEN = round((5**0.5 - 1) / 2 * 2**52) << (BITS - 52) | 1
"""The golden ratio's share of all draws. Multiples of it fill the circle more evenly than those of
any other number, wherever one begins and ends (the Kronecker sequence)."""

LEVELS = 5
"""So many times is the range halved for the showings of an image: of 32, one is in each 32nd."""


def spread_draws(strata: Strata, seed: int, step: int, whole: GlobalBatch) -> list[int]:
    """A draw for each sample of the step, by itself uniform, together spread evenly.

    "image": an image's showings are a scrambled van der Corput sequence (Owen 1995). "batch": of N
    samples, each gets one of N equal strata at random, and the place within its stratum, the same
    for all, is a Kronecker sequence over the steps, from anywhere on. "both": as "batch", with the
    strata given out in the order of what the images' own sequences ask for.

    That each draw is uniform: so is each member of either sequence; and as the N numbers that
    strata are given out by are independent and alike, each sample is as likely to come to any
    stratum.
    """
    if strata == "image":
        return [
            _van_der_corput(seed, image, 0, showing)
            for image, showing in zip(whole.images, whole.showings, strict=True)
        ]
    if strata == "batch":
        wishes = [derive(seed, "timestep", step, sample) for sample in whole.samples]
    else:
        # An image that comes several times in a step has as many sequences: members of the same one
        # would not be independent.
        wishes = [
            _van_der_corput(seed, *of)
            for of in zip(whole.images, whole.repetitions, whole.showings, strict=True)
        ]
    count = len(wishes)
    within = (derive(seed, "timestep/stratum") + step * GOLDEN) % (1 << BITS)
    draws = [0] * count
    for rank, index in enumerate(sorted(range(count), key=wishes.__getitem__)):
        draws[index] = ((rank << BITS) + within) // count
    return draws


def _van_der_corput(seed: int, image: int, sequence: int, number: int) -> int:
    """Member ``number`` of a sequence of which any ``2 ** n`` members from a multiple of that on
    are one in each of as many equal strata, up to ``LEVELS``; in random order otherwise.

    The digits of the number in reverse, each turned or not by chance that hangs on those before it.
    What lies below them is chance.
    """
    block, within = divmod(number, 1 << LEVELS)
    draw = derive(seed, "timestep/showing", image, sequence, number)
    for level in range(LEVELS):
        before = within & ((1 << level) - 1)
        turn = derive(seed, "timestep/turn", image, sequence, block, level, before)
        digit = (within >> level ^ turn) & 1
        place = 1 << (BITS - 1 - level)
        draw = draw & ~place | digit * place
    return draw


def _unit(draw: int) -> float:
    """A 63-bit number as one from the open interval (0, 1)."""
    # 52 bits and a half are exact in a double, so that neither end can be rounded to.
    return ((draw >> 11) + 0.5) / 2.0**52


def even_timesteps(count: int, total: int) -> Tensor:
    """(count,) int64: the middles of ``count`` equal parts of 0 to ``total - 1``."""
    return ((torch.arange(count) * 2 + 1) * total) // (2 * count)
