"""Stands in for a device that copies by itself: a copy in main memory is there when it has been
waited for, and not before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from lorasmith.tensors import transfer as tensor_transfer
from lorasmith.tensors.transfer import HostBuffer

GARBAGE = 77


class LateCopies:
    """Every device "copies alone" now; what it is to copy is done when its event is waited for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.waits = 0
        self._waiting: list[Callable[[], None]] = []
        self._done = 0
        at_once = HostBuffer.fill

        def late(buffer: HostBuffer, tensor: Tensor) -> None:
            now = tensor.detach().clone()  # A stream does things in their order.
            at_once(buffer, torch.full_like(now, GARBAGE))
            self._waiting.append(lambda: at_once(buffer, now))

        monkeypatch.setattr(tensor_transfer, "copies_alone", lambda device: True)
        monkeypatch.setattr(HostBuffer, "fill", late)
        monkeypatch.setattr(Tensor, "pin_memory", Tensor.clone)
        monkeypatch.setattr(torch.cuda, "current_stream", lambda device: self)

    def record_event(self) -> Event:
        return Event(self, len(self._waiting))

    def do(self, upto: int) -> None:
        """The first ``upto`` of all copies that it was given."""
        self.waits += 1
        for copy in self._waiting[self._done : upto]:
            copy()
        self._done = max(self._done, upto)


@dataclass(frozen=True)
class Event:
    """Of a stream, as ``torch.cuda.Event``."""

    device: LateCopies
    copies: int

    def synchronize(self) -> None:
        self.device.do(self.copies)
