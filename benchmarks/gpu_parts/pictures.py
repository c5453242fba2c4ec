"""Images a second: drawn, and encoded for the latent cache."""

from __future__ import annotations

import time
from functools import partial

import torch
from benchmarks.gpu_parts.bench import Bench
from benchmarks.gpu_parts.repeat import write_images
from benchmarks.random_models import random_model

from lorasmith.data.buckets import plan_buckets
from lorasmith.data.cache.latents import cache_latents
from lorasmith.data.cache.tensor_store import TensorStore
from lorasmith.data.dataset import build_dataset
from lorasmith.data.layout import find_folders
from lorasmith.data.scan import scan
from lorasmith.models.diffusion_model import DiffusionModel
from lorasmith.sampling.generate import generate
from lorasmith.sampling.request import ImageRequest

STEPS = 20
SAMPLER = "dpmpp_2m"


def measure(bench: Bench) -> None:
    for name, drawn, encoded in (("sd15", 16, 96), ("sdxl", 4, 32)):
        if bench.in_time(name, 15):
            bench.attempt(name, partial(one_model, bench, name, drawn, encoded))


def one_model(bench: Bench, name: str, drawn: int, encoded: int) -> None:
    architecture = bench.architecture(name)
    model = random_model(
        architecture, torch.bfloat16, bench.device,
        parts=architecture.family.parts, channels_last=bench.cuda,
    )  # fmt: skip
    draw(bench, model, name, 1 if bench.tiny else drawn)
    encode(bench, model, name, 2 if bench.tiny else encoded)


def draw(bench: Bench, model: DiffusionModel, name: str, count: int) -> None:
    steps, clock = 2 if bench.tiny else STEPS, bench.clock

    def images(seeds: range, steps: int) -> int:
        requests = [
            ImageRequest("a picture", "", seed, steps, 7.0, SAMPLER, *[bench.pixels(name)] * 2)
            for seed in seeds
        ]
        return len(list(generate(model, requests)))

    images(range(count), 1)  # As many at once as later, so that kernels have been chosen.
    clock.sync()
    begin = clock.read()
    done = images(range(count), steps)
    clock.sync()
    seconds = clock.read() - begin
    bench.row(
        f"Drawn: {SAMPLER}, {steps} steps, guidance 7",
        {
            "": name, "px": bench.pixels(name), "pictures": done, "s": seconds,
            "pictures/s": done / seconds,
        },
    )  # fmt: skip


def encode(bench: Bench, model: DiffusionModel, name: str, count: int) -> None:
    """PNG files to latents in the cache, the VAE in float32 as in a run; and the VAE alone."""
    pixels, clock = bench.pixels(name), bench.clock
    folder = bench.scratch / f"pictures-{name}"
    write_images(folder, pixels, count)
    dataset = build_dataset(scan(find_folders(folder)), plan_buckets(pixels, pixels))
    for batch in (1,) if bench.tiny else (1, 4):
        images = torch.rand(batch, 3, pixels, pixels) * 2 - 1
        with torch.no_grad():
            model.encode_images(images)
            clock.sync()
            begin = clock.read()
            times = 1 if bench.tiny else 6
            for _ in range(times):
                model.encode_images(images)
            clock.sync()
        alone = times * batch / (clock.read() - begin)
        store = TensorStore(bench.scratch / f"cache-{name}-{batch}")
        begin = time.perf_counter()
        keys = cache_latents(dataset, store, model.encode_images, vae_key="random", batch=batch)
        seconds = time.perf_counter() - begin
        assert not store.missing(keys.values())
        bench.row(
            "Encoded: PNG files to cached latents",
            {
                "": name, "px": pixels, "batch": batch, "pictures": count, "s": seconds,
                "pictures/s": count / seconds, "VAE alone, pictures/s": alone,
                "VAE at work": count / alone / seconds,
            },
        )  # fmt: skip
