"""What a concept slider minimises (Gandikota et al. 2023, "Concept Sliders", arXiv 2311.12092).

For noisy latents ``x`` at a timestep, with the base model's predictions ``e`` for three prompts:

    at strength +1 the adapted prediction for the target is to be
        e(target) + guidance * (e(positive) - e(negative))
    and at strength -1
        e(target) - guidance * (e(positive) - e(negative))

Equation 8 of the paper; its code (rohitgandikota/sliders, textsliders) trains strength 1 alone and
leaves the other side to the LoRA being linear in its strength, which what comes of it is not. Since
all three are of the same ``x``, the formula holds for epsilon and for v prediction.

No images are there, so ``x`` is what the model itself makes of noise in a few steps, with the
slider at +1 or at -1, so that both sides are trained where they will be used; the paper does so, at
+1, in up to 50 steps.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from lorasmith.core.rng import python_rng
from lorasmith.diffusion.schedule import NUM_TIMESTEPS
from lorasmith.models.diffusion_model import Conditioning, DiffusionModel
from lorasmith.tensors.rng import normal_per_sample
from lorasmith.tensors.transfer import to_device
from lorasmith.training.kinds.kind import Encoder, PromptTriple
from lorasmith.training.objective import Disabled, MicroBatch, NoisyBatch, Objective

LAST = NUM_TIMESTEPS - 1


class Scaled(Protocol):
    """What is trained, at any strength."""

    def at_strength(self, strength: float) -> AbstractContextManager[None]: ...
    def disabled(self) -> AbstractContextManager[None]: ...


def slider_target(
    target: Tensor, positive: Tensor, negative: Tensor, guidance: float, sign: float
) -> Tensor:
    """(B, C, h, w) what strength ``sign`` is to predict, from the base model's predictions."""
    return target + sign * guidance * (positive - negative)


def drawing_timesteps(last: int, steps: int) -> list[int]:
    """From all noise down to ``last``, at which it is trained: those of ``steps`` that are spread
    evenly over all noise levels and lie above it; at least one."""
    evenly = [LAST - number * NUM_TIMESTEPS // steps for number in range(steps)]
    return [*(t for t in evenly if t > last), last]


@dataclass(frozen=True, slots=True, kw_only=True)
class TwoSidedObjective(Objective):
    """A loss of two halves: what is trained at strength 1, and at -1.

    Args:
        network: what is trained.
    """

    network: Scaled

    def loss_sum(
        self,
        model: DiffusionModel,
        batch: MicroBatch,
        step: int,
        disabled: Disabled = nullcontext,
    ) -> Tensor:
        """Of both sides, to be measured; for gradients see :meth:`losses`."""
        with torch.no_grad():
            return torch.stack(list(self.losses(model, batch, step, disabled))).sum()

    @property
    def terms(self) -> int:
        return 2


@dataclass(frozen=True, slots=True, kw_only=True)
class SliderObjective(TwoSidedObjective):
    """The slider's loss, for the samples of a dataset of prompts.

    Args:
        triples: the prompts of each sample, by its id.
        text: gives their features.
        guidance, latent_steps: of :class:`.SliderSettings`.
    """

    triples: Sequence[PromptTriple]
    text: Encoder
    guidance: float
    latent_steps: int

    def losses(
        self,
        model: DiffusionModel,
        batch: MicroBatch,
        step: int,
        disabled: Disabled = nullcontext,
    ) -> Generator[Tensor, None, None]:
        """Half of the loss at +1, then half of that at -1: one graph at a time is in memory."""
        with torch.no_grad():
            noisy = self._latents(model, batch, step)
            condition = batch.condition()
            with disabled():
                base = model.denoise(noisy.latents, noisy.timesteps, condition)
                positive, negative = (
                    model.denoise(noisy.latents, noisy.timesteps, self._encoded(texts, condition))
                    for texts in self._contrast(batch.samples)
                )
        for sign in (1.0, -1.0):
            goal = slider_target(base, positive, negative, self.guidance, sign)
            with self.network.at_strength(sign):
                prediction = model.denoise(noisy.latents, noisy.timesteps, condition)
                loss = self.loss.per_sample(prediction, goal, threshold=noisy.threshold)
                yield (loss * noisy.weight).sum() / 2

    def _contrast(self, samples: Sequence[int]) -> tuple[list[str], list[str]]:
        triples = [self.triples[sample] for sample in samples]
        return [one.positive for one in triples], [one.negative for one in triples]

    def _encoded(self, texts: Sequence[str], like: Conditioning) -> Conditioning:
        return replace(self.text.condition(texts), sizes=like.sizes)

    def _latents(self, model: DiffusionModel, batch: MicroBatch, step: int) -> NoisyBatch:
        """Noisy latents of the model's own; timesteps, weights and thresholds are as drawn."""
        noisy = self.add_noise(batch, step) if batch.noisy is None else batch.noisy
        device = model.device
        if not self.latent_steps:
            return noisy.each(lambda tensor: to_device(tensor, device))
        ways = [drawing_timesteps(t, self.latent_steps) for t in noisy.timesteps.tolist()]
        noise = normal_per_sample(batch.mean.shape[1:], self.seed, "own", step, batch.samples)
        latents, condition = list(to_device(noise, device).split(1)), batch.condition()
        strength = python_rng(self.seed, "slider's side", step).choice((1.0, -1.0))
        with self.network.at_strength(strength):
            for number in range(max(map(len, ways)) - 1):
                # The whole batch, as masks of dropout are drawn for: all that go on are here.
                now = max(way[number] for way in ways if number + 1 < len(way))
                t = torch.full((len(ways),), now, device=device)
                prediction = model.denoise(torch.cat(latents), t, condition).float().split(1)
                for row, way in enumerate(ways):
                    if number + 1 < len(way):
                        then = way[number + 1]
                        latents[row] = self.schedule.step(latents[row], prediction[row], now, then)
        drawn = replace(noisy, latents=torch.cat(latents))
        return drawn.each(lambda tensor: to_device(tensor, device))
