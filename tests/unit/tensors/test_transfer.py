"""Copies to and from a device: the same numbers, and read when they are there."""

from __future__ import annotations

import pytest
import torch
from tests.late_copies import GARBAGE, LateCopies

from lorasmith.tensors import transfer as tensor_transfer
from lorasmith.tensors.transfer import HostBuffer, fetch, pinned, to_device

CPU = torch.device("cpu")
TENSORS = [
    torch.arange(105.0).view(3, 5, 7),
    torch.arange(105.0).view(3, 5, 7).permute(2, 0, 1),  # Not contiguous.
    torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last),
    torch.tensor(3.0),
    torch.empty(0, 4),
    torch.arange(40, dtype=torch.bfloat16),
    torch.arange(200, dtype=torch.uint8),
]


@pytest.mark.parametrize("tensor", TENSORS)
@pytest.mark.parametrize("piece", [64, 1 << 20])
def test_a_buffer_holds_what_it_was_filled_with_last(
    tensor: torch.Tensor, piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensor_transfer, "PIECE_BYTES", piece)
    buffer = HostBuffer(tensor)
    for value in (tensor + 1, tensor):
        assert buffer.fits(value)
        buffer.fill(value)
        held = buffer.tensor()
        assert held.dtype == tensor.dtype
        assert torch.equal(held, value)
    buffer.fill(tensor + 1)
    assert torch.equal(held, tensor), "what was read stays"


def test_a_buffer_takes_no_other_tensors() -> None:
    buffer = HostBuffer(torch.zeros(3, 2))
    for other in (torch.zeros(6), torch.zeros(3, 2, dtype=torch.float64), torch.zeros(2, 3)):
        assert not buffer.fits(other)
    assert not buffer.fits(torch.zeros(3, 2, device="meta"))


def test_no_piece_is_larger_than_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pinned memory comes in powers of two, which pieces are, but for the last."""
    monkeypatch.setattr(tensor_transfer, "PIECE_BYTES", 64)
    buffer = HostBuffer(torch.zeros(100))
    assert [len(piece) * 4 for piece in buffer._pieces] == [64] * 6 + [16]


def test_a_cpu_keeps_its_tensors() -> None:
    tensor = torch.randn(4)
    assert pinned(tensor, CPU) is tensor
    assert to_device(tensor, CPU) is tensor
    (held,) = fetch([tensor])()
    assert held is tensor


def test_results_are_waited_for_when_they_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    device = LateCopies(monkeypatch)
    tensor = torch.randn(4, 4)
    expected = tensor.clone()
    there = fetch([tensor, tensor * 2])
    tensor.zero_()  # What comes later on the device does not matter.
    assert device.waits == 0
    one, two = there()
    assert device.waits == 1
    assert torch.equal(one, expected)
    assert torch.equal(two, expected * 2)


def test_the_stand_in_gives_garbage_to_who_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    LateCopies(monkeypatch)
    buffer = HostBuffer(torch.zeros(3))
    buffer.fill(torch.ones(3))
    assert buffer.tensor().tolist() == [GARBAGE] * 3


def test_where_no_more_can_be_pinned_copies_are_made_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Containers and WSL have limits of their own."""
    LateCopies(monkeypatch)

    def refuse(tensor: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("CUDA error: out of memory")

    monkeypatch.setattr(torch.Tensor, "pin_memory", refuse)
    tensor = torch.randn(4)
    assert pinned(tensor, CPU) is tensor
    assert torch.equal(to_device(tensor, CPU), tensor)
    (held,) = fetch([tensor])()
    assert torch.equal(held, tensor)
