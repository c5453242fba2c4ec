"""Textual-inversion embeddings by the names that prompts give them.

Shapes: n vectors of an embedding, D width of a text encoder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from lorasmith.core.errors import PromptError
from lorasmith.core.events import Notice, Observer, ignore
from lorasmith.formats.embedding_keys import ENCODERS
from lorasmith.models.diffusion_model import DiffusionModel
from lorasmith.models.embedding_file import load_embedding
from lorasmith.models.embedding_names import EmbeddingNames, EmbeddingSource
from lorasmith.models.tokenizer import token_ids
from lorasmith.models.word_vectors import OwnWords

_Fitting = tuple[EmbeddingSource, tuple[tuple[str, int], ...]]


@dataclass(frozen=True, slots=True, eq=False)
class Embedding:
    """Vectors that stand in a prompt for a word.

    Args:
        vectors: (n, D) float32, by the part's name of each text encoder.
        path: its file; ``None`` where a LoRA carries it.
    """

    name: str
    vectors: Mapping[str, Tensor]
    path: Path | None = None

    @property
    def count(self) -> int:
        """n, at least 1."""
        return len(next(iter(self.vectors.values())))


class EmbeddingLibrary(EmbeddingNames):
    """:class:`.EmbeddingNames` with their vectors, each read once.

    Args:
        folder, named: as there.
        observer: is told which embeddings prompts name, and of those that stay words, why.
    """

    def __init__(
        self, folder: Path | None = None, *, named: bool = True, observer: Observer = ignore
    ) -> None:
        super().__init__(folder, named=named)
        self._observer = observer
        self._read: dict[EmbeddingSource, dict[str, Tensor]] = {}
        self._fitted: dict[_Fitting, Embedding | None] = {}
        self._told: set[EmbeddingSource] = set()

    def at(self, ids: Sequence[int], place: int, model: DiffusionModel) -> Embedding | None:
        """The embedding whose name's tokens stand at ``place``, if it fits the model.

        Raises:
            PromptError: its file is damaged, or no embedding.
        """
        match = self.find(ids, place)
        if match is not None:
            return self._for(match[1], model)
        if (left := self.gave_way(ids, place)) is not None and left not in self._told:
            self._told.add(left)
            what = f"{left.name} is read as words, as a LoRA of the prompt was trained on it; "
            self._observer(Notice("info", f"{what}the embedding in {left.path} is not used"))
        return None

    def length(self, embedding: Embedding) -> int:
        """How many tokens its name has."""
        return len(token_ids(embedding.name))

    def _for(self, source: EmbeddingSource, model: DiffusionModel) -> Embedding | None:
        widths = {
            spec.part: int(text["hidden_size"])
            for spec, text in zip(
                model.architecture.family.text_encoders, model.architecture.texts, strict=True
            )
        }
        key = (source, tuple(widths.items()))
        if key not in self._fitted:
            if source not in self._read:
                self._read[source] = load_embedding(source.path, source.inside)
            self._fitted[key] = _fitted(source, self._read[source], widths)
            if self._fitted[key] is None:
                what = f"{source.path.name} belongs to another family of models: its name is read "
                self._observer(Notice("warning", f"{what}as words"))
            else:
                self._observer(Notice("info", f"{source.name} is the embedding in {source.path}"))
        return self._fitted[key]


def carried_words(path: Path, model: DiffusionModel) -> OwnWords | None:
    """The embeddings that a LoRA file carries, to be attached to the model; ``None`` for none.

    Raises:
        PromptError: one is damaged, or belongs to another family of models.
    """
    library = EmbeddingLibrary().carrying([path])
    vectors = {}
    for name in library.names:
        embedding = library.at(token_ids(name), 0, model)
        if embedding is None:
            raise PromptError.of(f"{path}: {name}", "belongs to another family of models")
        to_model = {part: one.to(model.device) for part, one in embedding.vectors.items()}
        vectors[name] = to_model
    return OwnWords(vectors) if vectors else None


def _fitted(
    source: EmbeddingSource, tensors: Mapping[str, Tensor], widths: Mapping[str, int]
) -> Embedding | None:
    """The embedding for text encoders of those widths, or ``None`` if it is not for them."""
    if len(widths) == 1 and "clip_g" not in tensors:
        (vectors,) = list(tensors.values())[:1]
        tensors = {next(iter(widths)): vectors}
    else:
        tensors = {ENCODERS.get(part, part): vectors for part, vectors in tensors.items()}
    if {part: vectors.shape[-1] for part, vectors in tensors.items()} != dict(widths):
        return None
    return Embedding(source.name, tensors, None if source.carried else source.path)
