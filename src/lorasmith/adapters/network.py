"""All adapters of one LoRA together: made, attached, trained, written, removed.

The base model is never changed but for its ``requires_grad`` flags, which attaching turns off.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from lorasmith.adapters.algorithms import ALGORITHMS
from lorasmith.adapters.base import AdaptedLayer, Adapter
from lorasmith.adapters.dropout import Dropout, module_id, step_keys
from lorasmith.adapters.loading import LoadReport, build_adapters
from lorasmith.adapters.targets import (
    AdapterRoot,
    Size,
    SizeRule,
    Target,
    UniformSizes,
    find_targets,
)
from lorasmith.tensor_random import generator


@dataclass(frozen=True, slots=True)
class NormReport:
    """Norms of the modules' weight changes after limiting; scalars on the device, unread.

    Args:
        scaled: how many modules were over the limit.
        mean, max: over all modules.
    """

    scaled: Tensor
    mean: Tensor
    max: Tensor


@dataclass(slots=True)
class _Module:
    target: Target
    adapter: Adapter


class AdapterNetwork:
    """The adapters of one LoRA, by kohya's key of their layer.

    Args:
        modules: where each adapter goes, and the adapter.
        report: what did not fit, for a network that was loaded.
    """

    def __init__(
        self,
        roots: Sequence[AdapterRoot],
        modules: Sequence[tuple[Target, Adapter]],
        *,
        dropout: Dropout | None = None,
        report: LoadReport | None = None,
    ) -> None:
        self.roots = list(roots)
        self.report = report or LoadReport()
        self._modules = {target.key: _Module(target, adapter) for target, adapter in modules}
        assert len(self._modules) == len(modules), "two layers with one key"
        self._attached = False
        self.dropout = dropout or Dropout()
        for adapter in self.adapters.values():
            adapter.dropout = self.dropout
        self._ids = torch.tensor([module_id(key) for key in self._modules], dtype=torch.int64)

    @classmethod
    def create(
        cls,
        roots: Sequence[tuple[Any, ...]],
        *,
        algorithm: str = "lora",
        rank: int = 16,
        alpha: float | None = None,
        conv_rank: int = 0,
        conv_alpha: float | None = None,
        unet: bool = True,
        text_encoder: bool = True,
        dropout: Dropout | None = None,
        seed: int = 0,
    ) -> Self:
        """New adapters that change nothing yet, on the CPU or wherever their layers are.

        Args:
            roots: the networks to adapt; see :class:`AdapterRoot`.
            algorithm: a key of :data:`ALGORITHMS`.
            rank, alpha: of Linear layers and 1 x 1 convolutions; alpha of None or 0 means rank.
            conv_rank, conv_alpha: of larger convolutions; a conv_rank above 0 adds the roots'
                ``conv_targets`` (LoRA-C3Lier).
            unet, text_encoder: which parts get adapters.
            seed: each module's first weights are a function of it and the module's key.
        """
        conv = Size(conv_rank, conv_alpha) if conv_rank > 0 else None
        sizes = UniformSizes(Size(rank, alpha), conv)
        wanted = {"unet": unet, "text_encoder": text_encoder}
        used = [root for root in _roots(roots) if wanted[root.part]]
        return cls.create_sized(
            used, sizes, algorithm=algorithm, conv=conv is not None, dropout=dropout, seed=seed
        )

    @classmethod
    def create_sized(
        cls,
        roots: Sequence[AdapterRoot],
        sizes: SizeRule,
        *,
        algorithm: str = "lora",
        conv: bool = False,
        dropout: Dropout | None = None,
        seed: int = 0,
    ) -> Self:
        """As :meth:`create`, with a rule that gives each layer its own size, or none."""
        kind = ALGORITHMS[algorithm]
        modules = [
            (
                target,
                kind.create(
                    target.layer,
                    rank=size.rank,
                    alpha=size.alpha,
                    generator=generator(seed, f"adapter {target.key}"),
                ),
            )
            for target, size in find_targets(roots, sizes, conv=conv)
        ]
        return cls(roots, modules, dropout=dropout)

    @classmethod
    def load(
        cls,
        tensors: Mapping[str, Tensor],
        roots: Sequence[tuple[Any, ...]],
        *,
        dropout: Dropout | None = None,
        where: str = "",
    ) -> Self:
        """The adapters of a file, at whatever types, ranks and layers it has.

        Args:
            tensors: a file's tensors under kohya's names, or diffusers' or peft's.
            where: the file, for messages.

        Returns:
            The network, with ``report`` naming what did not fit.

        Raises:
            LoraFileError: nothing in the file belongs to this model, a shape does not fit, or a
                module is of a type that is not known; all of them at once.
        """
        used = _roots(roots)
        modules, report = build_adapters(tensors, used, where)
        return cls(used, modules, dropout=dropout, report=report)

    @property
    def adapters(self) -> dict[str, Adapter]:
        """The adapters by kohya's key, in the order of the model's layers."""
        return {key: module.adapter for key, module in self._modules.items()}

    @property
    def targets(self) -> dict[str, Target]:
        """Where each of :attr:`adapters` goes, by the same keys."""
        return {key: module.target for key, module in self._modules.items()}

    def __len__(self) -> int:
        return len(self._modules)

    def attach(self) -> None:
        """Put the adapters into the model; several networks may be attached at once.

        Every weight of the model is frozen, so that nothing but adapters takes gradients.
        """
        assert not self._attached, "attached already"
        for root in self.roots:
            _freeze(root.module)
        for module in self._modules.values():
            target, slot = module.target, module.target.slot
            if not isinstance(slot, AdaptedLayer):
                slot = AdaptedLayer(target.layer)
                slot.train(target.layer.training)
                setattr(target.parent, target.attribute, slot)
            slot.adapters.append(module.adapter)
        self._attached = True

    def detach(self) -> None:
        """Take the adapters out; a layer that carries no other gets its own place back."""
        assert self._attached, "not attached"
        for module in self._modules.values():
            target, slot = module.target, module.target.slot
            assert isinstance(slot, AdaptedLayer)
            kept = [adapter for adapter in slot.adapters if adapter is not module.adapter]
            if kept:
                slot.adapters = nn.ModuleList(kept)
            else:
                setattr(target.parent, target.attribute, slot.layer)
        self._attached = False

    @contextlib.contextmanager
    def attached(self) -> Iterator[Self]:
        """Attached within the block."""
        self.attach()
        try:
            yield self
        finally:
            self.detach()

    @contextlib.contextmanager
    def detached(self) -> Iterator[Self]:
        """Taken out within the block, back in place after it."""
        self.detach()
        try:
            yield self
        finally:
            self.attach()

    def set_strength(self, unet: float = 1.0, text_encoder: float = 1.0) -> None:
        """Multiply the adapters' contributions; at 0 a part is not computed at all."""
        strength = {"unet": unet, "text_encoder": text_encoder}
        for module in self._modules.values():
            module.adapter.strength = strength[module.target.part]

    def to(self, device: torch.device | str) -> Self:
        """Move the adapters; their parameters stay float32."""
        for adapter in self.adapters.values():
            adapter.to(device)
        return self

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Trained parameters by part ("unet", "text_encoder"); a part without any is absent."""
        groups: dict[str, list[nn.Parameter]] = {}
        for module in self._modules.values():
            groups.setdefault(module.target.part, []).extend(module.adapter.parameters())
        return groups

    def parts(self) -> dict[str, int]:
        """How many layers of each part carry an adapter."""
        counts: dict[str, int] = {}
        for module in self._modules.values():
            counts[module.target.part] = counts.get(module.target.part, 0) + 1
        return counts

    def state_dict(self, dtype: torch.dtype | None = None) -> dict[str, Tensor]:
        """The tensors as they stand in a file, under kohya's names; copies on the CPU.

        Args:
            dtype: of the weights; ``None`` keeps float32. An alpha that ``dtype`` cannot hold
                stays float32, so that rounding never changes an adapter's strength.
        """
        tensors: dict[str, Tensor] = {}
        for key, adapter in self.adapters.items():
            for name, tensor in adapter.state_dict().items():
                value = tensor.detach().to("cpu", copy=True)
                rounded = value if dtype is None else value.to(dtype)
                if name == "alpha" and float(rounded) != float(value):
                    rounded = value
                tensors[f"{key}.{name}"] = rounded
        return tensors

    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over the tensors of :meth:`state_dict` of an equal network, in place."""
        assert tensors.keys() == self.state_dict().keys(), "another network's tensors"
        with torch.no_grad():
            for key, adapter in self.adapters.items():
                for name, tensor in adapter.state_dict().items():
                    tensor.copy_(tensors[f"{key}.{name}"])

    def begin_step(self, seed: int, step: int, samples: Sequence[int]) -> None:
        """Set the dropout masks: a function of seed, step, module and sample alone."""
        if not self.dropout:
            return
        keys = step_keys(self._ids, seed, step, samples)
        adapters = list(self.adapters.values())
        if adapters:
            keys = keys.to(adapters[0].alpha.device, non_blocking=True)
        for adapter, own in zip(adapters, keys, strict=True):
            adapter.begin_step(own)

    def end_step(self) -> None:
        """Forget the masks: the whole adapters apply again."""
        for adapter in self.adapters.values():
            adapter.end_step()

    @torch.no_grad()
    def norms(self) -> Tensor:
        """Frobenius norm of each module's weight change, float32 (M,), in the adapters' order."""
        adapters = list(self.adapters.values())
        norms: list[Tensor] = [torch.empty(0)] * len(adapters)
        for kind in {type(adapter) for adapter in adapters}:
            members = [i for i, adapter in enumerate(adapters) if type(adapter) is kind]
            for i, norm in zip(members, kind.norms([adapters[i] for i in members]), strict=True):
                norms[i] = norm
        return torch.stack(norms)

    @torch.no_grad()
    def scale_weight_norms(self, limit: float) -> NormReport:
        """Shrink every module whose weight change has a Frobenius norm above ``limit`` to it.

        As ``apply_max_norm_regularization`` of kohya's sd-scripts, without building the weights.
        """
        norms = self.norms()
        factors = limit / norms.clamp(min=limit)
        for adapter, factor in zip(self.adapters.values(), factors.unbind(), strict=True):
            adapter.rescale(factor)
        limited = norms * factors
        return NormReport((factors < 1).sum(), limited.mean(), limited.max())


def _roots(roots: Sequence[tuple[Any, ...]]) -> list[AdapterRoot]:
    """Roots as other folders give them, plain tuples of the same fields."""
    return [AdapterRoot(*root) for root in roots]


def _freeze(module: nn.Module) -> None:
    """No gradients for a model's own weights; those of adapters in it stay as they are."""
    if isinstance(module, Adapter):
        return
    for parameter in module.parameters(recurse=False):
        parameter.requires_grad_(False)
    for child in module.children():
        _freeze(child)
