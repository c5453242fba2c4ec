"""What a training step minimises: noise, timesteps, prediction, loss and its weights.

Shapes: B samples of a micro-batch, C latent channels, h x w latent size, T text tokens, D features.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, fields, replace
from itertools import pairwise
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from lorasmith.config.schema import TrainSettings
from lorasmith.config.sections.loss import LossSettings
from lorasmith.diffusion.global_batch import GlobalBatch
from lorasmith.diffusion.loss import Loss, per_sample_mse
from lorasmith.diffusion.noise import Noise
from lorasmith.diffusion.schedule import (
    NOISE_SCHEDULES,
    NUM_TIMESTEPS,
    NoiseSchedule,
)
from lorasmith.diffusion.timesteps import (
    Quantile,
    Timesteps,
    as_weighed,
    leaning_high,
    leaning_low,
    logit_normal,
)
from lorasmith.diffusion.weights import Weights
from lorasmith.models.diffusion_model import Conditioning, DiffusionModel
from lorasmith.tensors.rng import normal_per_sample
from lorasmith.tensors.transfer import pinned, to_device
from lorasmith.training.preservation import ALL_NOISE


@dataclass(frozen=True, slots=True)
class NoisyBatch:
    """A micro-batch with its draws of noise and timesteps: all that the loss needs but the text.

    Args:
        latents: (B, C, h, w) what the denoiser is given.
        timesteps: (B,) int64.
        target: (B, C, h, w) what it should predict.
        weight: (B,) of each sample in the loss.
        threshold: (B,) of :meth:`~lorasmith.diffusion.loss.Loss.threshold`.
        mask: (B, 1, h, w) of :class:`MicroBatch`.
    """

    latents: Tensor
    timesteps: Tensor
    target: Tensor
    weight: Tensor
    threshold: Tensor | None = None
    mask: Tensor | None = None

    @property
    def noise_gone(self) -> list[float]:
        """(T - t) / T of each sample; of a batch that is still on the CPU."""
        return [(NUM_TIMESTEPS - t) / NUM_TIMESTEPS for t in self.timesteps.tolist()]

    def each(self, change: Callable[[Tensor], Tensor]) -> NoisyBatch:
        """The same with every tensor changed."""
        return NoisyBatch(
            change(self.latents),
            change(self.timesteps),
            change(self.target),
            change(self.weight),
            None if self.threshold is None else change(self.threshold),
            None if self.mask is None else change(self.mask),
        )


@dataclass(frozen=True, slots=True)
class Kept:
    """What a micro-batch keeps of the base model's output; see
    :mod:`lorasmith.training.preservation`.

    Args:
        condition: gives the text features of the captions that it is kept for, as
            :attr:`MicroBatch.condition` does.
        weight: (B,) 0 for samples that keep nothing, 1 for others.
    """

    condition: Callable[[], Conditioning]
    weight: Tensor


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """What one forward pass works on.

    Args:
        mean, std: (B, C, h, w) of the VAE's posterior, already scaled; the step draws the sample.
        condition: gives the text features, with gradients when the text encoder is trained. A
            call, since a trained text encoder must run within the step that its adapters drop out
            for, and only one micro-batch's graph should be alive at a time.
        weight: (B,) loss weights: prior loss weight for regularisation images, folder weights.
        samples: stable ids, which name the random draws of each alone.
        mask: (B, 1, h, w) in [0, 1], how much each latent pixel counts, as painted: the weight
            outside the mask is the objective's matter. ``None`` where nothing is masked.
        noisy: of :meth:`Objective.add_noise` for its step, where that was worked out ahead.
        whole: the step that it is a part of. ``None`` will do where each draw is for itself.
        kept: in steps that keep the base model's output.
        opposite: of pairs of images the other side, which has the same draws; weighted alike.
    """

    mean: Tensor
    std: Tensor
    condition: Callable[[], Conditioning]
    weight: Tensor
    samples: Sequence[int]
    mask: Tensor | None = None
    noisy: NoisyBatch | None = None
    whole: GlobalBatch | None = None
    kept: Kept | None = None
    opposite: MicroBatch | None = None


@dataclass(frozen=True, slots=True)
class Objective:
    """What is minimised; the parts are in :mod:`lorasmith.diffusion`."""

    schedule: NoiseSchedule
    seed: int
    noise: Noise = field(default_factory=Noise)
    timesteps: Timesteps = field(default_factory=Timesteps)
    weights: Weights = field(default_factory=Weights)
    loss: Loss = field(default_factory=Loss)

    @property
    def parts(self) -> dict[str, Any]:
        """By name, for an objective of more."""
        return {one.name: getattr(self, one.name) for one in fields(Objective)}

    def loss_sum(
        self,
        model: DiffusionModel,
        batch: MicroBatch,
        step: int,
        disabled: Disabled = nullcontext,
    ) -> Tensor:
        """Sum over the batch of the weighted per-sample loss, a float32 scalar.

        Args:
            disabled: within its context the model is the base model; asked for where that is what
                is learned outside masks.
        """
        noisy = self._on_device(batch, step, model.device)
        outside: Tensor | None = None
        if noisy.mask is not None and self.loss.settings.outside_mask == "prior":
            outside = _base_prediction(model, noisy, batch.condition, disabled)
        prediction = model.denoise(noisy.latents, noisy.timesteps, batch.condition())
        loss = self.loss.per_sample(
            prediction, noisy.target, threshold=noisy.threshold, mask=noisy.mask, outside=outside
        )
        return (loss * noisy.weight).sum()

    def losses(
        self,
        model: DiffusionModel,
        batch: MicroBatch,
        step: int,
        disabled: Disabled = nullcontext,
    ) -> Generator[Tensor, None, None]:
        """The :attr:`terms` that the loss is the sum of. Each has a graph of its own, and is to be
        propagated back before the next is asked for."""
        yield self.loss_sum(model, batch, step, disabled)

    @property
    def terms(self) -> int:
        return 1

    def preservation_sum(
        self,
        model: DiffusionModel,
        batch: MicroBatch,
        step: int,
        disabled: Disabled,
        own: Sequence[int] = (),
    ) -> Tensor:
        """Sum over the batch of the squared distance from the base model's prediction for the
        captions in ``batch.kept``; a float32 scalar.

        Weighted as the loss is: a noise level is kept as firmly as it is learned.

        Args:
            own: timesteps that the base model draws through, down to where it is kept: from plain
                noise, if they begin with :data:`ALL_NOISE`, else from the batch's images; none to
                keep its prediction for the noisy latents of the batch.
        """
        assert batch.kept is not None
        kept = batch.kept
        with torch.no_grad(), disabled():
            conditioning = kept.condition()
            if own:
                noisy = self._drawn_by_base(model, batch, step, conditioning, own)
            else:
                noisy = self._on_device(batch, step, model.device)
            base = model.denoise(noisy.latents, noisy.timesteps, conditioning)
        prediction = model.denoise(noisy.latents, noisy.timesteps, kept.condition())
        weight = noisy.weight * to_device(kept.weight, model.device)
        return (per_sample_mse(prediction, base) * weight).sum()

    def _drawn_by_base(
        self,
        model: DiffusionModel,
        batch: MicroBatch,
        step: int,
        conditioning: Conditioning,
        own: Sequence[int],
    ) -> NoisyBatch:
        """The base model's own noisy latents, at the last of the timesteps; there is no target, for
        what was drawn is no image.

        Args:
            model: with the adapter off.
            conditioning: of the captions that are kept.
        """
        schedule, count = self.schedule, len(batch.samples)
        latents = normal_per_sample(batch.mean.shape[1:], self.seed, "own", step, batch.samples)
        if own[0] != ALL_NOISE:
            latents = schedule.add_noise(batch.mean, latents, torch.full((count,), own[0]))
        latents = to_device(latents, model.device)
        for now, then in pairwise(own):
            t = torch.full((count,), now, device=model.device)
            prediction = model.denoise(latents, t, conditioning).float()
            latents = schedule.step(latents, prediction, now, then)
        t = torch.full((count,), own[-1])
        noisy = NoisyBatch(latents, t, latents, self.weights.apply(batch.weight, schedule, t))
        return noisy.each(lambda tensor: to_device(tensor, model.device))

    def _on_device(self, batch: MicroBatch, step: int, device: torch.device) -> NoisyBatch:
        noisy = self.add_noise(batch, step) if batch.noisy is None else batch.noisy
        return noisy.each(lambda tensor: to_device(tensor, device))

    def add_noise(self, batch: MicroBatch, step: int) -> NoisyBatch:
        """What step ``step`` makes of the batch, on the CPU: its draws are functions of the seed,
        the step and its samples, so it can be called ahead and in any thread."""
        schedule, draw = self.schedule, (self.seed, step, batch.samples)
        jitter = normal_per_sample(batch.mean.shape[1:], self.seed, "latent", step, batch.samples)
        latents = batch.mean + batch.std * jitter
        noise = self.noise.draw(latents, *draw, batch.whole)
        t = self.timesteps.draw(*draw, batch.whole)
        return NoisyBatch(
            schedule.add_noise(latents, self.noise.perturb(noise, *draw), t),
            t,
            schedule.target(latents, noise, t),
            self.weights.apply(batch.weight, schedule, t),
            self.loss.threshold(schedule, t),
            batch.mask,
        )

    def with_noise(self, batch: MicroBatch, step: int, device: torch.device) -> MicroBatch:
        """The batch with :meth:`add_noise` done, ready to be copied to ``device``."""
        noisy = self.add_noise(batch, step).each(lambda tensor: pinned(tensor, device))
        if batch.opposite is not None:
            batch = replace(batch, opposite=self.with_noise(batch.opposite, step, device))
        return replace(batch, noisy=noisy)


Disabled = Callable[[], AbstractContextManager[None]]
"""Gives a context in which the model is the base model; see
:meth:`lorasmith.training.kinds.trained.Trained.disabled`."""


def _base_prediction(
    model: DiffusionModel,
    noisy: NoisyBatch,
    condition: Callable[[], Conditioning],
    disabled: Disabled,
) -> Tensor:
    """(B, C, h, w) what the base model predicts, text encoders included."""
    with torch.no_grad(), disabled():
        return model.denoise(noisy.latents, noisy.timesteps, condition())


def prediction_error(
    model: DiffusionModel,
    schedule: NoiseSchedule,
    latents: Tensor,
    noise: Tensor,
    timesteps: Tensor,
    conditioning: Conditioning,
) -> Tensor:
    """(B,) float32 mean squared error of each sample's prediction, with no weight of any kind.

    ``latents`` and ``noise`` (B, C, h, w) and ``timesteps`` (B,) are on the schedule's device; the
    result is on the model's.
    """
    device = model.device
    noisy = schedule.add_noise(latents, noise, timesteps)
    target = schedule.target(latents, noise, timesteps)
    prediction = model.denoise(to_device(noisy, device), to_device(timesteps, device), conditioning)
    return per_sample_mse(prediction, to_device(target, device))


def build_objective(settings: TrainSettings, model: DiffusionModel) -> Objective:
    loss = settings.loss
    architecture = model.architecture
    schedule = NOISE_SCHEDULES[architecture.family.noise_schedule](
        model.prediction, architecture.zero_terminal_snr
    )
    weights = Weights(loss)
    low, high = loss.min_timestep, loss.max_timestep
    if loss.timesteps == "importance":
        in_range = weights.table(schedule)[low:high].tolist()
        timesteps = Timesteps(low, high, as_weighed(in_range), loss.timestep_strata)
        weights = Weights(loss, level=fmean(in_range))
    else:
        timesteps = Timesteps(low, high, QUANTILES[loss.timesteps](loss), loss.timestep_strata)
    return Objective(schedule, settings.train.seed, Noise(loss), timesteps, weights, Loss(loss))


QUANTILES: dict[str, Callable[[LossSettings], Quantile | None]] = {
    "uniform": lambda loss: None,
    "logit_normal": lambda loss: logit_normal(loss.timestep_mean, loss.timestep_std),
    "low": lambda loss: leaning_low(loss.timestep_power),
    "high": lambda loss: leaning_high(loss.timestep_power),
}
"""The distribution of timesteps by the setting's name; "importance" comes of the weights."""
