"""Vectors of words of one's own, behind the token tables of a model's text encoders.

Shapes: V tokens of the vocabulary, n vectors of a word, D width of a text encoder, R x 77 ids.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lorasmith.models.placeholders import FIRST_ID, NO_PLACEHOLDERS, Placeholders

if TYPE_CHECKING:
    from lorasmith.models.diffusion_model import DiffusionModel


class WordVectors(nn.Module):
    """One word's vectors in one text encoder.

    Args:
        vectors: (n, D) float32.
    """

    initial: Tensor

    def __init__(self, vectors: Tensor) -> None:
        super().__init__()
        self.vectors = nn.Parameter(vectors.detach().clone())
        self.register_buffer("initial", vectors.detach().clone(), persistent=False)

    def in_dtype(self, dtype: torch.dtype) -> Tensor:
        """``vectors``, or the copy that a training step has made of them in ``dtype``."""
        copy: Tensor | None = getattr(self.vectors, "low_precision", None)
        return copy if copy is not None and copy.dtype == dtype else self.vectors.to(dtype)


class ExtendedTable(nn.Module):
    """A token table (V, D) with the vectors of further words behind it.

    Args:
        words: in the order of their ids, from V on.
    """

    def __init__(self, table: nn.Module, words: Mapping[str, WordVectors]) -> None:
        super().__init__()
        self.table, self.words = table, nn.ModuleList(words.values())
        self.untrained = False

    def forward(self, ids: Tensor) -> Tensor:
        own = ids >= FIRST_ID
        states: Tensor = self.table(ids.masked_fill(own, 0))
        vectors = [
            word.initial.to(states.dtype) if self.untrained else word.in_dtype(states.dtype)
            for word in self.words
            if isinstance(word, WordVectors)
        ]
        # Not by masks and indices alone: the backward of an embedding adds in a fixed order.
        further = F.embedding((ids - FIRST_ID).clamp(min=0), torch.cat(vectors))
        return torch.where(own[..., None], further, states)


class OwnWords:
    """Words of one's own, with vectors in each of a model's text encoders.

    While they are attached, captions and prompts that name them mean their vectors.

    Args:
        vectors: by word, then by the text encoder's part; all (n, D) float32, n alike over parts.
    """

    def __init__(self, vectors: Mapping[str, Mapping[str, Tensor]]) -> None:
        counts = {name: len(next(iter(parts.values()))) for name, parts in vectors.items()}
        self.placeholders = Placeholders(counts)
        self.words = {
            name: {part: WordVectors(tensor) for part, tensor in parts.items()}
            for name, parts in vectors.items()
        }
        self._model: DiffusionModel | None = None
        self._tables: dict[str, ExtendedTable] = {}

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.words)

    def attach_to(self, model: DiffusionModel) -> None:
        """Let ``model`` read the words as their vectors."""
        assert not model.placeholders, "another's words are attached"
        for part, encoder in model.text_encoders.items():
            words = {name: parts[part] for name, parts in self.words.items()}
            self._tables[part] = ExtendedTable(encoder.get_input_embeddings(), words)
            encoder.set_input_embeddings(self._tables[part])
        model.placeholders = self.placeholders
        self._model = model

    def detach(self) -> None:
        """Let the model read them as it did before."""
        assert self._model is not None, "not attached"
        for part, encoder in self._model.text_encoders.items():
            encoder.set_input_embeddings(self._tables[part].table)
        self._model.placeholders = NO_PLACEHOLDERS
        self._model = None
        self._tables = {}

    @contextlib.contextmanager
    def on(self, model: DiffusionModel) -> Iterator[Self]:
        """Attached within the block."""
        self.attach_to(model)
        try:
            yield self
        finally:
            self.detach()

    @contextlib.contextmanager
    def disabled(self) -> Iterator[None]:
        """The vectors as they were at first within the block, everything left in its place."""
        for table in self._tables.values():
            table.untrained = True
        try:
            yield
        finally:
            for table in self._tables.values():
                table.untrained = False

    def tables(self) -> Mapping[str, nn.Module]:
        """By part, what stands at the token table's place while they are attached."""
        return dict(self._tables)


def vocabulary(encoder: Any) -> Tensor:
    """A text encoder's token table (V, D), float32, on its device."""
    table = encoder.get_input_embeddings()
    own: Any = table.table if isinstance(table, ExtendedTable) else table
    weight: Tensor = own.weight
    return weight.detach().float()
