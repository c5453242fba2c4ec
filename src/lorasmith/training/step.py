"""One optimizer step: loss and backward of each micro-batch, then the update."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lorasmith.models.diffusion_model import DiffusionModel
from lorasmith.training.ema import Ema
from lorasmith.training.interventions import Interventions
from lorasmith.training.kinds.trained import Trained
from lorasmith.training.lr_schedules import LearningRate
from lorasmith.training.objective import MicroBatch, Objective
from lorasmith.training.optim import Group, cast_at_once, clip_gradients
from lorasmith.training.preservation import Preservation
from lorasmith.training.setup.processes import Processes


@dataclass(frozen=True, slots=True)
class StepResult:
    """Scalars on the device; reading them waits for it, so the loop does that only when it logs.

    Args:
        preservation: distance from the base model's output, without its factor; ``None`` in steps
            that do not keep it.
    """

    loss: Tensor
    grad_norm: Tensor
    preservation: Tensor | None = None


class TrainStep:
    """Everything that an optimizer step needs, called once per step.

    Args:
        groups: the parameters of ``trained``.
        rate: multiplies each group's own learning rate.
        max_grad_norm: joint L2 norm that gradients are clipped to; 0 for no clipping.
        scaler: loss scaling for float16, ``None`` otherwise.
        ema: average of the weights that each step is taken into, ``None`` for none.
        preservation: of the base model's output, ``None`` for none.
    """

    def __init__(
        self,
        model: DiffusionModel,
        trained: Trained,
        groups: Sequence[Group],
        optimizer: torch.optim.Optimizer,
        rate: LearningRate,
        objective: Objective,
        processes: Processes,
        *,
        max_grad_norm: float = 1.0,
        scaler: torch.amp.GradScaler | None = None,
        ema: Ema | None = None,
        preservation: Preservation | None = None,
    ) -> None:
        self.model, self.trained, self.groups = model, trained, list(groups)
        self.optimizer, self.rate, self.objective = optimizer, rate, objective
        self.processes = processes
        self.max_grad_norm, self.scaler = max_grad_norm, scaler
        self.ema, self.preservation = ema, preservation
        self.interventions = Interventions()

    def __call__(self, step: int, batches: Iterable[MicroBatch], total: int) -> StepResult:
        """Run step ``step`` (0-based) on this process's micro-batches.

        Args:
            batches: in order; each is run forward and backward by itself (gradient accumulation).
            total: samples of the step over all micro-batches and processes. The gradient is that of
                the mean over these, however unevenly they are spread.
        """
        self.trained.begin_update(step)
        self._set_rates(step)  # An optimizer may step within the backward pass.
        for group in self.groups:
            group.zero_grad()
        loss = torch.zeros((), device=self.model.device)
        preserves = self.preservation is not None and self.preservation.at(step)
        distance = torch.zeros_like(loss) if preserves else None
        for batch in batches:
            if batch.noisy is None:
                batch = self.objective.with_noise(batch, step, self.model.device)
            assert batch.noisy is not None
            self._begin(step, batch, batch.noisy.noise_gone)
            loss += self._learn(step, batch, total)
            if distance is not None:
                distance += self._preserve(step, batch, total)
            self.trained.end_step()  # Masks are as large as what they are applied to.
        if self.processes.count > 1:
            for group in self.groups:
                group.complete_grads()
                for grad in group.grads:
                    self.processes.sum_(grad)
        self.processes.sum_(loss)
        if distance is not None:
            self.processes.sum_(distance)
        return StepResult(loss, self._update(step), distance)

    def _begin(self, step: int, batch: MicroBatch, noise_gone: Sequence[float]) -> None:
        seed, size = self.objective.seed, tuple(batch.mean.shape[-2:])
        self.trained.begin_step(
            seed, step, batch.samples, size=size, dtype=self.model.dtype, noise_gone=noise_gone
        )

    def _learn(self, step: int, batch: MicroBatch, total: int) -> Tensor:
        losses = self.objective.losses(self.model, batch, step, self.trained.disabled)
        whole = torch.zeros((), device=self.model.device)
        with contextlib.closing(losses):
            for _ in range(self.objective.terms):
                with cast_at_once(self.groups):
                    term = next(losses) / total
                    self._backward(term)
                whole += term.detach()
        return whole

    def _preserve(self, step: int, batch: MicroBatch, total: int) -> Tensor:
        """After the loss's graph is gone, so that it takes no more memory than that."""
        assert self.preservation is not None
        objective, disabled = self.objective, self.trained.disabled
        own = self.preservation.own_timesteps(step)
        if own:
            gone = (objective.schedule.num_timesteps - own[-1]) / objective.schedule.num_timesteps
            self._begin(step, batch, [gone] * len(batch.samples))
        with cast_at_once(self.groups):
            distance = objective.preservation_sum(self.model, batch, step, disabled, own) / total
            self._backward(distance * self.preservation.settings.weight)
        return distance.detach()

    def _backward(self, loss: Tensor) -> None:
        (loss if self.scaler is None else self.scaler.scale(loss)).backward()

    def _set_rates(self, step: int) -> None:
        factor = self.rate.factor(step) * self.interventions.lr_factor(step)
        for param_group, group in zip(self.optimizer.param_groups, self.groups, strict=True):
            param_group["lr"] = group.lr * factor

    def _update(self, step: int) -> Tensor:
        if self.scaler is not None:
            self.scaler.unscale_(self.optimizer)
        norm = clip_gradients(self.groups, self.max_grad_norm)
        if self.scaler is None:
            self.optimizer.step()
        else:
            self.scaler.step(self.optimizer)
            self.scaler.update()
        self.trained.end_update()
        if self.ema is not None:
            self.ema.update(step)
        return norm
