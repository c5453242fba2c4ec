"""A moving average of the trained weights, which is what is saved, sampled and validated.

Single steps scatter around where training goes; their average lies closer to it. Polyak & Juditsky
1992, in the exponential form that diffusion models are trained with (Ho et al. 2020).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from lorasmith.training.optim import Group, packed, unpacked


class Ema:
    """``average = decay * average + (1 - decay) * weights`` after each step, in float32, where the
    groups have room for it.

    Early on the decay is smaller, so that the start is soon forgotten: the first step's weights are
    taken over, and after step ``n`` (from 0) it is at most ``(1 + n) / (10 + n)``, as in diffusers'
    ``EMAModel``. It follows from the step alone, so the averages are all the state there is.

    Args:
        groups: the trained parameters.
        decay: what it rises to, 0 < decay < 1; it averages about ``1 / (1 - decay)`` steps.
    """

    def __init__(self, groups: Sequence[Group], decay: float) -> None:
        assert 0 < decay < 1, decay
        self.decay = decay
        self._groups = list(groups)
        self.averages = {
            group.name: [
                tensor.to(group.spare, torch.float32, copy=True) for tensor in group.tensors
            ]
            for group in groups
        }

    def decay_at(self, step: int) -> float:
        """How much of the average stays when step ``step`` (from 0) is done."""
        return min(self.decay, (1 + step) / (10 + step)) if step > 0 else 0.0

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights that step ``step`` (from 0) has made."""
        share = 1 - self.decay_at(step)
        for group in self._groups:
            for average, tensor in zip(self.averages[group.name], group.tensors, strict=True):
                average.lerp_(tensor.to(average), share)

    @torch.no_grad()
    def copy_to_weights(self) -> None:
        """Put the averages in place of the trained weights."""
        for group in self._groups:
            group.take(self.averages[group.name])

    def state_dict(self) -> dict[str, Any]:
        return {name: packed(averages) for name, averages in self.averages.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over the averages of an equal run."""
        assert state.keys() == self.averages.keys(), "another run's averages"
        for name, averages in self.averages.items():
            for average, value in zip(averages, unpacked(state[name]), strict=True):
                average.copy_(value)
