"""All that can be known before a model is loaded, and all that is wrong with it, at once."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from hashlib import blake2b
from pathlib import Path
from typing import Literal, Protocol, TypeVar

from lorasmith.config.checks import table as checks
from lorasmith.config.checks.loss import warnings_with as loss_warnings
from lorasmith.config.checks.optimizer import far_too_high
from lorasmith.config.kinds import kind_facts
from lorasmith.config.schema import TrainSettings, for_folder, replace_settings
from lorasmith.config.sections.loss import PreservationSettings
from lorasmith.config.values import AUTO
from lorasmith.core.errors import Problem, SettingsError, UserError, collect_problems
from lorasmith.core.events import Controls, Observer, ignore
from lorasmith.curation.check.check import CheckReport, check_dataset
from lorasmith.curation.collection import finish_interrupted
from lorasmith.data.augmentation.masks import check_masks, find_masks
from lorasmith.data.buckets import Buckets, plan_buckets
from lorasmith.data.cache.file_memo import hash_images
from lorasmith.data.cache.latents import cache_place, default_cache_folder
from lorasmith.data.dataset import Dataset, SampleGroup, build_dataset
from lorasmith.data.holdout import (
    HeldOut,
    ValidationSet,
    hold_out_of,
    near_duplicates_across,
)
from lorasmith.data.layout import FolderSpec, default_name, find_folders
from lorasmith.data.scan import Scan, scan
from lorasmith.data.triggers import Trigger, apply_triggers
from lorasmith.models.families.table import Architecture
from lorasmith.models.placeholders import Placeholders
from lorasmith.models.tokenizer import count_tokens
from lorasmith.training.kinds.table import kind_of
from lorasmith.training.lr_schedules import warmup_oddities
from lorasmith.training.lr_search import search_oddities, size_for
from lorasmith.training.preservation import (
    Preservation,
    preservation_of,
    preservation_warnings,
)
from lorasmith.training.setup.base_defaults import SuitedSettings, suit
from lorasmith.training.setup.base_model import open_base
from lorasmith.training.setup.check_parts import check_against_model, check_parts
from lorasmith.training.setup.contrast_data import ContrastData, pair_data, prompt_data
from lorasmith.training.setup.hardware import (
    AdaptedSettings,
    adapt_to_hardware,
    slow_device,
)
from lorasmith.training.setup.length import PlannedLength, plan_length

T = TypeVar("T")

# Below this share of the pixels that a model was made for, what it draws falls apart.
SMALL_SHARE = 0.6


@dataclass(frozen=True)
class RunPlan:
    """A run as far as it can be worked out from settings, headers and images.

    Args:
        name: of the run and its files.
        data_folder: where the images are; the cache lies there unless told otherwise.
        scan: what is trained on, without what is held out.
        report: what the preflight found.
        validation_set: the images that validation measures, ``None`` when nothing is held out.
        held_out: and where they come from.
        adapted: what this machine made of the settings, ``None`` when it was not asked.
        triggers: what calls up the images of each folder.
        suited: the settings with what suits the base.
        length: how the number of steps came about, where it was worked out.
        has_images: or is trained on prompts, and items of ``scan`` and ``dataset`` are no files.
        origins: where settings come from that are not as by default, by setting.
        opposites: of pairs of images the other side, in the same order as ``dataset``.
    """

    settings: TrainSettings
    name: str
    data_folder: Path
    architecture: Architecture
    scan: Scan
    dataset: Dataset
    report: CheckReport
    batches_per_epoch: int
    held_out: HeldOut
    validation_set: ValidationSet | None = None
    adapted: AdaptedSettings | None = None
    triggers: tuple[Trigger, ...] = ()
    suited: SuitedSettings | None = None
    length: PlannedLength | None = None
    origins: Mapping[str, str] = field(default_factory=dict)
    has_images: bool = True
    opposites: Dataset | None = None

    @cached_property
    def fingerprint(self) -> str:
        """Changes with any image's bytes, mask, crop, caption, place in its bucket or uses."""
        memo = cache_folder(self.settings, self.data_folder) / "pictures.json"
        items = [
            *self.dataset.items,
            *(self.validation_set.dataset.items if self.validation_set else ()),
            *(self.opposites.items if self.opposites else ()),
        ]
        paths = [item.image.path for item in items]
        paths += [item.mask.path for item in items if item.mask is not None]
        hashes = hash_images(paths, memo) if self.has_images else dict.fromkeys(paths, "")
        digest = blake2b(digest_size=16)
        for item in items:
            place = (item.placement.bucket, item.placement.resized, item.placement.crop)
            facts = (item.image.path.name, item.caption, place, item.repeats, item.weight)
            digest.update(repr(facts).encode())
            digest.update(hashes[item.image.path].encode())
            if item.mask is not None:
                digest.update(f"mask {hashes[item.mask.path]}".encode())
            if item.image.region is not None:
                digest.update(repr(item.image.region).encode())
        return digest.hexdigest()

    @cached_property
    def preservation(self) -> Preservation | None:
        """Of the base model's output; ``None`` where nothing is kept."""
        return preservation_of(self.settings, self.dataset)[0]

    @property
    def preserves(self) -> PreservationSettings | None:
        """How the base model's output is kept, ``None`` where it is not."""
        return None if self.preservation is None else self.preservation.settings

    @property
    def steps_per_epoch(self) -> int:
        return math.ceil(self.batches_per_epoch / self.settings.train.accumulation)

    @property
    def steps(self) -> int:
        """Optimizer steps of the whole run."""
        train = self.settings.train
        if train.steps is not None:
            return train.steps
        assert isinstance(train.epochs, int), "preflight puts a number there"
        return train.epochs * self.steps_per_epoch

    @property
    def epochs(self) -> int:
        return math.ceil(self.steps / self.steps_per_epoch)

    @property
    def warnings(self) -> list[Problem]:
        """What is odd about the settings together with the model and the images."""
        measured = self.suited.of_kind if self.suited is not None else frozenset()
        warnings = [one for one in checks.warnings(self.settings) if one.where not in measured]
        if self.suited is not None:
            warnings += self.suited.warnings
            # The base may say what is usual on it.
            usual = self.suited.suggested.get("optimizer.lr")
            by_guides = [*far_too_high(self.settings)]
            on_base = far_too_high(self.settings, usual if isinstance(usual, float) else None)
            warnings = [one for one in warnings if one not in by_guides] + [*on_base]
        if self.adapted is not None:
            weights = self.architecture.denoiser_weights
            warnings += self.adapted.warnings
            warnings += slow_device(self.settings, self.adapted.machine, weights)
        warnings += loss_warnings(
            self.settings,
            self.architecture.prediction,
            zero_terminal_snr=self.architecture.zero_terminal_snr,
        )
        warnings += self.length.warnings if self.length is not None else ()
        warnings += warmup_oddities(self.settings, self.steps)
        warnings += search_oddities(self.settings)
        warnings += self._small_sizes()
        if self.settings.performance.cache_dir is None and self.has_images:
            elsewhere = cache_place(self.data_folder)[1]
            warnings += [elsewhere] if elsewhere is not None else []
        has_reg = any(item.reg for item in self.dataset.items)
        asked = self.suited is None or "loss.prior_weight" not in self.suited.origins
        if self.settings.loss.prior_weight != 1.0 and not has_reg and asked:
            what = "has no effect without regularisation pictures"
            warnings.append(Problem("loss.prior_weight", what, "add some with --reg"))
        warnings += preservation_warnings(self.settings, self.dataset)
        warnings += kind_of(self.settings).oddities(self.settings, self.dataset)
        warnings += near_duplicates_across(self.held_out, self.report.near_duplicates)
        return warnings

    def _small_sizes(self) -> list[Problem]:
        """Training far below the size that the model was made at."""
        areas = [w * h for item in self.dataset.items for w, h in [item.placement.bucket]]
        native = self.architecture.native_resolution
        if max(areas) > SMALL_SHARE * native**2:
            return []
        side = round(max(areas) ** 0.5)
        what = f"pictures are trained at about {side} px, and the model was made for {native} px"
        hint = f"set data.resolution = {native}"
        return [Problem("data.resolution", what, hint)]

    def epoch_at(self, done: int) -> tuple[int, bool]:
        """The epoch (from 1) of step ``done`` (from 1), and whether that step ends it."""
        return (done - 1) // self.steps_per_epoch + 1, done % self.steps_per_epoch == 0


class Interval(Protocol):
    """The part of the save and sample settings that says when."""

    @property
    def every_epochs(self) -> int | Literal["auto"] | None: ...
    @property
    def every_steps(self) -> int | None: ...


def should(
    interval: Interval, done: int, epoch: int, ends_epoch: bool, *, last: bool = False
) -> bool:
    """Whether it is time after step ``done`` (1-based), in or at the end of ``epoch`` (1-based).

    The last step counts whatever its number, unless both intervals are off.
    """
    if last:
        return bool(interval.every_epochs or interval.every_steps)
    every = interval.every_epochs
    if isinstance(every, str):  # "auto" stays where images would be measured and none are held out.
        return False
    by_epoch = ends_epoch and every and epoch % every == 0
    by_step = interval.every_steps and done % interval.every_steps == 0
    return bool(by_epoch or by_step)


def preflight(
    settings: TrainSettings,
    processes: int = 1,
    *,
    to_train: bool = False,
    origins: Mapping[str, str] | None = None,
    observer: Observer = ignore,
    controls: Controls | None = None,
) -> RunPlan:
    """Check everything that can be checked without the model's weights.

    Args:
        processes: how many will train together; each takes ``train.batch`` images per step.
        to_train: also fit the settings to this machine; those of the result are then to be used.
        origins: where settings come from that were given, by setting.
        observer: told of progress while images are looked at.

    Raises:
        UserError: everything that is wrong, in one report.
    """
    problems: list[Problem] = []
    checkpoint = collect_problems(problems, lambda: open_base(settings))
    suited = suit(settings, checkpoint) if checkpoint is not None else None
    settings = suited.settings if suited is not None else settings
    adapted = collect_problems(problems, lambda: adapt_to_hardware(settings)) if to_train else None
    settings = adapted.settings if adapted is not None else settings
    check_parts(settings, problems)
    if processes > 1 and kind_facts(settings).one_pass(settings):
        what = f"steps before the {processes} processes have summed their gradients"
        problems.append(Problem("full.fused_backward", what, "leave it out, or take one process"))
    architecture = None
    contrast = kind_of(settings).contrast(settings)
    if contrast is not None:
        problems += checks.missing_data(settings)
        word = settings.captions.trigger
        given = [Trigger(word, "captions.trigger", Path(), 0)] if word not in ("", AUTO) else []
        with_word = partial(kind_of(settings).with_triggers, settings, given)
        settings = collect_problems(problems, with_word) or settings
        if checkpoint is not None:
            check_against_model(settings, checkpoint, problems)
        if checkpoint is None or suited is None or problems:
            raise UserError(dict.fromkeys(problems))
        architecture = checkpoint.architecture
        if contrast.has_pairs:
            buckets = buckets_of(settings, architecture)
            data = pair_data(contrast, settings, buckets, processes, observer, controls)
        else:
            data = prompt_data(contrast, settings, architecture, processes)
        return _plan_of(data, suited, adapted, architecture, origins or {})
    collect_problems(problems, lambda: finish_interrupted(data_folders(settings), observer))
    folders = collect_problems(problems, lambda: folder_specs(settings))
    images, groups, extension = None, None, settings.captions.extension
    if folders is not None:
        images = collect_problems(problems, lambda: scan(folders, extension=extension))
    if checkpoint is not None:
        architecture = checkpoint.architecture
        groups = collect_problems(problems, lambda: sample_groups(settings, architecture))
        check_against_model(settings, checkpoint, problems)
    if images is None or groups is None or architecture is None or folders is None:
        raise UserError([*problems, *(images.problems if images else ())])

    loss, run = settings.loss, settings.train
    masks = find_masks(loss.masked, loss.mask_folder, images.images, images.folders, images.masks)
    problems += [*masks.problems, *check_masks(masks, images.images)]
    images, triggers = apply_triggers(images, settings.captions)
    settings = with_trigger(settings, triggers)
    kind, with_triggers = kind_of(settings), partial(kind_of(settings).with_triggers, settings)
    settings = collect_problems(problems, lambda: with_triggers(triggers)) or settings
    held_out = collect_problems(
        problems, lambda: hold_out_of(settings.validation, images, extension)
    ) or HeldOut(images, (), images)
    dataset = build_dataset(
        held_out.training,
        groups,
        settings.captions,
        augmentation=settings.augment,
        masks=masks.by_image,
        prior_weight=loss.prior_weight,
    )
    problems += kind.problems(settings, dataset) if not problems else ()
    batches = dataset.batches_per_epoch(run.batch, processes)
    planned = None
    if any(not item.reg for item in dataset.items):  # Otherwise that is told below.
        planned = plan_length(
            settings,
            dataset,
            math.ceil(batches / run.accumulation),
            suited.suggested if suited is not None else {},
            validates=bool(held_out.images),
        )
        settings = planned.settings
    data_folder = folders[0].path.parent if len(folders) > 1 else folders[0].path
    report = check_dataset(
        held_out.training,
        dataset,
        batch=run.batch,
        processes=processes,
        accumulation=run.accumulation,
        epochs=settings.train.epochs if isinstance(settings.train.epochs, int) else 1,
        steps=settings.train.steps,
        length=planned.explanation if planned is not None else "",
        count_tokens=_counter(kind.placeholders(settings)),
        max_tokens=settings.model.max_tokens,
        triggers=triggers,
        warnings=masks.warnings,
        held_out=held_out.images,
        observer=observer,
        controls=controls,
    )
    problems += report.errors
    if problems:
        raise UserError(dict.fromkeys(problems))
    run_plan = RunPlan(
        settings,
        settings.save.name or kind.default_name(settings) or default_name(folders[0].path),
        data_folder,
        architecture,
        held_out.training,
        dataset,
        report,
        batches,
        held_out,
        held_out.measured(settings.validation, groups, settings.captions),
        adapted,
        triggers,
        suited,
        planned,
        {
            **(origins or {}),
            **(suited.origins if suited else {}),
            **dict.fromkeys(adapted.replaced if adapted else (), "this machine"),
            **dict.fromkeys(planned.changes if planned else (), "the number of pictures"),
        },
    )
    size_for(run_plan.settings, run_plan.steps, processes)
    return run_plan


def _counter(placeholders: Placeholders) -> Callable[[str], int]:
    """How many tokens a caption takes."""
    return (lambda text: len(placeholders.token_ids(text))) if placeholders else count_tokens


def _plan_of(
    data: ContrastData,
    suited: SuitedSettings,
    adapted: AdaptedSettings | None,
    architecture: Architecture,
    origins: Mapping[str, str],
) -> RunPlan:
    """The rest of :func:`preflight` for a run that learns a difference."""
    origins = {**origins, **suited.origins}
    origins |= dict.fromkeys(adapted.replaced if adapted else (), "this machine")
    origins |= dict.fromkeys(data.length.changes, "the usual length of such runs")
    settings = data.length.settings
    data_folder = settings.data.path
    return RunPlan(
        settings,
        settings.save.name or kind_of(settings).default_name(settings),
        settings.save.output if data_folder is None else data_folder,
        architecture,
        data.scan,
        data.dataset,
        data.report,
        data.batches,
        HeldOut(data.scan, (), data.scan),
        adapted=adapted,
        suited=suited,
        origins=origins,
        has_images=data.opposites is not None,
        opposites=data.opposites,
    )


def with_trigger(settings: TrainSettings, triggers: Sequence[Trigger]) -> TrainSettings:
    """With the trigger that was found, so that a resumed run has it whatever is found then; where
    folders differ in it, each is found again."""
    words = {trigger.text for trigger in triggers}
    if len(words) != 1:
        return settings
    return replace_settings(settings, {"captions.trigger": words.pop()})


def cache_folder(settings: TrainSettings, data_folder: Path) -> Path:
    return settings.performance.cache_dir or default_cache_folder(data_folder)


def process_count() -> int:
    """How many processes the launcher started, before anything is set up between them."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def data_folders(settings: TrainSettings) -> list[Path]:
    """The folders that settings name, as they name them."""
    data = settings.data
    named = [data.path, data.reg, *(folder.path for folder in data.folders)]
    return [path for path in named if path is not None]


def folder_specs(settings: TrainSettings) -> list[FolderSpec]:
    """Raises DatasetError where a folder is missing or holds nothing."""
    data = settings.data
    if data.path is None and not data.folders:
        raise SettingsError.of(
            "data.path", "no training pictures are named", "give a folder with --data"
        )
    specs = []
    for group, folder in enumerate(data.folders):
        folder_settings = for_folder(settings, folder)
        specs.append(
            FolderSpec(
                folder.path,
                folder.repeats,
                folder.reg,
                folder.caption,
                folder.weight,
                group,
                None if folder.captions is None else folder_settings.captions,
                None if folder.augment is None else folder_settings.augment,
                folder_settings.captions.extension,
            )
        )
    if data.path is not None:
        specs = find_folders(data.path, data.reg) + specs
    elif data.reg is not None:
        own_group = len(data.folders)
        specs += [replace(spec, reg=True, group=own_group) for spec in find_folders(data.reg)]
    return specs


def sample_groups(settings: TrainSettings, architecture: Architecture) -> list[SampleGroup]:
    """The groups that :attr:`FolderSpec.group` counts: of each ``[[data.folders]]``, and behind
    them the run's own. Those that are equal become one in the dataset.

    Raises:
        SettingsError: the buckets of one of them do not suit the model or the resolution.
    """
    groups = []
    for folder in settings.data.folders:
        folder_settings = for_folder(settings, folder)
        batch = (
            None
            if folder_settings.train.batch == settings.train.batch
            else folder_settings.train.batch
        )
        groups.append(SampleGroup(buckets_of(folder_settings, architecture), batch, folder.group))
    if not groups or settings.data.reg is not None:
        groups.append(SampleGroup(buckets_of(settings, architecture)))
    return groups


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
