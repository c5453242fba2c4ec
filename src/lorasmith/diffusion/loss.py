"""The loss of each sample.

Every function keeps the batch axis: the caller multiplies weights (regularisation, SNR) and takes
the mean over samples last, which is what makes uneven batches and several processes add up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lorasmith.config.sections.loss import LossSettings
from lorasmith.diffusion.schedule import NoiseSchedule


def per_sample_mse(prediction: Tensor, target: Tensor) -> Tensor:
    """(B,) float32 mean squared error over all axes but the first (C, H, W)."""
    return (prediction.float() - target.float()).square().flatten(1).mean(1)


Cost = Callable[[Tensor, Tensor | None], Tensor]
"""The cost of each difference (B, C, H, W), given each sample's ``c`` (B, 1, 1, 1)."""


def _l2(difference: Tensor, c: Tensor | None) -> Tensor:
    return difference.square()


def _l1(difference: Tensor, c: Tensor | None) -> Tensor:
    return difference.abs()


def _huber(difference: Tensor, c: Tensor | None) -> Tensor:
    assert c is not None
    return 2.0 * c * _smooth_distance(difference, c)


def _smooth_l1(difference: Tensor, c: Tensor | None) -> Tensor:
    assert c is not None
    return 2.0 * _smooth_distance(difference, c)


def _smooth_distance(difference: Tensor, c: Tensor) -> Tensor:
    # sqrt(d^2 + c^2) - c, without taking two numbers apart that are nearly the same.
    square = difference.square()
    return square / ((square + c.square()).sqrt() + c)


COSTS: dict[str, Cost] = {"l2": _l2, "l1": _l1, "huber": _huber, "smooth_l1": _smooth_l1}
"""The pseudo-Huber forms of sd-scripts, ``2c (sqrt(d^2 + c^2) - c)`` and the same over ``c``.

They are smooth where torch's ``huber_loss`` and ``smooth_l1_loss`` have a corner, and agree with
twice those far from it. So huber is ``d^2``, as l2, for small differences, and smooth_l1 is
``2 |d|`` for large ones.
"""

WITH_C = frozenset({"huber", "smooth_l1"})


def _constant(schedule: NoiseSchedule, t: Tensor, c: float) -> Tensor:
    return torch.full(t.shape, c, device=t.device)


def _exponential(schedule: NoiseSchedule, t: Tensor, c: float) -> Tensor:
    last = torch.tensor(c, device=t.device)
    return last ** (t / schedule.num_timesteps)


def _by_snr(schedule: NoiseSchedule, t: Tensor, c: float) -> Tensor:
    # sigma is the noise over the signal; infinite at zero terminal SNR, where this is c.
    sigma = schedule.snr(t).rsqrt()
    return (1.0 - c) / (1.0 + sigma).square() + c


THRESHOLDS: dict[str, Callable[[NoiseSchedule, Tensor, float], Tensor]] = {
    "constant": _constant,
    "exponential": _exponential,
    "snr": _by_snr,
}
"""``c`` (B,) at timesteps (B,), as sd-scripts schedules it: everywhere the setting's, or from 1
where there is no noise down to the setting's where there is most."""


@dataclass(frozen=True, slots=True)
class Loss:
    """What a wrong prediction costs, and where in the image."""

    settings: LossSettings = field(default_factory=LossSettings)

    def threshold(self, schedule: NoiseSchedule, t: Tensor) -> Tensor | None:
        """(B,) ``c`` at timesteps ``t`` (B,); ``None`` where the type has none."""
        s = self.settings
        if s.type not in WITH_C:
            return None
        return s.huber_scale * THRESHOLDS[s.huber_schedule](schedule, t, s.huber_c)

    def per_sample(
        self,
        prediction: Tensor,
        target: Tensor,
        *,
        threshold: Tensor | None = None,
        mask: Tensor | None = None,
        outside: Tensor | None = None,
    ) -> Tensor:
        """(B,) float32 loss of ``prediction`` for ``target``, both (B, C, H, W).

        Args:
            threshold: (B,) from :meth:`threshold`.
            mask: (B, 1, H, W) in [0, 1]; each place's cost is multiplied by it.
            outside: (B, C, H, W) the target where the mask is 0, at 1 - mask of the cost; ``None``:
                there is none.
        """
        c = None if threshold is None else threshold.view(-1, 1, 1, 1)
        cost = COSTS[self.settings.type](prediction.float() - target.float(), c)
        if mask is None:
            return cost.flatten(1).mean(1)
        mask = mask.float().clamp(min=self.settings.mask_floor)
        loss = (cost * mask).flatten(1).mean(1)
        if self.settings.mask_normalize:
            # An empty mask leaves a loss of 0, which stays 0.
            loss = loss / mask.flatten(1).mean(1).clamp(min=torch.finfo(torch.float32).tiny)
        if outside is not None:
            cost = COSTS[self.settings.type](prediction.float() - outside.float(), c)
            loss = loss + (cost * (1.0 - mask)).flatten(1).mean(1)
        return loss
