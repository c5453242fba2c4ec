"""Offloaded weights on their way, with streams and events that are only written down.

A stream here is a clock: what it has seen of itself and of others. One thing is behind another
where its stream had seen it. The memory of a tensor that Python has dropped is anyone's, as in
PyTorch's allocator, which knows what was queued and not what was done.
"""

from __future__ import annotations

import contextlib
import gc
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from lorasmith.tensors.offload import AHEAD, Prefetcher, StoredWeight, host_bytes
from lorasmith.tensors.quantization import WEIGHT_FORMATS
from lorasmith.tensors.rng import normal

Clock = dict[str, int]


class Stream:
    def __init__(self, name: str) -> None:
        self.name, self.clock = name, {name: 0}

    def queue(self) -> tuple[str, int]:
        """Something to do; what it is called in clocks."""
        self.clock[self.name] += 1
        return self.name, self.clock[self.name]

    def saw(self, what: tuple[str, int]) -> bool:
        return self.clock.get(what[0], 0) >= what[1]

    def record_event(self) -> Clock:
        return dict(self.clock)

    def wait_event(self, event: Clock) -> None:
        for name, count in event.items():
            self.clock[name] = max(self.clock.get(name, 0), count)

    def wait_stream(self, other: Stream) -> None:
        self.wait_event(other.clock)


@dataclass
class Copied:
    """A tensor that came, and all that was queued with it."""

    storage: weakref.ref[torch.UntypedStorage]
    queued: list[tuple[str, int]]


class Device(TorchDispatchMode):
    """What a courier asks of CUDA, and an account of its copies."""

    def __init__(self, lockable: int = 1 << 62) -> None:
        super().__init__()
        self.compute = self.now = Stream("compute")
        self.copied: list[Copied] = []
        self.late: list[str] = []
        self.lockable = lockable

    def Stream(self, device: torch.device) -> object:
        self.copies = Stream("copies")
        return self.copies

    def current_stream(self, device: torch.device) -> object:
        return self.now

    @contextlib.contextmanager
    def stream(self, stream: Any) -> Iterator[None]:
        before, self.now = self.now, stream
        yield
        self.now = before

    def locked(self, size: int) -> Tensor:
        if size > self.lockable:
            raise RuntimeError("CUDA error: out of memory")
        self.lockable -= size
        return torch.empty(size, dtype=torch.uint8)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.copy_.default and self.now is not self.compute:
            # Its memory may be that of any tensor that is gone.
            for earlier in self.copied:
                if earlier.storage() is None and not all(map(self.now.saw, earlier.queued)):
                    self.late.append(f"memory of {earlier} is written to too soon")
            storage = weakref.ref(args[0].untyped_storage())
            self.copied.append(Copied(storage, [self.now.queue()]))
        return func(*args, **(kwargs or {}))

    def use(self, tensor: Tensor) -> None:
        """Something that computes with a tensor that came."""
        found = [c for c in self.copied if c.storage() is tensor.untyped_storage()]
        for one in found:
            if not all(map(self.compute.saw, one.queued)):
                self.late.append(f"{one} is used before it is there")
            one.queued.append(self.compute.queue())
        assert found, "it did not come by a copy"

    @property
    def alive(self) -> int:
        return sum(one.storage() is not None for one in self.copied)


def weights(prefetcher: Prefetcher, count: int, weight_format: str = "fp8") -> list[StoredWeight]:
    made = []
    for number in range(count):
        held = StoredWeight(normal((8, 64), 1, "held", number), WEIGHT_FORMATS[weight_format])
        held.move_to_host(prefetcher)
        made.append(held)
    return made


def run(device: Device, prefetcher: Prefetcher, order: list[StoredWeight]) -> list[int]:
    """Ask for weights in that order and use each; how many copies each time began."""
    begun = []
    for held in order:
        before = len(device.copied)
        quantized = prefetcher.fetch(held)
        assert all(bool((quantized[name] == t).all()) for name, t in held.on_host.items())
        for tensor in quantized.values():
            device.use(tensor)
        begun.append(len(device.copied) - before)
        per_weight = len(held.on_host)
        assert device.alive <= (AHEAD + 1) * per_weight
        del quantized, tensor
        assert device.alive <= AHEAD * per_weight
    return begun


@pytest.fixture
def device() -> Iterator[Device]:
    with Device() as device:
        yield device


def test_steps_that_repeat_find_each_weight_on_its_way(device: Device) -> None:
    prefetcher = Prefetcher("cpu", device)
    held = weights(prefetcher, 6, "none")
    step = [*held, *reversed(held)]
    run(device, prefetcher, step)
    run(device, prefetcher, step)  # From the end of a step to its beginning is learned last.
    for _ in range(2):
        # A copy for each, begun while others are at work: never when it is asked for itself.
        assert sum(run(device, prefetcher, step)) == len(step)
        assert len(prefetcher._coming) == AHEAD
    assert device.late == []


@pytest.mark.slow_but_first
@pytest.mark.parametrize("weight_format", ["none", "fp8", "nf4"])
def test_wrong_guesses_cost_their_copies_alone(device: Device, weight_format: str) -> None:
    prefetcher = Prefetcher("cpu", device)
    held = weights(prefetcher, 6, weight_format)
    shuffled = [held[i] for i in (0, 3, 1, 1, 5, 2, 4, 0, 0, 2)]
    for order in ([*held, *reversed(held)], shuffled, held, shuffled[::-1], shuffled, shuffled):
        run(device, prefetcher, order)
        assert device.late == []
    # What was guessed and is given up is behind its copy for whoever computes next.
    guessed = [one for one in device.copied if one.storage() is not None]
    assert guessed
    del prefetcher, held, shuffled, order
    gc.collect()
    assert all(one.storage() is None for one in guessed)
    assert all(device.compute.saw(what) for one in guessed for what in one.queued)


def test_the_account_sees_what_is_too_soon(device: Device) -> None:
    """As it was: the copies' stream waits for nobody, the allocator is trusted to."""
    prefetcher = Prefetcher("cpu", device)
    held = weights(prefetcher, 6)
    device.copies.wait_stream = lambda other: None  # type: ignore[method-assign]
    run(device, prefetcher, [*held, *held])
    assert device.late


def test_what_is_guessed_in_sampling_can_be_learned_with(device: Device) -> None:
    prefetcher = Prefetcher("cpu", device)
    held = weights(prefetcher, 4, "none")
    with torch.inference_mode():
        run(device, prefetcher, [*held, *held[:2]])
    weight = prefetcher.fetch(held[2])["weight"]
    factor = torch.ones(64, requires_grad=True)
    (weight * factor).sum().backward()  # Keeps the weight for the backward pass.
    assert torch.equal(factor.grad, held[2].on_host["weight"].sum(0))


@pytest.mark.parametrize("weight_format", ["none", "fp8", "nf4"])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_main_memory_holds_the_same_weights_side_by_side(
    weight_format: str, layout: torch.memory_format
) -> None:
    device = Device()
    prefetcher = Prefetcher("cpu", device)
    values = [
        normal((4, 6, 3, 3), 1, "w", n).to(memory_format=layout, dtype=torch.bfloat16)
        for n in range(3)
    ]
    held = [StoredWeight(value, WEIGHT_FORMATS[weight_format]) for value in values]
    before = [one.materialize(torch.bfloat16) for one in held]
    for one in held:
        one.move_to_host(prefetcher)
    with device:
        after = [one.materialize(torch.bfloat16) for one in held]
    for a, b in zip(after, before, strict=True):
        assert torch.equal(a, b)
        assert a.stride() == b.stride()
    slabs = {t.untyped_storage().data_ptr() for one in held for t in one.on_host.values()}
    assert len(slabs) == 1
    assert prefetcher.unlocked == 0


def test_memory_that_cannot_be_locked_is_done_without_and_counted() -> None:
    device = Device(lockable=0)
    prefetcher = Prefetcher("cpu", device)
    held = weights(prefetcher, 3)
    assert prefetcher.unlocked == sum(host_bytes(torch.nn.ModuleList(held)))
    with device:
        run(device, prefetcher, held)


def test_a_device_without_streams_has_its_copies_when_they_are_needed() -> None:
    prefetcher = Prefetcher("cpu")
    (held,) = weights(prefetcher, 1)
    brought = prefetcher.fetch(held)
    assert all(torch.equal(brought[name], tensor) for name, tensor in held.on_host.items())
    assert not prefetcher._coming
