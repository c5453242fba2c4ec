"""The denoiser on fixed noise: what a snapshot's predictions are worth, and where they move.

Nothing is drawn here but what is drawn once for all snapshots, so two snapshots, or one at two
strengths, differ by the adapter alone; few images tell them apart. A snapshot costs one forward
pass for each image, timestep and strength.

Shapes: P images, N timesteps, C latent channels, h x w latent size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lorasmith.data.dataset import Dataset
from lorasmith.data.holdout import image_number
from lorasmith.diffusion.loss import per_sample_mse
from lorasmith.diffusion.schedule import NoiseSchedule
from lorasmith.models.diffusion_model import Conditioning, DiffusionModel
from lorasmith.tensors.rng import normal_per_sample
from lorasmith.training.batches import size_conditions
from lorasmith.training.monitoring.validation import even_timesteps
from lorasmith.training.sources import LiveLatents

# Noise levels of each image; two for each quarter, as validation has them.
TIMESTEPS = 8
BATCH = 8


@dataclass(frozen=True, slots=True)
class Row:
    """An image that is noised and predicted.

    Args:
        latents: (C, h, w), scaled.
        caption: what the denoiser is told of it.
        number: of its noise.
        sizes: (1, 6), for families whose UNet is told them.
    """

    latents: Tensor
    caption: str
    number: int
    sizes: Tensor


@dataclass(frozen=True, slots=True)
class Predictions:
    """Of all rows of a set, one tensor (N, C, h, w) each, float32 on the CPU."""

    rows: tuple[Tensor, ...]

    def moved(self, base: Predictions) -> Tensor:
        """(P,) mean squared difference from the base model's."""
        pairs = zip(self.rows, base.rows, strict=True)
        return torch.stack([(own - other).square().mean() for own, other in pairs])


class Probe:
    """A set of rows with their noise.

    Args:
        schedule: of the run's objective.
        seed: of the noise.
    """

    def __init__(
        self, model: DiffusionModel, schedule: NoiseSchedule, rows: Sequence[Row], seed: int
    ) -> None:
        self._model, self._schedule, self.rows, self._seed = model, schedule, tuple(rows), seed
        self._timesteps = even_timesteps(TIMESTEPS, len(schedule.alphas_cumprod))

    @torch.inference_mode()
    def predict(self) -> Predictions:
        """With whatever is attached to the model now."""
        return Predictions(tuple(self._predicted(row) for row in self.rows))

    def losses(self, predictions: Predictions) -> Tensor:
        """(P,) mean squared error, each timestep counting the same."""
        found = []
        for row, predicted in zip(self.rows, predictions.rows, strict=True):
            target = self._schedule.target(*self._noised(row))
            found.append(per_sample_mse(predicted, target).mean())
        return torch.stack(found)

    def _noised(self, row: Row) -> tuple[Tensor, Tensor, Tensor]:
        """Latents and noise, (N, C, h, w), and timesteps (N,)."""
        noise = normal_per_sample(
            row.latents.shape, self._seed, f"pick/{row.number}", 0, range(TIMESTEPS)
        )
        return row.latents.expand_as(noise), noise, self._timesteps

    def _predicted(self, row: Row) -> Tensor:
        latents, noise, timesteps = self._noised(row)
        noisy = self._schedule.add_noise(latents, noise, timesteps)
        condition = self._model.encode_text([row.caption]).with_size_ids(row.sizes)
        parts = []
        for part, t in zip(noisy.split(BATCH), timesteps.split(BATCH), strict=True):
            repeated = Conditioning.cat([condition] * len(t))
            parts.append(self._model.denoise(part, t, repeated).cpu())
        return torch.cat(parts)


def image_rows(dataset: Dataset, model: DiffusionModel, background: str) -> Iterator[Row]:
    """The rows of training or held-out images, with their own captions."""
    latents = LiveLatents(dataset, model, background)
    for sample in dataset.samples:
        item = dataset.items[sample.item]
        view = dataset.view_for(sample, seed=0, epoch=0)
        mean, _ = latents.posterior([sample], [view])
        number = image_number(item.image)
        yield Row(mean[0], item.caption, number, size_conditions([view]))
