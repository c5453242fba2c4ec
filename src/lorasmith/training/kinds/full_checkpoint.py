"""The checkpoint of a full fine-tuning: the base's own file, with the trained weights in it.

Every tensor that the base has is there, by its name, in its shape and type; what is not trained,
the VAE always, goes over byte for byte. It is written tensor by tensor.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from lorasmith.core.errors import CheckpointError
from lorasmith.core.events import Controls
from lorasmith.lora_tools.checkpoint_writer import Change, CheckpointRewriter
from lorasmith.lora_tools.outputs import carried_metadata
from lorasmith.models.layout import WeightFile, canonical_shape
from lorasmith.models.open import OpenedCheckpoint, WeightInFile
from lorasmith.models.weights import DTYPES, placed, read_weights

Place = tuple[str, str]
"""A weight: its part ("unet", "text_encoder_2") and its canonical name in it."""

Values = Callable[[], Tensor]
"""Gives a weight's numbers as they are to be written, on any device."""


class FullCheckpoint:
    """
    Args:
        opened: the base.
        trained: its weights that will be others.

    Raises:
        CheckpointError: the base is not a single file.
    """

    def __init__(self, opened: OpenedCheckpoint, trained: Iterable[Place]) -> None:
        self._opened, self.trained = opened, tuple(trained)
        files = {opened.weights[part][name].file.path for part, name in self.trained}
        parts = [part for part in opened.weights if part != "vae"]  # The VAE may be another's.
        files |= {one.file.path for part in parts for one in opened.weights[part].values()}
        if len(files) > 1:
            what = "is a folder of several files, and full fine-tuning writes one"
            hint = "give the base as a single .safetensors or .ckpt file"
            raise CheckpointError.of(opened.source, what, hint)

    @property
    def file(self) -> WeightFile:
        part, name = self.trained[0]
        return self._opened.weights[part][name].file

    @property
    def size(self) -> int:
        """Bytes of a checkpoint, but for what is added to the metadata."""
        return CheckpointRewriter(self.file, {}, None).size(self.metadata({}))

    def too_narrow(self, largest: Mapping[Place, float]) -> set[str]:
        """Tensors of the file whose type is too narrow for what training made of them.

        Args:
            largest: absolute value of each weight.
        """
        return {
            self._opened.weights[part][name].place.name
            for (part, name), value in largest.items()
            if math.isfinite(value) and not _holds(_dtype(self._opened.weights[part][name]), value)
        }

    def saved_dtype(self, place: Place, widened: Collection[str]) -> torch.dtype:
        """The type that a weight is written in, where ``widened`` are float32."""
        part, name = place
        stored = self._opened.weights[part][name]
        return torch.float32 if stored.place.name in widened else _dtype(stored)

    def read(self, dtype: torch.dtype, device: torch.device) -> Iterator[tuple[Place, Tensor]]:
        """The base's own numbers of what is trained, in file order.

        Raises:
            CheckpointError: the file is damaged.
        """
        by_part: dict[str, list[str]] = defaultdict(list)
        for part, name in self.trained:
            by_part[part].append(name)
        for part, names in by_part.items():
            weights = {name: self._opened.weights[part][name] for name in names}
            for name, tensor in read_weights(part, weights, dtype, device):
                yield (part, name), tensor

    def metadata(self, own: Mapping[str, str]) -> dict[str, str]:
        """The base's, as far as it holds on, and that of the run."""
        return {"format": "pt", **carried_metadata(self.file.metadata), **own}

    def write(
        self,
        path: Path,
        values: Mapping[Place, Values],
        metadata: Mapping[str, str],
        widened: Collection[str] = (),
    ) -> None:
        """Write the checkpoint atomically.

        Args:
            values: numbers that the types can hold.
            widened: tensors of the file that are float32 in it, of :meth:`too_narrow`.

        Raises:
            CheckpointError: the base is gone, of which the rest is copied.
            RunError: the disk is full or the folder cannot be written to.
        """
        changes: dict[str, list[tuple[Place, Values]]] = defaultdict(list)
        for (part, name), value in values.items():
            stored = self._opened.weights[part][name].place.name
            changes[stored].append(((part, name), value))
        if not self.file.path.is_file():
            what = "is gone, and checkpoints are this file with what was trained in it"
            raise CheckpointError.of(self.file.path, what, "put it back, and resume the run")
        rewriter = CheckpointRewriter(
            self.file,
            {stored: self._change(each) for stored, each in changes.items()},
            None,
            widened=widened,
        )
        rewriter.write(path, self.metadata(metadata), Controls(), lambda _: None)

    def _change(self, weights: Iterable[tuple[Place, Values]]) -> Change:
        def change(stored: Tensor) -> None:
            """OpenCLIP keeps three layers in a tensor: each is put where it lies."""
            for (part, name), value in weights:
                place = self._opened.weights[part][name].place
                shape = canonical_shape(part, name, tuple(stored.shape), place)
                placed(stored, place).view(shape).copy_(value())

        return change


def stored_dtype(opened: OpenedCheckpoint, parts: Iterable[str]) -> torch.dtype:
    """The type that all weights of some parts are stored in; float32 where they differ."""
    types = {_dtype(stored) for part in parts for stored in opened.weights[part].values()}
    return types.pop() if len(types) == 1 else torch.float32


def _dtype(stored: WeightInFile) -> torch.dtype:
    if stored.file.tensors is not None:
        return DTYPES[stored.file.tensors[stored.place.name].dtype]
    assert stored.file.pickle is not None
    return DTYPES[stored.file.pickle.tensors[stored.place.name].dtype]


def _holds(dtype: torch.dtype, value: float) -> bool:
    return bool(torch.tensor(value, dtype=torch.float64).to(dtype).isfinite())
