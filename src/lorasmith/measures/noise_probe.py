"""The denoiser on fixed noise: how good its predictions are, and how far they move.

Nothing is drawn here but what is drawn once for all snapshots, so two snapshots, or one at two
strengths, differ by the adapter alone; few images tell them apart. A snapshot costs one forward
pass for each image, timestep and strength.

Shapes: P images, N timesteps, C latent channels, h x w latent size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from lorasmith.diffusion.loss import per_sample_mse
from lorasmith.diffusion.schedule import NoiseSchedule
from lorasmith.diffusion.timesteps import even_timesteps
from lorasmith.measures.features import encode
from lorasmith.models.diffusion_model import Conditioning, DiffusionModel
from lorasmith.tensors.rng import normal_per_sample

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

    @staticmethod
    def of(
        model: DiffusionModel,
        image: Image.Image,
        caption: str,
        number: int,
        sizes: Sequence[float] | None = None,
    ) -> Row:
        """
        Args:
            sizes: see :meth:`.View.size_condition`; ``None`` for an image that is whole.
        """
        width, height = map(float, image.size)
        sizes = sizes or (height, width, 0.0, 0.0, height, width)
        return Row(
            encode(model, image), caption, number, torch.tensor([sizes], dtype=torch.float32)
        )


@dataclass(frozen=True, slots=True)
class Predictions:
    """Of all rows of a set, one tensor (N, C, h, w) each, float32 on the CPU."""

    rows: tuple[Tensor, ...]

    def moved(self, base: Predictions) -> Tensor:
        """(P,) mean squared difference from the base model's."""
        pairs = zip(self.rows, base.rows, strict=True)
        return torch.stack([(own - other).square().mean() for own, other in pairs])


class Probe:
    """A set of rows with their noise, and what the model predicts now, with nothing attached.

    Args:
        schedule: the run's.
        seed: of the noise.
        timesteps: noise levels of each row, spread evenly.
    """

    def __init__(
        self,
        model: DiffusionModel,
        schedule: NoiseSchedule,
        rows: Sequence[Row],
        seed: int,
        timesteps: int,
    ) -> None:
        self._model, self._schedule, self.rows, self._seed = model, schedule, tuple(rows), seed
        self._timesteps = even_timesteps(timesteps, schedule.num_timesteps)
        self.base = self.predict()
        self._base_loss = self.losses(self.base)

    @torch.inference_mode()
    def predict(self) -> Predictions:
        """With whatever is attached to the model now."""
        return Predictions(tuple(self._predicted(row) for row in self.rows))

    def losses(self, predictions: Predictions) -> Tensor:
        """(P,) mean squared error, each timestep counting the same."""
        losses = []
        for row, predicted in zip(self.rows, predictions.rows, strict=True):
            target = self._schedule.target(*self._noised(row))
            losses.append(per_sample_mse(predicted, target).mean())
        return torch.stack(losses)

    def change(self, predictions: Predictions) -> Tensor:
        """(P,) change of the loss since the base model, as shares of its mean."""
        return (self.losses(predictions) - self._base_loss) / self._base_loss.mean()

    def _noised(self, row: Row) -> tuple[Tensor, Tensor, Tensor]:
        """Latents and noise, (N, C, h, w), and timesteps (N,)."""
        noise = normal_per_sample(
            row.latents.shape, self._seed, f"pick/{row.number}", 0, range(len(self._timesteps))
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
