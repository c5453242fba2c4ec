"""All that can be known before a model is loaded, and all that is wrong with it, at once."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
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
from lorasmith.data.scan import FolderSpec, Scan, find_folders, scan
from lorasmith.errors import Problem, SettingsError, UserError
from lorasmith.files import check_writable, sha256_of
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
        digest = blake2b(digest_size=16)
        for item in self.dataset.items:
            place = (item.placement.bucket, item.placement.resized, item.placement.crop)
            facts = (item.picture.path.name, item.caption, place, item.repeats, item.weight)
            digest.update(repr(facts).encode())
            digest.update(sha256_of(item.picture.path).encode())
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

    def epoch_at(self, done: int) -> tuple[int, bool]:
        """The epoch (from 1) of step ``done`` (from 1), and whether that step ends it."""
        return (done - 1) // self.steps_per_epoch + 1, done % self.steps_per_epoch == 0


def prepare(settings: TrainSettings, processes: int = 1) -> Prepared:
    """Check everything that can be checked without the model's weights.

    Args:
        processes: how many will train together; each takes ``train.batch`` pictures per step.

    Raises:
        UserError: everything that is wrong, in one report.
    """
    problems: list[Problem] = []

    def attempt(action: Callable[[], T]) -> T | None:
        try:
            return action()
        except UserError as error:
            problems.extend(error.problems)
            return None

    model = settings.model
    architecture = attempt(
        lambda: peek(model.path, vae=model.vae, family=model.family, prediction=model.prediction)
    )
    folders = attempt(lambda: folder_specs(settings))
    found = (
        attempt(lambda: scan(folders, extension=settings.captions.extension)) if folders else None
    )
    attempt(lambda: find_optimizer(settings.optimizer.name))
    attempt(lambda: check_writable(settings.save.output))
    for prompt in settings.sample.prompts:
        attempt(lambda prompt=prompt: parse_prompt(prompt))  # type: ignore[misc]
    if settings.adapter.init_from is not None:
        attempt(lambda: load_lora(settings.adapter.init_from))
    buckets = attempt(lambda: buckets_of(settings, architecture)) if architecture else None
    if found is None or buckets is None or architecture is None or folders is None:
        raise UserError([*problems, *(found.problems if found else ())])

    dataset = build_dataset(
        found,
        buckets,
        caption_rules(settings),
        flip=settings.augment.flip,
        prior_weight=settings.loss.prior_weight,
    )
    global_batch = settings.train.batch * processes
    report = audit(
        found,
        dataset,
        count_tokens=count_tokens,
        max_tokens=model.max_tokens,
        trigger=settings.captions.trigger,
        batch=global_batch,
        accumulation=settings.train.accumulation,
        epochs=settings.train.epochs,
        steps=settings.train.steps,
    )
    problems += report.errors
    if problems:
        raise UserError(problems)
    return Prepared(
        settings,
        settings.save.name or default_name(folders),
        folders[0].path.parent if len(folders) > 1 else folders[0].path,
        architecture,
        found,
        dataset,
        report,
        dataset.batches_per_epoch(global_batch),
    )


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
        specs += [FolderSpec(spec.path, spec.repeats, True) for spec in find_folders(data.reg)]
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
