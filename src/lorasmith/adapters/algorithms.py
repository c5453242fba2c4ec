"""The table of adapter types: name in the settings -> class.

A file does not say its type; each class is asked whether a module's tensor names are its own.
"""

from __future__ import annotations

from collections.abc import Collection

from lorasmith.adapters.base import Adapter
from lorasmith.adapters.lora import LoRA

ALGORITHMS: dict[str, type[Adapter]] = {"lora": LoRA}


def algorithm_of(names: Collection[str]) -> type[Adapter] | None:
    """The type whose tensors are called so, or ``None``."""
    return next((cls for cls in ALGORITHMS.values() if cls.claims(names)), None)
