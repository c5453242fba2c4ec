"""What a run takes: bytes by what they are for, and seconds, guessed from arithmetic and a moment's
measurement of this machine. No model is imported."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import lru_cache

import torch

from lorasmith.config.optimizers import optimizer_facts
from lorasmith.config.schema import TrainSettings
from lorasmith.config.sections.loss import PreservationSettings
from lorasmith.training.preservation import OWN_PASSES


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """Bytes on the device at the peak of something that a run does.

    Args:
        what: "training step", "encoding images", "drawing images", "measuring".
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


# A training step runs at this share of the rate of one large matrix product: convolutions, norms
# and small products are slower, the more so the faster the product is. Measured on a CPU, on SD1.5
# at 128 px (1.5 s in fp32, 0.7 s in bf16) and the demo model (137 ms for 8 images).
SHARE_OF_MATMUL_RATE = {torch.float32: 0.75}
SHARE_IN_HALF_PRECISION = 0.4

# What each residual block costs beside arithmetic, forward and backward with its transformer;
# it is all that matters for the demo model. Measured there on one CPU core.
SECONDS_PER_STAGE = {"cpu": 4e-3}
SECONDS_PER_STAGE_ON_ACCELERATOR = 1.5e-3

MATRIX_SIDE = {"cpu": 1024}
MATRIX_SIDE_ON_ACCELERATOR = 8192
MEASURE_SECONDS = {"cpu": 0.05}
MEASURE_SECONDS_ON_ACCELERATOR = 0.25


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


def passes(
    *, checkpointing: bool, preserves: PreservationSettings | None = None, outside: bool = False
) -> float:
    """What a step costs in the mean, in forward passes.

    Args:
        preserves: how the base model's output is kept, ``None`` where it is not.
        outside: whether that is learned outside masks.
    """
    # Frozen weights take no gradient: backward costs as much as forward, not twice as much.
    once = 3 if checkpointing else 2
    kept = 0.0
    if preserves is not None:
        kept = preserves.share * (once + 1 + preserves.own_share * OWN_PASSES)
    return once + kept + outside


def step_seconds(
    multiply_adds: int,
    stages: int,
    samples: int,
    micro_batches: int,
    rate: float,
    device: torch.device,
    dtype: torch.dtype,
    *,
    checkpointing: bool,
    preserves: PreservationSettings | None = None,
    outside: bool = False,
) -> float:
    """Seconds of an optimizer step; right within a factor of about two.

    Args:
        multiply_adds: of one sample.
        stages: pieces of the denoiser that run one after the other.
        samples: of the step, over its ``micro_batches``.
        rate: from :func:`multiply_adds_per_second`, for the same device and dtype.
        checkpointing, preserves, outside: of :func:`passes`.
    """
    count = passes(checkpointing=checkpointing, preserves=preserves, outside=outside)
    overhead = SECONDS_PER_STAGE.get(device.type, SECONDS_PER_STAGE_ON_ACCELERATOR)
    share = SHARE_OF_MATMUL_RATE.get(dtype, SHARE_IN_HALF_PRECISION)
    arithmetic = count * multiply_adds * samples / (rate * share)
    return arithmetic + micro_batches * stages * overhead * count / passes(
        checkpointing=checkpointing
    )
