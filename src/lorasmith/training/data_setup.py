"""From settings to the latents and text features that a step reads."""

from __future__ import annotations

from lorasmith.config.schema import TrainSettings
from lorasmith.data.cache import TensorStore
from lorasmith.data.latents import cache_latents
from lorasmith.errors import Problem, SettingsError
from lorasmith.events import Controls, Observer
from lorasmith.models.sd import DiffusionModel
from lorasmith.training.batches import LatentSource, TextSource
from lorasmith.training.network_setup import trains_text_encoder
from lorasmith.training.offload import park
from lorasmith.training.prepare import Prepared, cache_folder
from lorasmith.training.processes import Processes
from lorasmith.training.sources import (
    CachedLatents,
    CachedText,
    LiveLatents,
    LiveText,
    cache_text,
)


def cache_store(settings: TrainSettings, prepared: Prepared) -> TensorStore:
    return TensorStore(cache_folder(settings, prepared.data_folder))


def latent_source(
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


def text_source(
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
