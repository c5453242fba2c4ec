"""What every adapter is, and the layer that carries adapters.

An :class:`Adapter` changes one frozen Linear or Conv2d layer with a few trained numbers. An
:class:`AdaptedLayer` takes the frozen layer's place in its parent and adds its adapters'
contributions; taking it out again puts the very same layer back.

Shapes: B samples, N rows (B times positions), I input and O output features or channels, r rank.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lorasmith.adapters.dropout import Dropout, StepMasks, draw_masks, prefixes
from lorasmith.tensors.offload import StoredLayer

Layer = nn.Linear | nn.Conv2d
Norm = nn.LayerNorm | nn.GroupNorm


@dataclass(frozen=True, slots=True)
class AdapterOptions:
    """Options of all types together; a type reads those that it has.

    Args:
        rs_lora: scale by ``alpha / sqrt(rank)`` instead of ``alpha / rank`` (Kalajdzievski 2023).
            Files store ``alpha * sqrt(rank)``, so that every reader comes to the same scale.
        tucker: convolutions larger than 1 x 1 have the kernel in a core tensor of rank x rank
            (LyCORIS' use_tucker, formerly use_cp); other layers are not changed by it.
        weight_decompose: learn the lengths of the weight apart from its directions (DoRA, Liu et
            al. 2024).
        decompose_on_output: these are the lengths of each output's weights, as in LyCORIS and peft;
            otherwise of each input's, as in the paper, which every web UI applies exactly.
        factor: LoKr: size wished for the first Kronecker factor; -1 takes the sides' square roots.
        full_matrix: LoKr: the second Kronecker factor is a full matrix at any rank.
        decompose_both: LoKr: the first Kronecker factor is low-rank too, where that is smaller.
        train_on_input: (IA)^3: scale the layer's inputs (True) or outputs (False); None as
            LyCORIS does.
        unit: DyLoRA: how many ranks are trained together.
        constraint: OFT and BOFT: the largest norm of a rotation, in units of the weight's outputs;
            0 is none.
        rescaled: OFT and BOFT: a factor per output is trained beside the rotation.
        min_rank: T-LoRA: how many ranks take part at the highest noise; half of them for None.
        rank_power: T-LoRA: the exponent by which the ranks fall with the noise; 1 is a line.
        orthogonal: T-LoRA: start from orthogonal vectors, whose product is taken off.
    """

    rs_lora: bool = False
    tucker: bool = False
    weight_decompose: bool = False
    decompose_on_output: bool = False
    factor: int = -1
    full_matrix: bool = False
    decompose_both: bool = False
    train_on_input: bool | None = None
    unit: int = 1
    constraint: float = 0.0
    rescaled: bool = False
    min_rank: int | None = None
    rank_power: float = 1.0
    orthogonal: bool = True


PLAIN = AdapterOptions()


def apply_weight(layer: Layer, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """The layer's operation with another weight and bias."""
    if isinstance(layer, nn.Conv2d):
        return F.conv2d(x, weight, bias, layer.stride, layer.padding, layer.dilation, layer.groups)
    return F.linear(x, weight, bias)


def base_output(layer: Layer, x: Tensor) -> Tensor:
    """The layer's operation with its own weight and no bias."""
    if isinstance(layer, StoredLayer):
        return layer.product(x)
    return apply_weight(layer, x, layer.weight)


def over_channels(values: Tensor, layer: Layer) -> Tensor:
    """One number a channel at the shape that broadcasts over the layer's input or output."""
    return values.view(-1, 1, 1) if isinstance(layer, nn.Conv2d) else values


def weight_dtype(layer: Layer) -> torch.dtype:
    """Of the layer's weight, without making one that is held in another form."""
    return layer.stored.dtype if isinstance(layer, StoredLayer) else layer.weight.dtype


def in_dtype(parameter: Tensor, dtype: torch.dtype) -> Tensor:
    """``parameter`` in ``dtype``. Where a training step has cast all of them at once, that copy,
    which takes the gradient in its place (:class:`lorasmith.training.optim.FlatGroup`)."""
    copy: Tensor | None = getattr(parameter, "low_precision", None)
    return copy if copy is not None and copy.dtype == dtype else parameter.to(dtype)


class Factor(nn.Module):
    """One trained tensor called ``weight``, so that ``lora_down.weight`` is its name everywhere."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)


class Adapter(nn.Module):
    """One adapter for one frozen layer.

    A subclass declares the names of its tensors on disk, which are the names in its own
    ``state_dict``; reading, writing and recognising files need nothing else from it. It writes
    :meth:`create`, :meth:`from_tensors` and :meth:`delta_weight`; the rest has defaults that are
    right for every adapter that changes a weight, and may be overridden to be faster. Types whose
    change does not depend on the layer's weight start from
    :class:`lorasmith.adapters.additive.AdditiveAdapter`.

    Args:
        alpha: the adapter's alpha; the weight change is multiplied by ``scale``.
        scale: ``alpha / rank`` for low-rank adapters.
        device: where the subclass's tensors are.
    """

    weight_names: ClassVar[tuple[str, ...]] = ()
    optional_names: ClassVar[tuple[str, ...]] = ("alpha",)
    float32_names: ClassVar[tuple[str, ...]] = ()
    """Tensors that files keep in float32, because rounding them would change the result."""
    needs_step_rng: ClassVar[bool] = False
    """Whether a step is a prefix of the gates, drawn in steps of ``unit``, without dropout too."""
    needs_noise_level: ClassVar[bool] = False
    """Whether a step is a prefix of the gates that each sample's noise level decides on."""

    unit: int = 0

    alpha: Tensor

    def __init__(self, *, alpha: float, scale: float, device: torch.device) -> None:
        super().__init__()
        self.register_buffer("alpha", torch.tensor(alpha, dtype=torch.float32, device=device))
        self.scale = scale
        self.strength = 1.0
        self.dropout = Dropout()
        self.masks: StepMasks | None = None
        # Rows of neurons that drop was asked for and that no mask was ready for.
        self.rows_missed = 0

    @classmethod
    def create(
        cls,
        layer: Layer,
        *,
        rank: int,
        alpha: float | None,
        generator: torch.Generator,
        options: AdapterOptions = PLAIN,
    ) -> Self:
        """A new adapter that changes nothing yet; ``alpha`` of None or 0 means ``rank``."""
        raise NotImplementedError

    @classmethod
    def options_at(cls, path: str, options: AdapterOptions) -> AdapterOptions:
        """The options for the layer at ``path``, where a type treats some layers otherwise."""
        return options

    @classmethod
    def from_tensors(cls, layer: Layer, tensors: Mapping[str, Tensor]) -> Self:
        """The adapter that a file holds, in float32, at the rank of its tensors.

        Raises:
            ValueError: the shapes do not fit the layer; says both.
        """
        raise NotImplementedError

    @classmethod
    def claims(cls, tensors: Mapping[str, Tensor]) -> bool:
        """Whether a module with exactly these tensors in a file is of this type."""
        allowed = {*cls.weight_names, *cls.optional_names}
        return set(cls.weight_names) <= tensors.keys() <= allowed

    def take_options(self, options: AdapterOptions) -> None:
        """Take over what a file does not say of how it is to be trained on."""

    @property
    def rank(self) -> int:
        raise NotImplementedError

    @property
    def gates(self) -> int:
        """How many components of :meth:`drop`'s argument rank dropout chooses among."""
        return self.rank

    def gates_open(self, noise_gone: float) -> int:
        """How many gates, the first ones, a step of this noise has: (T - t) / T at timestep t."""
        return self.gates

    def delta_weight(self, layer: Layer) -> Tensor:
        """The change of the layer's weight, (O, I) or (O, I, kh, kw), at strength 1."""
        raise NotImplementedError

    def merged_weight(self, layer: Layer, strength: float = 1.0) -> Tensor:
        """The weight that a layer alone needs to act as the adapted one does, in float32.

        Strength multiplies the change, for every type, as generation programs have it.
        """
        return torch.add(
            layer.weight.to(self.alpha.dtype), self.delta_weight(layer), alpha=strength
        )

    def delta(self, x: Tensor, layer: Layer) -> Tensor:
        """What the adapter adds to the layer's output at strength 1, without a bias."""
        return apply_weight(layer, x, self.delta_weight(layer).to(x.dtype))

    def forward(self, x: Tensor, y: Tensor, layer: Layer) -> Tensor:
        """The layer's output ``y`` for input ``x``, changed by this adapter. May reuse ``y``."""
        return y.add_(self.delta(x, layer), alpha=self.strength)

    def forward_with_base(self, x: Tensor, layer: Layer) -> Tensor:
        """The layer and this adapter alone, for types that can compute both at once."""
        return self.forward(x, layer(x), layer)

    def norm(self) -> Tensor:
        """Frobenius norm of what is added to the weight, a scalar, without building it if possible.

        Types that add nothing (rotations, factors) have none.
        """
        raise NotImplementedError

    @classmethod
    def norms(cls, adapters: Sequence[Self]) -> Tensor:
        """:meth:`norm` of several adapters at once, (len(adapters),)."""
        return torch.stack([adapter.norm() for adapter in adapters])

    def shrink(self, factor: Tensor) -> None:
        """Multiply what is added to the weight by the scalar ``factor``, in place."""
        raise NotImplementedError

    @classmethod
    def shrink_all(cls, adapters: Sequence[Self], factors: Tensor) -> None:
        """:meth:`shrink` of several adapters at once, by ``factors`` (len(adapters),)."""
        for adapter, factor in zip(adapters, factors.unbind(), strict=True):
            adapter.shrink(factor)

    def begin_step(
        self,
        keys: Tensor,
        step_key: Tensor | None = None,
        noise_gone: Sequence[float] | None = None,
    ) -> None:
        """Set the masks of a step for this module alone; :meth:`AdapterNetwork.begin_step` does
        it for all at once.

        Args:
            keys: of this module and each sample, (B,).
            step_key: of this module and the step alone, a scalar, for what all samples share;
                types that say ``needs_step_rng`` need it.
            noise_gone: of each sample, for types that say ``needs_noise_level``.
        """
        open_gates = None
        if self.needs_step_rng:
            assert step_key is not None
            open_gates = prefixes(step_key.to(torch.int32).view(1), [self.gates], [self.unit])
        if self.needs_noise_level and noise_gone is not None:
            counts = [self.gates_open(gone) for gone in noise_gone]
            open_gates = torch.tensor([counts], dtype=torch.int32, device=keys.device)
        module_keys = keys.to(torch.int32)[None]
        (self.masks,) = draw_masks(
            self.dropout, module_keys, [self.gates], [0], torch.float32, open_gates=open_gates
        )

    def end_step(self) -> None:
        self.masks = None

    @property
    def dropping(self) -> bool:
        """Whether masks apply now: in a step, and only where gradients are recorded.

        Sampling and validation run without gradients and see the whole adapter.
        """
        return self.masks is not None and torch.is_grad_enabled()

    def drop(self, h: Tensor) -> Tensor:
        """Apply the step's masks to ``h``, (B, ..., gates): the components last.

        A text encoder may see n chunks for each sample; its batch is then n·B, chunks of a
        sample side by side.
        """
        assert self.masks is not None, "no step has begun"
        samples = len(self.masks.keys)
        assert h.shape[0] % samples == 0, f"{h.shape[0]} rows for {samples} samples"
        rows = h.reshape(samples, -1, h.shape[-1])
        mask, ready = self.masks.of(rows.shape[1], h.dtype)
        if not ready:
            self.rows_missed = rows.shape[1]
        return (rows * mask).view(h.shape)


class AdaptedLayer(nn.Module):
    """A frozen layer and the adapters on it; stands where the layer stood.

    Reads like the layer for code that looks at its size, ``weight`` or ``bias``.
    """

    _SHOWN = (
        "in_features", "out_features", "in_channels", "out_channels", "kernel_size", "stride",
        "padding", "dilation", "groups", "padding_mode", "normalized_shape", "num_groups",
        "num_channels", "eps",
    )  # fmt: skip

    def __init__(self, layer: Layer | Norm) -> None:
        super().__init__()
        assert getattr(layer, "padding_mode", "zeros") == "zeros", layer
        self.layer = layer
        self.adapters = nn.ModuleList()
        for name in self._SHOWN:
            if hasattr(layer, name):
                setattr(self, name, getattr(layer, name))

    @property
    def weight(self) -> Tensor:
        return self.layer.weight

    @property
    def bias(self) -> Tensor | None:
        return self.layer.bias

    def forward(self, x: Tensor) -> Tensor:
        active = [adapter for adapter in self.adapters if adapter.strength != 0.0]
        if len(active) == 1:
            only: Adapter = active[0]  # type: ignore[assignment]
            return only.forward_with_base(x, self.layer)  # type: ignore[arg-type]
        y: Tensor = self.layer(x)
        for adapter in active:
            y = adapter(x, y, self.layer)
        return y
