"""The one place that turns settings into parts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from lorasmith.adapters.network import AdapterNetwork
from lorasmith.config.schema import TrainSettings
from lorasmith.core.errors import PromptError
from lorasmith.core.events import Controls, Notice, Observer
from lorasmith.data.captions import readings
from lorasmith.data.dataset import Dataset
from lorasmith.models.diffusion_model import DiffusionModel
from lorasmith.models.load import Loading
from lorasmith.prompts.parse import parse_prompt
from lorasmith.sampling.request import ImageRequest
from lorasmith.tensors.device import Precision
from lorasmith.training.batches import Batches, LatentSource, TextSource
from lorasmith.training.ema import Ema
from lorasmith.training.lr_schedules import learning_rate
from lorasmith.training.memory.plan import MemoryPlan, channels_last, precision_of
from lorasmith.training.memory.simulate import checkpointed, weight_placement
from lorasmith.training.monitoring.timer import Stopwatch
from lorasmith.training.monitoring.validation import Validation, build_validation
from lorasmith.training.objective import build_objective
from lorasmith.training.optim import build_optimizer, flat_groups
from lorasmith.training.runs.folder import RunFolder
from lorasmith.training.runs.state import Position
from lorasmith.training.sample_requests import sample_request
from lorasmith.training.setup.data import latent_source, measured_sources, text_source
from lorasmith.training.setup.network import build_network
from lorasmith.training.setup.preflight import RunPlan, open_base
from lorasmith.training.setup.processes import Processes
from lorasmith.training.sources import CachedLatents, CachedText
from lorasmith.training.step import TrainStep

# Captions stand in for prompts when none are given; two are enough to see something by.
CAPTIONS_AS_PROMPTS = 2


@dataclass
class Run:
    """A run that is ready to go: parts only, and where it stands."""

    settings: TrainSettings
    run_plan: RunPlan
    folder: RunFolder
    processes: Processes
    model: DiffusionModel
    precision: Precision
    memory: MemoryPlan
    network: AdapterNetwork
    batches: Batches
    trainer: TrainStep
    samples: list[ImageRequest]
    stopwatch: Stopwatch
    position: Position
    validation: Validation | None = None

    @property
    def steps(self) -> int:
        return self.run_plan.steps

    @property
    def epochs(self) -> int:
        return self.run_plan.epochs

    @property
    def log_every(self) -> int:
        every = self.settings.log.every_steps
        if every != "auto":
            return every
        return 1 if self.model.device.type == "cpu" else 10

    @property
    def model_name(self) -> str:
        return Path(self.settings.model.path).stem


def build_run(
    settings: TrainSettings,
    run_plan: RunPlan,
    folder: RunFolder,
    processes: Processes,
    memory: MemoryPlan,
    observe: Observer,
    controls: Controls,
) -> Run:
    """Load the model, fill the caches, make the adapter and everything that trains it.

    The UNet comes last: while images are encoded, its memory is the VAE's to use.
    """
    stopwatch = Stopwatch()
    if settings.performance.threads:
        torch.set_num_threads(settings.performance.threads)
    device = processes.device
    precision = precision_of(settings, run_plan, device)
    loading = _open(settings, run_plan, precision, device)
    model = loading.model
    with stopwatch.phase("loading"):
        loading.fill(*run_plan.architecture.family.parts[1:])
        model.save_vae_memory(
            slices=memory.slices,
            tile_encoding=memory.tile_encoding,
            tile_decoding=memory.tile_decoding,
        )
    with stopwatch.phase("encoding"):
        measured = measured_sources(settings, run_plan, model, processes, observe, controls)
        dataset = run_plan.dataset
        latents = latent_source(settings, run_plan, dataset, model, processes, observe, controls)
        text = text_source(settings, run_plan, dataset, model, processes, observe)
        _park(model, latents, text)
    with stopwatch.phase("loading"):
        _fill_unet(loading, settings, memory)
    batches = Batches(
        run_plan.dataset,
        latents,
        text,
        processes,
        seed=settings.train.seed,
        batch=settings.train.batch,
        accumulation=settings.train.accumulation,
    )
    network = build_network(settings, model, observe)
    network.attach()
    trainer = _trainer(settings, run_plan, model, network, precision, processes)
    if settings.performance.compile:
        sizes = {bucket.size for bucket in run_plan.dataset.buckets}
        model.compile(
            sizes_vary=len(sizes) > 1,
            report=lambda text: observe(Notice("warning", f"performance.compile: {text}")),
        )
    return Run(
        settings, run_plan, folder, processes, model, precision, memory, network, batches, trainer,
        sample_requests(settings, run_plan, model), stopwatch, Position(),
        build_validation(settings.validation, trainer, run_plan.measured, measured),
    )  # fmt: skip


def _open(
    settings: TrainSettings, run_plan: RunPlan, precision: Precision, device: torch.device
) -> Loading:
    loading = Loading(
        open_base(settings),
        dtype=precision.dtype,
        device=device,
        placement=weight_placement(settings),
    )
    if channels_last(settings, device):
        loading.model.use_channels_last()
    return loading


def _park(model: DiffusionModel, latents: LatentSource, text: TextSource) -> None:
    """Take off the device what a step has no use for."""
    if isinstance(latents, CachedLatents):
        model.offload("vae")
    if isinstance(text, CachedText):
        model.offload(*model.text_encoders)


def _fill_unet(loading: Loading, settings: TrainSettings, memory: MemoryPlan) -> None:
    unet = loading.model.denoiser
    blocks = checkpointed(settings.train.gradient_checkpointing, unet, memory.checkpointed)
    loading.fill("unet")
    if blocks:
        loading.model.enable_gradient_checkpointing(blocks)


def _trainer(
    settings: TrainSettings,
    run_plan: RunPlan,
    model: DiffusionModel,
    network: AdapterNetwork,
    precision: Precision,
    processes: Processes,
) -> TrainStep:
    optimizer, lrs = settings.optimizer, settings.optimizer.lrs
    groups = flat_groups(
        optimizer.name,
        [
            (group.name, group.parameters, lrs[group.part] * group.rate)
            for group in network.parameter_groups()
        ],
        precision.dtype,
    )
    return TrainStep(
        model,
        network,
        groups,
        build_optimizer(optimizer.name, groups, optimizer.args),
        learning_rate(settings, run_plan.steps),
        build_objective(settings, model),
        processes,
        max_grad_norm=optimizer.max_grad_norm,
        norm_limit=settings.adapter.scale_weight_norms,
        scaler=(
            torch.amp.GradScaler(model.device.type) if precision.dtype == torch.float16 else None
        ),
        ema=Ema(groups, settings.train.ema) if settings.train.ema else None,
    )


def sample_requests(
    settings: TrainSettings, run_plan: RunPlan, model: DiffusionModel
) -> list[ImageRequest]:
    """What is drawn while training: the prompts of the settings, else the first captions."""
    sample = settings.sample
    native = model.architecture.native_resolution
    prompts = sample.prompts or first_captions(run_plan.dataset)
    return [sample_request(sample, prompt, number, native) for number, prompt in enumerate(prompts)]


def first_captions(dataset: Dataset) -> list[str]:
    """Captions of the first training images that differ, as far as they can be prompts."""
    captions = dict.fromkeys(
        readings(item.caption, dataset.rules_of(item))[0] for item in dataset.items if not item.reg
    )
    return [caption for caption in captions if _is_prompt(caption)][:CAPTIONS_AS_PROMPTS]


def _is_prompt(caption: str) -> bool:
    try:
        return not parse_prompt(caption).loras
    except PromptError:
        return False
