"""Encoding the images of a dataset once, into :mod:`lorasmith.data.cache.tensor_store`, with their
masks at latent size beside them.

Shapes: images (B, 3, H, W) in [-1, 1]; latents (C, h, w), as the VAE's mean and standard
deviation, so that training still draws from the posterior.
"""

from __future__ import annotations

import json
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import astuple, dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lorasmith.core.disk import is_disk_full
from lorasmith.core.errors import CheckpointError, Problem, RunError, Stopped, UserError
from lorasmith.core.events import Controls, Notice, Observer, Progress, ignore
from lorasmith.core.files import check_writable
from lorasmith.data.augmentation.masks import Mask, render_mask
from lorasmith.data.augmentation.views import View, render
from lorasmith.data.cache.file_memo import hash_images
from lorasmith.data.cache.tensor_store import TensorStore
from lorasmith.data.dataset import Dataset, Item
from lorasmith.data.layout import CACHE_FOLDER, user_cache_of
from lorasmith.tensors import transfer as tensor_transfer
from lorasmith.tensors.transfer import fetch, pinned, to_device

# Part of every key: a change in how images are decoded, fitted or encoded makes old entries
# unreachable.
RECIPE = "latents-1"

ENTRIES_PER_SHARD = 128
SECONDS_PER_SHARD = 20.0  # so much work a killed run loses at most
_BATCHES_AHEAD = 2
# How many decode at a time; ``decode_memory`` bounds what that takes.
_DECODING_THREADS = 16

CPU = torch.device("cpu")
Encode = Callable[[Tensor], tuple[Tensor, Tensor]]
LatentKeys = dict[tuple[int, View], str]


@dataclass(frozen=True, slots=True)
class _Job:
    key: str
    item: Item
    view: View


def default_cache_folder(data_folder: Path) -> Path:
    """``.lorasmith-cache`` in the dataset's folder, or the user's cache where that is read-only, or
    its disk full."""
    return cache_place(data_folder)[0]


def cache_place(data_folder: Path) -> tuple[Path, Problem | None]:
    """The default folder of the cache, and why it is not in the dataset's folder."""
    beside = Path(data_folder) / CACHE_FOLDER
    try:
        check_writable(beside)
    except RunError as error:
        folder = user_cache_of(data_folder)
        reason = "the disk is full" if is_disk_full(error) else "nothing can be written there"
        what = f"{reason}, so the cache lies in {folder} and takes space there"
        pending = "make room, or name a folder: performance.cache_dir"
        return folder, Problem(str(data_folder), what, pending)
    return beside, None


def latent_keys(
    dataset: Dataset, *, vae_key: str, background: str = "white", memo: Path | None = None
) -> LatentKeys:
    """The cache key of every view of every image that is used.

    Args:
        dataset: items with 0 repeats have no key.
        vae_key: fingerprint of the VAE, its scale included.
        background: colour under transparent images.
        memo: where hashes of files are remembered.

    Returns:
        By (item index, view). A key covers the file's bytes, the view (scaling, crop, mirroring,
        colour), background and VAE; the same image in two folders has one key.
    """
    items = [item for item in dataset.items if item.repeats]
    hashes = hash_images([item.image.path for item in items], memo)
    keys: LatentKeys = {}
    for item in items:
        ground = background if item.image.has_alpha else ""
        image = hashes[item.image.path]
        for view in dataset.views_of(item).all():
            parts = [RECIPE, image, astuple(view.placement), view.flip, ground, vae_key]
            if view.colour is not None:
                parts.append(astuple(view.colour))
            if view.region is not None:
                parts.append(astuple(view.region))
            text = json.dumps(parts)
            keys[item.index, view] = blake2b(text.encode(), digest_size=16).hexdigest()
    return keys


def cache_latents(
    dataset: Dataset,
    store: TensorStore,
    encode: Encode,
    *,
    vae_key: str,
    background: str = "white",
    batch: int = 1,
    device: torch.device = CPU,
    rank: int = 0,
    world_size: int = 1,
    observer: Observer = ignore,
    controls: Controls | None = None,
) -> LatentKeys:
    """Encode what the store lacks; each process its share of the batches.

    On a device that works by itself the next batch is begun before the results of the last are
    read, so that it has something to do while they are stored.

    Which images share a batch follows from the dataset alone, not from what is missing or how
    many processes there are, so that an interrupted run ends with the same numbers.

    Args:
        encode: (B, 3, H, W) float32 in [-1, 1] on ``device`` -> scaled mean and standard
            deviation, each (B, C, h, w).
        batch: images per call of ``encode``.
        device: images are sent there as bytes, a quarter of what ``encode`` gets.
        rank: of this process, 0..world_size - 1.
        world_size: processes; call ``store.refresh()`` when all have finished.
        observer: told of progress ("caching latents").
        controls: asked after each batch.

    Returns:
        The keys, as :func:`latent_keys`; ``store.get(key)`` has "mean" and "std".

    Raises:
        DatasetError: an image cannot be decoded.
        CheckpointError: the VAE gives numbers that are not finite.
        Stopped: by ``controls``; what was encoded is stored.
    """
    memo = store.folder / "pictures.json"
    keys = latent_keys(dataset, vae_key=vae_key, background=background, memo=memo)
    for problem in store.damaged:
        observer(Notice("warning", str(problem)))
    store.damaged.clear()
    mine = _batches(dataset, keys, batch)[rank::world_size]
    missing = set(store.missing(job.key for jobs in mine for job in jobs))
    pending = [[job for job in jobs if job.key in missing] for jobs in mine]
    work = _Encoding(store, len(missing), observer)
    begun_ahead = 1 if tensor_transfer.copies_alone(device) else 0
    try:
        for jobs, levels in _decoded([jobs for jobs in pending if jobs], background, device):
            if controls is not None:
                controls.check("stopped while caching latents; what is done is kept")
            with torch.no_grad():
                work.add(jobs, fetch(encode(image_tensor(to_device(levels, device)))))
            work.finish(all_but=begun_ahead)
        work.finish()
    except (Stopped, UserError):
        work.finish()
        raise
    finally:
        work.writer.flush()
    return keys


class _Encoding:
    """Batches that are being encoded, in order, and what becomes of their results."""

    def __init__(self, store: TensorStore, total: int, observer: Observer) -> None:
        self.writer = _Writer(store)
        self._total, self._observer, self._done = total, observer, 0
        self._waiting: deque[tuple[list[_Job], Callable[[], list[Tensor]]]] = deque()

    def add(self, jobs: list[_Job], results: Callable[[], list[Tensor]]) -> None:
        self._waiting.append((jobs, results))

    def finish(self, *, all_but: int = 0) -> None:
        """Store the results of the oldest, until ``all_but`` are left.

        Raises:
            CheckpointError: numbers that are not finite.
        """
        while len(self._waiting) > all_but:
            jobs, results = self._waiting.popleft()
            mean, std = results()
            _require_finite(jobs, mean, std)
            for index, job in enumerate(jobs):
                self.writer.add(job, {"mean": mean[index].clone(), "std": std[index].clone()})
            self.writer.flush_if_due()
            self._done += len(jobs)
            self._observer(Progress("caching latents", self._done, self._total))


class _Writer:
    """Collects entries of one bucket and stores them as a shard when it is time."""

    def __init__(self, store: TensorStore) -> None:
        self._store = store
        self._group = ""
        self._entries: dict[str, Mapping[str, Tensor]] = {}
        self._since = time.monotonic()

    def add(self, job: _Job, tensors: Mapping[str, Tensor]) -> None:
        width, height = job.item.placement.bucket
        group = f"{width}x{height}"
        if group != self._group:
            self.flush()
            self._group = group
        self._entries[job.key] = tensors

    def flush_if_due(self) -> None:
        """Only between batches: a batch is stored whole or not at all."""
        late = time.monotonic() - self._since > SECONDS_PER_SHARD
        if late or len(self._entries) >= ENTRIES_PER_SHARD:
            self.flush()

    def flush(self) -> None:
        if self._entries:
            self._store.put(self._group, self._entries)
        self._entries = {}
        self._since = time.monotonic()


def _batches(dataset: Dataset, keys: LatentKeys, batch: int) -> list[list[_Job]]:
    """All that a full cache needs, in batches of one bucket; each key once."""
    jobs: dict[str, _Job] = {}
    for (index, view), key in keys.items():
        jobs.setdefault(key, _Job(key, dataset.items[index], view))
    by_bucket: dict[tuple[int, int], list[_Job]] = {}
    for job in jobs.values():
        by_bucket.setdefault(job.item.placement.bucket, []).append(job)
    return [
        by_bucket[bucket][at : at + batch]
        for bucket in sorted(by_bucket)
        for at in range(0, len(by_bucket[bucket]), batch)
    ]


def _decoded(
    batches: Sequence[list[_Job]], background: str, device: torch.device
) -> Iterator[tuple[list[_Job], Tensor]]:
    """Each batch with its images, uint8 (B, H, W, 3); the next ones are decoded meanwhile, so
    many that every thread has one."""
    threads = min(_DECODING_THREADS, os.cpu_count() or 1)
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[tuple[list[_Job], list[Future[np.ndarray]]]] = deque()
        images = 0
        try:
            for jobs in batches:
                waiting.append((jobs, [pool.submit(_pixels, job, background) for job in jobs]))
                images += len(jobs)
                while len(waiting) > _BATCHES_AHEAD and images - len(waiting[0][0]) >= threads:
                    images -= len(waiting[0][0])
                    yield _stacked(*waiting.popleft(), device)
            while waiting:
                yield _stacked(*waiting.popleft(), device)
        finally:
            pool.shutdown(cancel_futures=True)


def _stacked(
    jobs: list[_Job], futures: Sequence[Future[np.ndarray]], device: torch.device
) -> tuple[list[_Job], Tensor]:
    return jobs, stacked([future.result() for future in futures], device)


def stacked(images: Sequence[np.ndarray], device: torch.device) -> Tensor:
    """uint8 (H, W, 3) each as one (B, H, W, 3), in main memory that ``device`` reads well."""
    return pinned(torch.from_numpy(np.stack(images)), device)


def image_tensor(levels: Tensor) -> Tensor:
    """uint8 (B, H, W, 3) to float32 (B, 3, H, W) in [-1, 1], on the same device."""
    # By a tensor: CUDA multiplies by the reciprocal of a number, whose last bit differs.
    half = torch.full((), 127.5, device=levels.device)
    return levels.permute(0, 3, 1, 2).float() / half - 1


def _pixels(job: _Job, background: str) -> np.ndarray:
    """uint8 (H, W, 3)."""
    return render(job.item.image.path, job.view, background)


def _require_finite(jobs: Sequence[_Job], mean: Tensor, std: Tensor) -> None:
    finite = torch.isfinite(mean).flatten(1).all(1) & torch.isfinite(std).flatten(1).all(1)
    if bool(finite.all()):
        return
    raise CheckpointError(
        Problem(
            str(job.item.image.path),
            "the VAE encodes this picture to numbers that are not finite (NaN)",
            'use a VAE made for half precision (model.vae), or train.precision = "fp32"',
        )
        for job, good in zip(jobs, finite.tolist(), strict=True)
        if not good
    )


# Part of every key, as the one of latents.
MASK_RECIPE = "mask-1"

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
            parts = [MASK_RECIPE, hashes[mask.path], mask.alpha, place, view.flip, factor]
            if view.region is not None:
                parts.append(astuple(view.region))
            text = json.dumps(parts)
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
