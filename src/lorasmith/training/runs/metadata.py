"""What a LoRA file says of how it was made, gathered from the run.

No clock and no path of this machine is in it: the same settings on the same images give the same
file, byte for byte, whenever and wherever they are run. Dates are in ``run.json``.
"""

from __future__ import annotations

import contextlib
from collections import Counter, defaultdict
from dataclasses import replace
from hashlib import file_digest
from pathlib import Path
from typing import Any

from lorasmith.config.sections.augment import AugmentSettings
from lorasmith.config.sections.loss import LossSettings
from lorasmith.config.sections.validation import ValidationSettings
from lorasmith.core.errors import RunError
from lorasmith.data.cache.file_memo import FileMemo
from lorasmith.data.captions import tags_of
from lorasmith.data.dataset import Dataset
from lorasmith.data.scan import Scan
from lorasmith.data.triggers import trigger_words
from lorasmith.formats.hashes import autov1
from lorasmith.formats.training_metadata import (
    IMPLEMENTATIONS,
    ModelSpec,
    TrainingFacts,
    bucket_info,
    tag_frequency,
)
from lorasmith.models.open import DEMO
from lorasmith.models.tokenizer import ROW
from lorasmith.training.kinds.table import kind_of
from lorasmith.training.lr_schedules import warmup_steps
from lorasmith.training.memory.plan import checkpoints
from lorasmith.training.optim import find_optimizer
from lorasmith.training.setup.build import Run
from lorasmith.training.setup.preflight import cache_folder

# sd-scripts' names for the precision that activations are computed in.
MIXED_PRECISION = {"fp32": "no", "fp16": "fp16", "bf16": "bf16"}


def lora_metadata(run: Run, step: int) -> dict[str, str]:
    """``ss_*`` and ``modelspec.*`` of the file written after ``step``."""
    spec = model_spec(run)
    architecture = f"{spec.architecture}{kind_of(run.settings).modelspec}"
    facts = training_facts(run, step).metadata()
    return {**facts, **spec.metadata(), "modelspec.architecture": architecture}


def resolution_of(run: Run) -> tuple[int, int]:
    native = run.run_plan.architecture.native_resolution
    resolution = run.settings.data.resolution or native
    return (resolution, resolution) if isinstance(resolution, int) else resolution


def training_facts(run: Run, step: int) -> TrainingFacts:
    settings, run_plan = run.settings, run.run_plan
    adapter, captions, buckets = settings.adapter, settings.captions, settings.buckets
    dataset, scan = run_plan.dataset, run_plan.scan
    sides = [side for group in dataset.groups for size in group.buckets.sizes for side in size]
    network = kind_of(settings).network_facts(settings, run.trained)
    facts = TrainingFacts(
        output_name=run.folder.name,
        learning_rate=settings.optimizer.full_lr,
        unet_lr=settings.optimizer.unet_lr,
        text_encoder_lr=settings.optimizer.text_encoder_lr,
        num_train_images=sum(item.repeats for item in dataset.items if not item.reg),
        num_reg_images=_reg_images(scan, dataset),
        num_batches_per_epoch=run_plan.batches_per_epoch,
        num_epochs=run.epochs,
        epoch=run_plan.epoch_at(step)[0],
        steps=step,
        batch_size_per_device=settings.train.batch,
        total_batch_size=(settings.train.batch * run.processes.count * settings.train.accumulation),
        resolution=str(resolution_of(run)),
        gradient_checkpointing=checkpoints(settings, run.memory),
        gradient_accumulation_steps=settings.train.accumulation,
        max_train_steps=run.steps,
        lr_warmup_steps=warmup_steps(settings.schedule.warmup, run.steps),
        lr_scheduler=settings.schedule.name,
        network_module=network.module,
        network_dim=network.dim,
        network_alpha=network.alpha,
        network_dropout=adapter.dropout or None,
        network_args=network.args,
        mixed_precision=MIXED_PRECISION[run.precision.name],
        cache_latents=settings.performance.cache_latents,
        shuffle_caption=captions.shuffle,
        keep_tokens=captions.keep_tokens,
        enable_bucket=buckets.enabled,
        bucket_no_upscale=buckets.enabled and not buckets.upscale,
        min_bucket_reso=min(sides) if buckets.enabled else None,
        max_bucket_reso=max(sides) if buckets.enabled else None,
        bucket_info=_bucket_info(dataset),
        dataset_dirs=_folders(scan, dataset, reg=False),
        reg_dataset_dirs=_folders(scan, dataset, reg=True),
        tag_frequency=_tags(scan, dataset),
        seed=settings.train.seed,
        scale_weight_norms=adapter.scale_weight_norms,
        caption_dropout_rate=captions.dropout,
        caption_dropout_every_n_epochs=captions.dropout_every_n_epochs or 0,
        caption_tag_dropout_rate=captions.tag_dropout,
        optimizer=optimizer_text(run),
        max_grad_norm=settings.optimizer.max_grad_norm,
        training_comment=settings.save.comment or None,
    )
    if not run_plan.has_images:  # Its items are prompts.
        facts = replace(
            facts, num_train_images=0, bucket_info={}, dataset_dirs={}, tag_frequency={}
        )
    facts = _based(facts, run)
    facts = _validated(facts, settings.validation, len(run_plan.held_out.images))
    return _weighed(_augmented(facts, settings.augment), settings.loss)


def _based(facts: TrainingFacts, run: Run) -> TrainingFacts:
    """With the base model and how it is used."""
    model, architecture = run.settings.model, run.run_plan.architecture
    family = architecture.family
    memo = cache_folder(run.settings, run.run_plan.data_folder) / "models.json"
    path = DEMO if model.path == "demo" else Path(model.path)
    old, new = file_hashes(path, memo)
    vae_old, vae_new = file_hashes(model.vae, memo) if model.vae else (None, None)
    return replace(
        facts,
        v2=family.name == "sd2",
        base_model_version=family.base_model_version[architecture.prediction],
        # sd-scripts has None for what it does unless told otherwise.
        clip_skip=None if model.clip_skip == 1 else model.clip_skip,
        max_token_length=None if model.max_tokens == ROW else model.max_tokens,
        sd_model_name=path.name if model.path != "demo" and path.exists() else str(model.path),
        sd_model_hash=old,
        new_sd_model_hash=new,
        vae_name=model.vae.name if model.vae else None,
        vae_hash=vae_old,
        new_vae_hash=vae_new,
        zero_terminal_snr=architecture.zero_terminal_snr,
    )


def file_hashes(path: Path, memo: Path | None) -> tuple[str | None, str | None]:
    """What model sites know a file by: the web UI's old hash (8 hex digits), and its SHA-256.

    Args:
        memo: a JSON file in which they are remembered: a checkpoint takes seconds to read.

    Returns:
        ``None`` for both where it is not a single file.
    """
    if not path.is_file():
        return None, None
    hash_memo = FileMemo(memo)
    hashes = hash_memo.get(path)
    if not (isinstance(hashes, list) and len(hashes) == 2):
        with open(path, "rb") as file:
            hashes = [autov1(path), file_digest(file, "sha256").hexdigest()]
        hash_memo.set(path, hashes)
        with contextlib.suppress(RunError):  # the cache's folder may be full, or only readable
            hash_memo.save()
    return str(hashes[0]), str(hashes[1])


def _reg_images(scan: Scan, dataset: Dataset) -> int:
    """With the repeats of their folders, as sd-scripts counts; how often they are used besides,
    to match the training images, is not in it."""
    return sum(scan.folders[item.image.folder].repeats for item in dataset.items if item.reg)


def _validated(facts: TrainingFacts, held_out: ValidationSettings, images: int) -> TrainingFacts:
    if not images:
        return facts
    assert not isinstance(held_out.every_epochs, str), "preflight puts a number there"
    return replace(
        facts,
        num_validation_images=images,
        validation_seed=held_out.seed,
        validation_split=held_out.split,
        validate_every_n_epochs=held_out.every_epochs,
        validate_every_n_steps=held_out.every_steps,
    )


def _augmented(facts: TrainingFacts, augment: AugmentSettings) -> TrainingFacts:
    """With the augmentations that sd-scripts has words for."""
    return replace(
        facts,
        color_aug=augment.colour > 0,
        flip_aug=augment.flip,
        random_crop=augment.random_crop,
        face_crop_aug_range=str(tuple(augment.face_crop)) if augment.face_crop else None,
    )


def _weighed(facts: TrainingFacts, loss: LossSettings) -> TrainingFacts:
    """With the loss and the noise, in sd-scripts' words."""
    return replace(
        facts,
        noise_offset=loss.noise_offset or None,
        noise_offset_random_strength=loss.noise_offset_random,
        adaptive_noise_scale=loss.adaptive_noise_scale or None,
        multires_noise_iterations=loss.multires_iterations or None,
        multires_noise_discount=loss.multires_discount,
        ip_noise_gamma=loss.input_perturbation or None,
        ip_noise_gamma_random_strength=loss.input_perturbation_random,
        min_snr_gamma=loss.min_snr_gamma,
        debiased_estimation=loss.debiased,
        prior_loss_weight=loss.prior_weight,
        loss_type=loss.type,
        huber_schedule=loss.huber_schedule,
        huber_c=loss.huber_c,
        huber_scale=loss.huber_scale,
        masked_loss=loss.masked != "off",
    )


def optimizer_text(run: Run) -> str:
    """As sd-scripts writes it: where the class is defined, and what arguments were given."""
    optimizer = run.settings.optimizer
    cls = find_optimizer(optimizer.name)
    args = ",".join(
        f"{key}={tuple(value) if isinstance(value, list) else value}"
        for key, value in optimizer.args.items()
    )
    return f"{cls.__module__}.{cls.__name__}" + (f"({args})" if args else "")


def model_spec(run: Run) -> ModelSpec:
    save, family = run.settings.save, run.run_plan.architecture.family
    return ModelSpec(
        architecture=family.modelspec[run.model.prediction],
        implementation=IMPLEMENTATIONS[family.lora_names],
        title=run.folder.name,
        resolution=resolution_of(run),
        prediction=run.model.prediction,
        clip_skip=run.settings.model.clip_skip if family.takes_clip_skip else None,
        author=save.author,
        description=save.comment,
        license=save.license,
        trigger_phrase=", ".join(trigger_words(run.run_plan.triggers)),
    )


def _bucket_info(dataset: Dataset) -> dict[str, Any]:
    counts: Counter[tuple[int, int]] = Counter()
    errors = []
    for item in dataset.items:
        width, height = item.placement.bucket
        counts[width, height] += item.repeats
        errors.append(abs(item.image.width / item.image.height - width / height))
    return bucket_info(counts, sum(errors) / len(errors))


def _folders(scan: Scan, dataset: Dataset, *, reg: bool) -> dict[str, dict[str, int]]:
    images = Counter(item.image.folder for item in dataset.items if item.reg == reg)
    return {
        scan.folders[index].path.name: {
            "n_repeats": scan.folders[index].repeats,
            "img_count": count,
        }
        for index, count in sorted(images.items())
    }


def _tags(scan: Scan, dataset: Dataset) -> dict[str, dict[str, int]]:
    """By folder, as training sees them; sd-scripts too has regularisation folders among them."""
    tags: dict[str, list[list[str]]] = defaultdict(list)
    for item in dataset.items:
        folder = scan.folders[item.image.folder].path.name
        tags[folder].append(tags_of(item.caption, dataset.rules_of(item)))
    return {name: tag_frequency(rows) for name, rows in tags.items()}
