"""Textual-inversion embeddings by the names that prompts give them.

Read are the web UI's ``.pt`` (``string_to_param``), diffusers' ``.bin`` (``{token: vector}``), and
``.safetensors`` of either kind or with ``clip_l`` and ``clip_g`` (SDXL), or ``emb_params``.

Shapes: n vectors of an embedding, D width of a text encoder.
"""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import load_file
from torch import Tensor

from lorasmith.core.errors import PromptError
from lorasmith.core.events import Notice, Observer, ignore
from lorasmith.core.files import files_below
from lorasmith.models.diffusion_model import DiffusionModel
from lorasmith.models.tokenizer import ROW, token_ids
from lorasmith.tensors.files import load_torch_file

EXTENSIONS = (".safetensors", ".pt", ".bin")
# What SDXL's embeddings call the vectors of its two text encoders.
ENCODER_NAMES = {"clip_l": "text_encoder", "clip_g": "text_encoder_2"}


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


class EmbeddingLibrary:
    """The embeddings of a folder and its sub-folders, by their files' names without extension.

    Args:
        folder: where to look; ``None`` for a library without embeddings.
        observer: is told which embeddings that a prompt names belong to another family of models.
    """

    def __init__(self, folder: Path | None = None, *, observer: Observer = ignore) -> None:
        self._observer = observer
        self._read: dict[Path, dict[str, Tensor]] = {}
        self._fitted: dict[tuple[Path, tuple[tuple[str, int], ...]], Embedding | None] = {}
        # Those that begin with a token, the longest name first.
        self._by_token: dict[int, list[tuple[list[int], Path]]] = {}
        names: dict[str, Path] = {}
        for path in files_below(folder, EXTENSIONS):
            names.setdefault(path.stem, path)
        self.names = tuple(names)
        for name, path in names.items():
            ids = token_ids(name)
            if ids:
                self._by_token.setdefault(ids[0], []).append((ids, path))
        for embeddings in self._by_token.values():
            embeddings.sort(key=lambda item: -len(item[0]))

    def at(self, ids: Sequence[int], place: int, model: DiffusionModel) -> Embedding | None:
        """The embedding whose name's tokens stand at ``place``, if it fits the model.

        Raises:
            PromptError: its file is damaged, or no embedding.
        """
        for name, path in self._by_token.get(ids[place], ()):
            if list(ids[place : place + len(name)]) == name:
                return self._for(path, model)
        return None

    def length(self, embedding: Embedding) -> int:
        """How many tokens its name has."""
        return len(token_ids(embedding.name))

    def nearest(self, name: str) -> list[str]:
        """Names like it, the most alike first."""
        return get_close_matches(name, self.names)

    def _for(self, path: Path, model: DiffusionModel) -> Embedding | None:
        widths = {
            spec.part: int(text["hidden_size"])
            for spec, text in zip(
                model.architecture.family.text_encoders, model.architecture.texts, strict=True
            )
        }
        key = (path, tuple(widths.items()))
        if key not in self._fitted:
            if path not in self._read:
                self._read[path] = load_embedding(path)
            self._fitted[key] = _fitted(path.stem, self._read[path], widths)
            if self._fitted[key] is None:
                self._observer(
                    Notice("warning", f"{path.name} belongs to another family of models: its name "
                                      "is read as words")
                )  # fmt: skip
        return self._fitted[key]


def _fitted(
    name: str, tensors: Mapping[str, Tensor], widths: Mapping[str, int]
) -> Embedding | None:
    """The embedding for text encoders of those widths, or ``None`` if it is not for them."""
    if len(widths) == 1 and "clip_g" not in tensors:
        (vectors,) = list(tensors.values())[:1]
        tensors = {next(iter(widths)): vectors}
    else:
        tensors = {ENCODER_NAMES.get(part, part): vectors for part, vectors in tensors.items()}
    if {part: vectors.shape[-1] for part, vectors in tensors.items()} != dict(widths):
        return None
    return Embedding(name, tensors)


def load_embedding(path: Path) -> dict[str, Tensor]:
    """Vectors (n, D), float32, under ``clip_l``, ``clip_g``, or a single name.

    Pickles are read by torch's safe reader, which builds tensors and calls nothing.

    Raises:
        PromptError: the file is damaged, or no embedding.
    """
    try:
        if path.suffix.lower() == ".safetensors":
            content: Any = load_file(path)
        else:
            content = load_torch_file(path, known=[torch.nn.ParameterDict])
    except pickle.UnpicklingError as error:
        what = "is a pickle that holds more than tensors, so it is not opened"
        raise PromptError.of(path, what, "get the embedding as .safetensors") from error
    except (
        safetensors.SafetensorError, OSError, RuntimeError, EOFError, ValueError, KeyError,
        zipfile.BadZipFile,
    ) as error:  # fmt: skip
        what = f"cannot be read: {str(error).splitlines()[0] if str(error) else error}"
        raise PromptError.of(path, what, "copy or download it again") from error
    tensors = _vectors(content)
    counts = {len(vectors) for vectors in tensors.values()}
    names = set(tensors)
    if len(counts) != 1 or not (len(names) == 1 or names == set(ENCODER_NAMES)):
        raise PromptError.of(path, "is not a textual-inversion embedding", "choose another file")
    if not 1 <= counts.pop() <= ROW:
        raise PromptError.of(path, f"has more than {ROW} vectors", "a prompt cannot hold it")
    if not all(bool(torch.isfinite(vectors).all()) for vectors in tensors.values()):
        raise PromptError.of(path, "holds NaN or infinity", "choose another file")
    return tensors


def _vectors(content: Any) -> dict[str, Tensor]:
    if isinstance(content, Mapping) and "string_to_param" in content:
        content = content["string_to_param"]
    if isinstance(content, torch.nn.ParameterDict):
        content = dict(content.items())
    if not isinstance(content, Mapping):
        return {}
    return {
        str(name): vectors.detach().float().reshape(-1, vectors.shape[-1])
        for name, vectors in content.items()
        if isinstance(vectors, Tensor)
        and vectors.is_floating_point()
        and vectors.ndim in (1, 2)
        and vectors.numel()
    }
