"""Frozen weights in fewer bits: 8-bit floats and 4-bit NF4.

A weight format turns a weight into a few small tensors and back. What it loses, it loses once, when
the weight is quantized: dequantizing gives the same numbers every time.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata

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

Quantized = dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class WeightFormat:
    """A way to store weights.

    Args:
        quantize: a weight (O, ...) to tensors by name, on the weight's device.
        dequantize: those, the weight's shape and the wanted dtype, to the weight.
        bits: of a weight on average, scales included.
    """

    name: str
    quantize: Callable[[Tensor], Quantized]
    dequantize: Callable[[Quantized, torch.Size, torch.dtype], Tensor]
    bits: float


def _quantize_fp8(weight: Tensor) -> Quantized:
    """Each output's row at a scale of its own, a power of two: multiplying by it is exact, so
    weights that are e4m3 numbers already, as in fp8 checkpoints, stay what they are."""
    # Scales are stored in the weight's format, which may end before: float16 at 2^-24.
    info = torch.finfo(weight.dtype)
    smallest = max(-100.0, math.log2(info.smallest_normal * info.eps))
    absmax = weight.detach().flatten(1).abs().amax(1).float().clamp(min=torch.finfo().tiny)
    exponent = torch.log2(absmax / FP8_MAX).ceil().clamp(min=smallest)
    scale = torch.exp2(exponent).to(weight.dtype).view(-1, *(1 for _ in weight.shape[1:]))
    return {"codes": (weight / scale).to(FP8), "scale": scale}


def _dequantize_fp8(quantized: Quantized, shape: torch.Size, dtype: torch.dtype) -> Tensor:
    return quantized["codes"].to(dtype).mul_(quantized["scale"].to(dtype))


def _quantize_nf4(weight: Tensor) -> Quantized:
    """bitsandbytes' layout: two codes a byte, the first in the high half; the flat weight in
    blocks of 64, the last one filled up with zeros."""
    flat = weight.detach().flatten().float()
    blocks = F.pad(flat, (0, -flat.numel() % NF4_BLOCK)).view(-1, NF4_BLOCK)
    absmax = blocks.abs().amax(1)
    code = torch.tensor(NF4_CODE, device=weight.device)
    limits = (code[1:] + code[:-1]) / 2
    scaled = blocks / absmax.clamp(min=torch.finfo().tiny)[:, None]
    codes = torch.bucketize(scaled, limits, out_int32=True).to(torch.uint8).view(-1, 2)
    return {"codes": (codes[:, 0] << 4) | codes[:, 1], "largest": absmax}


def _dequantize_nf4(quantized: Quantized, shape: torch.Size, dtype: torch.dtype) -> Tensor:
    """Code times scale in float32, rounded once: bitsandbytes' numbers, to the last bit."""
    codes, absmax = quantized["codes"], quantized["largest"]
    kernel = nf4_kernel(codes.device, dtype) if codes.is_cuda else None
    flat = (
        _dequantize_nf4_slowly(codes, absmax, dtype)
        if kernel is None
        else kernel(codes, absmax, dtype)
    )
    return flat[: math.prod(shape)].view(shape)


def _dequantize_nf4_slowly(codes: Tensor, absmax: Tensor, dtype: torch.dtype) -> Tensor:
    """Three launches: codes to numbers, a look-up, a product that is rounded as it is written."""
    indices = codes.view(torch.uint16).to(torch.int32)
    blocks = F.embedding(indices, _fours(codes.device)).view(-1, NF4_BLOCK)
    if codes.device.type == "cpu":  # Which would make a float32 product first in any case.
        return blocks.mul_(absmax[:, None]).to(dtype).view(-1)
    product = torch.empty(blocks.shape, dtype=dtype, device=codes.device)
    return torch.mul(blocks, absmax[:, None], out=product).view(-1)


@functools.cache
def _fours(device: torch.device) -> Tensor:
    """The four weights of every two bytes, (65536, 4) float32: a look-up is quicker than taking
    bytes apart, and a row of 16 bytes is what a GPU reads at once."""
    every = torch.arange(1 << 16, dtype=torch.int32).to(torch.uint16).view(torch.uint8)
    code = torch.tensor(NF4_CODE)
    return (
        torch.stack([code[(every >> 4).int()], code[(every & 15).int()]], 1).view(-1, 4).to(device)
    )


Kernel = Callable[[Tensor, Tensor, torch.dtype], Tensor]


@functools.cache
def nf4_kernel(device: torch.device, dtype: torch.dtype) -> Kernel | None:
    """bitsandbytes' kernel, several times as fast as plain PyTorch; ``None`` where it is missing,
    does not run on ``device``, or gives other numbers than ours.

    So a run may go on with bitsandbytes or without it, whatever it was begun with.
    """
    try:
        from bitsandbytes import functional
    except (ImportError, OSError, RuntimeError):  # The latter two where its libraries do not load.
        return None

    def dequantize(codes: Tensor, absmax: Tensor, dtype: torch.dtype) -> Tensor:
        state = functional.QuantState(
            absmax,
            shape=torch.Size([2 * codes.numel()]),
            dtype=dtype,
            blocksize=NF4_BLOCK,
            quant_type="nf4",
        )
        values: Tensor = functional.dequantize_4bit(codes.view(-1, 1), state)
        return values.view(-1)

    # Every byte at scales of every size.
    codes = torch.arange(256, device=device).to(torch.uint8).repeat(16)
    absmax = torch.logspace(-9, 4, 128, base=2, device=device)
    try:
        same = torch.equal(
            dequantize(codes, absmax, dtype), _dequantize_nf4_slowly(codes, absmax, dtype)
        )
    except (RuntimeError, AttributeError, NotImplementedError, ValueError, OSError):
        return None
    return dequantize if same else None


def nf4_unpacker(device: torch.device, dtype: torch.dtype) -> str:
    """What unpacks NF4 weights there, for the record: both give the same numbers."""
    if device.type == "cuda" and nf4_kernel(device, dtype) is not None:
        return f"bitsandbytes {metadata.version('bitsandbytes')}"
    return "lorasmith"


WEIGHT_FORMATS: dict[str, WeightFormat] = {
    # Only to be kept elsewhere, or dequantized when it is needed.
    "none": WeightFormat(
        "none", lambda weight: {"weight": weight.detach()},
        lambda quantized, shape, dtype: quantized["weight"].to(dtype), 16,
    ),
    "fp8": WeightFormat("fp8", _quantize_fp8, _dequantize_fp8, 8),
    "nf4": WeightFormat("nf4", _quantize_nf4, _dequantize_nf4, 4 + 32 / NF4_BLOCK),
}  # fmt: skip


def quantizes_on(device: torch.device) -> bool:
    """Whether ``device`` can hold 8-bit floats and turn them into others; it is asked by doing."""
    try:
        torch.zeros(4, device=device).to(FP8).to(torch.float32)
    except (RuntimeError, TypeError):
        return False
    return True
