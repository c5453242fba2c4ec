"""A run's model, what it trains and its step on the meta device, and what they would take on a real
one."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

from lorasmith.config.optimizers import optimizer_facts
from lorasmith.config.schema import TrainSettings
from lorasmith.diffusion.global_batch import GlobalBatch
from lorasmith.models.diffusion_model import Conditioning, DiffusionModel
from lorasmith.models.families.table import Architecture
from lorasmith.models.load import assemble, empty_modules, fill_buffers
from lorasmith.models.memory import blocks_by_activations
from lorasmith.models.placement import WeightPlacement, place_weights
from lorasmith.tensors.offload import AHEAD, host_bytes
from lorasmith.training.kinds.table import kind_of
from lorasmith.training.kinds.trained import Trained
from lorasmith.training.memory.estimates import ENCODING, MemoryEstimate
from lorasmith.training.memory.trace import LiveBytes, backward, bytes_of, peak_bytes, tensors_of
from lorasmith.training.objective import MicroBatch, build_objective
from lorasmith.training.optim import cast_at_once

META = torch.device("meta")


@dataclass(frozen=True, slots=True)
class Workload:
    """What a memory plan must know of the images and of what stays on the device.

    Args:
        width, height: of the largest bucket, in pixels.
        micro_batch: width, height and number of the samples whose step needs most.
        sample_batch: width and height of images that are drawn on the way, and how many at once.
        text, vae: whether text encoders and VAE stay there for the steps.
        all_on_one: the device is the computer's main memory itself.
        channels_last: whether convolutions are laid out so.
    """

    width: int
    height: int
    micro_batch: tuple[int, int, int]
    sample_batch: tuple[int, int, int] | None
    text: bool
    vae: bool
    channels_last: bool
    all_on_one: bool = False


def weight_placement(settings: TrainSettings) -> WeightPlacement:
    precision = settings.train.base_precision
    return WeightPlacement(
        "none" if precision == "auto" else precision, settings.performance.offload_blocks
    )


def checkpointed(
    setting: bool | int | Literal["auto"], blocks: Sequence[str], auto_count: int = 0
) -> list[str] | None:
    """The denoiser's blocks that are computed twice, ``None`` for nothing at all.

    Args:
        setting: ``train.gradient_checkpointing``.
        blocks: all of them, in the order in which they run.
        auto_count: how many it takes where that is "auto".
    """
    blocks = blocks_by_activations(blocks)
    count = auto_count if setting == "auto" else len(blocks) if setting is True else int(setting)
    return blocks[:count] or None


class SimulatedRun:
    """The model that a run would have, without numbers.

    Args:
        dtype: of the frozen weights and activations.
        auto_count: as in :func:`checkpointed`.
    """

    def __init__(
        self,
        settings: TrainSettings,
        architecture: Architecture,
        dtype: torch.dtype,
        use: Workload,
        auto_count: int = 0,
    ) -> None:
        self.settings, self.use = settings, use
        modules = empty_modules(architecture)
        for part, module in modules.items():
            # Module's own: diffusers' warns of what does not concern empty weights.
            nn.Module.to(module, dtype=torch.float32 if part == "vae" else dtype)
            fill_buffers(module, META)
        self.model: DiffusionModel = assemble(
            architecture, modules, dtype, META,
            clip_skip=settings.model.clip_skip, max_tokens=settings.model.max_tokens,
        )  # fmt: skip
        if use.channels_last:
            self.model.use_channels_last()
        paths = architecture.block_paths
        self.blocks = len(paths)
        blocks = checkpointed(settings.train.gradient_checkpointing, paths, auto_count)
        with LiveBytes():  # For its memory of what was made before: quantizing is many operations.
            place_weights(
                self.model.denoiser,
                self.model.architecture.block_paths,
                weight_placement(settings),
                META,
            )
        if blocks:
            self.model.enable_gradient_checkpointing(blocks)
        self.trained: Trained = kind_of(settings).build(settings, self.model)
        # Of the bare model: what is attached would count as part of it.
        self.sizes = {part: bytes_of(self.model.part(part)) for part in modules}
        away = host_bytes(self.model.denoiser)
        self.away = sum(away)
        # Weights on their way, which come to a model of empty ones only when they are needed.
        self.sizes["unet"] += AHEAD * max(away, default=0)
        self.groups = kind_of(settings).groups(settings, self.trained, dtype)

    def step(self) -> MemoryEstimate:
        """A training step of the micro-batch that needs most."""
        objective = build_objective(self.settings, self.model)
        contrast = kind_of(self.settings).contrast(self.settings)
        width, height, count = self.use.micro_batch
        shape = (count, *self._latents(width, height))
        samples = list(range(shape[0]))
        if contrast is not None:
            objective = contrast.objective(
                self.settings, objective, self.trained, self, [0] * len(samples)
            )
        trains_text = kind_of(self.settings).trains_text(self.settings)

        def condition() -> Conditioning:
            if not trains_text:
                return self._conditioning(shape[0])
            return self.model.encode_text([""] * shape[0]).with_size_ids(torch.zeros(shape[0], 6))

        batch = MicroBatch(
            torch.zeros(shape),
            torch.ones(shape),
            condition,
            torch.ones(shape[0]),
            samples,
            whole=GlobalBatch.of_strangers(samples),
        )
        if contrast is not None and contrast.has_pairs:
            batch = replace(batch, opposite=batch)

        def forward() -> Generator[Tensor, None, None]:
            self.trained.begin_step(
                0,
                0,
                samples,
                size=shape[-2:],
                dtype=self.model.dtype,
                noise_gone=[1.0] * len(samples),
            )
            return objective.losses(self.model, batch, 0)

        def run() -> None:
            losses = forward()
            for _ in range(objective.terms):
                with cast_at_once(self.groups):
                    backward(next(losses))
            losses.close()

        with self.trained.attached():
            if self.trained.masks_ahead:
                next(forward())
            peak = peak_bytes(run, self._tensors())
        self.trained.end_step()
        for group in self.groups:
            group.zero_grad()
        return self.step_with(peak)

    def step_with(self, activations: int) -> MemoryEstimate:
        """A training step whose activations are known."""
        peak = max(activations, self._update())
        return self._with_trained("training step", self._resident(), peak)

    def encoding(self, batch: int) -> MemoryEstimate:
        """The VAE and text encoders alone, images being encoded."""
        pixels = torch.empty(batch, 3, self.use.height, self.use.width, device=META)
        with torch.no_grad():
            peak = peak_bytes(lambda: self.model.encode_images(pixels), self._tensors())
        weights = sum(size for part, size in self.sizes.items() if part != "unet")
        size = pixels.numel() * pixels.element_size()
        return MemoryEstimate(ENCODING, weights, activations=peak + size)

    def denoising(self, what: str, batch: int, width: int, height: int) -> MemoryEstimate:
        """Calls of the denoiser without gradients, for drawing and for measuring."""
        noisy = torch.empty(batch, *self._latents(width, height), device=META)

        def run() -> Tensor:
            timesteps = torch.zeros(batch, dtype=torch.int64)
            return self.model.denoise(noisy, timesteps, self._conditioning(batch))

        with self._drawing():
            peak = peak_bytes(run, self._tensors())
        return self._with_trained(what, self._resident(), peak)

    def decoding(self) -> MemoryEstimate:
        """One image that is drawn while training becomes pixels."""
        assert self.use.sample_batch is not None
        width, height, _ = self.use.sample_batch
        latents = torch.empty(1, *self._latents(width, height), device=META)
        with torch.no_grad():
            peak = peak_bytes(lambda: self.model.decode_latents(latents), self._tensors())
        weights = self._resident() + (0 if self.use.vae else self.sizes["vae"])
        return self._with_trained("drawing pictures", weights, peak)

    @contextlib.contextmanager
    def _drawing(self) -> Iterator[None]:
        with torch.no_grad(), self.trained.attached():
            yield

    def _latents(self, width: int, height: int) -> tuple[int, int, int]:
        architecture = self.model.architecture
        factor = architecture.latent_factor
        return architecture.latent_channels, height // factor, width // factor

    def condition(self, captions: Sequence[str]) -> Conditioning:
        """Text features of so many captions, cached before."""
        return self._conditioning(len(captions))

    def _conditioning(self, batch: int) -> Conditioning:
        architecture, dtype = self.model.architecture, self.model.dtype
        tokens = self.settings.model.max_tokens + 2
        hidden = torch.empty(batch, tokens, architecture.text_width, dtype=dtype, device=META)
        if not architecture.family.size_conditioning:
            return Conditioning(hidden)
        width = architecture.texts[-1]["projection_dim"]
        pooled = torch.empty(batch, width, dtype=dtype, device=META)
        return Conditioning(hidden, pooled, torch.empty(batch, 6, device=META))

    def _tensors(self) -> list[Tensor]:
        modules = [*self.model.networks, *self.trained.holders().values()]
        of_modules = [tensor for module in modules for tensor in tensors_of(module)]
        away = [t for m in self.model.denoiser.modules() for t in getattr(m, "away", {}).values()]
        return [*of_modules, *away, *(tensor for group in self.groups for tensor in group.held)]

    def _resident(self) -> int:
        parts = ["unet"]
        parts += ["vae"] if self.use.vae else []
        parts += self.model.text_encoders if self.use.text else []
        return sum(self.sizes[part] for part in parts)

    def _update(self) -> int:
        """Gradients, and what the optimizer needs beside its state: about two copies of its largest
        tensor, but for those that go over a tensor once."""
        facts = optimizer_facts(self.settings.optimizer.name)
        passing = sum(group.passing_bytes for group in self.groups)
        passing += max(group.stepping_bytes for group in self.groups)
        if facts.defaults.get("fused") or facts.package == "bitsandbytes":
            return passing
        largest = max(
            parameter.numel()
            for group in self.groups
            for parameter in group.for_optimizer(elementwise=facts.elementwise)
        )
        return passing + 2 * 4 * largest

    def _with_trained(self, what: str, weights: int, activations: int) -> MemoryEstimate:
        held = sum(tensor.nbytes for group in self.groups for tensor in group.held)
        return MemoryEstimate(what, weights, held, self._state(), activations)

    def _state(self) -> int:
        """Of the optimizer, and of averaged weights that are on the device."""
        facts = optimizer_facts(self.settings.optimizer.name)
        values = sum(
            facts.values_for(tuple(parameter.shape))
            for group in self.groups
            for parameter in group.for_optimizer(elementwise=facts.elementwise)
        )
        if self.settings.train.ema:
            values += sum(g.size for g in self.groups if self.use.all_on_one or g.spare == META)
        return int(4 * values)
