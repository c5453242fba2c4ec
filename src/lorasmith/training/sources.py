"""Where a step's latents and text features come from: a cache, or the model on the spot."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b

import torch
from torch import Tensor

from lorasmith.core.events import Observer, Progress
from lorasmith.data.augmentation.render import render
from lorasmith.data.augmentation.views import View
from lorasmith.data.cache.latents import CPU, LatentKeys, image_tensor, stacked
from lorasmith.data.cache.masks import mask_tensor
from lorasmith.data.cache.tensor_store import TensorStore
from lorasmith.data.dataset import Dataset, SampleRef
from lorasmith.models.diffusion_model import Conditioning, DiffusionModel
from lorasmith.models.text_encoder import tokenize
from lorasmith.tensors.transfer import fetch, pinned, to_device

# Captions whose features stay in memory when they come from the model; "" comes again and again.
REMEMBERED_CAPTIONS = 512

CAPTIONS_PER_SHARD = 256


class CachedLatents:
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

    def posterior(
        self, samples: Sequence[SampleRef], views: Sequence[View]
    ) -> tuple[Tensor, Tensor]:
        found = [
            self._store.get(self._keys[sample.item, view])
            for sample, view in zip(samples, views, strict=True)
        ]
        mean = torch.stack([tensors["mean"].float() for tensors in found])
        return mean, torch.stack([tensors["std"].float() for tensors in found])

    def ahead(
        self, samples: Sequence[SampleRef], views: Sequence[View]
    ) -> Callable[[], tuple[Tensor, Tensor]]:
        posterior = self.posterior(samples, views)
        return lambda: posterior

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


class LiveLatents:
    """Images decoded and encoded at every step, for those who cannot spare the disk."""

    needs_model = True

    def __init__(self, dataset: Dataset, model: DiffusionModel, background: str) -> None:
        self._dataset, self._model, self._background = dataset, model, background

    def posterior(
        self, samples: Sequence[SampleRef], views: Sequence[View]
    ) -> tuple[Tensor, Tensor]:
        return self.ahead(samples, views)()

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


class LiveText:
    """The text encoder at every step, because it is trained or because captions vary."""

    def __init__(self, model: DiffusionModel, *, trained: bool) -> None:
        self._model, self._trained = model, trained
        self._memory: dict[str, Conditioning] = {}

    def condition(self, captions: Sequence[str]) -> Conditioning:
        if self._trained:
            return self._model.encode_text(list(captions))
        return Conditioning.cat([self._remembered(caption) for caption in captions])

    def ahead(self, captions: Sequence[str]) -> Callable[[], Conditioning]:
        if not self._trained:
            return lambda: self.condition(captions)
        ids = pinned(tokenize(captions, self._model.max_tokens), self._model.device)
        return lambda: self._model.encode_ids(ids)

    def _remembered(self, caption: str) -> Conditioning:
        if caption not in self._memory:
            if len(self._memory) >= REMEMBERED_CAPTIONS:
                self._memory.pop(next(iter(self._memory)))
            with torch.no_grad():
                self._memory[caption] = self._model.encode_text([caption])
        return self._memory[caption]


class CachedText:
    """Features of captions that never vary, by caption, from memory-mapped files."""

    def __init__(
        self, store: TensorStore, keys: Mapping[str, str], device: torch.device, dtype: torch.dtype
    ) -> None:
        self._store, self._keys, self._device, self._dtype = store, keys, device, dtype

    def condition(self, captions: Sequence[str]) -> Conditioning:
        return self._features(captions).to(self._device, self._dtype)

    def ahead(self, captions: Sequence[str]) -> Callable[[], Conditioning]:
        features = self._features(captions).to(CPU, self._dtype).pinned(self._device)
        return lambda: features.to(self._device, self._dtype)

    def _features(self, captions: Sequence[str]) -> Conditioning:
        """On the CPU, as they are stored."""
        found = [self._store.get(self._keys[caption]) for caption in captions]
        hidden = torch.stack([tensors["hidden"] for tensors in found])
        pooled = torch.stack([t["pooled"] for t in found]) if "pooled" in found[0] else None
        return Conditioning(hidden, pooled)


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
    missing = set(store.missing(list(keys.values())))
    pending = [caption for caption, key in keys.items() if key in missing]
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
