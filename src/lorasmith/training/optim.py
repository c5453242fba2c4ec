"""Optimizers from the libraries that keep them well, and the flat tensors that they work on.

The trained parameters of a group live in one flat tensor, and so do their gradients: optimizer,
clipping, norm, zeroing and the reduction over processes are one call each instead of one per
module (a LoRA for SD1.5 has 528 small tensors). That is exact for optimizers that treat every
number alike, as all of :data:`OPTIMIZERS` do; one that looks at a tensor's shape may not be listed
there before it can be given the tensors as they are.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from lorasmith.errors import Problem, SettingsError


@dataclass(frozen=True, slots=True)
class OptimizerKind:
    """One row of :data:`OPTIMIZERS`.

    Args:
        path: module and class.
        package: what to ``pip install`` when the module is missing.
        adaptive: finds its own step size ``d``; wants lr about 1, one lr for all groups.
        values_per_weight: float32 numbers that it keeps for each trained one, for estimates.
        defaults: arguments that differ from the class's own defaults, with the reason in the code.
    """

    path: str
    package: str
    adaptive: bool = False
    values_per_weight: float = 2.0
    defaults: Mapping[str, Any] = field(default_factory=dict)


OPTIMIZERS: dict[str, OptimizerKind] = {
    # Fused: one kernel a group. The flat tensors make it so on the CPU as well.
    "AdamW": OptimizerKind("torch.optim.AdamW", "torch", defaults={"fused": True}),
    "AdamW8bit": OptimizerKind(
        "bitsandbytes.optim.AdamW8bit", "bitsandbytes", values_per_weight=0.5
    ),
    "Prodigy": OptimizerKind(
        "prodigyopt.Prodigy", "prodigyopt", adaptive=True, values_per_weight=4.0
    ),
}


class FlatGroup:
    """Parameters of one group as views into one flat tensor, likewise their gradients.

    The modules keep their own ``nn.Parameter`` objects; only the storage behind them moves.
    Autograd adds into an existing ``.grad`` in place, so the gradients stay views too.
    """

    def __init__(self, name: str, parameters: Sequence[nn.Parameter], lr: float) -> None:
        assert parameters, f"group {name} has no parameters"
        self.name, self.lr, self.members = name, lr, list(parameters)
        sizes = [parameter.numel() for parameter in parameters]
        first = parameters[0]
        self.flat = nn.Parameter(torch.empty(sum(sizes), dtype=first.dtype, device=first.device))
        self.flat.grad = torch.zeros_like(self.flat)
        pieces = zip(
            parameters, self.flat.data.split(sizes), self.flat.grad.split(sizes), strict=True
        )
        for parameter, data, grad in pieces:
            data.copy_(parameter.data.reshape(-1))
            parameter.data = data.view(parameter.shape)
            parameter.grad = grad.view(parameter.shape)

    @property
    def grad(self) -> Tensor:
        assert self.flat.grad is not None
        return self.flat.grad


def find_optimizer(name: str) -> Callable[..., torch.optim.Optimizer]:
    """The class of a row of :data:`OPTIMIZERS`.

    Raises:
        SettingsError: its library is missing; says how to install it.
    """
    kind = OPTIMIZERS[name]
    module, _, attribute = kind.path.rpartition(".")
    try:
        cls = getattr(importlib.import_module(module), attribute)
    except ImportError as error:
        raise SettingsError(
            Problem(
                "optimizer.name",
                f"{name} needs the package {kind.package}, which cannot be imported: {error}",
                f"pip install {kind.package}, or choose AdamW",
            )
        ) from error
    found: Callable[..., torch.optim.Optimizer] = cls
    return found


def build_optimizer(
    name: str, groups: Sequence[FlatGroup], args: Mapping[str, Any]
) -> torch.optim.Optimizer:
    """The optimizer ``name`` over ``groups``; ``param_groups`` carry the groups' ``name``.

    Raises:
        SettingsError: its library is missing, or an argument is not one of its own.
    """
    cls, kind = find_optimizer(name), OPTIMIZERS[name]
    param_groups = [
        {"params": [group.flat], "lr": group.lr, "name": group.name} for group in groups
    ]
    arguments = {**kind.defaults, **args}
    try:
        return cls(param_groups, lr=groups[0].lr, **arguments)
    except (TypeError, ValueError) as error:
        raise SettingsError(
            Problem("optimizer.args", f"{name} does not take these arguments: {error}", "mend them")
        ) from error


def clip_gradients(groups: Sequence[FlatGroup], max_norm: float) -> Tensor:
    """Scale all gradients so that their joint L2 norm is at most ``max_norm``; 0 only measures.

    Returns:
        The norm before clipping, a scalar tensor on the parameters' device (not read here: that
        would wait for the device).
    """
    norm = torch.linalg.vector_norm(
        torch.stack([torch.linalg.vector_norm(group.grad) for group in groups])
    )
    if max_norm > 0:
        factor = (max_norm / (norm + 1e-6)).clamp(max=1.0)
        for group in groups:
            group.grad.mul_(factor)
    return norm


def adaptive_rates(optimizer: torch.optim.Optimizer) -> dict[str, float]:
    """``d * lr`` per group for optimizers that estimate ``d``; empty for others."""
    return {
        group["name"]: float(group["d"]) * float(group["lr"])
        for group in optimizer.param_groups
        if "d" in group
    }
