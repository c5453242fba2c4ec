"""Copies between main memory and a device that the host does not wait for.

A copy from or to ordinary pages waits until the device has done all that it was given before, and
then for itself. Pinned pages are read and written by the device alone, in the order of its work.
Only CUDA has them here; elsewhere these functions copy as ``Tensor.to`` does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

# PyTorch gives out pinned memory in powers of two: a whole buffer of a large tensor could take
# nearly twice the tensor.
PIECE_BYTES = 32 << 20


def frees_cpu(device: torch.device) -> bool:
    """Whether processor threads have time to spare while ``device`` computes: with a CPU they
    would take it from the computing."""
    return device.type != "cpu"


def copies_alone(device: torch.device) -> bool:
    """Whether ``device`` reads and writes pinned memory by itself."""
    return device.type == "cuda"


def pinned(tensor: Tensor, device: torch.device) -> Tensor:
    """``tensor`` where copies from it to ``device`` need not be waited for; itself where there is
    no such place, or no more of it, or where it is there already."""
    if not copies_alone(device) or tensor.device.type != "cpu" or tensor.is_pinned():
        return tensor
    try:
        return tensor.pin_memory()
    except RuntimeError:  # The system lets nobody pin more; then the copy is waited for.
        return tensor


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """``tensor`` on ``device``; later work of its current stream finds it there."""
    return pinned(tensor, device).to(device, non_blocking=copies_alone(device))


def fetch(tensors: Sequence[Tensor]) -> Callable[[], list[Tensor]]:
    """Begin to copy ``tensors`` to main memory; the result waits until they are there, no longer,
    and gives them in their order."""
    if not any(copies_alone(tensor.device) for tensor in tensors):
        host = [tensor.cpu() for tensor in tensors]
        return lambda: host
    buffers = [HostBuffer(tensor) for tensor in tensors]
    for buffer, tensor in zip(buffers, tensors, strict=True):
        buffer.fill(tensor)
    wait = waiting_for([tensor.device for tensor in tensors])

    def there() -> list[Tensor]:
        wait()
        return [buffer.tensor() for buffer in buffers]

    return there


def waiting_for(devices: Sequence[torch.device]) -> Callable[[], None]:
    """The result waits for what ``devices`` were given to do until now, as far as they copy
    alone."""
    events = [
        torch.cuda.current_stream(device).record_event()
        for device in dict.fromkeys(devices)
        if copies_alone(device)
    ]

    def wait() -> None:
        for event in events:
            event.synchronize()

    return wait


class HostBuffer:
    """Main memory for a copy of a tensor, pinned where it is of a CUDA device and pages can be
    pinned; to be filled as often as one likes.

    Args:
        like: a tensor of the shape, dtype and device of those to come.
    """

    def __init__(self, like: Tensor) -> None:
        self.shape, self.dtype, self.device = like.shape, like.dtype, like.device
        self._length = max(1, PIECE_BYTES // like.element_size())
        count = math.prod(self.shape)
        sizes = [min(self._length, count - at) for at in range(0, count, self._length)]
        self._pieces = [_page_memory(size, like) for size in sizes or [0]]

    def fits(self, tensor: Tensor) -> bool:
        same = (self.shape, self.dtype, self.device)
        return same == (tensor.shape, tensor.dtype, tensor.device)

    def fill(self, tensor: Tensor) -> None:
        """Copy ``tensor`` when the device comes to it; what the device is given later may change
        ``tensor``. Not to be read before the device has done it (:func:`waiting_for`)."""
        assert self.fits(tensor), (self.shape, tensor.shape)
        flat = tensor.detach().reshape(-1)
        for piece, part in zip(self._pieces, flat.split(self._length), strict=True):
            piece.copy_(part, non_blocking=True)

    def tensor(self) -> Tensor:
        """What it was filled with, as a tensor of its own in ordinary memory."""
        return torch.cat(self._pieces).view(self.shape)


def _page_memory(size: int, like: Tensor) -> Tensor:
    if copies_alone(like.device):
        try:
            return torch.empty(size, dtype=like.dtype, pin_memory=True)
        except RuntimeError:  # As in `pinned`.
            pass
    return torch.empty(size, dtype=like.dtype)
