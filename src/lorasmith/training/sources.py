"""Where a step's latents and text features come from: a cache, or the model on the spot."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from typing import TypeVar

import torch
from torch import Tensor

from lorasmith.core.disk import is_disk_full
from lorasmith.core.errors import RunError, SettingsError
from lorasmith.core.events import Observer, Progress
from lorasmith.data.augmentation.views import View, render
from lorasmith.data.cache.latents import (
    CPU,
    LatentKeys,
    cache_latents,
    cache_masks,
    image_tensor,
    mask_tensor,
    stacked,
)
from lorasmith.data.cache.tensor_store import TensorStore
from lorasmith.data.dataset import Dataset, SampleRef
from lorasmith.models.diffusion_model import Conditioning, DiffusionModel
from lorasmith.models.placeholders import NO_PLACEHOLDERS, Placeholders
from lorasmith.models.text_encoder import tokenize
from lorasmith.tensors.transfer import fetch, pinned, to_device
from lorasmith.training.kinds.table import kind_of
from lorasmith.training.setup.context import RunContext
from lorasmith.training.setup.preflight import cache_folder

T = TypeVar("T")

# Captions whose features stay in memory when they come from the model; "" comes again and again.
REMEMBERED_CAPTIONS = 512

CAPTIONS_PER_SHARD = 256


class LatentSource(ABC):
    """The latents of a dataset's samples.

    Args:
        needs_model: it asks the model, which is for the thread that trains alone to use.
    """

    needs_model: bool

    @abstractmethod
    def ahead(
        self, samples: Sequence[SampleRef], views: Sequence[View]
    ) -> Callable[[], tuple[Tensor, Tensor]]:
        """What of :meth:`posterior` any thread can do; the call does the rest and gives it."""

    @abstractmethod
    def masks(self, samples: Sequence[SampleRef], views: Sequence[View]) -> Tensor | None:
        """(B, 1, h, w) float32 in [0, 1], ones for images without; ``None``: none has any."""

    def posterior(
        self, samples: Sequence[SampleRef], views: Sequence[View]
    ) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation, each (B, C, h, w) float32 on the CPU, scaled."""
        return self.ahead(samples, views)()


class TextSource(ABC):
    """The text features of captions."""

    @abstractmethod
    def ahead(self, captions: Sequence[str]) -> Callable[[], Conditioning]:
        """What of :meth:`condition` any thread can do; the call does the rest and gives it."""

    def condition(self, captions: Sequence[str]) -> Conditioning:
        return self.ahead(captions)()


class CachedLatents(LatentSource):
    """Slices of memory-mapped files; see :mod:`lorasmith.data.cache.tensor_store`.

    Args:
        keys: cache key by (item index, view).
        masks: likewise, of the images that have a mask; ``None`` where nothing is masked.
    """

    needs_model = False

    def __init__(
        self, store: TensorStore, keys: LatentKeys, masks: LatentKeys | None = None
    ) -> None:
        self._store, self._keys, self._masks = store, keys, masks

    def ahead(
        self, samples: Sequence[SampleRef], views: Sequence[View]
    ) -> Callable[[], tuple[Tensor, Tensor]]:
        entries = [
            self._store.get(self._keys[sample.item, view])
            for sample, view in zip(samples, views, strict=True)
        ]
        mean = torch.stack([tensors["mean"].float() for tensors in entries])
        std = torch.stack([tensors["std"].float() for tensors in entries])
        return lambda: (mean, std)

    def masks(self, samples: Sequence[SampleRef], views: Sequence[View]) -> Tensor | None:
        if self._masks is None:
            return None
        places = [(sample.item, view) for sample, view in zip(samples, views, strict=True)]
        return torch.stack([self._mask(place) for place in places])

    def _mask(self, place: tuple[int, View]) -> Tensor:
        assert self._masks is not None
        if place in self._masks:
            return self._store.get(self._masks[place])["mask"]
        return torch.ones(1, *self._store.get(self._keys[place])["mean"].shape[1:])


class LiveLatents(LatentSource):
    """Images decoded and encoded at every step, for those who cannot spare the disk."""

    needs_model = True

    def __init__(self, dataset: Dataset, model: DiffusionModel, background: str) -> None:
        self._dataset, self._model, self._background = dataset, model, background

    def ahead(
        self, samples: Sequence[SampleRef], views: Sequence[View]
    ) -> Callable[[], tuple[Tensor, Tensor]]:
        device = self._model.device
        levels = [
            render(self._dataset.items[sample.item].image.path, view, self._background)
            for sample, view in zip(samples, views, strict=True)
        ]
        images = stacked(levels, device)

        def encoded() -> tuple[Tensor, Tensor]:
            with torch.no_grad():
                pixels = image_tensor(to_device(images, device))
                mean, std = fetch(self._model.encode_images(pixels))()
            return mean.float(), std.float()

        return encoded

    def masks(self, samples: Sequence[SampleRef], views: Sequence[View]) -> Tensor | None:
        if not self._dataset.masked:
            return None
        factor = self._model.architecture.latent_factor
        return torch.stack([
            mask_tensor(self._dataset.items[sample.item], view, factor)
            for sample, view in zip(samples, views, strict=True)
        ])  # fmt: skip


class NoLatents(LatentSource):
    """Nothing but places for noise, where there are no images: runs on prompts draw their own.

    Args:
        channels, factor: of the model's latents, and pixels to each of them.
    """

    needs_model = False

    def __init__(self, channels: int, factor: int) -> None:
        self._channels, self._factor = channels, factor

    def ahead(
        self, samples: Sequence[SampleRef], views: Sequence[View]
    ) -> Callable[[], tuple[Tensor, Tensor]]:
        width, height = views[0].placement.bucket
        shape = (len(samples), self._channels, height // self._factor, width // self._factor)
        nothing = torch.zeros(shape)
        return lambda: (nothing, nothing)

    def masks(self, samples: Sequence[SampleRef], views: Sequence[View]) -> Tensor | None:
        return None


class LiveText(TextSource):
    """The text encoder at every step, because it is trained or because captions vary.

    Args:
        placeholders: the words of captions that have vectors of their own while it is trained.
    """

    def __init__(
        self,
        model: DiffusionModel,
        *,
        trained: bool,
        placeholders: Placeholders = NO_PLACEHOLDERS,
    ) -> None:
        self._model, self._trained, self._placeholders = model, trained, placeholders
        self._memory: dict[str, Conditioning] = {}

    def ahead(self, captions: Sequence[str]) -> Callable[[], Conditioning]:
        if not self._trained:
            return lambda: Conditioning.cat([self._remembered(caption) for caption in captions])
        model, words = self._model, self._placeholders
        ids = pinned(tokenize(captions, model.max_tokens, words), model.device)

        def encoded() -> Conditioning:
            # Taken off, the words are words like others, of other ids; only then is that so.
            are_on = model.placeholders.counts == words.counts
            return model.encode_ids(ids) if are_on else model.encode_text(captions)

        return encoded

    def _remembered(self, caption: str) -> Conditioning:
        if caption not in self._memory:
            if len(self._memory) >= REMEMBERED_CAPTIONS:
                self._memory.pop(next(iter(self._memory)))
            with torch.no_grad():
                self._memory[caption] = self._model.encode_text([caption])
        return self._memory[caption]


class CachedText(TextSource):
    """Features of captions that never vary, by caption, from memory-mapped files."""

    def __init__(
        self, store: TensorStore, keys: Mapping[str, str], device: torch.device, dtype: torch.dtype
    ) -> None:
        self._store, self._keys, self._device, self._dtype = store, keys, device, dtype

    def ahead(self, captions: Sequence[str]) -> Callable[[], Conditioning]:
        entries = [self._store.get(self._keys[caption]) for caption in captions]
        hidden = torch.stack([tensors["hidden"] for tensors in entries])
        pooled = torch.stack([t["pooled"] for t in entries]) if "pooled" in entries[0] else None
        features = Conditioning(hidden, pooled).to(CPU, self._dtype).pinned(self._device)
        return lambda: features.to(self._device, self._dtype)


def cache_text(
    store: TensorStore, captions: Sequence[str], model: DiffusionModel, observe: Observer
) -> dict[str, str]:
    """Encode every distinct caption that the store lacks.

    Each caption is encoded by itself, so that its features do not depend on what else was missing.

    Returns:
        Cache key by caption.
    """
    fingerprint = model.text_fingerprint()
    keys = {caption: text_key(caption, fingerprint) for caption in captions}
    missing_keys = set(store.missing(list(keys.values())))
    pending = [caption for caption, key in keys.items() if key in missing_keys]
    for begin in range(0, len(pending), CAPTIONS_PER_SHARD):
        part = pending[begin : begin + CAPTIONS_PER_SHARD]
        entries: dict[str, dict[str, Tensor]] = {}
        begun: deque[tuple[str, Callable[[], dict[str, Tensor]]]] = deque()
        for number, caption in enumerate(part, begin + 1):
            with torch.no_grad():
                begun.append((keys[caption], _features(model.encode_text([caption]))))
            if len(begun) > 1:  # Read when a GPU has the next one to do.
                _read_first(begun, entries)
            observe(Progress("encoding captions", number, len(pending)))
        _read_first(begun, entries)
        store.put("text", entries)
    return keys


def _read_first(
    begun: deque[tuple[str, Callable[[], dict[str, Tensor]]]],
    entries: dict[str, dict[str, Tensor]],
) -> None:
    key, features = begun.popleft()
    entries[key] = features()


def _features(condition: Conditioning) -> Callable[[], dict[str, Tensor]]:
    """Of one caption, as they are stored; on their way until they are asked for."""
    features = {"hidden": condition.prompt_embeds[0]}
    if condition.pooled is not None:
        features["pooled"] = condition.pooled[0]
    there = fetch(list(features.values()))
    return lambda: dict(zip(features, there(), strict=True))


def text_key(caption: str, fingerprint: str) -> str:
    """Names the features of ``caption`` under one text encoder, CLIP skip and token length."""
    return blake2b(f"text-2\n{fingerprint}\n{caption}".encode(), digest_size=16).hexdigest()


# Which of them a run has


def measured_sources(
    run: RunContext, model: DiffusionModel
) -> tuple[LatentSource, TextSource] | None:
    """Latents and text features of what validation measures; ``None`` when nothing is held out."""
    if run.run_plan.validation_set is None:
        return None
    dataset = run.run_plan.validation_set.dataset
    return latent_source(run, dataset, model), text_source(run, dataset, model)


def latent_source(run: RunContext, dataset: Dataset, model: DiffusionModel) -> LatentSource:
    """The latents of ``dataset``: what is trained on, or what is measured."""
    if not run.run_plan.has_images:
        architecture = run.run_plan.architecture
        return NoLatents(architecture.latent_channels, architecture.latent_factor)
    live = LiveLatents(dataset, model, run.settings.data.background)
    if not run.settings.performance.cache_latents:
        return live
    images, uses = sum(item.repeats > 0 for item in dataset.items), len(dataset.samples)
    cost = f"the VAE encodes {uses} pictures an epoch, in place of {images} once"
    cached = _if_room(run, "latents", cost, lambda: _cached_latents(run, dataset, model))
    return cached or live


def _cached_latents(run: RunContext, dataset: Dataset, model: DiffusionModel) -> LatentSource:
    store, processes = _store(run), run.processes
    keys = cache_latents(
        dataset,
        store,
        model.encode_images,
        vae_key=model.vae_fingerprint(),
        background=run.settings.data.background,
        batch=run.settings.performance.vae_batch,
        device=model.device,
        rank=processes.rank,
        world_size=processes.count,
        observer=run.observer,
        controls=run.controls,
    )
    masks: LatentKeys | None = None
    if dataset.masked:
        masks = cache_masks(
            dataset,
            store,
            model.architecture.latent_factor,
            rank=processes.rank,
            world_size=processes.count,
            observer=run.observer,
            controls=run.controls,
        )
    processes.wait()
    store.refresh()
    return CachedLatents(store, keys, masks)


def text_source(
    run: RunContext, dataset: Dataset, model: DiffusionModel, further: Sequence[str] = ()
) -> TextSource:
    """The text features of ``dataset``'s captions, and of ``further`` ones."""
    cache = run.settings.performance.cache_text
    trains_text = kind_of(run.settings).trains_text(run.settings)
    fixed = not trains_text and not dataset.captions_vary
    if cache is True and not fixed:
        why = "the text encoder is trained" if trains_text else "captions vary from step to step"
        raise SettingsError.of("performance.cache_text", f"cannot be on: {why}", 'set it to "auto"')
    if not fixed or cache is False:
        words = kind_of(run.settings).placeholders(run.settings)
        return LiveText(model, trained=trains_text, placeholders=words)
    store = _store(run)
    cost = "the text encoder stays in memory and encodes each caption in the run"
    captions = list(dict.fromkeys([*dataset.captions, *further]))
    keys = _if_room(run, "captions", cost, lambda: cache_text(store, captions, model, run.observer))
    if keys is None:
        return LiveText(model, trained=False)
    return CachedText(store, keys, model.device, model.dtype)


def _store(run: RunContext) -> TensorStore:
    return TensorStore(cache_folder(run.settings, run.run_plan.data_folder))


def _if_room(run: RunContext, what: str, cost: str, work: Callable[[], T]) -> T | None:
    """The work's result; ``None`` and a warning of what it costs where the disk is full. Several
    processes would have to agree on it, so there it ends the run."""
    try:
        return work()
    except RunError as error:
        if not is_disk_full(error) or run.processes.count > 1:
            raise
        hint = "make room and begin again, or name a folder on another disk: performance.cache_dir"
        where = error.problems[0].where
        run.warn(f"{where}: the disk is full, so {what} are not cached: {cost} ({hint})")
        return None
