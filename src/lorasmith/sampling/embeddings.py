"""Textual-inversion embeddings by the names that prompts give them.

Shapes: n vectors of an embedding, D width of a text encoder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from torch import Tensor

from lorasmith.core.errors import PromptError
from lorasmith.core.events import Notice, Observer, ignore
from lorasmith.core.files import files_below, read_safetensors_header
from lorasmith.formats.embedding_keys import ENCODERS
from lorasmith.formats.run_paths import is_state_file
from lorasmith.models.diffusion_model import DiffusionModel
from lorasmith.models.embedding_file import bundled_names, load_embedding, names_in
from lorasmith.models.placeholders import TokenNames
from lorasmith.models.tokenizer import token_ids
from lorasmith.models.word_vectors import OwnWords

EXTENSIONS = (".safetensors", ".pt", ".bin")

# Bytes: a full prompt of SDXL's vectors takes 0.6 MB, and a folder of runs has checkpoints in it.
LARGEST_FOUND = 16_000_000


@dataclass(frozen=True, slots=True, eq=False)
class Embedding:
    """Vectors that stand in a prompt for a word.

    Args:
        vectors: (n, D) float32, by the part's name of each text encoder.
    """

    name: str
    vectors: Mapping[str, Tensor]

    @property
    def count(self) -> int:
        """n, at least 1."""
        return len(next(iter(self.vectors.values())))


@dataclass(frozen=True, slots=True)
class _Source:
    """Where an embedding is read from.

    Args:
        inside: its name in a file that holds more.
        word: that it was trained as, where it goes by that and not by its file's name.
    """

    path: Path
    inside: str = ""
    word: str = ""

    @property
    def name(self) -> str:
        return self.inside or self.word or self.path.stem


class EmbeddingLibrary:
    """The embeddings of a folder and its sub-folders, by their files' names without extension;
    those that a LoRA file carries, or a file of several, by the names that they have in it. One
    that was trained here goes by the word that it was trained as too, where no file is called so.

    Args:
        folder: where to look; ``None`` for a library without embeddings.
        runs: it is the folder of runs that nobody named: of it are known files of embeddings alone,
            not what LoRAs carry, and where a prompt names a LoRA with such a trigger, not those.
        observer: is told which embeddings prompts name, and whether they belong to another family.
    """

    def __init__(
        self, folder: Path | None = None, *, runs: bool = False, observer: Observer = ignore
    ) -> None:
        self._observer, self._runs = observer, runs
        self._read: dict[_Source, dict[str, Tensor]] = {}
        self._fitted: dict[tuple[_Source, tuple[tuple[str, int], ...]], Embedding | None] = {}
        names: dict[str, _Source] = {}
        found = [path for path in files_below(folder, EXTENSIONS) if not _in_trash(path, folder)]
        if runs:
            found = [path for path in found if _is_small_result(path)]
        files = {path: names_in(path) for path in found}
        if runs:
            files = {path: one for path, one in files.items() if one.is_embedding}
        for path, one in files.items():
            if one.is_embedding is not False and not one.bundled:
                names.setdefault(path.stem, _Source(path))
        # A run's snapshots have the same in them, and longer names than its result.
        shortest = sorted(files, key=lambda path: len(path.stem))
        for path in shortest:
            for name in files[path].bundled:
                names.setdefault(name, _Source(path, name))
        known = {name.casefold() for name in names}  # Prompts do not tell capitals apart.
        for path in shortest:
            if (word := files[path].word) and word.casefold() not in known:
                names.setdefault(word, _Source(path, word=word))
        self._know(names)

    def _know(self, names: Mapping[str, _Source]) -> None:
        self._by_name = dict(names)
        self.names = tuple(names)
        self._sources = TokenNames(names)

    def carrying(self, files: Sequence[Path]) -> EmbeddingLibrary:
        """The library with the embeddings that LoRA files carry, before its own of those names."""
        carried = {name: _Source(path, name) for path in files for name in bundled_names(path)}
        own = self._by_name
        if self._runs:
            words = {word.casefold() for path in files for word in _trained_words(path)}
            own = {name: one for name, one in own.items() if name.casefold() not in words}
        if not carried and len(own) == len(self._by_name):
            return self
        library = copy(self)
        library._know(own | carried)
        return library

    def at(self, ids: Sequence[int], place: int, model: DiffusionModel) -> Embedding | None:
        """The embedding whose name's tokens stand at ``place``, if it fits the model.

        Raises:
            PromptError: its file is damaged, or no embedding.
        """
        match = self._sources.at(ids, place)
        return None if match is None else self._for(match[1], model)

    def length(self, embedding: Embedding) -> int:
        """How many tokens its name has."""
        return len(token_ids(embedding.name))

    def nearest(self, name: str) -> list[str]:
        """Names like it, the most alike first."""
        return get_close_matches(name, self.names)

    def _for(self, source: _Source, model: DiffusionModel) -> Embedding | None:
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
            self._fitted[key] = _fitted(source.name, self._read[source], widths)
            if self._fitted[key] is None:
                what = f"{source.path.name} belongs to another family of models: its name is read "
                self._observer(Notice("warning", f"{what}as words"))
            else:
                self._observer(Notice("info", f"{source.name} is the embedding in {source.path}"))
        return self._fitted[key]


def _in_trash(path: Path, folder: Path | None) -> bool:
    """Whether it lies where removed runs are kept."""
    return folder is not None and ".lorasmith" in path.relative_to(folder).parts


def _is_small_result(path: Path) -> bool:
    try:
        is_small = path.stat().st_size <= LARGEST_FOUND
    except OSError:  # Removed meanwhile.
        return False
    return is_small and path.suffix.lower() == ".safetensors" and not is_state_file(path)


def _trained_words(path: Path) -> list[str]:
    """The tags of the trigger that a LoRA file names: it was trained on them as they are."""
    try:
        phrase = read_safetensors_header(path).metadata.get("modelspec.trigger_phrase", "")
    except (ValueError, OSError):  # A pickle, or damaged: loading it says so.
        return []
    return [tag.strip() for tag in phrase.split(",") if tag.strip()]


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
    name: str, tensors: Mapping[str, Tensor], widths: Mapping[str, int]
) -> Embedding | None:
    """The embedding for text encoders of those widths, or ``None`` if it is not for them."""
    if len(widths) == 1 and "clip_g" not in tensors:
        (vectors,) = list(tensors.values())[:1]
        tensors = {next(iter(widths)): vectors}
    else:
        tensors = {ENCODERS.get(part, part): vectors for part, vectors in tensors.items()}
    if {part: vectors.shape[-1] for part, vectors in tensors.items()} != dict(widths):
        return None
    return Embedding(name, tensors)
