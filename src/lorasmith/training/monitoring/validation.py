"""Loss on images that are not trained on, and on as many that are, with noise that never changes.

The loss of a training step depends on its noise and timestep far more than on what was learned.
Here both are functions of the image's name alone, so that one number can be held against another:
of another step, another run, another adapter. Every image counts the same, and nothing is
weighted. The errors are standard errors over the images; those of changes and of the gap's growth
are of each image against itself.

Shapes: P images, N timesteps of each, C latent channels, h x w latent size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lorasmith.config.sections.validation import ValidationSettings
from lorasmith.core.events import ValidationDone
from lorasmith.data.dataset import SampleRef
from lorasmith.data.holdout import BATCH, ValidationSet, image_number
from lorasmith.diffusion.schedule import NoiseSchedule
from lorasmith.diffusion.timesteps import even_timesteps
from lorasmith.models.diffusion_model import Conditioning
from lorasmith.tensors.rng import normal_per_sample
from lorasmith.training.batches import size_conditions
from lorasmith.training.eval_weights import eval_weights
from lorasmith.training.objective import prediction_error
from lorasmith.training.sources import LatentSource, TextSource
from lorasmith.training.step import TrainStep

QUARTERS = 4


@dataclass(frozen=True, slots=True)
class Losses:
    """Mean squared errors of the prediction, float64 on the CPU.

    Args:
        held_out: (P, N).
        training: (Q, N), of the training images beside them.
    """

    held_out: Tensor
    training: Tensor


class Validation:
    """Measures what a trainer trains.

    Args:
        images: what is measured.
        latents, text: of the dataset in ``images``.
        seed: of the noise; not the run's.
        timesteps: N.
    """

    def __init__(
        self,
        trainer: TrainStep,
        images: ValidationSet,
        latents: LatentSource,
        text: TextSource,
        schedule: NoiseSchedule,
        *,
        seed: int,
        timesteps: int,
    ) -> None:
        self._trainer, self._images = trainer, images
        self._latents, self._text, self._schedule = latents, text, schedule
        self._seed = seed
        self._timesteps = even_timesteps(timesteps, schedule.num_timesteps)
        self._base: Losses | None = None
        held_out = images.dataset.items[: images.held_out]
        self._names = ["/".join(item.image.path.parts[-2:]) for item in held_out]

    def __call__(self, step: int) -> ValidationDone:
        """Measure the weights after ``step`` steps as they would be saved.

        Each process takes its share of the images, and all get the same result. Training is not
        disturbed: not a bit of its weights, masks or random numbers changes.
        """
        trained = self._trainer.trained
        if self._base is None:
            with trained.detached():
                self._base = self._measure()
        with eval_weights(self._trainer):
            # Forgets the dropout of the last step; the next one sets its own.
            trained.end_step()
            return summarise(step, self._measure(), self._base, self._names)

    @torch.no_grad()
    def _measure(self) -> Losses:
        items, processes = self._images.dataset.items, self._trainer.processes
        device = self._trainer.model.device
        losses = torch.zeros(len(items), len(self._timesteps), device=device)
        for sample in processes.share(self._images.dataset.samples):
            losses[sample.item] = self._losses(sample)
        processes.sum_(losses)
        per_image = losses.cpu().double()
        return Losses(per_image[: self._images.held_out], per_image[self._images.held_out :])

    def _losses(self, sample: SampleRef) -> Tensor:
        """(N,) on the model's device."""
        dataset, model = self._images.dataset, self._trainer.model
        item = dataset.items[sample.item]
        view = dataset.view_for(sample, seed=self._seed, epoch=0)
        mean, _ = self._latents.posterior([sample], [view])
        condition = self._text.condition([item.caption]).with_size_ids(size_conditions([view]))
        number = image_number(item.image)
        errors = []
        for begin in range(0, len(self._timesteps), BATCH):
            timesteps = self._timesteps[begin : begin + BATCH]
            counters = range(begin, begin + len(timesteps))
            noise = normal_per_sample(
                mean.shape[1:], self._seed, f"validation/{number}", 0, counters
            )
            errors.append(
                prediction_error(
                    model,
                    self._schedule,
                    mean.expand_as(noise),
                    noise,
                    timesteps,
                    Conditioning.cat([condition] * len(timesteps)),
                )
            )
        return torch.cat(errors)


def build_validation(
    settings: ValidationSettings,
    trainer: TrainStep,
    images: ValidationSet | None,
    sources: tuple[LatentSource, TextSource] | None,
) -> Validation | None:
    """``None`` when nothing is held out."""
    if images is None or sources is None:
        return None
    return Validation(
        trainer,
        images,
        *sources,
        trainer.objective.schedule,
        seed=settings.seed,
        timesteps=settings.timesteps,
    )


def summarise(step: int, now: Losses, base: Losses, names: Sequence[str] = ()) -> ValidationDone:
    """The numbers that people read, from those of single images.

    Args:
        base: of the base model alone, for the same images and noise.
        names: of the held-out images, where they are wanted.
    """
    held_out, training = now.held_out.mean(1), now.training.mean(1)
    held_out_change = held_out - base.held_out.mean(1)
    training_change = training - base.training.mean(1)
    values = {
        "held_out": mean_and_error(held_out),
        "training": mean_and_error(training),
        "held_out_change": mean_and_error(held_out_change),
        "training_change": mean_and_error(training_change),
    }
    gap = _difference(values["held_out"], values["training"])
    growth = _difference(values["held_out_change"], values["training_change"])
    values |= {"gap": gap, "gap_growth": growth}
    parts = now.held_out.mean(0).chunk(QUARTERS)
    return ValidationDone(
        step,
        **{name: value for name, (value, _) in values.items()},
        errors={name: error for name, (_, error) in values.items() if error is not None},
        quarters=[float(part.mean()) for part in parts],
        pictures=len(held_out),
        by_picture=dict(zip(names, held_out.tolist(), strict=True)) if names else {},
    )


def mean_and_error(values: Tensor) -> tuple[float, float | None]:
    """The mean of (P,) values and its standard error; ``None`` where one value has none."""
    mean = float(values.mean())
    if len(values) < 2:
        return mean, None
    return mean, float(values.std(correction=1)) / math.sqrt(len(values))


def _difference(
    one: tuple[float, float | None], other: tuple[float, float | None]
) -> tuple[float, float | None]:
    """Of two means of different images."""
    if one[1] is None or other[1] is None:
        return one[0] - other[0], None
    return one[0] - other[0], math.hypot(one[1], other[1])
