"""Layers whose frozen weight is not simply there: packed in fewer bits, in main memory, or both.

A :class:`HeldWeight` makes the weight whenever a product needs it, in the forward pass and again in
the backward pass, and nothing keeps it in between. A held layer reads like the layer that it stands
for: ``weight`` gives the whole weight, made for the asker.

Weights in main memory are copied to the device just before they are needed. On CUDA a
:class:`Courier` copies the next one, on a stream of its own, while the present one is at work.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.grad import conv2d_input

from lorasmith.tensor_packing import PACKINGS, Packed, Packing

Layer = nn.Linear | nn.Conv2d


class HeldWeight(nn.Module):
    """A frozen weight in a packing, on its layer's device or in main memory.

    Args:
        weight: (O, ...); its dtype is what ``weight`` of the layer gives.
    """

    def __init__(self, weight: Tensor, packing: Packing) -> None:
        super().__init__()
        self.shape, self.dtype, self.packing = weight.shape, weight.dtype, packing
        self.courier: Courier | None = None
        self.away: Packed = {}
        for name, tensor in packing.pack(weight).items():
            self.register_buffer(name, tensor, persistent=False)

    def send_away(self, courier: Courier) -> None:
        """Keep what is packed in main memory from now on; ``to`` moves it no more."""
        self.away = {name: courier.store(tensor) for name, tensor in self.named_buffers()}
        for name in self.away:
            delattr(self, name)
        self.courier = courier
        courier.add(self)

    def make(self, dtype: torch.dtype) -> Tensor:
        """The weight in ``dtype``, on its layer's device."""
        packed = dict(self.named_buffers()) if self.courier is None else self.courier.bring(self)
        return self.packing.unpack(packed, self.shape, dtype)


class Courier:
    """Brings weights from main memory to ``device``.

    What comes next is told by what came next the last time after the same two weights: steps repeat
    themselves, forward, backward and recomputed parts alike. A wrong guess costs only its copy.
    """

    def __init__(self, device: torch.device | str) -> None:
        self.device = torch.device(device)
        self._stream = torch.cuda.Stream(self.device) if self.device.type == "cuda" else None
        self._members: list[HeldWeight] = []
        self._numbers: dict[HeldWeight, int] = {}
        self._next: dict[tuple[int, int], int] = {}
        self._last = (-1, -1)
        self._waiting: tuple[int, Packed] | None = None

    def add(self, weight: HeldWeight) -> None:
        self._numbers[weight] = len(self._members)
        self._members.append(weight)

    def store(self, tensor: Tensor) -> Tensor:
        """A copy in main memory, in pages that the device can read by itself where that helps."""
        if tensor.is_meta:  # Only counted.
            return tensor
        stored = tensor.to("cpu")
        return stored.pin_memory(self.device) if self._stream is not None else stored

    def bring(self, weight: HeldWeight) -> Packed:
        """What ``weight`` is packed in, on the device."""
        number = self._numbers[weight]
        self._next[self._last] = number
        self._last = (self._last[1], number)
        if self._stream is None:
            return {name: t.to(self.device, copy=True) for name, t in weight.away.items()}
        waiting, self._waiting = self._waiting, None
        brought = waiting[1] if waiting and waiting[0] == number else self._start(weight)
        here = torch.cuda.current_stream(self.device)
        here.wait_stream(self._stream)
        for tensor in brought.values():
            tensor.record_stream(here)
        following = self._next.get(self._last)
        if following is not None:
            self._waiting = (following, self._start(self._members[following]))
        return brought

    def _start(self, weight: HeldWeight) -> Packed:
        assert self._stream is not None
        with torch.cuda.stream(self._stream):
            return {name: t.to(self.device, non_blocking=True) for name, t in weight.away.items()}


class _Product(torch.autograd.Function):
    """The layer's operation, its weight made once for each pass and kept for neither."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: HeldLayer, bias: Tensor | None) -> Tensor:
        ctx.layer, ctx.shape = layer, x.shape
        return layer.apply_to(x, layer.held.make(x.dtype), bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (grad,) = grads
        weight = ctx.layer.held.make(grad.dtype)
        return ctx.layer.gradient(ctx.shape, weight, grad), None, None


class _Rows(torch.autograd.Function):
    """Rows (N, W) times the weight as a matrix, (O, W) transposed."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, layer: HeldLayer) -> Tensor:
        ctx.layer = layer
        return F.linear(rows, layer.held.make(rows.dtype).flatten(1))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (grad,) = grads
        return grad @ ctx.layer.held.make(grad.dtype).flatten(1), None


class _Columns(torch.autograd.Function):
    """Rows (N, O) times the weight as a matrix, (O, W)."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, layer: HeldLayer) -> Tensor:
        ctx.layer = layer
        return rows @ layer.held.make(rows.dtype).flatten(1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (grad,) = grads
        return F.linear(grad, ctx.layer.held.make(grad.dtype).flatten(1)), None


class HeldLayer(nn.Module):
    """What held Linear and convolution layers share."""

    held: HeldWeight

    @property
    def weight(self) -> Tensor:
        """The whole weight, made for the asker."""
        return self.held.make(self.held.dtype)

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


class HeldLinear(HeldLayer, nn.Linear):  # type: ignore[override]
    """A frozen Linear layer with a :class:`HeldWeight`."""

    def __init__(self, layer: nn.Linear, held: HeldWeight) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.register_parameter("bias", layer.bias)
        self.held = held

    def product(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        # On rows, because the product of more dimensions would be a view, which callers that add
        # to it in place could not be given.
        rows = super().product(x.reshape(-1, self.in_features), bias)
        return rows.view(*x.shape[:-1], self.out_features)

    def apply_to(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return F.linear(x, weight, bias)

    def gradient(self, shape: torch.Size, weight: Tensor, grad: Tensor) -> Tensor:
        return grad @ weight


class HeldConv2d(HeldLayer, nn.Conv2d):  # type: ignore[override]
    """A frozen convolution with a :class:`HeldWeight`."""

    def __init__(self, layer: nn.Conv2d, held: HeldWeight) -> None:
        nn.Module.__init__(self)
        for name in (*nn.Conv2d.__constants__, "_reversed_padding_repeated_twice"):
            setattr(self, name, getattr(layer, name))
        self.register_parameter("bias", layer.bias)  # type: ignore[arg-type]
        self.held = held

    def apply_to(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return F.conv2d(x, weight, bias, self.stride, self.padding, self.dilation, self.groups)

    def gradient(self, shape: torch.Size, weight: Tensor, grad: Tensor) -> Tensor:
        return conv2d_input(
            shape, weight, grad, self.stride, self.padding, self.dilation, self.groups
        )


def hold(module: nn.Module, path: str, weight: Tensor, packing: str) -> HeldLayer:
    """Put a held layer in the place of the layer at ``path``, with ``weight`` as its weight."""
    layer = module.get_submodule(path)
    held = HeldWeight(weight, PACKINGS[packing])
    made = HeldConv2d(layer, held) if isinstance(layer, nn.Conv2d) else HeldLinear(layer, held)  # type: ignore[arg-type]
    made.train(layer.training)
    parent, _, name = path.rpartition(".")
    setattr(module.get_submodule(parent), name, made)
    return made
