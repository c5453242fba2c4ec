"""What a run takes: bytes by what they are for, and seconds, guessed from arithmetic and a moment's
measurement of this machine. No model is imported."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F

from lorasmith.config.optimizers import optimizer_facts
from lorasmith.config.schema import TrainSettings
from lorasmith.config.sections.loss import PreservationSettings
from lorasmith.models.families.table import Architecture
from lorasmith.training.preservation import OWN_PASSES

ENCODING = "encoding pictures"
"""What a run on images does before its steps, as an estimate names it."""


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """Bytes on the device at the peak of something that a run does.

    Args:
        what: "training step", "measuring", "drawing pictures" and so on, as users read it.
        weights: of the frozen model, as far as it is there.
        adapter: trained numbers, their gradients, and their copies in half precision.
        optimizer: its state, and the averaged weights.
        activations: everything that comes and goes.
    """

    what: str
    weights: int
    adapter: int = 0
    optimizer: int = 0
    activations: int = 0

    @property
    def total(self) -> int:
        return self.weights + self.adapter + self.optimizer + self.activations


def values_beside(settings: TrainSettings) -> float:
    """Float32 numbers that are kept for each trained one: by the optimizer, and as its average."""
    return optimizer_facts(settings.optimizer.name).values_per_weight + bool(settings.train.ema)


# Products with weights, with what comes between them (norms, activations, adapters), run at this
# share of the rate of one large product. Measured on SD1.5: benchmarks/advise.md.
SHARE_ON_CPU = {torch.float32: 0.75, torch.bfloat16: 0.7}
# Of everything that an accelerator computes, attention too.
SHARE_ON_ACCELERATOR = {torch.float32: 0.75}
SHARE_IN_HALF_PRECISION = 0.4

# What each residual block costs beside arithmetic, forward and backward with its transformer;
# it is all that matters for the demo model. Measured there on one CPU core.
SECONDS_PER_STAGE = {"cpu": 4e-3}
SECONDS_PER_STAGE_ON_ACCELERATOR = 1.5e-3

MATRIX_SIDE = {"cpu": 1024}
MATRIX_SIDE_ON_ACCELERATOR = 8192
MEASURE_SECONDS = {"cpu": 0.05}
MEASURE_SECONDS_ON_ACCELERATOR = 0.25
# As SD1.5 has them: heads, tokens and a head's width; channels of its smallest convolutions, on a
# map so small that their weights take all the time.
HEADS, TOKENS, HEAD_WIDTH = 8, 1024, 40
CHANNELS, MAP_SIDE = 1280, 2


@dataclass(frozen=True, slots=True)
class Speed:
    """How fast a device computes, a second.

    Args:
        products: multiply-adds of products with weights, with what comes between them.
        attention: multiply-adds of attention itself, in the mean of forward and backward; on a CPU
            a fifth of a product's.
        kernels: bytes of convolutions' weights that are laid out for a call; a CPU does that anew
            in every call.
    """

    products: float
    attention: float
    kernels: float


@lru_cache(maxsize=8)
def speed_of(device: torch.device, dtype: torch.dtype) -> Speed:
    """Measured; takes half a second on a CPU, once in a process."""
    product = multiply_adds_per_second(device, dtype)
    if device.type != "cpu":
        products = product * SHARE_ON_ACCELERATOR.get(dtype, SHARE_IN_HALF_PRECISION)
        return Speed(products, products, math.inf)
    share = SHARE_ON_CPU.get(dtype, SHARE_IN_HALF_PRECISION)
    return Speed(share * product, _attention_speed(dtype), _kernel_speed(dtype))


def _attention_speed(dtype: torch.dtype) -> float:
    x = torch.ones(1, HEADS, TOKENS, HEAD_WIDTH, dtype=dtype, requires_grad=True)

    def both_ways() -> None:
        _differentiate(F.scaled_dot_product_attention(x, x, x), x)

    return 2 * (2 * TOKENS * TOKENS * HEADS * HEAD_WIDTH) * _times_per_second(both_ways)


def _kernel_speed(dtype: torch.dtype) -> float:
    x = torch.ones(1, CHANNELS, MAP_SIDE, MAP_SIDE, dtype=dtype, requires_grad=True)
    weight = torch.ones(CHANNELS, CHANNELS, 3, 3, dtype=dtype)

    def both_ways() -> None:
        _differentiate(F.conv2d(x, weight, padding=1), x)

    return 2 * weight.nbytes * _times_per_second(both_ways)


def _differentiate(y: torch.Tensor, x: torch.Tensor) -> None:
    """Of the sum: for the gradient of a tensor PyTorch imports sympy, which takes longer than all
    that is measured."""
    torch.autograd.grad(y.sum(), x)


def _times_per_second(action: Callable[[], object]) -> float:
    """On a CPU."""
    action()
    begin, times = time.perf_counter(), 0
    while time.perf_counter() - begin < MEASURE_SECONDS["cpu"]:
        action()
        times += 1
    return times / (time.perf_counter() - begin)


@lru_cache(maxsize=8)
def multiply_adds_per_second(device: torch.device, dtype: torch.dtype) -> float:
    """Of a large square matrix product; takes a tenth of a second on a CPU, once in a process."""
    side = MATRIX_SIDE.get(device.type, MATRIX_SIDE_ON_ACCELERATOR)
    a = torch.ones(side, side, device=device, dtype=dtype)
    b = torch.ones(side, side, device=device, dtype=dtype)
    float((a @ b)[0, 0])  # warm up, and wait
    seconds = MEASURE_SECONDS.get(device.type, MEASURE_SECONDS_ON_ACCELERATOR)
    begin, products = time.perf_counter(), 0
    while time.perf_counter() - begin < seconds:
        float((a @ b)[0, 0])
        products += 1
    return products * side**3 / (time.perf_counter() - begin)


@dataclass(frozen=True, slots=True)
class Work:
    """What a forward pass computes.

    Args:
        products: multiply-adds of one sample in products with weights, convolutions among them.
        attention: multiply-adds of one sample in attention itself.
        kernels: weights of convolutions.
        stages: pieces of the denoiser that run one after the other.
    """

    products: int
    attention: int
    kernels: int
    stages: int

    @staticmethod
    def of(architecture: Architecture, width: int, height: int, tokens: int) -> Work:
        """
        Args:
            width, height: of the image, px.
            tokens: of the caption.
        """
        attention = architecture.attention_multiply_adds(width, height, tokens)
        every = architecture.multiply_adds(width, height, tokens)
        return Work(every - attention, attention, architecture.convolved, architecture.depth)


def passes(
    *,
    checkpointing: bool,
    preserves: PreservationSettings | None = None,
    outside: bool = False,
    further: float = 0.0,
) -> float:
    """What a step costs in the mean, in forward passes.

    Args:
        preserves: how the base model's output is kept, ``None`` where it is not.
        outside: whether that is learned outside masks.
        further: forward passes that the kind of run takes besides.
    """
    # Frozen weights take no gradient: backward costs as much as forward, not twice as much.
    once = 3 if checkpointing else 2
    kept = 0.0
    if preserves is not None:
        kept = preserves.share * (once + 1 + preserves.own_share * OWN_PASSES)
    return once + kept + outside + further


def step_seconds(
    work: Work,
    samples: int,
    micro_batches: int,
    speed: Speed,
    device: torch.device,
    dtype: torch.dtype,
    *,
    checkpointing: bool,
    preserves: PreservationSettings | None = None,
    outside: bool = False,
    further: float = 0.0,
) -> float:
    """Seconds of an optimizer step.

    On a CPU right within a quarter for steps that were measured (benchmarks/advise.md), on
    accelerators within a factor of about two.

    Args:
        work: of a forward pass.
        samples: of the step, over its ``micro_batches``.
        speed: from :func:`speed_of`, for the same device and dtype.
        checkpointing, preserves, outside, further: of :func:`passes`.
    """
    count = passes(
        checkpointing=checkpointing, preserves=preserves, outside=outside, further=further
    )
    overhead = SECONDS_PER_STAGE.get(device.type, SECONDS_PER_STAGE_ON_ACCELERATOR)
    sample = work.products / speed.products + work.attention / speed.attention
    kernels = work.kernels * dtype.itemsize / speed.kernels
    arithmetic = count * (samples * sample + micro_batches * kernels)
    return arithmetic + micro_batches * work.stages * overhead * count / passes(
        checkpointing=checkpointing
    )
