"""All adapters of one LoRA together: made, attached, trained, written, removed.

The base model is never changed but for its ``requires_grad`` flags, which attaching turns off.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn

from lorasmith.adapters.attachable import Attachable
from lorasmith.adapters.base import AdaptedLayer, Adapter, AdapterOptions
from lorasmith.adapters.dropout import Dropout
from lorasmith.adapters.file import save_lora
from lorasmith.adapters.from_file import LoadReport, build_adapters
from lorasmith.adapters.masking import Masking
from lorasmith.adapters.registry import adapter_class, fixed_options
from lorasmith.adapters.targets import (
    RateRule,
    Selection,
    Size,
    SizeRule,
    Target,
    UniformSizes,
    find_targets,
)
from lorasmith.config.adapter_types import ADAPTERS
from lorasmith.core.text import quantity
from lorasmith.formats.adapter_roots import AdapterRoot
from lorasmith.tensors.rng import generator


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


UP = "lora_up."
"""How the up matrices of the types that have them are called. LoRA+ (Hayou et al. 2024): they start
at zero, and take a larger learning rate; sd-scripts' ``loraplus_lr_ratio``."""


@dataclass(frozen=True, slots=True)
class ParameterGroup:
    """Trained parameters with one learning rate.

    Args:
        name: the part for a rate of 1, such as "unet x0.5" otherwise.
        part: "unet" or "text_encoder".
        rate: multiplies the part's learning rate: weights of blocks, LoRA+.
        targets: the layers whose adapters they are of, all or in part.
    """

    name: str
    part: str
    rate: float
    parameters: list[nn.Parameter]
    targets: list[Target]

    @property
    def size(self) -> int:
        """How many numbers are trained."""
        return sum(parameter.numel() for parameter in self.parameters)


@dataclass(slots=True)
class _Module:
    target: Target
    adapter: Adapter


class AdapterNetwork(Attachable):
    """The adapters of one LoRA, by kohya's key of their layer.

    Args:
        modules: where each adapter goes, and the adapter.
        report: what did not fit, for a network that was loaded.
        rates: what multiplies each layer's learning rate, 1 for None.
        up_rate: what multiplies that of the up matrices besides (LoRA+).
        norm_limit: largest Frobenius norm of a module's weight change while it is trained, ``None``
            for no limit.
    """

    def __init__(
        self,
        roots: Sequence[AdapterRoot],
        modules: Sequence[tuple[Target, Adapter]],
        *,
        dropout: Dropout | None = None,
        report: LoadReport | None = None,
        rates: RateRule | None = None,
        up_rate: float = 1.0,
        norm_limit: float | None = None,
    ) -> None:
        self.roots = list(roots)
        self.rates, self.up_rate, self.norm_limit = rates, up_rate, norm_limit
        self.report = report or LoadReport()
        self._modules = {target.key: _Module(target, adapter) for target, adapter in modules}
        assert len(self._modules) == len(modules), "two layers with one key"
        self._attached = False
        self.dropout = dropout or Dropout()
        for adapter in self.adapters.values():
            adapter.dropout = self.dropout
        self._masking = Masking(modules, self.dropout)

    @classmethod
    def create(
        cls,
        roots: Sequence[AdapterRoot],
        *,
        algorithm: str = "lora",
        rank: int = 16,
        alpha: float | None = None,
        conv_rank: int = 0,
        conv_alpha: float | None = None,
        options: AdapterOptions | None = None,
        unet: bool = True,
        text_encoder: bool = True,
        dropout: Dropout | None = None,
        seed: int = 0,
    ) -> Self:
        """New adapters that change nothing yet, on the CPU or wherever their layers are.

        Args:
            roots: the networks to adapt; see :class:`AdapterRoot`.
            algorithm: a key of :data:`ADAPTERS`.
            rank, alpha: of Linear layers and 1 x 1 convolutions; alpha of None or 0 means rank.
            conv_rank, conv_alpha: of larger convolutions; a conv_rank above 0 adds the roots'
                ``conv_targets`` (LoRA-C3Lier).
            options: what else the type is asked for.
            unet, text_encoder: which parts get adapters.
            seed: each module's first weights are a function of it and the module's key.
        """
        conv = Size(conv_rank, conv_alpha) if conv_rank > 0 else None
        sizes = UniformSizes(Size(rank, alpha), conv)
        include = {"unet": unet, "text_encoder": text_encoder}
        selected_roots = [root for root in roots if include[root.part]]
        preset = ADAPTERS[algorithm].targets or "attn-mlp"
        return cls.create_sized(
            selected_roots,
            sizes,
            algorithm=algorithm,
            options=options,
            selection=Selection((preset,), conv=conv is not None),
            dropout=dropout,
            seed=seed,
        )

    @classmethod
    def create_sized(
        cls,
        roots: Sequence[AdapterRoot],
        sizes: SizeRule,
        *,
        algorithm: str = "lora",
        options: AdapterOptions | None = None,
        selection: Selection | None = None,
        rates: RateRule | None = None,
        up_rate: float = 1.0,
        dropout: Dropout | None = None,
        seed: int = 0,
    ) -> Self:
        """As :meth:`create`, with a rule that gives each layer its own size, or none.

        Args:
            selection: which layers; kohya's choice for None.
            rates, up_rate: see :class:`AdapterNetwork`.
        """
        cls_of_type = adapter_class(algorithm)
        type_options = fixed_options(algorithm, options or AdapterOptions())
        modules = [
            (
                target,
                cls_of_type.create(
                    target.layer,
                    rank=size.rank,
                    alpha=size.alpha,
                    generator=generator(seed, f"adapter {target.key}"),
                    options=cls_of_type.options_at(target.path, type_options),
                ),
            )
            for target, size in find_targets(roots, sizes, selection)
        ]
        return cls(roots, modules, dropout=dropout, rates=rates, up_rate=up_rate)

    @classmethod
    def load(
        cls,
        tensors: Mapping[str, Tensor],
        roots: Sequence[AdapterRoot],
        *,
        algorithm: str | None = None,
        dropout: Dropout | None = None,
        where: str = "",
    ) -> Self:
        """The adapters of a file, at whatever types, ranks and layers it has.

        Args:
            tensors: a file's tensors under kohya's names, or diffusers' or peft's.
            algorithm: what to make of tensors that several types have, such as DyLoRA's.
            where: the file, for messages.

        Returns:
            The network, with ``report`` naming what did not fit.

        Raises:
            LoraFileError: nothing in the file belongs to this model, a shape does not fit, or a
                module is of a type that is not known; all of them at once.
        """
        modules, report = build_adapters(tensors, roots, where, algorithm)
        return cls(roots, modules, dropout=dropout, report=report)

    def filter(self, keep: Callable[[Target], bool]) -> Self:
        """The same adapters on those layers alone that ``keep`` says; the report names the rest."""
        modules = [(m.target, m.adapter) for m in self._modules.values() if keep(m.target)]
        filtered_out = [m for m in self._modules.values() if not keep(m.target)]
        names = [f"{m.target.key}.{name}" for m in filtered_out for name in m.adapter.state_dict()]
        report = replace(self.report, unmatched=(*self.report.unmatched, *names))
        return type(self)(
            self.roots,
            modules,
            dropout=self.dropout,
            report=report,
            rates=self.rates,
            up_rate=self.up_rate,
            norm_limit=self.norm_limit,
        )

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

    def __str__(self) -> str:
        return quantity(len(self), "module")

    def holders(self) -> dict[str, Adapter]:
        """:attr:`adapters`, by the name that any kind of training knows them by."""
        return self.adapters

    def layers(self) -> dict[str, nn.Module]:
        """What stands at each adapter's place in the model now, by the same keys."""
        return {key: module.target.slot for key, module in self._modules.items()}

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
                slot = AdaptedLayer(target.module)
                slot.train(target.module.training)
                setattr(target.parent, target.attribute, slot)
            slot.adapters.append(module.adapter)
        self._attached = True

    def detach(self) -> None:
        """Take the adapters out; a layer that carries no other gets its own place back."""
        assert self._attached, "not attached"
        for module in self._modules.values():
            target, slot = module.target, module.target.slot
            assert isinstance(slot, AdaptedLayer)
            other_adapters = [adapter for adapter in slot.adapters if adapter is not module.adapter]
            if other_adapters:
                slot.adapters = nn.ModuleList(other_adapters)
            else:
                setattr(target.parent, target.attribute, slot.layer)
        self._attached = False

    def set_strength(self, unet: float = 1.0, text_encoder: float = 1.0) -> None:
        """Multiply the adapters' contributions; at 0 a part is not computed at all."""
        strength = {"unet": unet, "text_encoder": text_encoder}
        for module in self._modules.values():
            module.adapter.strength = strength[module.target.part]

    @contextlib.contextmanager
    def at_strength(self, strength: float) -> Iterator[None]:
        """So many times what it does within the block; negative for its opposite."""
        adapters = list(self.adapters.values())
        strengths = [adapter.strength for adapter in adapters]
        for adapter in adapters:
            adapter.strength = strength
        try:
            yield
        finally:
            for adapter, before in zip(adapters, strengths, strict=True):
                adapter.strength = before

    def disabled(self) -> contextlib.AbstractContextManager[None]:
        """Attached and without effect within the block: each layer gives what it alone would.

        Takes microseconds a module, and the device hears nothing of it.
        """
        return self.at_strength(0.0)

    def to(self, device: torch.device | str) -> Self:
        """Move the adapters; their parameters stay float32."""
        for adapter in self.adapters.values():
            adapter.to(device)
        return self

    def parameter_groups(self) -> list[ParameterGroup]:
        """All trained parameters, those of one part and rate together, in the model's order."""
        groups: dict[tuple[str, float], ParameterGroup] = {}
        for target, adapter in ((m.target, m.adapter) for m in self._modules.values()):
            rate = 1.0 if self.rates is None else self.rates(target)
            for name, parameter in adapter.named_parameters():
                # Rates that differ by rounding alone are one, and no two groups have one name.
                digits = f"{rate * self.up_rate if name.startswith(UP) else rate:.6g}"
                key = (target.part, float(digits))
                if key not in groups:
                    title = target.part if key[1] == 1.0 else f"{target.part} x{digits}"
                    groups[key] = ParameterGroup(title, *key, [], [])
                group = groups[key]
                group.parameters.append(parameter)
                if not group.targets or group.targets[-1] is not target:
                    group.targets.append(target)
        return list(groups.values())

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
                stays float32, so that rounding never changes an adapter's strength; so do tensors
                that a type declares as ``float32_names``.
        """
        tensors: dict[str, Tensor] = {}
        for key, adapter in self.adapters.items():
            for name, tensor in adapter.state_dict().items():
                value = tensor.detach().to("cpu", copy=True)
                keep = dtype is None or name in adapter.float32_names
                rounded = value if keep else value.to(dtype)
                if name == "alpha" and float(rounded) != float(value):
                    rounded = value
                tensors[f"{key}.{name}"] = rounded
        return tensors

    def save(self, path: Path, metadata: Mapping[str, str], dtype: torch.dtype) -> None:
        """Write the LoRA's file; see :func:`~lorasmith.adapters.file.save_lora`."""
        save_lora(path, self.state_dict(dtype), metadata)

    def as_saved(self, dtype: torch.dtype) -> Self:
        """The adapters as other programs read them: rounded to ``dtype`` and found by name."""
        return self.load(self.state_dict(dtype), self.roots)

    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over the tensors of :meth:`state_dict` of an equal network, in place."""
        assert tensors.keys() == self.state_dict().keys(), "another network's tensors"
        with torch.no_grad():
            for key, adapter in self.adapters.items():
                names = adapter.state_dict()
                adapter.load_state_dict({name: tensors[f"{key}.{name}"] for name in names})

    @property
    def masks_ahead(self) -> bool:
        """Whether all masks of a step are made at its beginning, once their sizes are known."""
        return self.dropout.neuron > 0

    def begin_update(self, step: int) -> None:
        """Nothing: what is random belongs to samples, see :meth:`begin_step`."""

    def begin_step(
        self,
        seed: int,
        step: int,
        samples: Sequence[int],
        *,
        size: tuple[int, ...] = (),
        dtype: torch.dtype = torch.float32,
        noise_gone: Sequence[float] | None = None,
    ) -> None:
        """Set the masks of a step: a function of seed, step, module, sample and noise alone.

        Args:
            size: of the images; of those of a size that was there before it is known how large
                each module's masks are, and they are made here.
            dtype: in which the model computes.
            noise_gone: of each sample, (T - t) / T for its timestep t of T, for types that go by
                it; None lets them be as without noise.
        """
        self._masking.begin_step(seed, step, samples, size, dtype, noise_gone)

    def end_step(self) -> None:
        """Forget the masks: the whole adapters apply again."""
        self._masking.end_step()

    def end_update(self) -> NormReport | None:
        """Keep the norms within :attr:`norm_limit`, after an optimizer's step."""
        return None if self.norm_limit is None else self.scale_weight_norms(self.norm_limit)

    @torch.no_grad()
    def norms(self) -> Tensor:
        """Frobenius norm of each module's weight change, float32 (M,), in the adapters' order."""
        adapters, targets = list(self.adapters.values()), list(self.targets.values())
        norms: list[Tensor] = [torch.empty(0)] * len(adapters)
        for kind in {type(adapter) for adapter in adapters}:
            members = [i for i, adapter in enumerate(adapters) if type(adapter) is kind]
            if kind.norm is Adapter.norm:  # Its change is the layer's affair too.
                for i in members:
                    norms[i] = adapters[i].delta_weight(targets[i].layer).float().norm()
                continue
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
        adapters, each = list(self.adapters.values()), factors.unbind()
        for kind in {type(adapter) for adapter in adapters}:
            members = [i for i, adapter in enumerate(adapters) if type(adapter) is kind]
            kind_factors = (
                factors
                if len(members) == len(adapters)
                else torch.stack([each[i] for i in members])
            )
            kind.shrink_all([adapters[i] for i in members], kind_factors)
        limited = norms * factors
        return NormReport((factors < 1).sum(), limited.mean(), limited.max())


def _freeze(module: nn.Module) -> None:
    """No gradients for a model's own weights; those of adapters in it stay as they are."""
    if isinstance(module, Adapter):
        return
    for parameter in module.parameters(recurse=False):
        parameter.requires_grad_(False)
    for child in module.children():
        _freeze(child)
