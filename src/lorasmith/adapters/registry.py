"""The classes of adapter types, by the table of :mod:`lorasmith.config.adapter_types`.

A file does not say its type; each class is asked whether a module's tensor names are its own.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import replace
from functools import cache

from torch import Tensor

from lorasmith.adapters.base import Adapter, AdapterOptions
from lorasmith.adapters.types.differences import Difference, WithBias
from lorasmith.adapters.types.glora import GLoRA
from lorasmith.config.adapter_types import ADAPTERS

READ_ONLY: tuple[type[Adapter], ...] = (GLoRA, Difference, WithBias)
"""What is applied, and not trained."""


@cache
def adapter_class(name: str) -> type[Adapter]:
    """What a type makes for each layer."""
    module, _, attribute = ADAPTERS[name].cls.rpartition(".")
    cls: type[Adapter] = getattr(
        importlib.import_module(f"lorasmith.adapters.types.{module}"), attribute
    )
    return cls


def fixed_options(name: str, options: AdapterOptions) -> AdapterOptions:
    """``options``, with those that make the type what it is."""
    return replace(options, **ADAPTERS[name].fixed)


def algorithm_of(tensors: Mapping[str, Tensor]) -> type[Adapter] | None:
    """The type whose tensors, by declared name, these are, or ``None``."""
    return next((cls for cls in _claiming() if cls.claims(tensors)), None)


@cache
def _claiming() -> tuple[type[Adapter], ...]:
    """Each class once, in the order in which they are asked."""
    return tuple(dict.fromkeys([*map(adapter_class, ADAPTERS), GLoRA, Difference]))
