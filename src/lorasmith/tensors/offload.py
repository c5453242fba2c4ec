"""Layers whose frozen weight is quantized, in main memory, or both.

A :class:`StoredWeight` makes the weight whenever a product needs it, in the forward pass and
again in the backward pass, and nothing keeps it in between. Such a layer reads like the layer that
it replaces: ``weight`` gives the whole weight, made for the asker.

Weights in main memory are copied to the device just before they are needed. On CUDA a
:class:`Prefetcher` copies the next ones, on a stream of its own, while the present one is at work.
"""

from __future__ import annotations

import contextlib
from collections import deque
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.grad import conv2d_input

from lorasmith.tensors.quantization import WEIGHT_FORMATS, Quantized, WeightFormat

Layer = nn.Linear | nn.Conv2d


class StoredWeight(nn.Module):
    """A frozen weight in a weight format, on its layer's device or in main memory.

    Args:
        weight: (O, ...); its dtype is what ``weight`` of the layer gives.
    """

    def __init__(self, weight: Tensor, weight_format: WeightFormat) -> None:
        super().__init__()
        self.shape, self.dtype, self.format = weight.shape, weight.dtype, weight_format
        self.prefetcher: Prefetcher | None = None
        self.on_host: Quantized = {}
        for name, tensor in weight_format.quantize(weight).items():
            self.register_buffer(name, tensor, persistent=False)

    def move_to_host(self, prefetcher: Prefetcher) -> None:
        """Keep the quantized weight in main memory from now on; ``to`` moves it no more."""
        self.on_host = {name: prefetcher.store(tensor) for name, tensor in self.named_buffers()}
        for name in self.on_host:
            delattr(self, name)
        self.prefetcher = prefetcher
        prefetcher.add(self)

    def materialize(self, dtype: torch.dtype) -> Tensor:
        """The weight in ``dtype``, on its layer's device."""
        quantized = (
            dict(self.named_buffers()) if self.prefetcher is None else self.prefetcher.fetch(self)
        )
        return self.format.dequantize(quantized, self.shape, dtype)


class Cuda:
    """What the prefetcher asks of CUDA."""

    Stream = torch.cuda.Stream
    current_stream = staticmethod(torch.cuda.current_stream)
    stream = staticmethod(torch.cuda.stream)

    @staticmethod
    def locked(size: int) -> Tensor:
        """``size`` bytes of main memory that the device reads by itself.

        Raises:
            RuntimeError: the system has no more of that.
        """
        return torch.empty(size, dtype=torch.uint8, pin_memory=True)


@dataclass(frozen=True, slots=True)
class _Coming:
    """A weight on its way.

    Args:
        stream: whose memory it is copied into.
        arrived: an event on the prefetcher's stream.
    """

    number: int
    quantized: Quantized
    stream: Any
    arrived: Any


AHEAD = 2
"""Weights on their way while one is at work: with it, at most three are on the device."""

# PyTorch locks memory in powers of two, so weights one by one would take up to twice their size.
SLAB = 1 << 28
ALIGNMENT = 256


class Prefetcher:
    """Brings weights from main memory to ``device``.

    What comes next is told by what came next the last time after the same two weights: steps repeat
    themselves, forward, backward and recomputed parts alike. A wrong guess costs only its copy.

    The host runs ahead of a GPU by as much as a whole step, so what limits memory must not depend
    on where it is. A weight is copied into memory of the stream that computes, which gives it
    back as soon as the weight's product is queued there: whatever has the memory next is queued
    behind that product. The copy itself is on another stream, and waits for all that was queued
    when it got its memory, for the same reason; the product waits for its copy. So streams
    wait for each other, the host for nobody, and the device never holds more than the weight at
    work and :data:`AHEAD` others.

    Args:
        cuda: streams and events, those of CUDA for ``None``; without any, copies are made when
            they are needed.
    """

    def __init__(self, device: torch.device | str, cuda: Any = None) -> None:
        self.device = torch.device(device)
        if cuda is None and self.device.type == "cuda":
            cuda = Cuda()
        self._cuda = cuda
        self._stream: Any = None if cuda is None else cuda.Stream(self.device)
        self._members: list[StoredWeight] = []
        self._numbers: dict[StoredWeight, int] = {}
        self._next: dict[tuple[int, int], int] = {}
        self._last = (-1, -1)
        self._coming: deque[_Coming] = deque()
        self._slab: Tensor | None = None
        self._used = 0
        self.unlocked = 0

    def add(self, weight: StoredWeight) -> None:
        self._numbers[weight] = len(self._members)
        self._members.append(weight)

    def store(self, tensor: Tensor) -> Tensor:
        """A copy in main memory, in pages that the device can read by itself where that helps.

        Where the system gives no more of them, ``unlocked`` counts the bytes that are elsewhere;
        their copies hold the host up.
        """
        if tensor.is_meta:  # Only counted.
            return tensor
        copy_on_host = tensor.to("cpu")
        if self._cuda is None:
            return copy_on_host
        size = copy_on_host.numel() * copy_on_host.element_size()
        strides = torch.empty_like(copy_on_host, device="meta").stride()
        place = None if self.unlocked else self._place(size)
        if place is None:
            self.unlocked += size
            return copy_on_host
        return (
            place.view(copy_on_host.dtype)
            .as_strided(copy_on_host.shape, strides)
            .copy_(copy_on_host)
        )

    def _place(self, size: int) -> Tensor | None:
        """``size`` bytes of a slab; ``None`` where no more can be locked."""
        if self._slab is None or self._used + size > len(self._slab):
            try:
                self._slab, self._used = self._cuda.locked(max(size, SLAB)), 0
            except RuntimeError:
                return None
        place = self._slab[self._used : self._used + size]
        self._used += -(-size // ALIGNMENT) * ALIGNMENT
        return place

    def fetch(self, weight: StoredWeight) -> Quantized:
        """The quantized ``weight``, on the device; to be used before the next is asked for."""
        number = self._numbers[weight]
        self._next[self._last] = number
        self._last = (self._last[1], number)
        if self._cuda is None:
            return {name: t.to(self.device, copy=True) for name, t in weight.on_host.items()}
        if not self._coming or self._coming[0].number != number:
            self._forget()
            self._start(number)
        fetched = self._coming.popleft()
        here = self._cuda.current_stream(self.device)
        here.wait_event(fetched.arrived)
        if here != fetched.stream:
            for tensor in fetched.quantized.values():
                tensor.record_stream(here)
        self._guess()
        return fetched.quantized

    def _guess(self) -> None:
        """Start what is likely to be asked for next."""
        pair = self._last
        for coming in self._coming:
            pair = (pair[1], coming.number)
        while len(self._coming) < AHEAD and (following := self._next.get(pair)) is not None:
            self._start(following)
            pair = (pair[1], following)

    def _start(self, number: int) -> None:
        on_host = self._members[number].on_host
        here = self._cuda.current_stream(self.device)
        with torch.inference_mode(False):  # A weight may be guessed in sampling and used in a step.
            quantized = {
                name: torch.empty_like(t, device=self.device) for name, t in on_host.items()
            }
            self._stream.wait_stream(here)
            with self._cuda.stream(self._stream):
                for name, tensor in quantized.items():
                    tensor.copy_(on_host[name], non_blocking=True)
        self._coming.append(_Coming(number, quantized, here, self._stream.record_event()))

    def _forget(self) -> None:
        """Give up what was guessed: its memory is free behind its copy, not before."""
        while self._coming:
            coming = self._coming.popleft()
            coming.stream.wait_event(coming.arrived)

    def __del__(self) -> None:
        with contextlib.suppress(Exception):  # While a program ends there may be no CUDA any more.
            self._forget()


def host_bytes(module: nn.Module) -> list[int]:
    """The size of each weight in ``module`` that is in main memory."""
    return [
        sum(tensor.numel() * tensor.element_size() for tensor in part.on_host.values())
        for part in module.modules()
        if isinstance(part, StoredWeight) and part.on_host
    ]


class _Product(torch.autograd.Function):
    """The layer's operation, its weight made once for each pass and kept for neither."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: StoredLayer, bias: Tensor | None) -> Tensor:
        ctx.layer, ctx.shape = layer, x.shape
        return layer.apply_to(x, layer.stored.materialize(x.dtype), bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (grad,) = grads
        weight = ctx.layer.stored.materialize(grad.dtype)
        return ctx.layer.gradient(ctx.shape, weight, grad), None, None


class _Rows(torch.autograd.Function):
    """Rows (N, W) times the weight as a matrix, (O, W) transposed."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, layer: StoredLayer) -> Tensor:
        ctx.layer = layer
        return F.linear(rows, layer.stored.materialize(rows.dtype).flatten(1))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (grad,) = grads
        return grad @ ctx.layer.stored.materialize(grad.dtype).flatten(1), None


class _Columns(torch.autograd.Function):
    """Rows (N, O) times the weight as a matrix, (O, W)."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, layer: StoredLayer) -> Tensor:
        ctx.layer = layer
        return rows @ layer.stored.materialize(rows.dtype).flatten(1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (grad,) = grads
        return F.linear(grad, ctx.layer.stored.materialize(grad.dtype).flatten(1)), None


class StoredLayer(nn.Module):
    """What stored Linear and convolution layers share."""

    stored: StoredWeight

    @property
    def weight(self) -> Tensor:
        """The whole weight, made for the asker."""
        return self.stored.materialize(self.stored.dtype)

    def product(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """The layer's operation with its own weight, and ``bias`` or none."""
        if bias is not None and bias.dtype != x.dtype:
            bias = bias.to(x.dtype)
        out: Tensor = _Product.apply(x, self, bias)
        return out

    def rows_product(self, rows: Tensor) -> Tensor:
        """Rows (N, W) times the weight's rows (O, W): (N, O)."""
        out: Tensor = _Rows.apply(rows, self)
        return out

    def columns_product(self, rows: Tensor) -> Tensor:
        """Rows (N, O) times the weight's columns: (N, W)."""
        out: Tensor = _Columns.apply(rows, self)
        return out

    def forward(self, x: Tensor) -> Tensor:
        bias: Tensor | None = self.bias  # type: ignore[assignment]
        return self.product(x, bias)

    def apply_to(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        raise NotImplementedError

    def gradient(self, shape: torch.Size, weight: Tensor, grad: Tensor) -> Tensor:
        """With regard to an input of that shape."""
        raise NotImplementedError


class StoredLinear(StoredLayer, nn.Linear):  # type: ignore[override]
    """A frozen Linear layer with a :class:`StoredWeight`."""

    def __init__(self, layer: nn.Linear, stored: StoredWeight) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.register_parameter("bias", layer.bias)
        self.stored = stored

    def product(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        # On rows, because the product of more dimensions would be a view, which callers that add
        # to it in place could not be given.
        rows = super().product(x.reshape(-1, self.in_features), bias)
        return rows.view(*x.shape[:-1], self.out_features)

    def apply_to(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return F.linear(x, weight, bias)

    def gradient(self, shape: torch.Size, weight: Tensor, grad: Tensor) -> Tensor:
        return grad @ weight


class StoredConv2d(StoredLayer, nn.Conv2d):  # type: ignore[override]
    """A frozen convolution with a :class:`StoredWeight`."""

    def __init__(self, layer: nn.Conv2d, stored: StoredWeight) -> None:
        nn.Module.__init__(self)
        for name in (*nn.Conv2d.__constants__, "_reversed_padding_repeated_twice"):
            setattr(self, name, getattr(layer, name))
        self.register_parameter("bias", layer.bias)  # type: ignore[arg-type]
        self.stored = stored

    def apply_to(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return F.conv2d(x, weight, bias, self.stride, self.padding, self.dilation, self.groups)

    def gradient(self, shape: torch.Size, weight: Tensor, grad: Tensor) -> Tensor:
        return conv2d_input(
            shape, weight, grad, self.stride, self.padding, self.dilation, self.groups
        )


def replace_layer(module: nn.Module, path: str, weight: Tensor, weight_format: str) -> StoredLayer:
    """Put a stored layer in the place of the layer at ``path``, with ``weight`` as its weight."""
    layer = module.get_submodule(path)
    stored = StoredWeight(weight, WEIGHT_FORMATS[weight_format])
    stored_layer = (
        StoredConv2d(layer, stored) if isinstance(layer, nn.Conv2d) else StoredLinear(layer, stored)  # type: ignore[arg-type]
    )
    stored_layer.train(layer.training)
    parent, _, name = path.rpartition(".")
    setattr(module.get_submodule(parent), name, stored_layer)
    return stored_layer
