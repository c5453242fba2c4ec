"""Types that add a weight, W' = W + ΔW, and DoRA, which sets the length of W' apart.

DoRA (Liu et al. 2024), as LyCORIS' weight_decompose writes it: W' = m · (W + ΔW) / ‖W + ΔW‖, the
norm and m taken per input, ``dora_scale`` (1, I[, 1, 1]), or per output, (O, 1[, 1, 1]). The norm
takes part in the gradients. Both are read, and trained on as they are: what the one does to a
weight, the other can only do with a ΔW of full rank, so no file is turned from one into the other.

What is computed with the whole weight is recomputed in the backward pass, never kept: a step's
memory holds the factors and the layer's input, and no weight of any layer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from lorasmith.adapters.base import Adapter, AdapterOptions, Layer, apply_weight, weight_dtype


class AdditiveAdapter(Adapter):
    """An adapter whose trained tensors, but for ``dora_scale``, make a ΔW without the layer's help.

    Rank and neuron dropout act on its output's channels, as LyCORIS defines them for types without
    a low-rank middle; subclasses that have one mask that instead.

    Args:
        outputs: O of the layer.
        magnitude: ``dora_scale``, or None for a plain ΔW.
    """

    optional_names: ClassVar[tuple[str, ...]] = ("alpha", "dora_scale")
    float32_names: ClassVar[tuple[str, ...]] = ("dora_scale",)

    dora_scale: nn.Parameter | None

    def __init__(
        self,
        *,
        alpha: float,
        scale: float,
        outputs: int,
        magnitude: Tensor | None,
        device: torch.device,
    ) -> None:
        super().__init__(alpha=alpha, scale=scale, device=device)
        self.outputs = outputs
        self.register_parameter(
            "dora_scale", None if magnitude is None else nn.Parameter(magnitude)
        )

    def compose(self, factors: Mapping[str, Tensor]) -> Tensor:
        """ΔW, (O, I) or (O, I, kh, kw), scale included, from tensors named as in files."""
        raise NotImplementedError

    def compose_onto(
        self, weight: Tensor, factors: Mapping[str, Tensor], strength: float
    ) -> Tensor:
        """``weight`` + strength · ΔW."""
        return torch.add(weight, self.compose(factors), alpha=strength)

    def factors(self) -> dict[str, Tensor]:
        """The tensors that :meth:`compose` takes."""
        return {name: tensor for name, tensor in self._tensors().items() if name != "dora_scale"}

    @property
    def gates(self) -> int:
        return self.outputs

    def added(self) -> Tensor:
        """ΔW, scale included, before any decomposition."""
        return self.compose(self.factors())

    def delta_weight(self, layer: Layer) -> Tensor:
        if self.dora_scale is None:
            return self.added()
        return self._merged(layer, 1.0, self._tensors()) - layer.weight

    def merged_weight(self, layer: Layer, strength: float = 1.0) -> Tensor:
        return self._merged(layer, strength, self._tensors())

    def delta(self, x: Tensor, layer: Layer) -> Tensor:
        """The change of the output at strength 1, the step's masks applied."""
        delta = self._rebuilt(x, layer, None, lambda tensors: self._change(layer, tensors, x.dtype))
        if not self.dropping:
            return delta
        if isinstance(layer, nn.Conv2d):
            return self.drop(delta.movedim(1, -1)).movedim(-1, 1)
        return self.drop(delta)

    def forward_with_base(self, x: Tensor, layer: Layer) -> Tensor:
        """With one matrix multiplication, where rounding W' does not swallow small changes."""
        exact = x.dtype == weight_dtype(layer) == self.alpha.dtype and not _autocasts(x)
        if self.dropping or not exact:
            return self.forward(x, layer(x), layer)
        strength = self.strength
        return self._rebuilt(x, layer, layer.bias, lambda t: self._merged(layer, strength, t))

    def norm(self) -> Tensor:
        return self.added().norm()

    def shrink(self, factor: Tensor) -> None:
        """ΔW is linear in each of its factors, so each takes an equal share."""
        self.shrink_all([self], factor.view(1))

    @classmethod
    def shrink_all(cls, adapters: Sequence[Self], factors: Tensor) -> None:
        """Tensors of one shape together: a GPU has a few dozen calls instead of two a tensor."""
        shares: dict[int, Sequence[Tensor]] = {}
        equal: dict[tuple[int, torch.Size], tuple[list[Tensor], list[Tensor]]] = {}
        for index, adapter in enumerate(adapters):
            adapter_factors = adapter.factors().values()
            count = len(adapter_factors)
            if count not in shares:
                shares[count] = (factors ** (1.0 / count)).unbind()
            for tensor in adapter_factors:
                tensors, scales = equal.setdefault((count, tensor.shape), ([], []))
                tensors.append(tensor)
                scales.append(shares[count][index])
        for tensors, scales in equal.values():
            scale = torch.stack(scales).view(-1, *(1 for _ in tensors[0].shape))
            torch._foreach_copy_(tensors, (torch.stack(tensors) * scale).unbind())

    def _tensors(self) -> dict[str, Tensor]:
        if self._modules:
            return dict(self.named_parameters())
        # The same, without a walk: this runs several times in every layer's forward pass.
        return {name: p for name, p in self._parameters.items() if p is not None}

    def _change(self, layer: Layer, tensors: Mapping[str, Tensor], dtype: torch.dtype) -> Tensor:
        """The change of the weight at strength 1, rounded only when it is small by itself."""
        if self.dora_scale is None:
            return self.compose(tensors).to(dtype)
        return (self._merged(layer, 1.0, tensors) - layer.weight).to(dtype)

    def _merged(self, layer: Layer, strength: float, tensors: Mapping[str, Tensor]) -> Tensor:
        weight = layer.weight.to(self.alpha.dtype)
        factors = {name: tensor for name, tensor in tensors.items() if name != "dora_scale"}
        if "dora_scale" not in tensors:
            return self.compose_onto(weight, factors, strength)
        merged = decomposed(self.compose_onto(weight, factors, 1.0), tensors["dora_scale"])
        return merged if strength == 1.0 else torch.lerp(weight, merged, strength)

    def _rebuilt(
        self,
        x: Tensor,
        layer: Layer,
        bias: Tensor | None,
        make: Callable[[dict[str, Tensor]], Tensor],
    ) -> Tensor:
        tensors = self._tensors()
        if torch.compiler.is_compiling() or _autocasts(x):
            return apply_weight(layer, x, make(tensors), bias)

        def rebuild(*values: Tensor) -> Tensor:
            return make(dict(zip(tensors, values, strict=True)))

        out: Tensor = _Rebuilt.apply(x, layer, bias, rebuild, *tensors.values())
        return out


def new_magnitude(weight: Tensor, options: AdapterOptions) -> Tensor | None:
    """The first value of dora_scale, or None without decomposition."""
    if not options.weight_decompose:
        return None
    return magnitude_of(weight, by_input=not options.decompose_on_output)


def magnitude_of(weight: Tensor, *, by_input: bool) -> Tensor:
    """The length of each input's weights, (1, I[, 1, 1]), or each output's, (O, 1[, 1, 1])."""
    weight = weight.detach().to(torch.promote_types(weight.dtype, torch.float32))
    other_dims = [dim for dim in range(weight.ndim) if dim != int(by_input)]
    return torch.linalg.vector_norm(weight, dim=other_dims, keepdim=True)


def is_by_input(magnitude: Tensor, outputs: int) -> bool:
    """Whether dora_scale, (O, 1[, 1, 1]) or (1, I[, 1, 1]), holds the inputs' lengths."""
    return magnitude.shape[0] != outputs or magnitude.shape[1] != 1


def read_magnitude(layer: Layer, tensors: Mapping[str, Tensor]) -> Tensor | None:
    """A file's dora_scale in float32, at the shape that fits the layer.

    Raises:
        ValueError: it is neither one number per output nor one per input.
    """
    if "dora_scale" not in tensors:
        return None
    magnitude = tensors["dora_scale"]
    outputs, inputs, *kernel = layer.weight.shape
    ones = [1] * len(kernel)
    by_output = magnitude.shape[:1] == (outputs,) and magnitude.numel() == outputs
    by_input = magnitude.shape[:2] == (1, inputs) and magnitude.numel() == inputs
    if not by_output and not by_input:
        sizes = f"{outputs} outputs and {inputs} inputs"
        raise ValueError(f"dora_scale is {tuple(magnitude.shape)}, but the layer has {sizes}")
    shape = (outputs, 1, *ones) if by_output else (1, inputs, *ones)
    return magnitude.detach().to(layer.weight.device, torch.float32, copy=True).reshape(shape)


def decomposed(weight: Tensor, magnitude: Tensor) -> Tensor:
    """``weight`` with its rows, or columns, at the lengths of ``magnitude``."""
    kept_dim = int(is_by_input(magnitude, weight.shape[0]))
    other_dims = [dim for dim in range(weight.ndim) if dim != kept_dim]
    norms = torch.linalg.vector_norm(weight, dim=other_dims, keepdim=True)
    # LyCORIS adds eps; clamped, a new adapter, whose lengths are the weight's, changes nothing.
    return weight * (magnitude / norms.clamp(min=torch.finfo(norms.dtype).eps))


def _autocasts(x: Tensor) -> bool:
    return not x.is_meta and torch.is_autocast_enabled(x.device.type)


class _Rebuilt(torch.autograd.Function):
    """The layer's operation with a weight made from factors, made again in the backward pass."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        layer: Layer,
        bias: Tensor | None,
        rebuild: Callable[..., Tensor],
        *factors: Tensor,
    ) -> Tensor:
        ctx.save_for_backward(x, *factors)
        ctx.layer, ctx.rebuild = layer, rebuild
        return apply_weight(layer, x, rebuild(*factors), bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        x, *factors = ctx.saved_tensors
        leaves = [factor.detach().requires_grad_() for factor in factors]
        with torch.enable_grad():
            weight = ctx.rebuild(*leaves)
        to_x, to_weight = _gradients(ctx.layer, x, weight.detach(), grad, ctx.needs_input_grad[0])
        to_factors = torch.autograd.grad(weight, leaves, to_weight)
        return (to_x, None, None, None, *to_factors)


def _gradients(
    layer: Layer, x: Tensor, weight: Tensor, grad: Tensor, needs_x: bool
) -> tuple[Tensor | None, Tensor]:
    """Gradients of the layer's operation with regard to its input and its weight."""
    if isinstance(layer, nn.Conv2d):
        to_x, to_weight, _ = torch.ops.aten.convolution_backward(
            grad,
            x,
            weight,
            None,
            layer.stride,
            layer.padding,
            layer.dilation,
            False,
            [0, 0],
            layer.groups,
            [needs_x, True, False],
        )
        return to_x, to_weight
    to_weight = grad.reshape(-1, grad.shape[-1]).t() @ x.reshape(-1, x.shape[-1])
    return (grad @ weight if needs_x else None), to_weight
