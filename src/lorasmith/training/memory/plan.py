"""What a run needs of the device's memory, whether it fits, and what to do where it does not."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch

from lorasmith.config.sample_prompts import SamplePrompt
from lorasmith.config.schema import TrainSettings, replace_settings
from lorasmith.core.errors import Problem
from lorasmith.core.text import bytes_text
from lorasmith.data.holdout import BATCH
from lorasmith.models.families.table import Architecture
from lorasmith.tensors.device import (
    LARGE_FOR_CPU,
    Precision,
    choose_precision,
    free_memory,
    total_memory,
)
from lorasmith.tensors.files import PRECISIONS
from lorasmith.training.kinds.table import kind_of
from lorasmith.training.memory.estimates import ENCODING, MemoryEstimate
from lorasmith.training.samples import sample_request
from lorasmith.training.setup.preflight import RunPlan

if TYPE_CHECKING:
    from lorasmith.training.memory.simulate import SimulatedRun, Workload

# Of what is free: kernels of convolutions work in memory of their own, and not every gap between
# tensors can be used.
USABLE = 0.92

# What changes how weights are kept, and next to nothing of the activations.
WEIGHTS_ALONE = ("train.base_precision", "optimizer.name", "performance.offload_blocks")


@dataclass(frozen=True, slots=True)
class Advice:
    """A change of settings, and the bytes that it saves after those before it."""

    setting: str
    value: str
    saves: int


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """
    Args:
        estimates: of everything that a run does on the device, the training step first.
        free: bytes there now, ``None`` where that cannot be told.
        checkpointed: how many of the UNet's blocks "auto" computes twice.
        slices, tile_encoding, tile_decoding: what the VAE does to need less.
        draw_batch: images that are drawn at once, ``None`` where memory does not limit it.
        advice: what to change where it does not fit, in order of what costs least.
        away: bytes of weights that stay in main memory.
        main_free: bytes there now, ``None`` where that does not matter.
    """

    estimates: tuple[MemoryEstimate, ...]
    free: int | None
    checkpointed: int = 0
    slices: bool = False
    tile_encoding: bool = False
    tile_decoding: bool = False
    draw_batch: int | None = None
    advice: tuple[Advice, ...] = ()
    away: int = 0
    main_free: int | None = None

    @property
    def step(self) -> MemoryEstimate:
        return self.estimates[0]

    @property
    def peak(self) -> MemoryEstimate:
        return max(self.estimates, key=lambda estimate: estimate.total)

    @property
    def problems(self) -> list[Problem]:
        """What does not fit, and what to do about it."""
        return [*self._on_device(), *self._in_main_memory()]

    def _in_main_memory(self) -> Iterator[Problem]:
        if not fits(self.away, self.main_free):
            assert self.main_free is not None
            what = f"{bytes_text(self.away)} of weights are to stay in main memory, and "
            what += f"{bytes_text(self.main_free)} are free there"
            hint = "offload fewer blocks, or set train.base_precision = fp8"
            yield Problem("performance.offload_blocks", what, hint)

    def _on_device(self) -> list[Problem]:
        if self.free is None:
            return []
        free = self.free
        over = [estimate for estimate in self.estimates if not fits(estimate.total, free)]
        if not over:
            return []
        needs = ", ".join(f"{one.what} {bytes_text(one.total)}" for one in over)
        changes = ", ".join(
            f"{one.setting} = {one.value} (saves {bytes_text(one.saves)})" for one in self.advice
        )
        reduced = over[0].total - sum(one.saves for one in self.advice)
        if over[0] is not self.step:
            hint = "draw smaller pictures while training, or none"
            if self.step.weights > free // 4:
                hint += ", or set train.base_precision = fp8"
        elif not changes:
            hint = "train at a lower resolution, or on another machine"
        elif fits(reduced, free):
            hint = f"set {changes}: that needs {bytes_text(reduced)}"
        else:
            hint = f"even {changes} would need {bytes_text(reduced)}: lower data.resolution too"
        return [Problem("memory", f"{needs}, and {bytes_text(free)} are free on the device", hint)]


def checkpoints(settings: TrainSettings, plan: MemoryPlan) -> bool:
    """Whether any part is computed twice."""
    setting = settings.train.gradient_checkpointing
    return plan.checkpointed > 0 if setting == "auto" else bool(setting)


def fits(needed: int, free: int | None) -> bool:
    return free is None or needed <= USABLE * free


def precision_of(run_plan: RunPlan, device: torch.device) -> Precision:
    weights = run_plan.architecture.denoiser_weights
    return choose_precision(run_plan.settings.train.precision, device, weights)


def memory_of(run_plan: RunPlan, device: torch.device, *, is_taken: bool = False) -> MemoryPlan:
    """What the run will need of ``device``; see :func:`plan_memory`.

    Args:
        is_taken: another run has the device, which will be gone then. All of it counts as free,
            and nothing is put on it.
    """
    settings = run_plan.settings
    dtype = precision_of(run_plan, device).dtype
    innermost = channels_last(settings, device)
    free = total_memory(device) if is_taken else None
    return plan_memory(
        settings, run_plan, dtype, device, channels_last=innermost, free=free, exact=False
    )


def channels_last(settings: TrainSettings, device: torch.device) -> bool:
    """Whether convolutions have channels innermost: as set, else where they are faster so.

    Tensor cores want them so. CPUs lose by it at the sizes that people train at, or gain nothing:
    benchmarks/step.md.
    """
    setting = settings.performance.channels_last
    return device.type == "cuda" if setting == "auto" else setting


def plan_memory(
    settings: TrainSettings,
    run_plan: RunPlan,
    dtype: torch.dtype,
    device: torch.device,
    *,
    channels_last: bool,
    free: int | None = None,
    exact: bool = True,
) -> MemoryPlan:
    """Everything from one place: the plan's figures, and what a run does by itself to fit.

    Args:
        channels_last: whether the run will lay convolutions out so.
        free: bytes on the device, asked of it for ``None``.
        exact: also where it is plain that all will fit. Without, such runs get no figures but
            those of their weights.
    """
    free = free_memory(device) if free is None else free
    planner = _Planner(settings, run_plan, dtype, device, channels_last, free)
    if not exact and planner.plainly_fits:
        return MemoryPlan((MemoryEstimate("training step", 0),), free)
    return planner.plan()


class _Planner:
    def __init__(
        self,
        settings: TrainSettings,
        run_plan: RunPlan,
        dtype: torch.dtype,
        device: torch.device,
        channels_last: bool,
        free: int | None,
    ) -> None:
        self.settings, self.run_plan, self.dtype, self.free = settings, run_plan, dtype, free
        self.device, self.channels_last = device, channels_last

    @property
    def architecture(self) -> Architecture:
        return self.run_plan.architecture

    @cached_property
    def bucket(self) -> tuple[int, int]:
        sizes = (bucket.size for bucket in self.run_plan.dataset.buckets)
        return max(sizes, key=lambda size: size[0] * size[1])

    def micro_batch(self, settings: TrainSettings) -> tuple[int, int, int]:
        """Width, height and number of the samples with the most pixels together."""
        dataset = self.run_plan.dataset
        return max(
            (
                (*bucket.size, dataset.groups[bucket.group].batch_size(settings.train.batch, 1))
                for bucket in dataset.buckets
            ),
            key=math.prod,
        )

    @property
    def plainly_fits(self) -> bool:
        """A small model at a small size, with gigabytes to spare."""
        cells = math.prod(self.micro_batch(self.settings))
        small = self.architecture.denoiser_weights < LARGE_FOR_CPU and cells <= 8 * 256 * 256
        return small and (self.free is None or self.free > 4e9)

    def use(self, settings: TrainSettings) -> Workload:
        from lorasmith.training.memory.simulate import Workload

        performance, varies = settings.performance, self.run_plan.dataset.captions_vary
        cached = performance.cache_text is not False and not varies
        on_cpu = self.device.type == "cpu"  # Where there is nowhere else to be.
        return Workload(
            *self.bucket,
            self.micro_batch(settings),
            sample_batch=self._sample_batch(settings),
            text=on_cpu or kind_of(settings).trains_text(settings) or not cached,
            vae=on_cpu or (self.run_plan.has_images and not performance.cache_latents),
            channels_last=self.channels_last,
            all_on_one=on_cpu,
        )

    def _sample_batch(self, settings: TrainSettings) -> tuple[int, int, int] | None:
        sample = settings.sample
        judges = settings.train.stop == "best"
        if not (sample.every_epochs or sample.every_steps or sample.at_start or judges):
            return None
        native = self.architecture.native_resolution
        requests = [
            sample_request(sample, prompt, number, native)
            for number, prompt in enumerate(sample.prompts or [""])
        ]
        sizes = [(one.width or native, one.height or native) for one in requests]
        largest = max(sizes, key=lambda size: size[0] * size[1])
        multiple = self.architecture.size_multiple
        width, height = (max(1, round(side / multiple)) * multiple for side in largest)
        cells = width * height // self.architecture.latent_factor**2
        prompts = sizes.count(largest) if sample.prompts else 2
        return width, height, max(1, min(prompts, 8 * 4096 // cells))

    def empty(self, settings: TrainSettings, checkpointed: int = 0) -> SimulatedRun:
        from lorasmith.training.memory.simulate import SimulatedRun  # Imports diffusers.

        precision = settings.train.precision
        dtype = self.dtype if precision == self.settings.train.precision else PRECISIONS[precision]
        return SimulatedRun(settings, self.architecture, dtype, self.use(settings), checkpointed)

    def plan(self) -> MemoryPlan:
        run = self.empty(self.settings)
        step, checkpointed = run.step(), 0
        if self.settings.train.gradient_checkpointing == "auto" and not self._fits(step):
            checkpointed, step = self._checkpoint_enough(run.blocks)
        vae = self._vae(run)
        estimates = [step, *vae["estimates"]]
        if not self.run_plan.has_images:
            estimates = [one for one in estimates if one.what != ENCODING]
        draw_batch: int | None = None
        if (sample_batch := self._sample_batch(self.settings)) is not None:
            width, height, batch = sample_batch
            sample = self.settings.sample
            prompt_cfgs = [p.cfg for p in sample.prompts if isinstance(p, SamplePrompt) and p.cfg]
            guided = 2 * batch if max([sample.cfg, *prompt_cfgs]) > 1 else batch
            drawing = run.denoising("drawing pictures", guided, width, height)
            if batch > 1 and not self._fits(drawing):
                draw_batch = 1
                drawing = run.denoising("drawing pictures", guided // batch, width, height)
            estimates.append(drawing)
        if self.run_plan.validation_set is not None:
            estimates.append(run.denoising("measuring", BATCH, *self.bucket))
        largest: dict[str, MemoryEstimate] = {}
        for one in estimates:
            if one.what not in largest or one.total > largest[one.what].total:
                largest[one.what] = one
        advice = () if self._fits(step) else tuple(self._advice(step, checkpointed))
        return MemoryPlan(
            tuple(largest.values()), self.free, checkpointed, draw_batch=draw_batch, advice=advice,
            away=run.away, main_free=free_memory(torch.device("cpu")) if run.away else None,
            **vae["saves"],
        )  # fmt: skip

    def _fits(self, estimate: MemoryEstimate) -> bool:
        return fits(estimate.total, self.free)

    def _checkpoint_enough(self, blocks: int) -> tuple[int, MemoryEstimate]:
        """As few blocks as fit, all of them where none do; by halving."""
        low, high = 1, blocks
        best = self.empty(self.settings, blocks).step()
        while low < high and self._fits(best):
            middle = (low + high) // 2
            estimate = self.empty(self.settings, middle).step()
            if self._fits(estimate):
                high, best = middle, estimate
            else:
                low = middle + 1
        return high, best

    def _vae(self, run: SimulatedRun) -> dict[str, Any]:
        """What the VAE must do to fit, and what it then takes."""
        performance, estimates = self.settings.performance, []
        limited = self.device.type != "cpu"
        batch = performance.vae_batch
        slices = performance.vae_slicing is True
        encoding = run.encoding(1 if slices else batch)
        if performance.vae_slicing == "auto" and limited and not self._fits(encoding):
            slices, encoding = True, run.encoding(1)
        tile_encoding = performance.vae_tiling is True
        if performance.vae_tiling == "auto" and limited and not self._fits(encoding):
            tile_encoding = True
        if tile_encoding:
            run.model.save_vae_memory(slices=slices, tile_encoding=True)
            encoding = run.encoding(1)
        estimates.append(encoding)
        tile_decoding = performance.vae_tiling is True
        if run.use.sample_batch is not None:
            decoding = run.decoding()
            if performance.vae_tiling == "auto" and limited and not self._fits(decoding):
                tile_decoding = True
            if tile_decoding:
                run.model.save_vae_memory(tile_decoding=True)
                decoding = run.decoding()
            estimates.append(decoding)
        saves = {
            "slices": slices, "tile_encoding": tile_encoding, "tile_decoding": tile_decoding
        }  # fmt: skip
        return {"estimates": estimates, "saves": saves}

    def _advice(self, step: MemoryEstimate, checkpointed: int) -> Iterator[Advice]:
        """One change after the other, each on top of those before it, until it fits."""
        settings, before, activations = self.settings, step.total, step.activations
        if checkpointed:
            settings = replace_settings(settings, {"train.gradient_checkpointing": True})
        for path, value, applies in self._changes():
            if not applies(settings):
                continue
            with_change = replace_settings(settings, {path: value})
            run = self.empty(with_change)
            estimate = run.step_with(activations) if path in WEIGHTS_ALONE else run.step()
            total = estimate.total
            if total > 0.99 * before:
                continue
            if path == "performance.offload_blocks":
                value = run.blocks
            yield Advice(path, str(value).lower(), before - total)
            settings, before, activations = with_change, total, estimate.activations
            if fits(total, self.free):
                return

    def _changes(self) -> Sequence[tuple[str, Any, Callable[[TrainSettings], bool]]]:
        gpu, packs = self.device.type != "cpu", kind_of(self.settings).packs(self.settings)
        return (
            ("performance.cache_latents", True, lambda s: not s.performance.cache_latents),
            ("performance.cache_text", "auto", lambda s: s.performance.cache_text is False),
            ("train.batch", 1, lambda s: s.train.batch > 1),
            (
                "train.precision", "bf16",
                lambda s: self.dtype == torch.float32 and s.train.precision in ("auto", "fp32"),
            ),
            (
                "train.gradient_checkpointing", True,
                lambda s: s.train.gradient_checkpointing is not True,
            ),
            *(
                (change.path, change.value, change.applies)
                for change in (kind_of(self.settings).memory_changes() if gpu else ())
            ),
            ("train.base_precision", "fp8", lambda s: packs and s.train.base_precision == "auto"),
            ("optimizer.name", "AdamW8bit", lambda s: gpu and s.optimizer.name == "AdamW"),
            ("train.base_precision", "nf4", lambda s: packs and s.train.base_precision != "nf4"),
            (
                "performance.offload_blocks", 64,
                lambda s: packs and self.device.type in ("cuda", "xpu")
                and not s.performance.offload_blocks,
            ),
        )  # fmt: skip
