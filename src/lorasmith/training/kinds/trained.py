"""What a step, its measuring and its saving ask of what is trained, whatever kind it is of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol, Self

import torch
from torch import Tensor, nn


class Layer(Protocol):
    """A layer of the base model, by its part ("unet") and its path in it."""

    @property
    def part(self) -> str: ...
    @property
    def path(self) -> str: ...


class TrainedGroup(Protocol):
    """Parameters with one learning rate: the part's, times ``rate``."""

    @property
    def name(self) -> str: ...
    @property
    def part(self) -> str:
        """Whose learning rate it is; see :meth:`.OptimizerSettings.lr_of`."""

    @property
    def rate(self) -> float: ...
    @property
    def parameters(self) -> list[nn.Parameter]: ...
    @property
    def targets(self) -> Sequence[Layer]:
        """The layers that they change, all or in part; none where they are no layer's."""

    @property
    def size(self) -> int:
        """How many numbers are trained."""


class Trained(Protocol):
    """Trained numbers that a base model carries. What it does while it is attached is the training;
    detached, the model is the base model again, bit for bit."""

    def __str__(self) -> str:
        """How much it is, as in "training …": "264 modules"."""

    def attach(self) -> None:
        """Let the model compute with it; of all weights these alone take gradients."""

    def attached(self) -> AbstractContextManager[Any]:
        """Attached within the block."""

    def detached(self) -> AbstractContextManager[Any]:
        """The base model alone within the block."""

    def disabled(self) -> AbstractContextManager[None]:
        """The base model's predictions within the block, with everything left in its place."""

    def replaced_by(self, saved: Self) -> AbstractContextManager[Any]:
        """The model with ``saved``, of :meth:`as_saved`, instead, within the block."""

    def parameter_groups(self) -> Sequence[TrainedGroup]:
        """All trained parameters."""

    def holders(self) -> Mapping[str, nn.Module]:
        """What holds the parameters, by the names that messages give them."""

    def layers(self) -> Mapping[str, nn.Module]:
        """By the same names, the modules of the model that compute with them while attached."""

    @property
    def masks_ahead(self) -> bool:
        """Whether what :meth:`begin_step` draws takes more memory from the second step of a size
        on, when it is known how much there will be to draw."""

    def begin_update(self, step: int) -> object:
        """Before the first backward pass of step ``step``, in each process, even where it has no
        samples of the step."""

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

    def end_update(self) -> object:
        """After the optimizer's step: bring the parameters back to where they are to stay, such as
        below the largest norm."""

    def state_dict(self, dtype: torch.dtype | None = None) -> dict[str, Tensor]:
        """The tensors as they stand in its file, on the CPU."""

    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over the tensors of :meth:`state_dict`, in place."""

    def save(self, path: Path, metadata: Mapping[str, str], dtype: torch.dtype) -> None:
        """Write its file."""

    def as_saved(self, dtype: torch.dtype) -> Self:
        """What other programs will apply when they generate: read back from its file's tensors, in
        the file's precision; not attached."""


class NothingDrawn:
    """Of a :class:`Trained` in which nothing of a sample is random."""

    masks_ahead = False

    def begin_update(self, step: int) -> None:
        """Nothing is named by the step."""

    def begin_step(self, *_: Any, **__: Any) -> None:
        """Nothing is drawn."""

    def end_step(self) -> None:
        """Nothing was drawn."""
