"""What is minimised on pairs of images that differ in one thing.

Both sides of a pair are given the same noise, the same timestep and the same caption.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from lorasmith.models.diffusion_model import DiffusionModel
from lorasmith.training.kinds.slider_objective import Scaled
from lorasmith.training.objective import Disabled, MicroBatch, Objective


@dataclass(frozen=True, slots=True, kw_only=True)
class PairSliderObjective(Objective):
    """A slider's loss on pairs: at strength 1 the noise of the one side is to be predicted, at -1
    that of the other.

    Gandikota et al. 2023 (arXiv 2311.12092), the loss of section 4.2 "Learning Visual Concepts from
    Image Pairs"; their code (rohitgandikota/sliders, imagesliders) sums the gradients of both
    before each step, as here, where each counts one half.

    Args:
        network: what is trained.
    """

    network: Scaled

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
