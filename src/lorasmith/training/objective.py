"""What a training step minimises: noise, timesteps, prediction, loss and its weights.

Shapes: B samples of a micro-batch, C latent channels, h x w latent size, T text tokens, D features.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from lorasmith.config.schema import TrainSettings
from lorasmith.diffusion.loss import min_snr_weight, per_sample_mse
from lorasmith.diffusion.schedule import NoiseSchedule, Prediction
from lorasmith.models.sd import Conditioning, DiffusionModel
from lorasmith.tensor_random import normal_per_sample


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


def build_objective(settings: TrainSettings, model: DiffusionModel) -> Objective:
    return Objective(
        NoiseSchedule(prediction_of(model)),
        settings.train.seed,
        settings.loss.min_snr_gamma,
        settings.loss.noise_offset,
    )


def prediction_of(model: DiffusionModel) -> Prediction:
    return "v" if model.prediction == "v" else "epsilon"
