from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.late_copies import LateCopies
from torch import Tensor

from lorasmith.config.sections.augment import AugmentSettings
from lorasmith.core.errors import CheckpointError, DatasetError, RunError, Stopped
from lorasmith.core.events import Controls, Event, Notice, Progress
from lorasmith.data.augmentation.views import View, render
from lorasmith.data.buckets import plan_buckets
from lorasmith.data.cache import latents
from lorasmith.data.cache.latents import cache_latents, default_cache_folder, latent_keys
from lorasmith.data.cache.tensor_store import TensorStore
from lorasmith.data.dataset import Dataset, build_dataset
from lorasmith.data.layout import CACHE_FOLDER, find_folders
from lorasmith.data.scan import scan

Save = Callable[..., Path]


class Encoder:
    """Stands in for a VAE: every eighth pixel. Notes the batches that it was given."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def __call__(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        self.shapes.append(tuple(pixels.shape))
        assert pixels.dtype == torch.float32
        assert pixels.abs().max() <= 1
        return pixels[:, :, ::8, ::8], pixels[:, :, ::8, ::8].abs()


def open_dataset(folder: Path, resolution: int = 64, flip: bool = False) -> Dataset:
    return build_dataset(
        scan(find_folders(folder)),
        plan_buckets(resolution, resolution),
        augmentation=AugmentSettings(flip=flip),
    )


@pytest.fixture
def folder(tmp_path: Path, save: Save) -> Path:
    """Five square images with two repeats, three tall ones."""
    for number in range(5):
        save(tmp_path / "set" / "2_zorp" / f"square {number}.png", 64, 64)
    for number in range(3):
        save(tmp_path / "set" / "2_zorp" / f"tall {number}.png", 40, 90)
    return tmp_path / "set"


def run(folder: Path, store: TensorStore, **options: object) -> tuple[Encoder, latents.LatentKeys]:
    encoder = Encoder()
    dataset = options.pop("dataset", None) or open_dataset(folder)
    keys = cache_latents(dataset, store, encoder, **{"vae_key": "v", "batch": 2, **options})
    return encoder, keys


def test_encodes_once_in_batches_of_one_bucket(folder: Path) -> None:
    store = TensorStore(default_cache_folder(folder))
    events: list[Event] = []
    encoder, keys = run(folder, store, observer=events.append)
    tall = open_dataset(folder).items[5].placement.bucket
    assert encoder.shapes == [
        (2, 3, tall[1], tall[0]), (1, 3, tall[1], tall[0]),
        (2, 3, 64, 64), (2, 3, 64, 64), (1, 3, 64, 64),
    ]  # fmt: skip
    assert len(keys) == 8
    assert [event.done for event in events if isinstance(event, Progress)] == [2, 3, 5, 7, 8]
    again, same = run(folder, TensorStore(default_cache_folder(folder)))
    assert again.shapes == []
    assert same == keys


def test_latents_are_those_of_the_image_and_of_its_mirror_image(folder: Path) -> None:
    store = TensorStore(folder / CACHE_FOLDER)
    dataset = open_dataset(folder, flip=True)
    _, keys = run(folder, store, dataset=dataset)
    assert len(keys) == 16
    item = dataset.items[0]
    pixels = np.asarray(Image.open(item.image.path)).astype(np.float32) / 127.5 - 1
    for flip, expected in ((False, pixels), (True, pixels[:, ::-1])):
        mean = store.get(keys[0, View(item.placement, flip)])["mean"]
        assert np.allclose(mean.permute(1, 2, 0), expected[::8, ::8], atol=1e-6)


@pytest.mark.parametrize("change", ["pixels", "resolution", "vae", "background"])
def test_a_stale_entry_is_never_used(folder: Path, change: str) -> None:
    for path in folder.rglob("*.png"):
        Image.open(path).convert("RGBA").save(path)
    store = TensorStore(folder / CACHE_FOLDER)
    _, before = run(folder, store)
    if change == "pixels":
        path = folder / "2_zorp" / "square 1.png"
        stamp = path.stat()
        Image.new("RGBA", (64, 64), "red").save(path)
        os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))  # even with its old time
    options = {
        "pixels": {},
        "resolution": {"dataset": open_dataset(folder, 128)},
        "vae": {"vae_key": "another"},
        "background": {"background": "black"},
    }[change]
    encoder, after = run(folder, store, **options)
    changed = [
        place for place, old in zip(after, before, strict=True) if after[place] != before[old]
    ]
    assert changed == ([list(after)[1]] if change == "pixels" else list(after))
    assert sum(shape[0] for shape in encoder.shapes) == len(changed)


def test_what_does_not_matter_keeps_the_entries(folder: Path) -> None:
    store = TensorStore(folder / CACHE_FOLDER)
    run(folder, store)
    (folder / "2_zorp").rename(folder / "7_other")  # another name, other repeats
    os.utime(folder / "7_other" / "square 0.png")
    (folder / "7_other" / "square 1.txt").write_text("a caption")
    encoder, _ = run(folder, store, background="black")  # opaque: no background shows
    assert encoder.shapes == []


def test_hashes_are_remembered_but_not_of_files_that_changed(folder: Path) -> None:
    memo = folder / CACHE_FOLDER / "pictures.json"
    for path in folder.rglob("*.png"):
        os.utime(path, (time.time() - 100,) * 2)
    keys = latent_keys(open_dataset(folder), vae_key="v", memo=memo)
    assert len(memo.read_text().splitlines()) > 8
    assert latent_keys(open_dataset(folder), vae_key="v", memo=memo) == keys
    path = folder / "2_zorp" / "square 1.png"
    Image.new("RGB", (64, 64), "red").save(path)
    changed = latent_keys(open_dataset(folder), vae_key="v", memo=memo)
    assert [index for index, view in keys if keys[index, view] != changed[index, view]] == [1]
    memo.write_text("{damaged")
    assert latent_keys(open_dataset(folder), vae_key="v", memo=memo) == changed


def test_two_ranks_share_the_work_and_give_what_one_gives(folder: Path, tmp_path: Path) -> None:
    one = TensorStore(tmp_path / "one")
    _, keys = run(folder, one)
    shared = tmp_path / "two"
    stores = [TensorStore(shared) for _ in range(2)]
    shapes = [
        run(folder, store, rank=rank, world_size=2)[0].shapes for rank, store in enumerate(stores)
    ]
    assert [sum(shape[0] for shape in part) for part in shapes] == [5, 3]
    for store in stores:
        store.refresh()
        for key in keys.values():
            assert torch.equal(store.get(key)["mean"], one.get(key)["mean"])


def test_stopping_keeps_what_is_done_and_goes_on_in_the_same_batches(folder: Path) -> None:
    store = TensorStore(folder / CACHE_FOLDER)
    controls = Controls()

    def stop_at_three(event: Event) -> None:
        if isinstance(event, Progress) and event.done == 3:
            controls.stop()

    with pytest.raises(Stopped):
        run(folder, store, controls=controls, observer=stop_at_three)
    assert len(TensorStore(store.folder)) == 3
    encoder, _ = run(folder, TensorStore(store.folder))
    assert [shape[0] for shape in encoder.shapes] == [2, 2, 1]


def test_numbers_that_are_not_finite_name_the_image(folder: Path) -> None:
    def encode(pixels: Tensor) -> tuple[Tensor, Tensor]:
        mean = pixels[:, :, ::8, ::8].clone()
        if pixels.shape[2] == pixels.shape[3]:
            mean[-1, 0, 0, 0] = float("nan")
        return mean, mean.abs()

    store = TensorStore(folder / CACHE_FOLDER)
    with pytest.raises(CheckpointError) as caught:
        cache_latents(open_dataset(folder), store, encode, vae_key="v", batch=2)
    (problem,) = caught.value.problems
    assert "square 1.png" in problem.where
    assert "fp32" in problem.hint
    assert len(TensorStore(store.folder)) == 3  # the bucket before it is kept


def test_a_image_that_was_damaged_since_the_scan(folder: Path) -> None:
    dataset = open_dataset(folder)
    path = folder / "2_zorp" / "square 4.png"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(DatasetError, match=r"square 4\.png: it is truncated"):
        run(folder, TensorStore(folder / CACHE_FOLDER), dataset=dataset)


def test_damaged_shards_are_said_and_made_anew(folder: Path) -> None:
    store = TensorStore(folder / CACHE_FOLDER)
    run(folder, store)
    shard = next(store.folder.glob("64x64-*.safetensors"))
    shard.write_bytes(shard.read_bytes()[:-1])
    events: list[Event] = []
    encoder, _ = run(folder, TensorStore(store.folder), observer=events.append)
    assert [shape[0] for shape in encoder.shapes] == [2, 2, 1]
    assert any(isinstance(e, Notice) and "cut short" in e.text for e in events)


def test_the_same_image_twice_is_encoded_once(folder: Path) -> None:
    copy = folder / "2_zorp" / "copy.png"
    copy.write_bytes((folder / "2_zorp" / "square 0.png").read_bytes())
    encoder, keys = run(folder, TensorStore(folder / CACHE_FOLDER))
    assert (len(keys), len(set(keys.values()))) == (9, 8)
    assert sum(shape[0] for shape in encoder.shapes) == 8


def test_default_folder_lies_in_the_dataset_or_with_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert default_cache_folder(tmp_path) == tmp_path / CACHE_FOLDER

    def refuse(folder: Path) -> None:
        raise RunError.of(folder, "cannot be written")

    monkeypatch.setattr(latents, "check_writable", refuse)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    monkeypatch.setattr(sys, "platform", "linux")
    one, other = (default_cache_folder(tmp_path / name) for name in ("a", "b"))
    assert one.parent == tmp_path / "user" / "lorasmith"
    assert one != other


def test_bytes_become_the_numbers_of_the_formula() -> None:
    """Of every byte, by numpy's division and subtraction in float32."""
    levels = np.arange(256, dtype=np.uint8)
    expected = levels.astype(np.float32) / np.float32(127.5) - np.float32(1)
    given = latents.image_tensor(torch.from_numpy(levels).view(1, 16, 16, 1).expand(1, 16, 16, 3))
    assert given.shape == (1, 3, 16, 16)
    for channel in given[0]:
        assert np.array_equal(channel.reshape(-1).numpy(), expected)


class Slow(Encoder):
    """Notes how many batches had been stored when each was begun."""

    def __init__(self, stored: Callable[[], int]) -> None:
        super().__init__()
        self.stored_before: list[int] = []
        self._stored = stored

    def __call__(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        self.stored_before.append(self._stored())
        mean, std = super().__call__(pixels)
        return mean.clone(), std


def test_a_gpu_has_the_next_batch_before_results_are_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = TensorStore(folder / "plain")
    _, keys = run(folder, plain)
    done: list[int] = [0]

    def watch(event: Event) -> None:
        if isinstance(event, Progress):
            done.append(event.done)

    device = LateCopies(monkeypatch)
    encoder = Slow(lambda: len(done) - 1)
    store = TensorStore(folder / "late")
    cache_latents(open_dataset(folder), store, encoder, vae_key="v", batch=2, observer=watch)
    assert encoder.stored_before == [0, 0, 1, 2, 3], "each is begun with the one before it unread"
    assert done[1:] == [2, 3, 5, 7, 8]
    assert device.waits == 5
    for key in keys.values():
        for name, tensor in plain.get(key).items():
            assert torch.equal(store.get(key)[name], tensor)


def test_a_gpu_that_is_stopped_keeps_what_it_has_encoded(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    LateCopies(monkeypatch)
    controls = Controls()

    def stop(event: Event) -> None:
        controls.stop()

    store = TensorStore(folder / CACHE_FOLDER)
    with pytest.raises(Stopped):
        run(folder, store, controls=controls, observer=stop)
    assert len(TensorStore(store.folder)) == 3  # The first batch was stored, the second begun.


def test_a_gpu_names_the_image_whose_numbers_are_not_finite(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    LateCopies(monkeypatch)
    calls = [0]

    def encode(pixels: Tensor) -> tuple[Tensor, Tensor]:
        calls[0] += 1
        mean = pixels[:, :, ::8, ::8].clone()
        if calls[0] == 2:
            mean[0, 0, 0, 0] = float("inf")
        return mean, mean.abs()

    store = TensorStore(folder / CACHE_FOLDER)
    with pytest.raises(CheckpointError, match=r"tall 2\.png"):
        cache_latents(open_dataset(folder), store, encode, vae_key="v", batch=2)
    assert len(TensorStore(store.folder)) == 4, "the batch before it and the one after it are kept"


def test_so_many_images_are_decoded_ahead_that_every_thread_has_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[str] = []

    def noted(path: Path, *rest: object) -> np.ndarray:
        decoded.append(path.name)
        return render(path, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(latents, "render", noted)
    monkeypatch.setattr(os, "cpu_count", lambda: 5)
    seen: list[int] = []

    def encode(pixels: Tensor) -> tuple[Tensor, Tensor]:
        deadline = time.monotonic() + 60
        while len(decoded) < min(len(seen) + 5, 8):
            assert time.monotonic() < deadline, "too few are decoded ahead"
            time.sleep(0.001)
        time.sleep(0.02)  # Time enough to decode more.
        seen.append(len(decoded))
        return pixels[:, :, ::8, ::8], pixels[:, :, ::8, ::8].abs()

    store = TensorStore(folder / CACHE_FOLDER)
    cache_latents(open_dataset(folder), store, encode, vae_key="v", batch=1)
    assert seen == [6, 7, 8, 8, 8, 8, 8, 8], "the one that is encoded, and one for each thread"


KILLED = """
import sys, time
from pathlib import Path
from lorasmith.data.cache import latents
from lorasmith.data.buckets import plan_buckets
from lorasmith.data.cache.tensor_store import TensorStore
from lorasmith.data.dataset import build_dataset
from lorasmith.data.layout import find_folders
from lorasmith.data.scan import scan
from lorasmith.data.augmentation.views import View
latents.ENTRIES_PER_SHARD = 2
dataset = build_dataset(scan(find_folders(Path(sys.argv[1]))), plan_buckets(64, 64))
def encode(pixels):
    time.sleep(0.05)
    return pixels[:, :, ::8, ::8], pixels[:, :, ::8, ::8].abs()
latents.cache_latents(dataset, TensorStore(Path(sys.argv[2])), encode, vae_key="v", batch=2,
                      observer=lambda event: print(event.done, flush=True))
"""


@pytest.mark.slow
def test_killed_at_any_moment_only_the_last_work_is_lost(folder: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    done = 0
    for _ in range(2):
        child = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(folder), str(cache)],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert child.stdout is not None
        child.stdout.readline()
        child.stdout.readline()
        child.send_signal(signal.SIGKILL)
        child.communicate()
        store = TensorStore(cache)
        assert not store.damaged
        assert len(store) > done or len(store) == 8
        done = len(store)
    run(folder, TensorStore(cache))
    whole, keys = TensorStore(tmp_path / "whole"), open_dataset(folder)
    run(folder, whole)
    for key in latent_keys(keys, vae_key="v").values():
        assert torch.equal(TensorStore(cache).get(key)["mean"], whole.get(key)["mean"])
