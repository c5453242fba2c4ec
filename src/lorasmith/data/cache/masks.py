"""Loss masks at latent size, worked out once and kept beside the latents."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple
from hashlib import blake2b
from pathlib import Path

import torch
from torch import Tensor

from lorasmith.core.events import Controls, Observer, Progress, ignore
from lorasmith.data.augmentation.masks import Mask
from lorasmith.data.augmentation.render import render_mask
from lorasmith.data.augmentation.views import View
from lorasmith.data.cache.file_hashes import hash_images
from lorasmith.data.cache.latents import LatentKeys
from lorasmith.data.cache.tensor_store import TensorStore
from lorasmith.data.dataset import Dataset, Item

# Part of every key, as the one of latents.
RECIPE = "mask-1"

MASKS_PER_SHARD = 256


def mask_keys(dataset: Dataset, factor: int, memo: Path | None = None) -> LatentKeys:
    """The cache key of the mask of every view of every image that is used and has one.

    Args:
        factor: pixels to a side of a latent pixel.
        memo: where hashes of files are remembered.

    Returns:
        By (item index, view). Colour does not matter to masks.
    """
    items = [(item, item.mask) for item in dataset.items if item.repeats and item.mask is not None]
    hashes = hash_images([mask.path for _, mask in items], memo)
    keys: LatentKeys = {}
    for item, mask in items:
        for view in dataset.views_of(item).all():
            place = astuple(view.placement)
            text = json.dumps([RECIPE, hashes[mask.path], mask.alpha, place, view.flip, factor])
            keys[item.index, view] = blake2b(text.encode(), digest_size=16).hexdigest()
    return keys


def cache_masks(
    dataset: Dataset,
    store: TensorStore,
    factor: int,
    *,
    rank: int = 0,
    world_size: int = 1,
    observer: Observer = ignore,
    controls: Controls | None = None,
) -> LatentKeys:
    """Work out what the store lacks; each process its share.

    Args:
        factor: pixels to a side of a latent pixel.
        rank: of this process, 0..world_size - 1.
        world_size: processes; call ``store.refresh()`` when all have finished.
        observer: told of progress ("caching masks").
        controls: asked after each part.

    Returns:
        The keys, as :func:`mask_keys`; ``store.get(key)`` has "mask".

    Raises:
        DatasetError: a mask cannot be decoded.
        Stopped: by ``controls``; what is done is stored.
    """
    keys = mask_keys(dataset, factor, store.folder / "pictures.json")
    by_key = {key: place for place, key in keys.items()}
    pending = store.missing(sorted(by_key)[rank::world_size])

    def work_out(key: str) -> Tensor:
        index, view = by_key[key]
        return mask_tensor(dataset.items[index], view, factor)

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for begin in range(0, len(pending), MASKS_PER_SHARD):
            if controls is not None:
                controls.check("stopped while caching masks; what is done is kept")
            part: Sequence[str] = pending[begin : begin + MASKS_PER_SHARD]
            tensors = zip(part, pool.map(work_out, part), strict=True)
            store.put("masks", {key: {"mask": tensor} for key, tensor in tensors})
            observer(Progress("caching masks", begin + len(part), len(pending)))
    return keys


def mask_tensor(item: Item, view: View, factor: int) -> Tensor:
    """float32 (1, h, w) in [0, 1]: the item's mask in that view, ones where it has none."""
    if item.mask is None:
        width, height = view.placement.bucket
        return torch.ones(1, height // factor, width // factor)
    mask: Mask = item.mask
    return torch.from_numpy(render_mask(mask, view, factor))[None]
