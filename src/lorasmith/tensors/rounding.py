"""float32 to bfloat16 by chance, so that small changes are not lost.

A bfloat16 has 8 bits of precision: of a weight of 1, rounding to the nearest swallows every change
below 1/512, which is nearly all that an optimizer makes. Rounded up with a probability of the share
of the way to the next number, a weight is right in the mean (Zamirai et al. 2020, "Revisiting
BFloat16 Training").
"""

from __future__ import annotations

import torch
from torch import Tensor

from lorasmith.core.rng import derive

_LOST_BITS = 16


class StochasticRounding:
    """Rounds by draws that are named as all draws are: by seed, step and what is rounded.

    They are made on the device of the numbers, by its own generator: there are as many as weights.
    So a run repeats on the same kind of device.

    Args:
        seed: the run's.
        step: of the run, from 0; whoever trains keeps it up to date.
    """

    def __init__(self, seed: int) -> None:
        self.seed, self.step = seed, 0
        self._generators: dict[torch.device, torch.Generator] = {}

    def round_into(self, target: Tensor, values: Tensor, number: int) -> None:
        """Write ``values``, float32, into ``target``, bfloat16 of the same shape.

        Args:
            values: used up: its numbers are others afterwards. Infinity is written as NaN.
            number: of the tensor among all that are rounded in a step.
        """
        assert values.dtype == torch.float32, values.dtype
        assert target.dtype == torch.bfloat16, target.dtype
        generator = self._generators.get(values.device)
        if generator is None:
            generator = self._generators[values.device] = torch.Generator(values.device)
        generator.manual_seed(derive(self.seed, "rounding", self.step, number))
        nought = values - values  # NaN where there is no number to round.
        bits = values.view(torch.int32)
        # A float's bits count up with its size: what is carried beyond the lost bits rounds up.
        bits += torch.randint(
            1 << _LOST_BITS, bits.shape, generator=generator, device=bits.device, dtype=torch.int32
        )
        bits &= -(1 << _LOST_BITS)
        target.copy_(values.add_(nought))  # Else a NaN with all bits set would come out as one.
