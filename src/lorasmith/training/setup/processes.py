"""One process or several: the only place that knows how many, over accelerate."""

from __future__ import annotations

import atexit
from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object, reduce
from torch import Tensor

T = TypeVar("T")


class Processes:
    """Rank and size as ``accelerate launch`` (or nothing) set them up.

    The order of samples is computed for the global batch; a process takes its share of it by rank,
    and gradients are summed. So the number of processes changes no result but by rounding.
    """

    def __init__(self, device: torch.device) -> None:
        # Alone, the device is whatever was chosen; together, each process has its own of a kind.
        self._state = PartialState(cpu=device.type == "cpu")
        self.device = device if self.count == 1 else self._state.device
        self._hosts = _host_group() if self.count > 1 else None
        if self.count > 1:
            atexit.register(_leave, self._hosts)

    @property
    def rank(self) -> int:
        return self._state.process_index

    @property
    def count(self) -> int:
        return self._state.num_processes

    @property
    def main(self) -> bool:
        return self.rank == 0

    def share(self, samples: Sequence[T]) -> list[T]:
        """This process's part of a global batch; may be empty at the end of a bucket."""
        return list(samples[self.rank :: self.count])

    def sum_(self, tensor: Tensor) -> None:
        """Sum ``tensor`` over the processes, in place."""
        if self.count > 1:
            tensor.copy_(reduce(tensor, reduction="sum"))

    def any(self, flag: bool) -> bool:
        """Whether any process says so; all get the same answer."""
        if self.count == 1:
            return flag
        votes = torch.tensor([float(flag)])
        if self._hosts is None:
            votes = votes.to(self.device)
            self.sum_(votes)
        else:
            torch.distributed.all_reduce(votes, group=self._hosts)
        return bool(votes.item() > 0)

    def agree(self, value: T) -> T:
        """The main process's ``value``, everywhere."""
        values = [value]
        if self.count > 1:
            broadcast_object_list(values)
        return values[0]

    def gather(self, value: T) -> list[T]:
        """Every process's ``value``, by rank, everywhere."""
        return list(gather_object([value])) if self.count > 1 else [value]

    def wait(self) -> None:
        self._state.wait_for_everyone()


def _host_group() -> Any:
    """The processes as those that talk in main memory: asking over GPUs, as every step does, would
    wait for all that they have to do. ``None`` where they cannot."""
    if not torch.distributed.is_gloo_available():
        return None
    try:
        return torch.distributed.new_group(backend="gloo")
    except RuntimeError:  # The machine's own name leads nowhere, as in some containers.
        return None


def _leave(hosts: Any) -> None:
    """End the threads that talk to other processes in main memory: one that still runs when Python
    has ended aborts a process that did all it had to. Over GPUs nothing is waited for, as the
    others may never come to the end."""
    if torch.distributed.is_initialized():
        everything = torch.distributed.get_backend() == "gloo"
        if everything or hosts is not None:
            torch.distributed.destroy_process_group(None if everything else hosts)
