"""Where and how to compute: device, precision, same bits each time or not."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import psutil
import torch

from lorasmith.core.device_names import device_text
from lorasmith.core.errors import DOCTOR, Problem, RunError, SettingsError
from lorasmith.tensors.files import PRECISIONS

# Below this many UNet weights a CPU step is overhead, not arithmetic, and neither bfloat16 nor the
# memory format matters. Measured: SD1.5 (860 M) is twice as fast in bf16, the demo model is not.
LARGE_FOR_CPU = 50_000_000

Kind = Literal["cpu", "cuda", "rocm", "mps", "xpu"]

# ROCm builds of PyTorch call an AMD GPU "cuda".
AMPERE = (8, 0)
TURING = (7, 5)

# TU116 and TU117: Turing without tensor cores. Their half-precision convolutions give NaN
# (pytorch/pytorch#58123, #77955), and people train on them in fp32.
TURING_MINOR = re.compile(r"GTX 16\d\d|\bMX[45]50\b|\bT(400|500|550|600|1000|1200|2000)\b")

# AMD's architectures with matrix instructions for bfloat16: CDNA from MI100 on, RDNA from 3 on.
AMD_WITH_BF16 = ("gfx908", "gfx90a", "gfx94", "gfx95", "gfx11", "gfx12")

MACOS_WITH_BF16 = (14, 0)


@dataclass(frozen=True, slots=True)
class Machine:
    """What a device can do, as far as settings depend on it.

    Args:
        kind: "rocm" is an AMD GPU, which PyTorch calls "cuda".
        name: of the card or the processor.
        bf16: it computes in bfloat16, not only stores it.
        bf16_stored: it can hold bfloat16 at all.
        fp16_breaks: its float16 is known to give NaN.
        scales_loss: float16's loss scaling works there.
        capability: of NVIDIA cards, (8, 6) for instance.
    """

    device: torch.device
    kind: Kind
    name: str
    bf16: bool
    bf16_stored: bool = True
    fp16_breaks: bool = False
    scales_loss: bool = True
    capability: tuple[int, int] | None = None


def describe_machine(device: torch.device) -> Machine:
    """What ``device`` can do, asked of the driver."""
    name = device_name(device)
    match device.type:
        case "cuda" if torch.version.hip:
            arch = torch.cuda.get_device_properties(device).gcnArchName
            return Machine(device, "rocm", name, bf16=arch.startswith(AMD_WITH_BF16))
        case "cuda":
            capability = torch.cuda.get_device_capability(device)
            return Machine(
                device,
                "cuda",
                name,
                bf16=capability >= AMPERE,
                fp16_breaks=capability == TURING and bool(TURING_MINOR.search(name)),
                capability=capability,
            )
        case "xpu":
            facts = torch.xpu.get_device_properties(device)
            # PyTorch's loss scaling divides in float64, which Arc's first cards do not have.
            doubles = bool(getattr(facts, "has_fp64", True))
            bf16 = bool(getattr(facts, "has_bfloat16_conversions", True))
            return Machine(device, "xpu", name, bf16=bf16, scales_loss=doubles)
        case "mps":
            stored = torch.backends.mps.is_macos_or_newer(*MACOS_WITH_BF16)
            return Machine(device, "mps", name, bf16=stored, bf16_stored=stored)
        case _:
            return Machine(device, "cpu", name, bf16=cpu_has_bf16(), scales_loss=False)


@dataclass(frozen=True, slots=True)
class Precision:
    """``dtype`` of the frozen weights and activations; trained parameters are always float32."""

    dtype: torch.dtype
    reason: str

    @property
    def name(self) -> str:
        return {dtype: name for name, dtype in PRECISIONS.items()}[self.dtype]


def choose_device(name: str) -> torch.device:
    """``auto`` takes CUDA (NVIDIA, or AMD with ROCm), XPU or MPS where there is one, else the CPU.
    One of several GPUs (``cuda:1``) becomes PyTorch's current one too.

    Raises:
        SettingsError: the device that was asked for is not there.
    """
    name = device_text(name)
    if name == "auto":
        accelerator = torch.accelerator.current_accelerator(check_available=True)
        return accelerator if accelerator is not None else torch.device("cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise SettingsError(
            Problem(
                "performance.device",
                f"{name!r} cannot be used here: {reason}",
                f"use auto; {missing_build() or 'see that its driver is installed'}; {DOCTOR}",
            )
        ) from error
    if device.index is not None and device.type in ("cuda", "xpu"):
        # Where pinned memory and what libraries launch belongs, which name no device.
        torch.accelerator.set_device_index(device.index)
    return device


def missing_build() -> str:
    """What a PyTorch without support for any GPU says of itself; empty where it has some."""
    if torch.version.cuda or torch.version.hip or torch.backends.mps.is_built():
        return ""
    if getattr(torch.version, "xpu", None):
        return ""
    return "this PyTorch is built for CPUs alone; pytorch.org has builds for each kind of GPU"


def choose_precision(name: str, device: torch.device, denoiser_weights: int) -> Precision:
    """The compute precision for ``train.precision``.

    Args:
        denoiser_weights: how many weights the denoiser has; decides on CPUs.

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
        return Precision(PRECISIONS[name], "as set")
    machine = describe_machine(device)
    match machine.kind:
        case "cuda" | "rocm" | "xpu":
            return _of_gpu(machine)
        case "mps":
            return Precision(torch.float32, "the safe choice on Apple GPUs")
        case _ if not machine.bf16:
            return Precision(torch.float32, "this CPU does not multiply in bf16")
        case _ if denoiser_weights >= LARGE_FOR_CPU:
            return Precision(torch.bfloat16, "this CPU multiplies in bf16")
        case _:
            return Precision(torch.float32, "the model is too small to gain from bf16")


def _of_gpu(machine: Machine) -> Precision:
    if machine.bf16:
        return Precision(torch.bfloat16, "this GPU computes in bf16")
    if machine.fp16_breaks:
        return Precision(torch.float32, "this GPU has no bf16, and its fp16 is known to give NaN")
    if not machine.scales_loss:
        return Precision(torch.float32, "this GPU has no bf16, and cannot scale the loss for fp16")
    return Precision(torch.float16, "this GPU has no bf16")


# Of cuBLAS; with either of two values, and PyTorch insists on one, its sums keep their order.
CUBLAS_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"


@contextlib.contextmanager
def deterministic(enabled: bool) -> Iterator[None]:
    """Within it PyTorch takes only algorithms that give the same bits each time; it is as it was
    afterwards. Not ``enabled``, it changes nothing.

    That takes flash attention's backward pass without atomic additions, memory-efficient attention
    without splits, cuDNN's attention not at all, and cuDNN's convolutions by rule, not by trial.
    cuBLAS reads its part when it is first used, so this is to begin before that.

    Raises:
        RunError: something has no such algorithm; names it.
    """
    if not enabled:
        yield
        return
    cudnn = torch.backends.cudnn
    details: Any = torch.utils.deterministic
    algorithms = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    flags = cudnn.deterministic, cudnn.benchmark, details.fill_uninitialized_memory
    workspace = os.environ.get(CUBLAS_WORKSPACE)
    # Attention's backward passes are deterministic only where more than a warning is asked for.
    torch.use_deterministic_algorithms(True, warn_only=False)
    cudnn.deterministic, cudnn.benchmark = True, False
    # A help against mistakes in programs, which writes to each new tensor.
    details.fill_uninitialized_memory = False
    os.environ[CUBLAS_WORKSPACE] = ":4096:8"
    try:
        yield
    except RuntimeError as error:
        if "deterministic" not in str(error):
            raise
        what = f"cannot be kept here: {str(error).split(', but ')[0].splitlines()[0]}"
        raise RunError.of("performance.deterministic", what, "go on without it") from error
    finally:
        torch.use_deterministic_algorithms(algorithms, warn_only=warn_only)
        cudnn.deterministic, cudnn.benchmark, details.fill_uninitialized_memory = flags
        if workspace is None:
            del os.environ[CUBLAS_WORKSPACE]
        else:
            os.environ[CUBLAS_WORKSPACE] = workspace


def cpu_has_bf16() -> bool:
    """Whether this CPU has bfloat16 multiply-add instructions (AVX512-BF16 or AMX)."""
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def peak_memory(device: torch.device) -> int:
    """Bytes: the most ever allocated on a CUDA or XPU device, else the process's peak resident
    size (Apple GPUs share the computer's memory)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if device.type == "xpu":
        return torch.xpu.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # Windows has no such counter in the standard library.
        return 0
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux kilobytes.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def free_memory(device: torch.device) -> int | None:
    """Bytes that a run can still have there, ``None`` where the driver does not say; what this
    process has taken already counts as taken."""
    return _free_and_total(device)[0]


def total_memory(device: torch.device) -> int | None:
    """Bytes that there are, ``None`` where the driver does not say."""
    if device.type == "cuda":
        # To ask what is free makes a context, which takes hundreds of MB of the device.
        with contextlib.suppress(RuntimeError, AssertionError):
            return int(torch.cuda.get_device_properties(device).total_memory)
        return None
    return _free_and_total(device)[1]


def _free_and_total(device: torch.device) -> tuple[int, int] | tuple[None, None]:
    try:
        match device.type:
            case "cuda":
                return torch.cuda.mem_get_info(device)
            case "xpu":
                return torch.xpu.mem_get_info(device)
            case "mps":
                total = torch.mps.recommended_max_memory()
                return total - torch.mps.driver_allocated_memory(), total
            case "cpu":
                memory = psutil.virtual_memory()
                return int(memory.available), int(memory.total)
    except (RuntimeError, AssertionError, AttributeError):
        pass
    return None, None


def device_name(device: torch.device) -> str:
    match device.type:
        case "cuda":
            return torch.cuda.get_device_name(device)
        case "xpu":
            return torch.xpu.get_device_name(device)
        case "mps":
            return f"{torch.backends.mps.get_name()} (mps)"
        case other:
            return other
