"""The one place that turns settings into parts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from lorasmith.adapters.dropout import Dropout
from lorasmith.adapters.file import load_lora
from lorasmith.adapters.network import AdapterNetwork
from lorasmith.config.schema import TrainSettings
from lorasmith.data.cache import TensorStore
from lorasmith.data.dataset import Dataset
from lorasmith.data.latents import cache_latents
from lorasmith.diffusion.schedule import NoiseSchedule, Prediction
from lorasmith.errors import Problem, PromptError, SettingsError
from lorasmith.events import Controls, Notice, Observer
from lorasmith.models.checkpoint import load_model
from lorasmith.models.sd import DiffusionModel
from lorasmith.sampling.generate import PictureRequest
from lorasmith.sampling.prompt import parse_prompt
from lorasmith.training.batches import Batches, LatentSource, TextSource
from lorasmith.training.device import LARGE_FOR_CPU, Precision, choose_precision
from lorasmith.training.estimate import unet_weights
from lorasmith.training.lr import LearningRate, warmup_steps
from lorasmith.training.offload import park
from lorasmith.training.optim import FlatGroup, build_optimizer
from lorasmith.training.prepare import Prepared, cache_folder
from lorasmith.training.processes import Processes
from lorasmith.training.run_folder import RunFolder
from lorasmith.training.sources import (
    CachedLatents,
    CachedText,
    LiveLatents,
    LiveText,
    cache_text,
)
from lorasmith.training.state import Position
from lorasmith.training.step import Objective, TrainStep
from lorasmith.training.stopwatch import Stopwatch

# Captions stand in for prompts when none are given; two are enough to see something by.
CAPTIONS_AS_PROMPTS = 2


@dataclass
class Run:
    """A run that is ready to go: parts only, and where it stands."""

    settings: TrainSettings
    prepared: Prepared
    folder: RunFolder
    processes: Processes
    model: DiffusionModel
    precision: Precision
    network: AdapterNetwork
    batches: Batches
    trainer: TrainStep
    samples: list[PictureRequest]
    stopwatch: Stopwatch
    position: Position

    @property
    def steps(self) -> int:
        return self.prepared.steps

    @property
    def epochs(self) -> int:
        return self.prepared.epochs

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
    prepared: Prepared,
    folder: RunFolder,
    processes: Processes,
    observe: Observer,
    controls: Controls,
) -> Run:
    """Load the model, fill the caches, make the adapter and everything that trains it."""
    stopwatch = Stopwatch()
    if settings.performance.threads:
        torch.set_num_threads(settings.performance.threads)
    device = processes.device
    precision = choose_precision(
        settings.train.precision, device, unet_weights(prepared.architecture.unet)
    )
    with stopwatch.phase("loading"):
        model = _load(settings, precision, device)
    with stopwatch.phase("encoding"):
        latents = _latents(settings, prepared, model, processes, observe, controls)
        text = _text(settings, prepared, model, processes, observe)
    batches = Batches(
        prepared.dataset,
        latents,
        text,
        processes,
        seed=settings.train.seed,
        batch=settings.train.batch,
        accumulation=settings.train.accumulation,
    )
    network = _network(settings, model, observe)
    network.attach()
    trainer = _trainer(settings, prepared, model, network, precision, processes)
    if settings.performance.compile:
        model.compile()
    return Run(
        settings, prepared, folder, processes, model, precision, network, batches, trainer,
        sample_requests(settings, prepared, model), stopwatch, Position(),
    )  # fmt: skip


def _load(settings: TrainSettings, precision: Precision, device: torch.device) -> DiffusionModel:
    model = load_model(
        settings.model.path,
        dtype=precision.dtype,
        device=device,
        vae=settings.model.vae,
        family=settings.model.family,
        prediction=settings.model.prediction,
        clip_skip=settings.model.clip_skip,
        max_tokens=settings.model.max_tokens,
    )
    if settings.train.gradient_checkpointing:
        model.enable_gradient_checkpointing()
    wanted = settings.performance.channels_last
    if wanted is True or (wanted == "auto" and channels_last_pays(model)):
        model.use_channels_last()
    return model


def channels_last_pays(model: DiffusionModel) -> bool:
    """Where convolutions are faster with channels innermost.

    Tensor cores want them so. On a CPU, measured on SD1.5: fp32 gains 12 %, bf16 loses as much.
    """
    if model.device.type == "cuda":
        return True
    large = unet_weights(model.architecture.unet) >= LARGE_FOR_CPU
    return model.device.type == "cpu" and model.dtype == torch.float32 and large


def cache_store(settings: TrainSettings, prepared: Prepared) -> TensorStore:
    return TensorStore(cache_folder(settings, prepared.data_folder))


def _latents(
    settings: TrainSettings,
    prepared: Prepared,
    model: DiffusionModel,
    processes: Processes,
    observe: Observer,
    controls: Controls,
) -> LatentSource:
    if not settings.performance.cache_latents:
        return LiveLatents(prepared.dataset, model, settings.data.background)
    store = cache_store(settings, prepared)
    keys = cache_latents(
        prepared.dataset,
        store,
        model.encode_pictures,
        vae_key=model.vae_fingerprint(),
        background=settings.data.background,
        batch=settings.performance.vae_batch,
        rank=processes.rank,
        world_size=processes.count,
        observer=observe,
        controls=controls,
    )
    processes.wait()
    store.refresh()
    park(model, model.vae)
    return CachedLatents(store, keys)


def _text(
    settings: TrainSettings,
    prepared: Prepared,
    model: DiffusionModel,
    processes: Processes,
    observe: Observer,
) -> TextSource:
    wanted = settings.performance.cache_text
    trained = trains_text_encoder(settings)
    fixed = not trained and not prepared.dataset.captions_vary
    if wanted is True and not fixed:
        why = "the text encoder is trained" if trained else "captions vary from step to step"
        raise SettingsError(
            Problem("performance.cache_text", f"cannot be on: {why}", 'set it to "auto"')
        )
    if not fixed or wanted is False:
        return LiveText(model, trained=trained)
    store = cache_store(settings, prepared)
    keys = cache_text(store, prepared.dataset.captions, model, observe)
    park(model, model.text_encoder)
    return CachedText(store, keys, model.device, model.dtype)


def trains_text_encoder(settings: TrainSettings) -> bool:
    return settings.adapter.text_encoder and settings.optimizer.lrs["text_encoder"] > 0


def trains_unet(settings: TrainSettings) -> bool:
    return settings.adapter.unet and settings.optimizer.lrs["unet"] > 0


def _network(settings: TrainSettings, model: DiffusionModel, observe: Observer) -> AdapterNetwork:
    adapter = settings.adapter
    dropout = Dropout(adapter.dropout, adapter.rank_dropout, adapter.module_dropout)
    if adapter.init_from is not None:
        trained = {"unet": trains_unet(settings), "text_encoder": trains_text_encoder(settings)}
        roots = [root for root in model.adapter_roots() if trained[root.part]]
        tensors = load_lora(adapter.init_from).tensors
        network = AdapterNetwork.load(tensors, roots, dropout=dropout, where=str(adapter.init_from))
        observe(Notice("info", f"training goes on from {adapter.init_from}; its ranks are kept"))
        if network.report.unmatched:
            left = len(network.report.unmatched)
            what = f"{left} of its tensors are of layers that this run does not train; left out"
            observe(Notice("warning", what))
        return network
    return AdapterNetwork.create(
        model.adapter_roots(),
        algorithm=adapter.type,
        rank=adapter.rank,
        alpha=adapter.alpha,
        conv_rank=adapter.conv_rank,
        conv_alpha=adapter.conv_alpha,
        unet=trains_unet(settings),
        text_encoder=trains_text_encoder(settings),
        dropout=dropout,
        seed=settings.train.seed,
    )


def _trainer(
    settings: TrainSettings,
    prepared: Prepared,
    model: DiffusionModel,
    network: AdapterNetwork,
    precision: Precision,
    processes: Processes,
) -> TrainStep:
    lrs = settings.optimizer.lrs
    groups = [
        FlatGroup(name, parameters, lrs[name])
        for name, parameters in network.parameter_groups().items()
        if parameters
    ]
    return TrainStep(
        model,
        network,
        groups,
        build_optimizer(settings.optimizer.name, groups, settings.optimizer.args),
        learning_rate(settings, prepared.steps),
        Objective(
            NoiseSchedule(prediction_of(model)),
            settings.train.seed,
            settings.loss.min_snr_gamma,
            settings.loss.noise_offset,
        ),
        processes,
        max_grad_norm=settings.optimizer.max_grad_norm,
        norm_limit=settings.adapter.scale_weight_norms,
        scaler=(
            torch.amp.GradScaler(model.device.type) if precision.dtype == torch.float16 else None
        ),
    )


def prediction_of(model: DiffusionModel) -> Prediction:
    return "v" if model.prediction == "v" else "epsilon"


def learning_rate(settings: TrainSettings, steps: int) -> LearningRate:
    schedule = settings.schedule
    warmup = warmup_steps(schedule.warmup, steps)
    return LearningRate(schedule.name, steps, warmup, schedule.cycles, schedule.min_ratio)


def sample_requests(
    settings: TrainSettings, prepared: Prepared, model: DiffusionModel
) -> list[PictureRequest]:
    """What is drawn while training: the prompts of the settings, else the first captions."""
    sample = settings.sample
    native = model.architecture.native_resolution
    size = sample.size or native
    width, height = (size, size) if isinstance(size, int) else size
    prompts = sample.prompts or first_captions(prepared.dataset)
    return [
        PictureRequest(
            prompt,
            sample.negative,
            sample.seed + number,
            sample.steps,
            sample.cfg,
            sample.sampler,
            width,
            height,
        )
        for number, prompt in enumerate(prompts)
    ]


def first_captions(dataset: Dataset) -> list[str]:
    """Captions of the first training pictures that differ, as far as they can be prompts."""
    captions = dict.fromkeys(item.caption for item in dataset.items if not item.reg)
    return [caption for caption in captions if _is_prompt(caption)][:CAPTIONS_AS_PROMPTS]


def _is_prompt(caption: str) -> bool:
    try:
        return not parse_prompt(caption).loras
    except PromptError:
        return False
