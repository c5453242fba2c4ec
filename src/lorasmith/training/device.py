"""Where and in which precision to compute: what the machine has decides, and says why."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from lorasmith.errors import Problem, SettingsError

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}

# Below this many UNet weights a CPU step is overhead, not arithmetic, and neither bfloat16 nor the
# memory format matters. Measured: SD1.5 (860 M) is twice as fast in bf16, the demo model is not.
LARGE_FOR_CPU = 50_000_000


@dataclass(frozen=True, slots=True)
class Precision:
    """``dtype`` of the frozen weights and activations; trained parameters are always float32."""

    dtype: torch.dtype
    reason: str

    @property
    def name(self) -> str:
        return {dtype: name for name, dtype in DTYPES.items()}[self.dtype]


def choose_device(name: str) -> torch.device:
    """``auto`` takes CUDA, XPU or MPS where there is one, else the CPU.

    Raises:
        SettingsError: the device that was asked for is not there.
    """
    if name == "auto":
        accelerator = torch.accelerator.current_accelerator(check_available=True)
        return accelerator if accelerator is not None else torch.device("cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise SettingsError(
            Problem("performance.device", f"{name!r} cannot be used here: {reason}", "use auto")
        ) from error
    return device


def choose_precision(name: str, device: torch.device, unet_weights: int) -> Precision:
    """The compute precision for ``train.precision``.

    Args:
        unet_weights: how many weights the UNet has; decides on CPUs.

    Raises:
        SettingsError: float16 on a CPU, which has no kernels that make it worth it.
    """
    if name == "fp16" and device.type == "cpu":
        raise SettingsError(
            Problem(
                "train.precision",
                "fp16 does not train on a CPU: it is slower than fp32 there and overflows",
                'use "auto", "bf16" or "fp32"',
            )
        )
    if name != "auto":
        return Precision(DTYPES[name], "as set")
    if device.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return Precision(torch.bfloat16, "this GPU computes in bf16")
        return Precision(torch.float16, "this GPU has no bf16")
    if device.type == "xpu":
        return Precision(torch.bfloat16, "Intel GPUs compute in bf16")
    if device.type == "cpu" and cpu_has_bf16():
        if unet_weights >= LARGE_FOR_CPU:
            return Precision(torch.bfloat16, "this CPU multiplies in bf16")
        return Precision(torch.float32, "the model is too small to gain from bf16")
    return Precision(torch.float32, f"the safe choice on {device.type}")


def cpu_has_bf16() -> bool:
    """Whether this CPU has bfloat16 multiply-add instructions (AVX512-BF16 or AMX)."""
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def peak_memory(device: torch.device) -> int:
    """Bytes: the most ever allocated on a CUDA device, else the process's peak resident size."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # Windows has no such counter in the standard library.
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
