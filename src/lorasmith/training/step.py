"""One optimizer step: noise, prediction, loss, backward, update.

Shapes: B samples of a micro-batch, C latent channels, h x w latent size, T text tokens, D features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lorasmith.adapters.network import AdapterNetwork
from lorasmith.diffusion.loss import min_snr_weight, per_sample_mse
from lorasmith.diffusion.schedule import NoiseSchedule
from lorasmith.models.sd import Conditioning, DiffusionModel
from lorasmith.tensor_random import normal_per_sample
from lorasmith.training.lr import LearningRate
from lorasmith.training.optim import FlatGroup, clip_gradients
from lorasmith.training.processes import Processes


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """What one forward pass works on.

    Args:
        mean, std: (B, C, h, w) of the VAE's posterior, already scaled; the step draws the sample.
        condition: gives the text features, with gradients when the text encoder is trained. A
            call, since a trained text encoder must run within the step that its adapters drop out
            for, and only one micro-batch's graph should be alive at a time.
        weight: (B,) loss weights: prior loss weight for regularisation pictures, folder weights.
        samples: stable ids, which name every random draw.
    """

    mean: Tensor
    std: Tensor
    condition: Callable[[], Conditioning]
    weight: Tensor
    samples: Sequence[int]


@dataclass(frozen=True, slots=True)
class Objective:
    """What is minimised; see :mod:`lorasmith.diffusion`.

    Args:
        min_snr_gamma: Hang et al. 2023, "Efficient Diffusion Training via Min-SNR Weighting";
            ``None`` weighs all timesteps alike.
        noise_offset: strength of a per-channel constant added to the noise; 0 for none.
    """

    schedule: NoiseSchedule
    seed: int
    min_snr_gamma: float | None = None
    noise_offset: float = 0.0

    def loss_sum(self, model: DiffusionModel, batch: MicroBatch, step: int) -> Tensor:
        """Sum over the batch of the weighted per-sample loss, a float32 scalar."""
        shape, device = batch.mean.shape[1:], model.device
        jitter = normal_per_sample(shape, self.seed, "latent", step, batch.samples)
        noise = self.schedule.draw_noise(
            shape, self.seed, step, batch.samples, offset=self.noise_offset
        )
        timesteps = self.schedule.draw_timesteps(self.seed, step, batch.samples)
        latents = batch.mean + batch.std * jitter
        noisy = self.schedule.add_noise(latents, noise, timesteps)
        target = self.schedule.target(latents, noise, timesteps)
        weight = batch.weight
        if self.min_snr_gamma is not None:
            snr = self.schedule.snr(timesteps)
            weight = weight * min_snr_weight(snr, self.min_snr_gamma, self.schedule.prediction)
        prediction = model.denoise(
            noisy.to(device, non_blocking=True),
            timesteps.to(device, non_blocking=True),
            batch.condition(),
        )
        loss = per_sample_mse(prediction, target.to(device, non_blocking=True))
        return (loss * weight.to(device, non_blocking=True)).sum()


@dataclass(frozen=True, slots=True)
class StepResult:
    """Scalars on the device; reading them waits for it, so the loop does that only when it logs."""

    loss: Tensor
    grad_norm: Tensor


class TrainStep:
    """Everything that an optimizer step needs, called once per step.

    Args:
        groups: the trained parameters, flat.
        rate: multiplies each group's own learning rate.
        max_grad_norm: joint L2 norm that gradients are clipped to; 0 for no clipping.
        norm_limit: largest Frobenius norm of a module's weight change, ``None`` for no limit.
        scaler: loss scaling for float16, ``None`` otherwise.
    """

    def __init__(
        self,
        model: DiffusionModel,
        network: AdapterNetwork,
        groups: Sequence[FlatGroup],
        optimizer: torch.optim.Optimizer,
        rate: LearningRate,
        objective: Objective,
        processes: Processes,
        *,
        max_grad_norm: float = 1.0,
        norm_limit: float | None = None,
        scaler: torch.amp.GradScaler | None = None,
    ) -> None:
        self.model, self.network, self.groups = model, network, list(groups)
        self.optimizer, self.rate, self.objective = optimizer, rate, objective
        self.processes = processes
        self.max_grad_norm, self.norm_limit, self.scaler = max_grad_norm, norm_limit, scaler

    def __call__(self, step: int, batches: Iterable[MicroBatch], total: int) -> StepResult:
        """Run step ``step`` (0-based) on this process's micro-batches.

        Args:
            batches: in order; each is run forward and backward by itself (gradient accumulation).
            total: samples of the step over all micro-batches and processes. The gradient is that of
                the mean over these, however unevenly they are spread.
        """
        for group in self.groups:
            group.grad.zero_()
        loss = torch.zeros((), device=self.model.device)
        for batch in batches:
            loss += self._backward(step, batch, total)
        for group in self.groups:
            self.processes.sum_(group.grad)
        self.processes.sum_(loss)
        return StepResult(loss, self._update(step))

    def _backward(self, step: int, batch: MicroBatch, total: int) -> Tensor:
        self.network.begin_step(self.objective.seed, step, batch.samples)
        loss = self.objective.loss_sum(self.model, batch, step) / total
        (loss if self.scaler is None else self.scaler.scale(loss)).backward()
        return loss.detach()

    def _update(self, step: int) -> Tensor:
        factor = self.rate.factor(step)
        for group, flat in zip(self.optimizer.param_groups, self.groups, strict=True):
            group["lr"] = flat.lr * factor
        if self.scaler is not None:
            self.scaler.unscale_(self.optimizer)
        norm = clip_gradients(self.groups, self.max_grad_norm)
        if self.scaler is None:
            self.optimizer.step()
        else:
            self.scaler.step(self.optimizer)
            self.scaler.update()
        if self.norm_limit is not None:
            self.network.scale_weight_norms(self.norm_limit)
        return norm
