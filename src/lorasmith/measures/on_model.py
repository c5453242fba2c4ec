"""A snapshot on the base model that it was trained on: what measuring asks of it."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from lorasmith.adapters.file import load_lora
from lorasmith.adapters.network import AdapterNetwork
from lorasmith.models.diffusion_model import DiffusionModel
from lorasmith.sampling.embeddings import carried_words


class SnapshotOnModel(Protocol):
    """A snapshot read from its file; what has diverged is read as such."""

    def attached(self) -> contextlib.AbstractContextManager[object]:
        """The model with it within the block; before and after the block it is the base model."""

    def set_strength(self, strength: float) -> None:
        """How much of it to apply from now on; of what has no strength, 1 is all there is."""

    def norms(self) -> dict[str, float]:
        """Frobenius norm of the change of the base's weights, by part."""


OpenSnapshot = Callable[[Path, DiffusionModel], SnapshotOnModel]
"""Reads a snapshot's file; raises a UserError where that is damaged."""


class LoraOnModel:
    """A LoRA, with the words that its file carries.

    Raises:
        LoraFileError: the file is damaged.
    """

    def __init__(self, path: Path, model: DiffusionModel) -> None:
        tensors = load_lora(path, finite=False).tensors
        self._network = AdapterNetwork.load(tensors, model.adapter_roots(), where=str(path))
        self._words, self._model = carried_words(path, model), model

    @contextlib.contextmanager
    def attached(self) -> Iterator[None]:
        words = self._words
        named = words.on(self._model) if words is not None else contextlib.nullcontext()
        with self._network.attached(), named:
            yield

    def set_strength(self, strength: float) -> None:
        self._network.set_strength(strength, strength)

    def norms(self) -> dict[str, float]:
        squares: dict[str, float] = {}
        parts = [target.part for target in self._network.targets.values()]
        for part, norm in zip(parts, self._network.norms().tolist(), strict=True):
            squares[part] = squares.get(part, 0.0) + norm**2
        return {part: math.sqrt(square) for part, square in squares.items()}
