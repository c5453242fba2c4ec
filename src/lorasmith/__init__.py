"""lorasmith: the whole craft of making a LoRA for Stable Diffusion.

::

    import lorasmith as ls

    run = ls.train("images", model="demo", preset="demo", epochs=4)
    best = run.pick().path
    pipe = ls.load_model("demo")
    images = pipe.generate("zorp <lora:zorp:0.8>", seeds=range(4), loras="runs")
    ls.resize(best, "small.safetensors", rank=4)

The names below are the library's public ones. Each is imported when it is first used, so that
``import lorasmith`` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lorasmith.adapters.file import load_lora as load_lora
    from lorasmith.adapters.file import save_lora as save_lora
    from lorasmith.adapters.network import AdapterNetwork as AdapterNetwork
    from lorasmith.advice.pick import pick as pick
    from lorasmith.api import Run as Run
    from lorasmith.api import check as check
    from lorasmith.api import import_settings as import_settings
    from lorasmith.api import plan as plan
    from lorasmith.api import preview as preview
    from lorasmith.api import resume as resume
    from lorasmith.api import train as train
    from lorasmith.config.load import load_settings as load_settings
    from lorasmith.config.schema import TrainSettings as TrainSettings
    from lorasmith.core.errors import Stopped as Stopped
    from lorasmith.core.errors import UserError as UserError
    from lorasmith.core.events import Controls as Controls
    from lorasmith.jobs.generate import GenerateRequest as GenerateRequest
    from lorasmith.jobs.grid import GridRequest as GridRequest
    from lorasmith.jobs.request import run as run
    from lorasmith.lora_tools.bake.bake import bake as bake
    from lorasmith.lora_tools.convert.convert import convert as convert
    from lorasmith.lora_tools.extract import extract as extract
    from lorasmith.lora_tools.inspect.inspect import inspect as inspect
    from lorasmith.lora_tools.merge import merge as merge
    from lorasmith.lora_tools.resize import resize as resize
    from lorasmith.models.diffusion_model import DiffusionModel as DiffusionModel
    from lorasmith.models.reference import ModelReference as ModelReference
    from lorasmith.sampling.generate import generate as generate
    from lorasmith.sampling.lora_library import LoraLibrary as LoraLibrary
    from lorasmith.sampling.pipeline import Pipeline as Pipeline
    from lorasmith.sampling.pipeline import load_model as load_model
    from lorasmith.sampling.request import ImageRequest as ImageRequest

__version__ = "0.1.0"

_HOMES = {
    "AdapterNetwork": "adapters.network",
    "Controls": "core.events",
    "DiffusionModel": "models.diffusion_model",
    "GenerateRequest": "jobs.generate",
    "GridRequest": "jobs.grid",
    "ImageRequest": "sampling.request",
    "LoraLibrary": "sampling.lora_library",
    "ModelReference": "models.reference",
    "Pipeline": "sampling.pipeline",
    "Run": "api",
    "Stopped": "core.errors",
    "TrainSettings": "config.schema",
    "UserError": "core.errors",
    "bake": "lora_tools.bake.bake",
    "check": "api",
    "convert": "lora_tools.convert.convert",
    "extract": "lora_tools.extract",
    "generate": "sampling.generate",
    "import_settings": "api",
    "inspect": "lora_tools.inspect.inspect",
    "load_lora": "adapters.file",
    "load_model": "sampling.pipeline",
    "load_settings": "config.load",
    "merge": "lora_tools.merge",
    "pick": "advice.pick",
    "plan": "api",
    "preview": "api",
    "resize": "lora_tools.resize",
    "resume": "api",
    "run": "jobs.request",
    "save_lora": "adapters.file",
    "train": "api",
}

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
