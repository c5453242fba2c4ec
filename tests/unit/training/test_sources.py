"""Cached features are those that the model gives on the spot, and the step needs nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.late_copies import LateCopies
from tests.tiny_models import tiny_model
from tests.tolerances import NETWORK, assert_near

from lorasmith.config.sections.augment import AugmentSettings
from lorasmith.core.events import Event
from lorasmith.data.augmentation.masks import find_masks
from lorasmith.data.augmentation.views import View
from lorasmith.data.buckets import plan_buckets
from lorasmith.data.cache.latents import cache_latents, cache_masks
from lorasmith.data.cache.tensor_store import TensorStore
from lorasmith.data.dataset import Dataset, build_dataset
from lorasmith.data.layout import find_folders
from lorasmith.data.scan import scan
from lorasmith.demo.character import write_training_set
from lorasmith.models.diffusion_model import Conditioning, DiffusionModel
from lorasmith.training import sources
from lorasmith.training.batches import Batches
from lorasmith.training.setup.processes import Processes
from lorasmith.training.sources import (
    CachedLatents,
    CachedText,
    LiveLatents,
    LiveText,
    cache_text,
)


@pytest.fixture(scope="module")
def model() -> DiffusionModel:
    return tiny_model()


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    write_training_set(tmp_path / "data", images=3, regularisation=2, repeats=2)
    folders = find_folders(tmp_path / "data")
    return build_dataset(
        scan(folders), plan_buckets(64, 64, multiple=32), augmentation=AugmentSettings(flip=True)
    )


def test_cached_latents_equal_live_ones(
    dataset: Dataset, model: DiffusionModel, tmp_path: Path
) -> None:
    store = TensorStore(tmp_path / "cache")
    keys = cache_latents(
        dataset, store, model.encode_images, vae_key=model.vae_fingerprint(), batch=2
    )
    samples = list(dataset.samples[:4])
    views = [
        View(dataset.items[sample.item].placement, flip)
        for sample, flip in zip(samples, (True, False, True, False), strict=True)
    ]
    cached = CachedLatents(store, keys).posterior(samples, views)
    live = LiveLatents(dataset, model, "white").posterior(samples, views)
    for left, right in zip(cached, live, strict=True):
        assert_near(left, right, NETWORK)
    plain = [replace(view, flip=False) for view in views]
    unflipped, _ = CachedLatents(store, keys).posterior(samples, plain)
    assert not torch.equal(cached[0][0], unflipped[0])


def test_every_view_and_mask_is_bit_for_bit_the_same_cached_and_live(
    model: DiffusionModel, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    (tmp_path / "masks").mkdir()
    for name in ("a_0100_0080_0040_0050", "b"):
        pixels = rng.integers(0, 256, (160, 230, 4), dtype=np.uint8)
        (tmp_path / "data").mkdir(exist_ok=True)
        Image.fromarray(pixels).convert("RGB").save(tmp_path / "data" / f"{name}.png")
    Image.fromarray(pixels[:, :, 3]).save(tmp_path / "masks" / "b.png")
    found = scan(find_folders(tmp_path / "data"))
    everything = AugmentSettings(
        flip=True,
        colour=0.5,
        random_crop=True,
        zoom=1.5,
        slices=4,
        face_crop=(2.0, 4.0),
        variants=3,
    )
    masks = find_masks("folder", tmp_path / "masks", found.images, found.folders)
    dataset = build_dataset(
        found, plan_buckets(64, 64, multiple=32), augmentation=everything, masks=masks.by_image
    )
    store, fingerprint = TensorStore(tmp_path / "cache"), model.vae_fingerprint()
    keys = cache_latents(dataset, store, model.encode_images, vae_key=fingerprint)
    factor = model.architecture.latent_factor
    cached = CachedLatents(store, keys, cache_masks(dataset, store, factor))
    live = LiveLatents(dataset, model, "white")
    for epoch in range(6):
        for sample in dataset.samples:
            views = [dataset.view_for(sample, seed=0, epoch=epoch)]
            pairs = zip(
                (*cached.posterior([sample], views), cached.masks([sample], views)),
                (*live.posterior([sample], views), live.masks([sample], views)),
                strict=True,
            )
            for left, right in pairs:
                assert left is not None
                assert right is not None
                assert torch.equal(left, right)
            assert left.shape[-2:] == cached.posterior([sample], views)[0].shape[-2:]
            has_mask = dataset.items[sample.item].mask is not None
            assert bool((left == 1).all()) is not has_mask
    assert CachedLatents(store, keys).masks([sample], views) is None


def test_cached_text_equals_live_text_and_is_made_once(
    dataset: Dataset, model: DiffusionModel, tmp_path: Path
) -> None:
    seen: list[Event] = []
    store = TensorStore(tmp_path / "cache")
    keys = cache_text(store, dataset.captions, model, seen.append)
    assert len(seen) == len(dataset.captions)
    cache_text(TensorStore(tmp_path / "cache"), dataset.captions, model, seen.append)
    assert len(seen) == len(dataset.captions), "a second run encodes nothing"
    captions = [dataset.captions[1], dataset.captions[0], dataset.captions[1]]
    cached = CachedText(store, keys, model.device, model.dtype).condition(captions)
    live = LiveText(model, trained=False).condition(captions)
    assert_near(cached.prompt_embeds, live.prompt_embeds, NETWORK)


def test_features_that_a_gpu_is_sending_are_waited_for(
    dataset: Dataset, model: DiffusionModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = TensorStore(tmp_path / "plain")
    keys = cache_text(plain, dataset.captions, model, lambda event: None)
    monkeypatch.setattr(sources, "CAPTIONS_PER_SHARD", 2)
    device, seen = LateCopies(monkeypatch), []
    store = TensorStore(tmp_path / "late")
    assert cache_text(store, dataset.captions, model, seen.append) == keys
    assert [event.done for event in seen] == list(range(1, len(dataset.captions) + 1))
    assert device.waits == len(dataset.captions) > 2
    for key in keys.values():
        assert torch.equal(store.get(key)["hidden"], plain.get(key)["hidden"])


@pytest.mark.slow
def test_text_keys_follow_the_text_encoder(dataset: Dataset, tmp_path: Path) -> None:
    one, other = tiny_model(seed=0), tiny_model(seed=1)
    store = TensorStore(tmp_path / "cache")
    first = cache_text(store, dataset.captions, one, lambda event: None)
    second = cache_text(store, dataset.captions, other, lambda event: None)
    assert not set(first.values()) & set(second.values())


def test_live_text_remembers_only_so_many(
    model: DiffusionModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    encode = model.encode_text

    def counted(captions: Sequence[str]) -> Conditioning:
        asked.extend(captions)
        return encode(captions)

    monkeypatch.setattr(model, "encode_text", counted)
    monkeypatch.setattr(sources, "REMEMBERED_CAPTIONS", 2)
    text = LiveText(model, trained=False)
    for caption in ("a", "b", "a", "c", "b", "a"):
        text.condition([caption])
    assert asked == ["a", "b", "c", "a"], "the oldest goes first"


def test_a_step_touches_no_image_and_no_vae(
    dataset: Dataset, model: DiffusionModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = TensorStore(tmp_path / "cache")
    keys = cache_latents(
        dataset, store, model.encode_images, vae_key=model.vae_fingerprint(), batch=2
    )
    text = CachedText(
        store,
        cache_text(store, dataset.captions, model, lambda event: None),
        model.device,
        model.dtype,
    )
    for item in dataset.items:
        item.image.path.unlink()

    def forbidden(*args: object) -> None:
        raise AssertionError("the model was asked")

    monkeypatch.setattr(model, "encode_images", forbidden)
    monkeypatch.setattr(model, "encode_text", forbidden)
    batches = Batches(
        dataset,
        CachedLatents(store, keys),
        text,
        Processes(torch.device("cpu")),
        seed=0,
        batch=2,
        accumulation=2,
    )
    shown: Counter[int] = Counter()
    for step in range(2 * batches.steps_per_epoch):
        loaded = list(batches.micro_batches(step))
        (whole,) = {batch.whole for batch in loaded}
        assert whole is not None
        assert list(whole.samples) == [ref.id for group in batches.samples(step) for ref in group]
        for sample, image, showing in zip(whole.samples, whole.images, whole.showings, strict=True):
            assert image == dataset.samples[sample].item
            assert showing == shown[image]
            shown[image] += 1
        assert sum(len(batch.samples) for batch in loaded) == batches.size(step)
        for batch in loaded:
            assert batch.condition().prompt_embeds.shape[0] == len(batch.samples)
