"""Frozen weights in fewer bits: 8-bit floats and 4-bit NF4.

A packing turns a weight into a few small tensors and back. What it loses, it loses once, when the
weight is packed: unpacking gives the same numbers every time.
"""

from __future__ import annotations

import functools
import importlib.util
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

FP8 = torch.float8_e4m3fn
FP8_MAX = torch.finfo(FP8).max

NF4_BLOCK = 64
"""Weights that share one scale, as in QLoRA and bitsandbytes."""

NF4_CODE = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453,
    -0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0,
    0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
)  # fmt: skip
"""Quantiles of the normal distribution and zero (Dettmers et al. 2023, QLoRA, appendix E)."""

Packed = dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class Packing:
    """A way to store weights.

    Args:
        pack: a weight (O, ...) to tensors by name, on the weight's device.
        unpack: those, the weight's shape and the wanted dtype, to the weight.
        bits: of a weight on average, scales included.
    """

    name: str
    pack: Callable[[Tensor], Packed]
    unpack: Callable[[Packed, torch.Size, torch.dtype], Tensor]
    bits: float


def _pack_fp8(weight: Tensor) -> Packed:
    """Each output's row at a scale of its own, a power of two: multiplying by it is exact, so
    weights that are e4m3 numbers already, as in fp8 checkpoints, stay what they are."""
    largest = weight.detach().flatten(1).abs().amax(1).float().clamp(min=torch.finfo().tiny)
    exponent = torch.log2(largest / FP8_MAX).ceil().clamp(min=-100)
    scale = torch.exp2(exponent).view(-1, *(1 for _ in weight.shape[1:]))
    return {"codes": (weight / scale.to(weight.dtype)).to(FP8), "scale": scale}


def _unpack_fp8(packed: Packed, shape: torch.Size, dtype: torch.dtype) -> Tensor:
    return packed["codes"].to(dtype).mul_(packed["scale"].to(dtype))


def _pack_nf4(weight: Tensor) -> Packed:
    """bitsandbytes' layout: two codes a byte, the first in the high half; the flat weight in
    blocks of 64, the last one filled up with zeros."""
    flat = weight.detach().flatten().float()
    blocks = F.pad(flat, (0, -flat.numel() % NF4_BLOCK)).view(-1, NF4_BLOCK)
    largest = blocks.abs().amax(1)
    code = torch.tensor(NF4_CODE, device=weight.device)
    limits = (code[1:] + code[:-1]) / 2
    scaled = blocks / largest.clamp(min=torch.finfo().tiny)[:, None]
    codes = torch.bucketize(scaled, limits, out_int32=True).to(torch.uint8).view(-1, 2)
    return {"codes": (codes[:, 0] << 4) | codes[:, 1], "largest": largest}


def _unpack_nf4(packed: Packed, shape: torch.Size, dtype: torch.dtype) -> Tensor:
    codes, largest = packed["codes"], packed["largest"]
    if codes.is_cuda and (kernel := _nf4_kernel()) is not None:
        flat: Tensor = kernel(codes, largest, dtype)
    else:
        table = _pairs(codes.device, dtype)
        pairs = F.embedding(codes.to(torch.int32), table)
        flat = pairs.view(-1, NF4_BLOCK).mul_(largest.to(dtype)[:, None]).view(-1)
    return flat[: math.prod(shape)].view(shape)


@functools.cache
def _pairs(device: torch.device, dtype: torch.dtype) -> Tensor:
    """What each byte means, (256, 2): a look-up is quicker than taking bytes apart."""
    code = torch.tensor(NF4_CODE, dtype=dtype, device=device)
    byte = torch.arange(256, device=device)
    return torch.stack([code[byte >> 4], code[byte & 15]], 1)


@functools.cache
def _nf4_kernel() -> Callable[[Tensor, Tensor, torch.dtype], Tensor] | None:
    """bitsandbytes' kernel for CUDA, several times as fast as plain PyTorch, where it is there."""
    if importlib.util.find_spec("bitsandbytes") is None:
        return None
    from bitsandbytes import functional

    def unpack(codes: Tensor, largest: Tensor, dtype: torch.dtype) -> Tensor:
        state = functional.QuantState(
            largest,
            shape=torch.Size([2 * codes.numel()]),
            dtype=dtype,
            blocksize=NF4_BLOCK,
            quant_type="nf4",
        )
        found: Tensor = functional.dequantize_4bit(codes.view(-1, 1), state)
        return found

    return unpack


PACKINGS: dict[str, Packing] = {
    # Only to be kept elsewhere, or unpacked when it is needed.
    "whole": Packing(
        "whole", lambda weight: {"weight": weight.detach()},
        lambda packed, shape, dtype: packed["weight"].to(dtype), 16,
    ),
    "fp8": Packing("fp8", _pack_fp8, _unpack_fp8, 8),
    "nf4": Packing("nf4", _pack_nf4, _unpack_nf4, 4 + 32 / NF4_BLOCK),
}  # fmt: skip


def packs_on(device: torch.device) -> bool:
    """Whether ``device`` can hold 8-bit floats and turn them into others; it is asked by doing."""
    try:
        torch.zeros(4, device=device).to(FP8).to(torch.float32)
    except (RuntimeError, TypeError):
        return False
    return True
