"""What is minimised on pairs of images that differ in one thing.

Both sides of a pair are given the same noise, the same timestep and the same caption.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from lorasmith.models.diffusion_model import DiffusionModel
from lorasmith.training.kinds.slider_objective import TwoSidedObjective
from lorasmith.training.objective import Disabled, MicroBatch, NoisyBatch, Objective

BETA = 2500.0
"""How soon a difference of the two errors counts as learned. Published code has 500 to 5000."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairSliderObjective(TwoSidedObjective):
    """A slider's loss on pairs: at strength 1 the noise of the one side is to be predicted, at -1
    that of the other.

    Gandikota et al. 2023 (arXiv 2311.12092), the loss of section 4.2 "Learning Visual Concepts from
    Image Pairs"; their code (rohitgandikota/sliders, imagesliders) sums the gradients of both
    before each step, as here, where each counts one half.
    """

    def losses(
        self,
        model: DiffusionModel,
        batch: MicroBatch,
        step: int,
        disabled: Disabled = nullcontext,
    ) -> Generator[Tensor, None, None]:
        """Half of the loss of the one side, then half of that of the other: one graph at a time is
        in memory."""
        assert batch.opposite is not None, "no pair"
        for strength, side in ((1.0, batch), (-1.0, batch.opposite)):
            noisy = self._on_device(side, step, model.device)
            with self.network.at_strength(strength):
                prediction = model.denoise(noisy.latents, noisy.timesteps, side.condition())
                loss = self.loss.per_sample(prediction, noisy.target, threshold=noisy.threshold)
                yield (loss * noisy.weight).sum() / 2


@dataclass(frozen=True, slots=True, kw_only=True)
class NegativePairObjective(Objective):
    """What a word is to stand for that is to be avoided: the bad image of each pair rather than the
    good one, by more than the vectors that it started from.

    With the errors ``e`` of predictions for the word as it is and as it was at first, each of both
    images with the same noise, and ``w`` the weight of the timestep:

        -log sigmoid(-BETA / 2 * w * ((e(bad) - e0(bad)) - (e(good) - e0(good))))

    Wang et al. 2025, "Diffusion-NPO" (arXiv 2505.11245): the loss of Diffusion-DPO (Wallace et al.
    2023, arXiv 2311.12908) with the preferences exchanged, for what guidance leads away from. They
    train weights; here it is a word's vectors, and the negative prompt takes them.
    """

    def loss_sum(
        self,
        model: DiffusionModel,
        batch: MicroBatch,
        step: int,
        disabled: Disabled = nullcontext,
    ) -> Tensor:
        """Sum over the pairs; one that is left out counts as nothing."""
        assert batch.opposite is not None, "no pair"
        good, bad = (self._on_device(side, step, model.device) for side in (batch, batch.opposite))
        with torch.no_grad(), disabled():
            first = self._difference(model, batch, bad, good)
        learned = self._difference(model, batch, bad, good) - first
        loss = -F.logsigmoid(-BETA / 2 * good.weight * learned)
        return (loss * (good.weight > 0)).sum()

    def _difference(
        self, model: DiffusionModel, batch: MicroBatch, bad: NoisyBatch, good: NoisyBatch
    ) -> Tensor:
        """(B,) by how much worse the bad images' noise is predicted than that of the good ones."""
        condition = batch.condition()
        errors = (
            self.loss.per_sample(
                model.denoise(side.latents, side.timesteps, condition),
                side.target,
                threshold=side.threshold,
            )
            for side in (bad, good)
        )
        return next(errors) - next(errors)
