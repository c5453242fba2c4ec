"""Dropout of adapters as a function of seed, step, module and sample.

No number is drawn in a forward pass: a step hands every module one 32-bit key per sample, and a
mask is a hash of key and position. So the recomputation of gradient checkpointing, a resumed run
and any number of processes see the same masks, and a mask needs no known picture size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lorasmith.randomness import derive

_BITS_32 = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Dropout:
    """The three dropouts of kohya's sd-scripts, each a probability in [0, 1).

    Args:
        neuron: each element of ``down(x)`` is zeroed, the rest divided by ``1 - neuron``.
        rank: each rank component is zeroed per sample, the rest divided by ``1 - rank``.
        module: the adapter of a module is left out per sample, without rescaling.
    """

    neuron: float = 0.0
    rank: float = 0.0
    module: float = 0.0

    def __bool__(self) -> bool:
        return self.neuron > 0 or self.rank > 0 or self.module > 0


def module_id(name: str) -> int:
    """A 32-bit number that stands for a module, whatever other modules there are."""
    return derive(0, name) & _BITS_32


def step_keys(modules: Tensor, seed: int, step: int, samples: Sequence[int]) -> Tensor:
    """Keys (M, B) of a step, from the modules' ids (M,); int64 holding 32-bit values."""
    keys = [derive(seed, "adapter dropout", step, sample) & _BITS_32 for sample in samples]
    return mix(modules[:, None] ^ mix(torch.tensor(keys, dtype=torch.int64))[None, :])


def mix(values: Tensor) -> Tensor:
    """A well-spread 32-bit number for each 32-bit number (both in int64, so nothing overflows)."""
    for _ in range(2):
        values = ((values >> 16) ^ values) * 0x45D9F3B & _BITS_32
    return (values >> 16) ^ values


def uniform(keys: Tensor, count: int) -> Tensor:
    """Numbers in [0, 1), float32 (*keys.shape, count): a function of key and position."""
    positions = mix(torch.arange(1, count + 1, device=keys.device))
    # A float32 holds 24 bits exactly; with more, rounding could give 1.0.
    return (mix(keys[..., None] ^ positions) >> 8).to(torch.float32) * 2.0**-24
