"""Weights in fewer bits, against bitsandbytes and PyTorch's own casts."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from lorasmith.tensors.quantization import (
    NF4_CODE,
    WEIGHT_FORMATS,
    nf4_kernel,
    nf4_unpacker,
    quantizes_on,
)
from lorasmith.tensors.rng import normal

CPU = torch.device("cpu")
FP8, NF4 = WEIGHT_FORMATS["fp8"], WEIGHT_FORMATS["nf4"]


def weight(*shape: int, spread: float = 0.03) -> torch.Tensor:
    return normal(shape, 1, "packing") * spread


def there_and_back(name: str, value: torch.Tensor) -> torch.Tensor:
    weight_format = WEIGHT_FORMATS[name]
    return weight_format.dequantize(weight_format.quantize(value), value.shape, value.dtype)


def test_nf4_is_that_of_bitsandbytes() -> None:
    functional = pytest.importorskip("bitsandbytes.functional")
    value = weight(48, 128)
    quantized = NF4.quantize(value)
    codes, state = functional.quantize_4bit(value, blocksize=64, quant_type="nf4")
    assert torch.equal(quantized["codes"], codes.flatten())
    assert torch.equal(quantized["largest"], state.absmax)
    found = NF4.dequantize(quantized, value.shape, torch.float32)
    assert torch.equal(found, functional.dequantize_4bit(codes, state))
    assert torch.equal(torch.tensor(NF4_CODE), state.code)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_nf4_unpacks_to_the_bits_of_bitsandbytes(dtype: torch.dtype) -> None:
    """With its kernel or without it a run has the same weights."""
    functional = pytest.importorskip("bitsandbytes.functional")
    value = torch.cat([weight(64, 320, spread=10.0**-power) for power in range(6)])
    codes, state = functional.quantize_4bit(value, blocksize=64, quant_type="nf4")
    state.dtype = dtype
    quantized = NF4.quantize(value)
    found = NF4.dequantize(quantized, value.shape, dtype)
    assert torch.equal(found, functional.dequantize_4bit(codes, state))
    # What CUDA takes in its place, through the same call.
    kernel = nf4_kernel(CPU, dtype)
    assert kernel is not None
    assert torch.equal(
        kernel(quantized["codes"], quantized["largest"], dtype).view_as(found), found
    )


@pytest.mark.parametrize(
    "failing",
    [
        lambda codes, state: torch.full((state.shape[0],), 0.1, dtype=state.dtype),
        lambda codes, state: getattr(codes, "no such kernel"),
    ],
    ids=["other numbers", "does not run"],
)
def test_a_kernel_is_used_only_where_it_gives_our_numbers(
    failing: Callable[..., torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    functional = pytest.importorskip("bitsandbytes.functional")
    monkeypatch.setattr(functional, "dequantize_4bit", failing)
    assert nf4_kernel.__wrapped__(CPU, torch.bfloat16) is None


def test_who_unpacks_is_on_record() -> None:
    assert nf4_unpacker(CPU, torch.bfloat16) == "lorasmith"


@pytest.mark.parametrize(("name", "most"), [("fp8", 2), ("nf4", 3)])
def test_unpacking_takes_few_kernels(name: str, most: int) -> None:
    """On a GPU each of them is a launch, twice a layer and step."""
    value = weight(64, 128).bfloat16().to("meta")
    quantized = WEIGHT_FORMATS[name].quantize(value)
    WEIGHT_FORMATS[name].dequantize(quantized, value.shape, value.dtype)  # Makes its table.
    with Launches() as launches:
        WEIGHT_FORMATS[name].dequantize(quantized, value.shape, value.dtype)
    assert len(launches.names) == most, launches.names


class Launches(TorchDispatchMode):
    """Operations that compute: views and allocations launch nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if not func.is_view and func is not torch.ops.aten.empty.memory_format:
            self.names.append(func.name())
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(16, 8, 3, 3), (7, 13)])
def test_fp8_is_near_and_keeps_shape_and_layout(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    value = weight(*shape).to(dtype)
    if len(shape) == 4:
        value = value.contiguous(memory_format=torch.channels_last)
    found = there_and_back("fp8", value)
    assert (found.shape, found.dtype, found.stride()) == (value.shape, dtype, value.stride())
    # Three bits behind the leading one: at most 1/16 of a number, but for those near nought.
    smallest = value.abs().flatten(1).amax(1).view(-1, *[1] * (len(shape) - 1)) * 2**-16
    assert ((found - value).abs() <= value.abs() / 16 + smallest).all()


@given(st.integers(-12, 4))
@settings(max_examples=10, deadline=None)
def test_what_is_fp8_already_stays_what_it_is(exponent: int) -> None:
    value = weight(8, 40, spread=2.0**exponent).to(torch.float8_e4m3fn).float()
    assert torch.equal(there_and_back("fp8", value), value)


def test_rows_of_any_size_fare_alike() -> None:
    """A plain cast to e4m3 loses what is below 2^-9; scales of their own keep every row."""
    value = weight(4, 64) * torch.tensor([1e-4, 1e-2, 1.0, 1e2])[:, None]
    error = (there_and_back("fp8", value) - value).norm(dim=1) / value.norm(dim=1)
    assert float(error.max()) < 0.04
    assert float(error.max() / error.min()) < 1.5


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", list(WEIGHT_FORMATS))
def test_rows_of_nought_and_of_the_smallest_numbers(name: str, dtype: torch.dtype) -> None:
    """A scale that the format does not hold would make them numbers that are none."""
    smallest = torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps
    value = torch.tensor([0.0, 16 * max(smallest, 2.0**-90)]).to(dtype)[:, None].repeat(1, 64)
    assert torch.equal(there_and_back(name, value), value)


@pytest.mark.parametrize("name", list(WEIGHT_FORMATS))
def test_uneven_sizes(name: str) -> None:
    assert torch.equal(there_and_back(name, torch.zeros(3, 5)), torch.zeros(3, 5))
    value = weight(5, 7)  # 35 weights: not a whole block of 64.
    error = (there_and_back(name, value) - value).norm() / value.norm()
    assert float(error) < {"none": 1e-9, "fp8": 0.04, "nf4": 0.15}[name]


@pytest.mark.parametrize("name", list(WEIGHT_FORMATS))
def test_bits_are_what_is_stored(name: str) -> None:
    value = weight(64, 512).bfloat16()
    stored = sum(
        t.numel() * t.element_size() for t in WEIGHT_FORMATS[name].quantize(value).values()
    )
    assert 8 * stored / value.numel() == pytest.approx(WEIGHT_FORMATS[name].bits, rel=0.02)


def test_the_cpu_packs() -> None:
    assert quantizes_on(torch.device("cpu"))
