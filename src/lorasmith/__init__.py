"""lorasmith: the whole craft of making a LoRA for Stable Diffusion.

The names below are the library's public ones. Each is imported when it is first used, so that
``import lorasmith`` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "AdapterNetwork": "lorasmith.adapters.network",
    "Controls": "lorasmith.core.events",
    "DiffusionModel": "lorasmith.models.diffusion_model",
    "ImageRequest": "lorasmith.sampling.request",
    "LoraLibrary": "lorasmith.sampling.lora_library",
    "ModelReference": "lorasmith.models.reference",
    "TrainSettings": "lorasmith.config.schema",
    "UserError": "lorasmith.core.errors",
    "bake": "lorasmith.lora_tools.bake.bake",
    "convert": "lorasmith.lora_tools.convert.convert",
    "extract": "lorasmith.lora_tools.extract",
    "generate": "lorasmith.sampling.generate",
    "inspect": "lorasmith.lora_tools.inspect.inspect",
    "load_lora": "lorasmith.adapters.file",
    "load_model": "lorasmith.models.load",
    "load_settings": "lorasmith.config.load",
    "merge": "lorasmith.lora_tools.merge",
    "pick": "lorasmith.advice.pick",
    "resize": "lorasmith.lora_tools.resize",
    "resume": "lorasmith.training.run",
    "save_lora": "lorasmith.adapters.file",
    "train": "lorasmith.training.run",
}

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
