"""What a step, its measuring and its saving ask of what is trained, whatever kind it is of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol, Self

import torch
from torch import Tensor, nn


class TrainedGroup(Protocol):
    """Parameters with one learning rate: the part's, times ``rate``."""

    @property
    def name(self) -> str: ...
    @property
    def part(self) -> str: ...
    @property
    def rate(self) -> float: ...
    @property
    def parameters(self) -> list[nn.Parameter]: ...


class Trained(Protocol):
    """Trained numbers that a base model carries. What it does while it is attached is the training;
    detached, the model is the base model again, bit for bit."""

    def attach(self) -> None:
        """Let the model compute with it; every weight of the model's own is frozen."""

    def attached(self) -> AbstractContextManager[Any]:
        """Attached within the block."""

    def detached(self) -> AbstractContextManager[Any]:
        """The base model alone within the block."""

    def disabled(self) -> AbstractContextManager[None]:
        """The base model's predictions within the block, with everything left in its place."""

    def parameter_groups(self) -> Sequence[TrainedGroup]:
        """All trained parameters."""

    def begin_step(
        self,
        seed: int,
        step: int,
        samples: Sequence[int],
        *,
        size: tuple[int, ...] = (),
        dtype: torch.dtype = torch.float32,
        noise_gone: Sequence[float] | None = None,
    ) -> None:
        """Draw what is random in a step: a function of seed, step, sample and its noise alone.

        Args:
            size: of the latents.
            dtype: in which the model computes.
            noise_gone: of each sample, (T - t) / T for its timestep t of T.
        """

    def end_step(self) -> None:
        """Forget what :meth:`begin_step` has drawn."""

    def scale_weight_norms(self, limit: float) -> object:
        """Shrink changes of weights whose Frobenius norm is above ``limit``."""

    def state_dict(self, dtype: torch.dtype | None = None) -> dict[str, Tensor]:
        """The tensors as they stand in its file, on the CPU."""

    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over the tensors of :meth:`state_dict`, in place."""

    def save(self, path: Path, metadata: Mapping[str, str], dtype: torch.dtype) -> None:
        """Write its file."""

    def as_saved(self, dtype: torch.dtype) -> Self:
        """What other programs will apply when they generate: read back from its file's tensors, in
        the file's precision; not attached."""
