"""Counter-based randomness for tensors; see :mod:`lorasmith.core.rng`.

Drawn on the CPU whatever the device, so that a run does not change with the machine: a 512 px
sample takes 16 384 numbers, which is far below the cost of a step.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lorasmith.core.rng import derive


def generator(seed: int, purpose: str, *counters: int) -> torch.Generator:
    """A CPU generator fixed by its arguments."""
    return torch.Generator().manual_seed(derive(seed, purpose, *counters))


def normal(shape: Sequence[int], seed: int, purpose: str, *counters: int) -> Tensor:
    """Standard normal float32 CPU tensor of ``shape``."""
    return torch.randn(*shape, generator=generator(seed, purpose, *counters))


def normal_per_sample(
    shape: Sequence[int], seed: int, purpose: str, step: int, samples: Sequence[int]
) -> Tensor:
    """(B, *shape): row ``i`` depends on ``samples[i]`` alone, not on who shares its batch."""
    return torch.stack([normal(shape, seed, purpose, step, sample) for sample in samples])
