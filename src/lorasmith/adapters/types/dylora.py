"""DyLoRA: a LoRA of which every prefix of ranks is a LoRA of its own (Valipour et al. 2022).

Each step draws for each module how many ranks take part, a multiple of ``unit``; the forward pass
is that prefix, and all of it trains. The scale is alpha / r of the whole at every prefix, so that
a longer prefix is a shorter one with something added to it, and its ranks sort themselves by what
they are worth, as those of a truncated singular value decomposition do.

Others do otherwise. LyCORIS (and the paper) multiply a prefix by alpha over its own length: what
the first ranks learned shrinks as others join. kohya's runs all ranks with only the drawn ones
training, and its prefixes are fitted to nothing. Training the drawn ranks alone, with those before
them held still, comes to the same as training the prefix, later.

The file is a LoRA's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Self

import torch
from torch import Tensor

from lorasmith.adapters.base import PLAIN, AdapterOptions, Layer
from lorasmith.adapters.types.lora import LoRA

_DOWN, _UP = LoRA.weight_names


class DyLoRA(LoRA):
    """As :class:`LoRA`; ``unit`` is how many ranks are drawn together, the last may be fewer."""

    needs_step_rng: ClassVar[bool] = True

    unit: int = 1

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
        adapter = super().create(
            layer, rank=rank, alpha=alpha, generator=generator, options=options
        )
        adapter.take_options(options)
        return adapter

    def take_options(self, options: AdapterOptions) -> None:
        self.unit = min(options.unit, self.rank)


def cut_rank(
    tensors: Mapping[str, Tensor], rank: int, *, keep_alpha: bool = False
) -> dict[str, Tensor]:
    """The first ``rank`` ranks of every module of a LoRA, under kohya's names.

    Alpha shrinks with the rank, so that every reader scales the prefix as the whole was scaled.
    Modules of ``rank`` or less stay as they are. Any LoRA can be cut, but only DyLoRA trains
    prefixes that stand alone.

    Args:
        keep_alpha: alpha stays, so that the prefix is stronger than it was in the whole: so
            LyCORIS trains it, and so sd-scripts' ``extract_lora_from_dylora`` cuts.

    Raises:
        ValueError: rank is below 1, or a module is not a plain LoRA; names the first such.
    """
    if rank < 1:
        raise ValueError(f"a LoRA has at least 1 rank, not {rank}")
    modules: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        key, _, tensor_name = name.partition(".")
        modules.setdefault(key, {})[tensor_name] = tensor
    result: dict[str, Tensor] = {}
    for key, module in modules.items():
        if not {_DOWN, _UP} <= module.keys() <= {_DOWN, _UP, "alpha"}:
            raise ValueError(f"{key} is not a plain LoRA: it has {', '.join(sorted(module))}")
        down, up = module[_DOWN], module[_UP]
        full_rank = down.shape[0]
        new_rank = min(rank, full_rank)
        alpha = float(module["alpha"]) if "alpha" in module else float(full_rank)
        result[f"{key}.{_DOWN}"] = down[:new_rank].clone()
        result[f"{key}.{_UP}"] = up[:, :new_rank].clone()
        share = 1.0 if keep_alpha else new_rank / full_rank
        result[f"{key}.alpha"] = torch.tensor(alpha * share)
    return result
