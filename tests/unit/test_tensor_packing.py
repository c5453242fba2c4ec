"""Weights in fewer bits, against bitsandbytes and PyTorch's own casts."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lorasmith.tensor_packing import NF4_CODE, PACKINGS, _nf4_kernel, packs_on
from lorasmith.tensor_random import normal

FP8, NF4 = PACKINGS["fp8"], PACKINGS["nf4"]


def weight(*shape: int, spread: float = 0.03) -> torch.Tensor:
    return normal(shape, 1, "packing") * spread


def there_and_back(name: str, value: torch.Tensor) -> torch.Tensor:
    packing = PACKINGS[name]
    return packing.unpack(packing.pack(value), value.shape, value.dtype)


def test_nf4_is_that_of_bitsandbytes() -> None:
    functional = pytest.importorskip("bitsandbytes.functional")
    value = weight(48, 128)
    packed = NF4.pack(value)
    codes, state = functional.quantize_4bit(value, blocksize=64, quant_type="nf4")
    assert torch.equal(packed["codes"], codes.flatten())
    assert torch.equal(packed["largest"], state.absmax)
    found = NF4.unpack(packed, value.shape, torch.float32)
    assert torch.equal(found, functional.dequantize_4bit(codes, state))
    assert torch.equal(torch.tensor(NF4_CODE), state.code)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_kernel_that_cuda_uses_unpacks_the_same(dtype: torch.dtype) -> None:
    """bitsandbytes has it for CPUs as well, behind the same call."""
    pytest.importorskip("bitsandbytes")
    value = weight(48, 128)
    packed, kernel = NF4.pack(value), _nf4_kernel()
    assert kernel is not None
    found = kernel(packed["codes"], packed["largest"], dtype).view(value.shape)
    assert found.dtype == dtype
    own = NF4.unpack(packed, value.shape, dtype)
    torch.testing.assert_close(found, own, rtol=2 * torch.finfo(dtype).eps, atol=0)


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


@pytest.mark.parametrize("name", list(PACKINGS))
def test_nought_and_uneven_sizes(name: str) -> None:
    assert torch.equal(there_and_back(name, torch.zeros(3, 5)), torch.zeros(3, 5))
    value = weight(5, 7)  # 35 weights: not a whole block of 64.
    error = (there_and_back(name, value) - value).norm() / value.norm()
    assert float(error) < {"whole": 1e-9, "fp8": 0.04, "nf4": 0.15}[name]


@pytest.mark.parametrize("name", list(PACKINGS))
def test_bits_are_what_is_stored(name: str) -> None:
    value = weight(64, 512).bfloat16()
    stored = sum(t.numel() * t.element_size() for t in PACKINGS[name].pack(value).values())
    assert 8 * stored / value.numel() == pytest.approx(PACKINGS[name].bits, rel=0.02)


def test_the_cpu_packs() -> None:
    assert packs_on(torch.device("cpu"))
