"""lorasmith: the whole craft of making a LoRA for Stable Diffusion.

::

    import lorasmith as ls

    run = ls.train("images", model="demo", epochs=4)
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
    from lorasmith.advice.bootstrap.bootstrap import bootstrap as bootstrap
    from lorasmith.advice.doctor.doctor import doctor as doctor
    from lorasmith.advice.pick import pick as pick
    from lorasmith.api import Run as Run
    from lorasmith.api import advise as advise
    from lorasmith.api import audit as audit
    from lorasmith.api import check as check
    from lorasmith.api import diagnose as diagnose
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
    from lorasmith.curation.changes.plan import Plan as Plan
    from lorasmith.curation.collection import Collection as Collection
    from lorasmith.curation.collection import open_collection as open_collection
    from lorasmith.curation.filter import parse_filter as parse_filter
    from lorasmith.curation.token_counts import tokenize_texts as tokenize_texts
    from lorasmith.jobs.dataset.captioning import CaptionRequest as CaptionRequest
    from lorasmith.jobs.dataset.captions import CaptionsRequest as CaptionsRequest
    from lorasmith.jobs.dataset.captions import EditRequest as EditRequest
    from lorasmith.jobs.dataset.changes import HistoryRequest as HistoryRequest
    from lorasmith.jobs.dataset.changes import RedoRequest as RedoRequest
    from lorasmith.jobs.dataset.changes import UndoRequest as UndoRequest
    from lorasmith.jobs.dataset.export import ExportRequest as ExportRequest
    from lorasmith.jobs.dataset.files import GatherRequest as GatherRequest
    from lorasmith.jobs.dataset.files import ImportPicturesRequest as ImportPicturesRequest
    from lorasmith.jobs.dataset.files import InitRequest as InitRequest
    from lorasmith.jobs.dataset.files import RenameRequest as RenameRequest
    from lorasmith.jobs.dataset.images import ConvertPicturesRequest as ConvertPicturesRequest
    from lorasmith.jobs.dataset.images import CropRequest as CropRequest
    from lorasmith.jobs.dataset.images import FlipRequest as FlipRequest
    from lorasmith.jobs.dataset.images import MasksRequest as MasksRequest
    from lorasmith.jobs.dataset.images import ResizePicturesRequest as ResizePicturesRequest
    from lorasmith.jobs.dataset.images import SplitRequest as SplitRequest
    from lorasmith.jobs.dataset.regularize import RegularizeRequest as RegularizeRequest
    from lorasmith.jobs.dataset.sorting import DedupeRequest as DedupeRequest
    from lorasmith.jobs.dataset.sorting import SortRequest as SortRequest
    from lorasmith.jobs.dataset.stats import StatsRequest as StatsRequest
    from lorasmith.jobs.dataset.tagging import TagRequest as TagRequest
    from lorasmith.jobs.generate import GenerateRequest as GenerateRequest
    from lorasmith.jobs.grid import GridRequest as GridRequest
    from lorasmith.jobs.grids.votes import VotesRequest as VotesRequest
    from lorasmith.jobs.request import run as run
    from lorasmith.jobs.runs.notebook import LiveView as LiveView
    from lorasmith.jobs.runs.notebook import show as show
    from lorasmith.jobs.tensorboard import TensorBoardRequest as TensorBoardRequest
    from lorasmith.jobs.workspace.bug_report import ReportBugRequest as ReportBugRequest
    from lorasmith.jobs.workspace.status import StatusRequest as StatusRequest
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
    "CaptionRequest": "jobs.dataset.captioning",
    "CaptionsRequest": "jobs.dataset.captions",
    "Collection": "curation.collection",
    "Controls": "core.events",
    "ConvertPicturesRequest": "jobs.dataset.images",
    "CropRequest": "jobs.dataset.images",
    "DedupeRequest": "jobs.dataset.sorting",
    "DiffusionModel": "models.diffusion_model",
    "EditRequest": "jobs.dataset.captions",
    "ExportRequest": "jobs.dataset.export",
    "FlipRequest": "jobs.dataset.images",
    "GatherRequest": "jobs.dataset.files",
    "GenerateRequest": "jobs.generate",
    "GridRequest": "jobs.grid",
    "HistoryRequest": "jobs.dataset.changes",
    "ImageRequest": "sampling.request",
    "ImportPicturesRequest": "jobs.dataset.files",
    "InitRequest": "jobs.dataset.files",
    "LiveView": "jobs.runs.notebook",
    "LoraLibrary": "sampling.lora_library",
    "MasksRequest": "jobs.dataset.images",
    "ModelReference": "models.reference",
    "Pipeline": "sampling.pipeline",
    "Plan": "curation.changes.plan",
    "RedoRequest": "jobs.dataset.changes",
    "RegularizeRequest": "jobs.dataset.regularize",
    "RenameRequest": "jobs.dataset.files",
    "ReportBugRequest": "jobs.workspace.bug_report",
    "ResizePicturesRequest": "jobs.dataset.images",
    "Run": "api",
    "SortRequest": "jobs.dataset.sorting",
    "SplitRequest": "jobs.dataset.images",
    "StatsRequest": "jobs.dataset.stats",
    "StatusRequest": "jobs.workspace.status",
    "Stopped": "core.errors",
    "TagRequest": "jobs.dataset.tagging",
    "TensorBoardRequest": "jobs.tensorboard",
    "TrainSettings": "config.schema",
    "UndoRequest": "jobs.dataset.changes",
    "UserError": "core.errors",
    "VotesRequest": "jobs.grids.votes",
    "advise": "api",
    "audit": "api",
    "bake": "lora_tools.bake.bake",
    "bootstrap": "advice.bootstrap.bootstrap",
    "check": "api",
    "convert": "lora_tools.convert.convert",
    "diagnose": "api",
    "doctor": "advice.doctor.doctor",
    "extract": "lora_tools.extract",
    "generate": "sampling.generate",
    "import_settings": "api",
    "inspect": "lora_tools.inspect.inspect",
    "load_lora": "adapters.file",
    "load_model": "sampling.pipeline",
    "load_settings": "config.load",
    "merge": "lora_tools.merge",
    "open_collection": "curation.collection",
    "parse_filter": "curation.filter",
    "pick": "advice.pick",
    "plan": "api",
    "preview": "api",
    "resize": "lora_tools.resize",
    "resume": "api",
    "run": "jobs.request",
    "save_lora": "adapters.file",
    "show": "jobs.runs.notebook",
    "tokenize_texts": "curation.token_counts",
    "train": "api",
}

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
