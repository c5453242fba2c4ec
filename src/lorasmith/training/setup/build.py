"""The one place that turns settings into parts."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch

from lorasmith.config.kinds import kind_facts
from lorasmith.models.diffusion_model import DiffusionModel
from lorasmith.models.load import Loading
from lorasmith.sampling.request import ImageRequest
from lorasmith.tensors.device import Precision
from lorasmith.training.batches import Batches
from lorasmith.training.early_stopping import EarlyStopping
from lorasmith.training.ema import Ema
from lorasmith.training.kinds.table import kind_of
from lorasmith.training.kinds.trained import Trained
from lorasmith.training.lr_finder import RateFinder
from lorasmith.training.lr_schedules import learning_rate
from lorasmith.training.lr_search import RateSearch, size_for
from lorasmith.training.memory.plan import channels_last, precision_of
from lorasmith.training.memory.simulate import checkpointed, weight_placement
from lorasmith.training.monitoring.validation import Validation, build_validation
from lorasmith.training.objective import build_objective
from lorasmith.training.runs.state import Position
from lorasmith.training.samples import sample_requests
from lorasmith.training.setup.base_model import open_base
from lorasmith.training.setup.context import RunContext
from lorasmith.training.sources import (
    CachedText,
    LatentSource,
    TextSource,
    latent_source,
    measured_sources,
    text_source,
)
from lorasmith.training.step import TrainStep


@dataclass(frozen=True, kw_only=True)
class Run(RunContext):
    """A run that is ready to go: its parts, and where it begins."""

    model: DiffusionModel
    precision: Precision
    trained: Trained
    batches: Batches
    trainer: TrainStep
    samples: list[ImageRequest]
    position: Position = field(default_factory=Position)
    validation: Validation | None = None
    early_stopping: EarlyStopping | None = None
    rate_search: RateSearch | None = None

    @property
    def log_every(self) -> int:
        every = self.settings.log.every_steps
        if every != "auto":
            return every
        return 1 if self.model.device.type == "cpu" else 10


def build_run(context: RunContext) -> Run:
    """Load the model, fill the caches, make what is trained and everything that trains it.

    The UNet comes last: while images are encoded, its memory is the VAE's to use.
    """
    settings, run_plan, memory = context.settings, context.run_plan, context.memory
    stopwatch, device = context.stopwatch, context.processes.device
    if settings.performance.threads:
        torch.set_num_threads(settings.performance.threads)
    precision = precision_of(run_plan, device)
    loading = Loading(
        open_base(settings),
        dtype=precision.dtype,
        device=device,
        placement=weight_placement(settings),
    )
    model = loading.model
    if channels_last(settings, device):
        model.use_channels_last()
    with stopwatch.phase("loading"):
        loading.fill(*run_plan.architecture.family.parts[1:])
        model.save_vae_memory(
            slices=memory.slices,
            tile_encoding=memory.tile_encoding,
            tile_decoding=memory.tile_decoding,
        )
    with stopwatch.phase("encoding"):
        validation_sources = measured_sources(context, model)
        latents = latent_source(context, run_plan.dataset, model)
        opposites: LatentSource | None = None
        if run_plan.opposites is not None:
            opposites = latent_source(context, run_plan.opposites, model)
        preservation = run_plan.preservation
        further = preservation.all_captions() if preservation is not None else []
        contrast = kind_of(settings).contrast(settings)
        further += contrast.further(settings) if contrast is not None else []
        text = text_source(context, run_plan.dataset, model, further)
        # A step has no use for what has encoded all there is.
        if not latents.needs_model and not (opposites is not None and opposites.needs_model):
            model.offload("vae")
        if isinstance(text, CachedText):
            model.offload(*model.text_encoders)
    with stopwatch.phase("loading"):
        setting = settings.train.gradient_checkpointing
        blocks = checkpointed(setting, model.architecture.block_paths, memory.checkpointed)
        loading.fill("unet")
        if blocks:
            model.enable_gradient_checkpointing(blocks)
    batches = Batches(
        run_plan.dataset,
        latents,
        text,
        context.processes,
        seed=settings.train.seed,
        batch=settings.train.batch,
        accumulation=settings.train.accumulation,
        preservation=preservation,
        opposites=opposites,
    )
    trained = kind_of(settings).build(settings, model, context.observer)
    trained.attach()
    search = None
    if settings.optimizer.seeks_lr:
        with stopwatch.phase("looking for a learning rate"):
            search = _search_rate(context, model, trained, batches, precision)
        found = settings.optimizer.times(search.factor)
        settings = settings.model_copy(update={"optimizer": found})
        context = replace(context, run_plan=replace(run_plan, settings=settings))
    trainer = _trainer(context, model, trained, precision, text)
    if settings.performance.compile:
        sizes = {bucket.size for bucket in run_plan.dataset.buckets}
        model.compile(
            sizes_vary=len(sizes) > 1,
            report=lambda text: context.warn(f"performance.compile: {text}"),
        )
    return Run(
        **vars(context),
        model=model,
        precision=precision,
        trained=trained,
        batches=batches,
        trainer=trainer,
        samples=[
            kind_of(settings).sample(settings, request)
            for request in sample_requests(settings, run_plan.dataset, run_plan.architecture)
        ],
        validation=build_validation(
            settings.validation, trainer, run_plan.validation_set, validation_sources
        ),
        early_stopping=(
            EarlyStopping(context, model, trained, trainer.objective.schedule)
            if settings.train.stop == "best"
            else None
        ),
        rate_search=search,
    )


def _search_rate(
    context: RunContext,
    model: DiffusionModel,
    trained: Trained,
    batches: Batches,
    precision: Precision,
) -> RateSearch:
    """With a trainer of its own, so that nothing of it is left but the answer."""
    trainer = _trainer(context, model, trained, precision, batches.text)
    optimizer = context.settings.optimizer
    size = size_for(context.settings, context.steps, context.processes.count)
    assert size is not None, "the preflight has looked"
    return RateFinder(
        context.steps,
        optimizer,
        trainer,
        batches,
        size,
        usual=kind_facts(context.settings).defaults.get("optimizer.lr"),
        observer=context.observer,
        controls=context.controls,
    ).find()


def _trainer(
    context: RunContext,
    model: DiffusionModel,
    trained: Trained,
    precision: Precision,
    text: TextSource,
) -> TrainStep:
    settings, kind = context.settings, kind_of(context.settings)
    groups = kind.groups(settings, trained, precision.dtype)
    objective = build_objective(settings, model)
    if (contrast := kind.contrast(settings)) is not None:
        items = [sample.item for sample in context.run_plan.dataset.samples]
        objective = contrast.objective(settings, objective, trained, text, items)
    return TrainStep(
        model,
        trained,
        groups,
        kind.optimizer(settings, trained, groups),
        learning_rate(settings, context.steps),
        objective,
        context.processes,
        max_grad_norm=settings.optimizer.max_grad_norm,
        scaler=(
            torch.amp.GradScaler(model.device.type) if precision.dtype == torch.float16 else None
        ),
        ema=Ema(groups, settings.train.ema) if settings.train.ema else None,
        preservation=context.run_plan.preservation,
    )
