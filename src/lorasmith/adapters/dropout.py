"""Dropout of adapters as a function of seed, step, module and sample.

A mask is a 32-bit hash of a key, which a step has for each module and sample, and of the position.
So the recomputation of gradient checkpointing, a resumed run and any number of processes see the
same masks. All modules' masks are hashed at once when a step begins, as far as it is known what
they will be applied to.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lorasmith.core.rng import derive

_BITS_32 = 0xFFFFFFFF
_SIGN = -(1 << 31)
# Numbers that are hashed at one time, of 4 bytes each: what CPUs have caches for, and few calls on
# other devices.
_AT_ONCE_ON_CPU, _AT_ONCE = 1 << 17, 1 << 22
# Masks of single neurons that are kept for a step; what is beyond is hashed when it is needed.
_MOST_BYTES = 1 << 28


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


@dataclass
class StepMasks:
    """The masks of one module in one step. B samples, G gates: components of what is masked.

    Args:
        dropout: what they are of.
        keys: (B,) int32.
        kept: (B, 1) float32, which samples have the adapter at all.
        gate: (B, G) float32, that times rank dropout.
        factors: (B, G), what the neurons that are kept are multiplied by.
        neurons: (B, N, G), the same and 0 for the others, for the first N rows of neurons of a
            sample; None where that was not asked for.
    """

    dropout: Dropout
    keys: Tensor
    kept: Tensor
    gate: Tensor
    factors: Tensor
    neurons: Tensor | None = None

    def of(self, rows: int, dtype: torch.dtype) -> tuple[Tensor, bool]:
        """The mask for ``rows`` rows of neurons in ``dtype``, (B, ``rows`` or 1, G); and whether it
        was there already."""
        factors = self.factors
        if factors.dtype != dtype:
            factors = neuron_factors(self.gate, self.dropout.neuron, dtype)
        if self.dropout.neuron == 0:
            return factors[:, None], True
        ready = self.neurons
        if ready is not None and ready.dtype == dtype and ready.shape[1] >= rows:
            return ready[:, :rows], True
        return neuron_masks(self.keys, factors, rows, self.dropout.neuron), False


def module_id(name: str) -> int:
    """A 32-bit number that stands for a module, whatever other modules there are."""
    return derive(0, name) & _BITS_32


def as_keys(numbers: Sequence[int]) -> Tensor:
    """32-bit numbers, (n,), int32 with the same bits."""
    return torch.tensor(numbers, dtype=torch.int64).to(torch.int32)


def step_keys(modules: Tensor, seed: int, step: int, samples: Sequence[int]) -> Tensor:
    """Keys (M, B) of a step, from the modules' ids (M,); int32."""
    keys = [derive(seed, "adapter dropout", step, sample) & _BITS_32 for sample in samples]
    return _mix_(modules[:, None] ^ _mix_(as_keys(keys))[None, :])


def draw_masks(
    dropout: Dropout,
    keys: Tensor,
    gates: Sequence[int],
    rows: Sequence[int],
    dtype: torch.dtype,
    *,
    open_gates: Tensor | None = None,
) -> list[StepMasks]:
    """The masks of M modules, best in an order in which those of equal sizes are neighbours.

    Args:
        keys: (M, B) int32.
        gates: G of each module.
        rows: how many rows of neurons each will ask for, as far as that is known, or 0.
        dtype: in which masks are applied.
        open_gates: (M, 1) how many of a module's gates, the first ones, are open to any sample, or
            (M, B) to each; all for None.
    """
    if dropout.neuron > 0:
        rows = _affordable(gates, rows, keys.shape[1] * dtype.itemsize)
    step_masks: list[StepMasks] = []
    for begin, end in _runs(gates, keys.shape[1], _at_once(keys.device)):
        run_keys, widest = keys[begin:end], max(gates[begin:end])
        count = 1 + (widest if dropout.rank > 0 else 0)
        hashes = _hashes(run_keys[..., None] ^ _positions(count, keys.device))
        kept = torch.ones(*run_keys.shape, 1, device=keys.device)
        if dropout.module > 0:
            kept = kept * (hashes[..., :1] >= _least(dropout.module))
        gate = kept
        if dropout.rank > 0:
            gate = gate * (hashes[..., 1:] >= _least(dropout.rank)) / (1.0 - dropout.rank)
        if open_gates is not None:
            numbers = torch.arange(widest, dtype=torch.int32, device=keys.device)
            gate = gate * (numbers < open_gates[begin:end, :, None])
        factors = neuron_factors(gate, dropout.neuron, dtype).expand(*run_keys.shape, widest)
        parts = (run_keys, kept, gate.expand(*run_keys.shape, widest), factors)
        for width, *values in zip(gates[begin:end], *(p.unbind() for p in parts), strict=True):
            key, kept_own, *wide = values
            step_masks.append(StepMasks(dropout, key, kept_own, *(v[..., :width] for v in wide)))
    if dropout.neuron > 0:
        _add_neurons(step_masks, keys, rows)
    return step_masks


def _add_neurons(step_masks: Sequence[StepMasks], keys: Tensor, rows: Sequence[int]) -> None:
    """Set ``neurons`` where ``rows`` says how many: modules of equal sizes at once."""
    sizes = [
        (count, masks.factors.shape[-1]) for count, masks in zip(rows, step_masks, strict=True)
    ]
    begin = 0
    while begin < len(step_masks):
        end = begin + 1
        while end < len(step_masks) and sizes[end] == sizes[begin]:
            end += 1
        if rows[begin] > 0:
            equals = step_masks[begin:end]
            factors = torch.cat([masks.factors for masks in equals])
            equal_keys, odds = keys[begin:end].flatten(), equals[0].dropout.neuron
            masks = neuron_masks(equal_keys, factors, rows[begin], odds)
            for one, neurons in zip(equals, masks.chunk(len(equals)), strict=True):
                one.neurons = neurons
        begin = end


def neuron_factors(gate: Tensor, odds: float, dtype: torch.dtype) -> Tensor:
    """What neurons that are kept are multiplied by, of the shape of ``gate``."""
    return (gate / (1.0 - odds) if odds > 0 else gate).to(dtype)


def neuron_masks(keys: Tensor, factors: Tensor, rows: int, odds: float) -> Tensor:
    """(K, rows, G): ``factors`` (K, G), each neuron's 0 at these odds, by ``keys`` (K,)."""
    count, width = factors.shape
    # A fresh key, so that a neuron mask is not the module and rank draws again.
    keys = (keys ^ 0x5BD1E995)[:, None, None]
    positions = _positions(rows * width, keys.device).view(rows, width)
    at_once, least = _at_once(keys.device), _least(odds)
    tall = min(rows, max(1, at_once // max(1, width)))
    many = max(1, at_once // max(1, tall * width))
    masks = factors.new_empty(count, rows, width)
    for k in range(0, count, many):
        for r in range(0, rows, tall):
            hashes = _hashes(keys[k : k + many] ^ positions[r : r + tall])
            out = masks[k : k + many, r : r + tall]
            torch.mul(hashes >= least, factors[k : k + many, None], out=out)
    return masks


def prefixes(keys: Tensor, sizes: Sequence[int], units: Sequence[int]) -> Tensor:
    """(M, 1) int32: for each of M keys a number of units, each as likely, up to its size at most;
    on the keys' device, which is best the CPU."""
    unit = torch.tensor(units, device=keys.device)[:, None]
    blocks = [math.ceil(size / unit) for size, unit in zip(sizes, units, strict=True)]
    most = torch.tensor(blocks, dtype=torch.float32, device=keys.device)[:, None]
    counts = torch.minimum((uniform(keys, 1) * most).floor(), most - 1) + 1
    return (counts * unit).to(torch.int32)


def uniform(keys: Tensor, count: int) -> Tensor:
    """Numbers in [0, 1), float32 (*keys.shape, count): a function of key and position."""
    hashes = _hashes(keys[..., None] ^ _positions(count, keys.device))
    # A float32 holds 24 bits exactly; with more, rounding could give 1.0.
    return ((hashes >> 8) + (1 << 23)).to(torch.float32) * 2.0**-24


def _least(odds: float) -> int:
    """The least hash, as :func:`_hashes` gives them, whose :func:`uniform` number is not below
    ``odds``."""
    rounded: float = struct.unpack("f", struct.pack("f", odds))[0]
    return min(math.ceil(rounded * 2**24) << 8, _BITS_32) + _SIGN


def _positions(count: int, device: torch.device) -> Tensor:
    """(count,) int32, what keys are joined with."""
    return _mix_(torch.arange(1, count + 1, dtype=torch.int32, device=device))


def _hashes(values: Tensor) -> Tensor:
    """The hash of each number, in place, as a signed one: its order is that of the unsigned."""
    return _mix_(values).bitwise_xor_(_SIGN)


def _mix_(values: Tensor) -> Tensor:
    """A well-spread 32-bit number for each 32-bit number, in place; int32 (n, ...), contiguous.

    Three times, ``x ^= x >> 16`` of unsigned numbers: the upper half goes into the lower.
    """
    # The lower half comes first, on every device that PyTorch runs on.
    lower, upper = values.view(torch.int16).unflatten(-1, (-1, 2)).unbind(-1)
    for _ in range(2):
        lower.bitwise_xor_(upper)
        values.mul_(0x45D9F3B)  # The lowest 32 bits of the product.
    lower.bitwise_xor_(upper)
    return values


def _at_once(device: torch.device) -> int:
    return _AT_ONCE_ON_CPU if device.type == "cpu" else _AT_ONCE


def _runs(gates: Sequence[int], samples: int, most: int) -> Iterator[tuple[int, int]]:
    """Begin and end of modules that are hashed together, all as if they had the most gates."""
    begin, widest = 0, 0
    for index, width in enumerate(gates):
        wider = max(widest, width)
        if index > begin and (index + 1 - begin) * samples * (1 + wider) > most:
            yield begin, index
            begin, wider = index, width
        widest = wider
    if gates:
        yield begin, len(gates)


def _affordable(gates: Sequence[int], rows: Sequence[int], size: int) -> list[int]:
    """``rows``, with 0 in place of the largest where all masks together would be too large."""
    allowed, bytes_left = [0] * len(rows), _MOST_BYTES
    for index in sorted(range(len(rows)), key=lambda i: gates[i] * rows[i]):
        bytes_left -= gates[index] * rows[index] * size
        if bytes_left < 0:
            break
        allowed[index] = rows[index]
    return allowed
