"""Which rank each module of a resized LoRA gets, from the singular values alone."""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from lorasmith.core.errors import Problem, SettingsError

By = Literal["rank", "ratio", "retain", "cumulative", "size"]


@dataclass(frozen=True, slots=True)
class RankRule:
    """How ranks are chosen. All but "size" look at each module by itself, and leave it 1 at least.

    ====================  ====================================================================
    ``rank``              this rank for all, or the module's own where that is less
    ``ratio``             singular values above the largest over ``value`` (sd-scripts' sv_ratio)
    ``retain``            the fewest whose part of the change has at least ``value`` of its
                          Frobenius norm (sv_fro); its square is the energy's share
    ``cumulative``        the fewest whose sum is at least ``value`` of the sum of all
                          (sv_cumulative)
    ``size``              so many that the file has at most ``value`` MB (of 1,000,000 bytes), and
                          the squared error, summed over all modules, is the least
    ====================  ====================================================================
    """

    by: By
    value: float

    def problems(self, where: str) -> list[Problem]:
        """What is wrong with the value."""
        value = self.value
        if self.by == "rank" and not (value >= 1 and value == int(value)):
            return [Problem(where, f"{value:g} is not a rank", "choose a whole number from 1 on")]
        if self.by == "ratio" and not 1 < value < math.inf:
            hint = "choose how many times smaller than the largest a singular value may be, as 10"
            return [Problem(where, f"{value:g} is not a ratio above 1", hint)]
        if self.by in ("retain", "cumulative") and not 0 < value <= 1:
            return [Problem(where, f"{value:g} is no share", "choose a number up to 1, as 0.95")]
        if self.by == "size" and not 0 < value < math.inf:
            return [Problem(where, f"{value:g} is not a size", "choose the file's size in MB")]
        return []

    def measure(self, values: Tensor, rank: int) -> float | None:
        """What the first ``rank`` of a module's singular values have of what ``value`` asks for.

        The share of the norm, or of the sum; of "ratio" the largest over the smallest that stays.
        None for "rank" and "size", and for a module that changes nothing.
        """
        if not float(values[0]) > 0.0 or self.by in ("rank", "size"):
            return None
        kept = values[:rank]
        if self.by == "ratio":
            return float(values[0] / kept[-1])
        if self.by == "retain":
            return float(kept.norm() / values.norm())
        return float(kept.sum() / values.sum())

    def rank_of(self, values: Tensor) -> int:
        """The rank for singular values (n,), falling; not for "size"."""
        if self.by == "rank":
            return min(int(self.value), len(values))
        if not float(values[0]) > 0.0:
            return 1
        if self.by == "ratio":
            return max(1, int((values > values[0] / self.value).sum()))
        if self.by == "retain":
            return _fewest(values.square(), self.value**2)
        assert self.by == "cumulative", self.by
        return _fewest(values, self.value)


def rule_of(**values: float | None) -> RankRule:
    """The one rule that has a value.

    Raises:
        SettingsError: not exactly one has.
    """
    given = {name: value for name, value in values.items() if value is not None}
    if len(given) != 1:
        options = ", ".join(f"--{name}" for name in values)
        count = f"{len(given)} of" if given else "none of"
        where = ", ".join(f"--{name}" for name in given)
        raise SettingsError(Problem(where, f"{count} {options} given", "choose one, as --rank 32"))
    ((name, value),) = given.items()
    return RankRule(name, value)  # type: ignore[arg-type]


def _fewest(parts: Tensor, share: float) -> int:
    """How many of the first ``parts`` make at least ``share`` of their sum."""
    sums = parts.cumsum(0)
    # Rounding in the sum must not ask for what is nothing: a share of 1 is all that counts.
    goal = share * float(sums[-1]) * (1.0 - torch.finfo(sums.dtype).eps * len(sums))
    return min(1 + int((sums < goal).sum()), len(parts))


def fill(values: Mapping[str, Tensor], costs: Mapping[str, int], budget: int) -> dict[str, int]:
    """Ranks for which the singular values left out have the least sum of squares.

    Each next rank goes where it takes away most error for its bytes. As a module's squares fall
    and its ranks cost the same, no other choice of the same size is better until one no longer
    fits; what is left of the budget then goes to the best that does.

    Args:
        values: of each module, (n,), falling.
        costs: bytes of one rank of each module.
        budget: bytes for all.
    """
    ranks = dict.fromkeys(values, 0)
    queue = [(-gain / costs[key], key) for key in values if (gain := _gain(values[key], 0)) > 0]
    heapq.heapify(queue)
    left = budget
    while queue:
        _, key = heapq.heappop(queue)
        if costs[key] > left:
            continue  # Its later ranks cost as much and are worth less.
        left -= costs[key]
        ranks[key] += 1
        gain = _gain(values[key], ranks[key])
        if gain > 0:
            heapq.heappush(queue, (-gain / costs[key], key))
    return ranks


def _gain(values: Sequence[float] | Tensor, rank: int) -> float:
    return float(values[rank]) ** 2 if rank < len(values) else 0.0
