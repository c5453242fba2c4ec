"""Trained parameters by learning rate.

LoRA+ (Hayou et al. 2024, "LoRA+: Efficient Low Rank Adaptation of Large Models"): the up matrices,
which start at zero, take a larger learning rate than the down matrices; sd-scripts'
``loraplus_lr_ratio``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch import nn

from lorasmith.adapters.base import Adapter
from lorasmith.adapters.targets import RateRule, Target

UP = "lora_up."
"""How the up matrices of the types that have them are called; LoRA+ means these."""


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


def parameter_groups(
    modules: Iterable[tuple[Target, Adapter]], rates: RateRule | None, up_rate: float
) -> list[ParameterGroup]:
    """All trained parameters, those of one part and rate together, in the order of ``modules``.

    Args:
        rates: what multiplies each layer's learning rate, 1 for None.
        up_rate: what multiplies that of the up matrices besides.
    """
    found: dict[tuple[str, float], ParameterGroup] = {}
    for target, adapter in modules:
        rate = 1.0 if rates is None else rates(target)
        for name, parameter in adapter.named_parameters():
            # Rates that differ by rounding alone are one, and no two groups have one name.
            digits = f"{rate * up_rate if name.startswith(UP) else rate:.6g}"
            key = (target.part, float(digits))
            if key not in found:
                title = target.part if key[1] == 1.0 else f"{target.part} x{digits}"
                found[key] = ParameterGroup(title, *key, [], [])
            group = found[key]
            group.parameters.append(parameter)
            if not group.targets or group.targets[-1] is not target:
                group.targets.append(target)
    return list(found.values())
