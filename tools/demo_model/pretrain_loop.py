"""What both pretraining runs share: optimizers, EMA, the clock, resuming and the log."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

logger = logging.getLogger(__name__)

MOMENTUM = 0.95


@dataclass(frozen=True)
class Budget:
    """How long a run takes, over all resumptions, and what it works with."""

    minutes: float
    seed: int
    threads: int
    checkpoint_every: float = 180.0  # seconds
    log_every: int = 50  # steps


class MuonWithAdamW:
    """Muon for the weights of hidden layers, AdamW for all others.

    `torch.optim.Muon` takes matrices only, so convolution weights are given to it as (out, rest)
    views that share storage with the parameters.
    """

    def __init__(
        self,
        named_parameters: Iterable[tuple[str, nn.Parameter]],
        *,
        not_hidden: tuple[str, ...],
        muon_lr: float,
        adamw_lr: float,
    ) -> None:
        self.hidden: list[nn.Parameter] = []
        self.others: list[nn.Parameter] = []
        for name, parameter in named_parameters:
            matrix = parameter.ndim >= 2 and not any(part in name for part in not_hidden)
            (self.hidden if matrix else self.others).append(parameter)
        self.views = [nn.Parameter(p.data.flatten(1)) for p in self.hidden]
        self.muon = torch.optim.Muon(self.views, lr=muon_lr, weight_decay=0.01, momentum=MOMENTUM)
        self.adamw = torch.optim.AdamW(
            self.others, lr=adamw_lr, betas=(0.9, 0.99), weight_decay=0.0, fused=True
        )
        self.lrs = ((self.muon, muon_lr), (self.adamw, adamw_lr))

    @property
    def parameters(self) -> list[nn.Parameter]:
        return self.hidden + self.others

    def step(self, lr_scale: float) -> None:
        """Update the parameters from their gradients and drop the gradients."""
        for view, parameter in zip(self.views, self.hidden, strict=True):
            view.grad = None if parameter.grad is None else parameter.grad.flatten(1)
        torch.nn.utils.clip_grad_norm_(self.others, 1.0)
        for optimizer, lr in self.lrs:
            optimizer.param_groups[0]["lr"] = lr * lr_scale
            optimizer.step()
        for parameter in (*self.parameters, *self.views):
            parameter.grad = None

    def state_dict(self) -> dict[str, Any]:
        return {"muon": self.muon.state_dict(), "adamw": self.adamw.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.muon.load_state_dict(state["muon"])
        self.adamw.load_state_dict(state["adamw"])


@dataclass
class Run:
    """A resumable training run whose learning rate follows the share of the minutes used."""

    name: str
    work: Path
    optimizer: MuonWithAdamW
    budget: Budget
    ema_decay: float
    flat_share: float  # the learning rate stays at its top this long, then falls to zero
    warmup: int = 100  # steps
    step: int = 0
    elapsed: float = 0.0  # seconds
    ema: list[Tensor] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.ema = [p.detach().clone() for p in self.optimizer.parameters]
        self.path = self.work / f"{self.name}.pt"
        if self.path.exists():
            self._load()

    @property
    def used(self) -> float:
        """Share of the minutes used, 0 to 1."""
        return min(1.0, self.elapsed / (60 * self.budget.minutes))

    @property
    def lr_scale(self) -> float:
        falling = min(1.0, (1 - self.used) / (1 - self.flat_share))
        return min(1.0, (self.step + 1) / self.warmup) * falling

    def train(self, loss_of_step: Callable[[int, float], dict[str, Tensor]]) -> None:
        """Train until the minutes are used up.

        Args:
            loss_of_step: gets the step and the share of the minutes used, gives the figures to
                log by name; "loss" is what is differentiated.
        """
        smoothed: dict[str, float] = {}
        saved = time.monotonic()
        while self.used < 1:
            begin = time.monotonic()
            figures = loss_of_step(self.step, self.used)
            figures["loss"].backward()
            self.optimizer.step(self.lr_scale)
            self.step += 1
            self._follow()
            self.elapsed += time.monotonic() - begin
            for name, value in figures.items():
                smoothed[name] = 0.98 * smoothed.get(name, value.item()) + 0.02 * value.item()
            if self.step % self.budget.log_every == 0:
                self.log(smoothed)
            if time.monotonic() - saved > self.budget.checkpoint_every:
                self.save()
                saved = time.monotonic()
        self.save()

    def _follow(self) -> None:
        decay = min(self.ema_decay, (self.step + 1) / (self.step + 10))
        weights = [p.detach() for p in self.optimizer.parameters]
        with torch.no_grad():
            torch._foreach_lerp_(self.ema, weights, 1 - decay)

    def use_ema(self) -> None:
        """Put the averaged weights into the model."""
        with torch.no_grad():
            for parameter, average in zip(self.optimizer.parameters, self.ema, strict=True):
                parameter.copy_(average)

    def log(self, figures: dict[str, float]) -> None:
        what = f"{self.elapsed:.0f}s step {self.step} lr x{self.lr_scale:.3f}"
        write_log(self.work, self.name, what, figures)

    def save(self) -> None:
        state = {
            "weights": [p.detach() for p in self.optimizer.parameters],
            "ema": self.ema,
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "elapsed": self.elapsed,
        }
        part = self.path.with_suffix(".part")
        torch.save(state, part)
        part.replace(self.path)

    def _load(self) -> None:
        state = torch.load(self.path, weights_only=True)
        with torch.no_grad():
            for parameter, weight in zip(self.optimizer.parameters, state["weights"], strict=True):
                parameter.copy_(weight)
        self.ema = state["ema"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.elapsed = state["step"], state["elapsed"]


def write_log(work: Path, name: str, what: str, figures: dict[str, float]) -> None:
    """A line of figures, shown and added to `name`.log in the work folder."""
    shown = " ".join(f"{key} {value:.4f}" for key, value in figures.items())
    line = f"{name} {what} {shown}"
    logger.info("%s", line)
    with (work / f"{name}.log").open("a") as file:
        file.write(line + "\n")
