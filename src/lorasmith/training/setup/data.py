"""From settings to the latents and text features that a step reads."""

from __future__ import annotations

from lorasmith.config.schema import TrainSettings
from lorasmith.core.errors import Problem, RunError, SettingsError
from lorasmith.core.events import Controls, Notice, Observer
from lorasmith.core.files import is_disk_full
from lorasmith.data.cache.latents import LatentKeys, cache_latents
from lorasmith.data.cache.masks import cache_masks
from lorasmith.data.cache.tensor_store import TensorStore
from lorasmith.data.dataset import Dataset
from lorasmith.models.diffusion_model import DiffusionModel
from lorasmith.training.batches import LatentSource, TextSource
from lorasmith.training.setup.network import trains_text_encoder
from lorasmith.training.setup.preflight import RunPlan, cache_folder
from lorasmith.training.setup.processes import Processes
from lorasmith.training.sources import (
    CachedLatents,
    CachedText,
    LiveLatents,
    LiveText,
    cache_text,
)


def cache_store(settings: TrainSettings, run_plan: RunPlan) -> TensorStore:
    return TensorStore(cache_folder(settings, run_plan.data_folder))


def measured_sources(
    settings: TrainSettings,
    run_plan: RunPlan,
    model: DiffusionModel,
    processes: Processes,
    observe: Observer,
    controls: Controls,
) -> tuple[LatentSource, TextSource] | None:
    """Latents and text features of what validation measures; ``None`` when nothing is held out."""
    if run_plan.measured is None:
        return None
    dataset = run_plan.measured.dataset
    latents = latent_source(settings, run_plan, dataset, model, processes, observe, controls)
    return latents, text_source(settings, run_plan, dataset, model, processes, observe)


def latent_source(
    settings: TrainSettings,
    run_plan: RunPlan,
    dataset: Dataset,
    model: DiffusionModel,
    processes: Processes,
    observe: Observer,
    controls: Controls,
) -> LatentSource:
    """The latents of ``dataset``: what is trained on, or what is measured."""
    live = LiveLatents(dataset, model, settings.data.background)
    if not settings.performance.cache_latents:
        return live
    try:
        return _cached_latents(settings, run_plan, dataset, model, processes, observe, controls)
    except RunError as error:
        # Several processes would have to agree on it.
        if not is_disk_full(error) or processes.count > 1:
            raise
        images = sum(item.repeats > 0 for item in dataset.items)
        uses = len(dataset.samples)
        cost = f"the VAE encodes {uses} pictures an epoch, in place of {images} once"
        observe(Notice("warning", _uncached("latents", error, cost)))
        return live


def _uncached(what: str, error: RunError, cost: str) -> str:
    problem = error.problems[0]
    hint = "make room and begin again, or name a folder on another disk: performance.cache_dir"
    return f"{problem.where}: the disk is full, so {what} are not cached: {cost} ({hint})"


def _cached_latents(
    settings: TrainSettings,
    run_plan: RunPlan,
    dataset: Dataset,
    model: DiffusionModel,
    processes: Processes,
    observe: Observer,
    controls: Controls,
) -> LatentSource:
    store = cache_store(settings, run_plan)
    keys = cache_latents(
        dataset,
        store,
        model.encode_images,
        vae_key=model.vae_fingerprint(),
        background=settings.data.background,
        batch=settings.performance.vae_batch,
        device=model.device,
        rank=processes.rank,
        world_size=processes.count,
        observer=observe,
        controls=controls,
    )
    masks: LatentKeys | None = None
    if dataset.masked:
        masks = cache_masks(
            dataset,
            store,
            model.architecture.latent_factor,
            rank=processes.rank,
            world_size=processes.count,
            observer=observe,
            controls=controls,
        )
    processes.wait()
    store.refresh()
    return CachedLatents(store, keys, masks)


def text_source(
    settings: TrainSettings,
    run_plan: RunPlan,
    dataset: Dataset,
    model: DiffusionModel,
    processes: Processes,
    observe: Observer,
) -> TextSource:
    """The text features of ``dataset``'s captions."""
    wanted = settings.performance.cache_text
    trained = trains_text_encoder(settings)
    fixed = not trained and not dataset.captions_vary
    if wanted is True and not fixed:
        why = "the text encoder is trained" if trained else "captions vary from step to step"
        raise SettingsError(
            Problem("performance.cache_text", f"cannot be on: {why}", 'set it to "auto"')
        )
    if not fixed or wanted is False:
        return LiveText(model, trained=trained)
    store = cache_store(settings, run_plan)
    try:
        keys = cache_text(store, dataset.captions, model, observe)
    except RunError as error:
        if not is_disk_full(error) or processes.count > 1:
            raise
        cost = "the text encoder stays in memory and encodes each caption in the run"
        observe(Notice("warning", _uncached("captions", error, cost)))
        return LiveText(model, trained=False)
    return CachedText(store, keys, model.device, model.dtype)
