"""All that can be known before a model is loaded, and all that is wrong with it, at once."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import TypeVar

from lorasmith.adapters.file import load_lora
from lorasmith.config.schema import TrainSettings
from lorasmith.curation.audit import AuditReport, audit
from lorasmith.data.buckets import Buckets, plan_buckets
from lorasmith.data.captions import CaptionRules
from lorasmith.data.dataset import Dataset, build_dataset
from lorasmith.data.latents import default_cache_folder
from lorasmith.data.layout import FolderSpec, find_folders
from lorasmith.data.picture_hashes import hash_pictures
from lorasmith.data.scan import Scan, scan
from lorasmith.errors import Problem, SettingsError, UserError
from lorasmith.events import Controls, Observer, ignore
from lorasmith.files import check_writable
from lorasmith.models.family import Architecture
from lorasmith.models.source import peek
from lorasmith.models.tokenizer import count_tokens
from lorasmith.sampling.prompt import parse_prompt
from lorasmith.training.optim import find_optimizer

T = TypeVar("T")


@dataclass(frozen=True)
class Prepared:
    """A run as far as it can be worked out from settings, headers and pictures.

    Args:
        name: of the run and its files.
        data_folder: where the pictures are; the cache lies there unless told otherwise.
        report: what the preflight found.
    """

    settings: TrainSettings
    name: str
    data_folder: Path
    architecture: Architecture
    scan: Scan
    dataset: Dataset
    report: AuditReport
    batches_per_epoch: int

    @cached_property
    def fingerprint(self) -> str:
        """Changes with any picture's bytes, caption, place in its bucket or number of uses."""
        memo = cache_folder(self.settings, self.data_folder) / "pictures.json"
        hashes = hash_pictures([item.picture.path for item in self.dataset.items], memo)
        digest = blake2b(digest_size=16)
        for item in self.dataset.items:
            place = (item.placement.bucket, item.placement.resized, item.placement.crop)
            facts = (item.picture.path.name, item.caption, place, item.repeats, item.weight)
            digest.update(repr(facts).encode())
            digest.update(hashes[item.picture.path].encode())
        return digest.hexdigest()

    @property
    def steps_per_epoch(self) -> int:
        return math.ceil(self.batches_per_epoch / self.settings.train.accumulation)

    @property
    def steps(self) -> int:
        """Optimizer steps of the whole run."""
        return self.settings.train.steps or self.settings.train.epochs * self.steps_per_epoch

    @property
    def epochs(self) -> int:
        return math.ceil(self.steps / self.steps_per_epoch)

    @property
    def oddities(self) -> list[Problem]:
        """What is odd about the settings together with the pictures."""
        found = []
        has_reg = any(item.reg for item in self.dataset.items)
        if self.settings.loss.prior_weight != 1.0 and not has_reg:
            what = "has no effect without regularisation pictures"
            found.append(Problem("loss.prior_weight", what, "add some with --reg"))
        return found

    def epoch_at(self, done: int) -> tuple[int, bool]:
        """The epoch (from 1) of step ``done`` (from 1), and whether that step ends it."""
        return (done - 1) // self.steps_per_epoch + 1, done % self.steps_per_epoch == 0


def prepare(
    settings: TrainSettings,
    processes: int = 1,
    *,
    observer: Observer = ignore,
    controls: Controls | None = None,
) -> Prepared:
    """Check everything that can be checked without the model's weights.

    Args:
        processes: how many will train together; each takes ``train.batch`` pictures per step.
        observer: told of progress while pictures are looked at.

    Raises:
        UserError: everything that is wrong, in one report.
    """
    problems: list[Problem] = []
    check_parts(settings, problems)
    architecture = attempt(problems, lambda: open_architecture(settings))
    folders = attempt(problems, lambda: folder_specs(settings))
    found, buckets = None, None
    if folders is not None:
        found = attempt(problems, lambda: scan(folders, extension=settings.captions.extension))
    if architecture is not None:
        buckets = attempt(problems, lambda: buckets_of(settings, architecture))
    if found is None or buckets is None or architecture is None or folders is None:
        raise UserError([*problems, *(found.problems if found else ())])

    dataset = build_dataset(
        found,
        buckets,
        caption_rules(settings),
        flip=settings.augment.flip,
        prior_weight=settings.loss.prior_weight,
    )
    data_folder = folders[0].path.parent if len(folders) > 1 else folders[0].path
    global_batch = settings.train.batch * processes
    report = audit(
        found,
        dataset,
        batch=global_batch,
        accumulation=settings.train.accumulation,
        epochs=settings.train.epochs,
        steps=settings.train.steps,
        count_tokens=count_tokens,
        max_tokens=settings.model.max_tokens,
        trigger=settings.captions.trigger,
        memo=cache_folder(settings, data_folder) / "looks.json",
        observer=observer,
        controls=controls,
    )
    problems += report.errors
    if problems:
        raise UserError(dict.fromkeys(problems))
    name = settings.save.name or default_name(folders)
    batches = dataset.batches_per_epoch(global_batch)
    return Prepared(settings, name, data_folder, architecture, found, dataset, report, batches)


def attempt(problems: list[Problem], action: Callable[[], T]) -> T | None:
    """The action's result; its problems are collected, so that all can be said at once."""
    try:
        return action()
    except UserError as error:
        problems.extend(error.problems)
        return None


def check_parts(settings: TrainSettings, problems: list[Problem]) -> None:
    """Collect what is wrong with settings that no other check opens."""
    attempt(problems, lambda: find_optimizer(settings.optimizer.name))
    attempt(problems, lambda: check_writable(settings.save.output))
    start = settings.adapter.init_from
    if start is not None:
        attempt(problems, lambda: load_lora(start))
    for prompt in settings.sample.prompts:
        parsed = attempt(problems, lambda prompt=prompt: parse_prompt(prompt))  # type: ignore[misc]
        if parsed is not None and parsed.loras:
            what = f"<lora:{parsed.loras[0].name}> stands in a sample prompt"
            todo = "remove it: samples show the LoRA in training alone"
            problems.append(Problem("sample.prompts", what, todo))


def open_architecture(settings: TrainSettings) -> Architecture:
    model = settings.model
    return peek(model.path, vae=model.vae, family=model.family, prediction=model.prediction)


def cache_folder(settings: TrainSettings, data_folder: Path) -> Path:
    return settings.performance.cache_dir or default_cache_folder(data_folder)


def process_count() -> int:
    """How many processes the launcher started, before anything is set up between them."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def folder_specs(settings: TrainSettings) -> list[FolderSpec]:
    """Raises DatasetError where a folder is missing or holds nothing."""
    data = settings.data
    if data.path is None and not data.folders:
        raise SettingsError.of(
            "data.path", "no training pictures are named", "give a folder with --data"
        )
    specs = [
        FolderSpec(
            folder.path, folder.repeats, folder.reg, folder.caption, folder.weight,
            folder.keep_tokens,
        )
        for folder in data.folders
    ]  # fmt: skip
    if data.path is not None:
        specs = find_folders(data.path, data.reg) + specs
    elif data.reg is not None:
        specs += [replace(spec, reg=True) for spec in find_folders(data.reg)]
    return specs


def caption_rules(settings: TrainSettings) -> CaptionRules:
    captions = settings.captions
    return CaptionRules(
        shuffle=captions.shuffle,
        separator=captions.separator,
        keep_tokens=captions.keep_tokens,
        keep_tokens_separator=captions.keep_tokens_separator,
        dropout=captions.dropout,
        dropout_every_n_epochs=captions.dropout_every_n_epochs or 0,
        tag_dropout=captions.tag_dropout,
        prefix=captions.prefix,
        suffix=captions.suffix,
        wildcards=captions.wildcards,
    )


def buckets_of(settings: TrainSettings, architecture: Architecture) -> Buckets:
    resolution = settings.data.resolution or architecture.native_resolution
    width, height = (resolution, resolution) if isinstance(resolution, int) else resolution
    bucket = settings.buckets
    return plan_buckets(
        width,
        height,
        enabled=bucket.enabled,
        min=bucket.min,
        max=bucket.max,
        step=bucket.step,
        upscale=bucket.upscale,
        multiple=architecture.size_multiple,
    )


def default_name(folders: list[FolderSpec]) -> str:
    """The dataset's name: of the folder that holds the concepts, or of the one with pictures."""
    path = folders[0].path.resolve()
    inner = path.name.split("_", 1)
    if len(inner) == 2 and inner[0].isdigit():
        parent = path.parent
        path = parent.parent if parent.name.lower() in ("img", "images") else parent
    return path.name.replace(" ", "-") or "lora"
