"""What a file says of the embeddings in it, without its numbers and without running anything.

Read are a safetensors file's header, and a torch file's program by
:mod:`lorasmith.formats.torch_archive`. Torch-free.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lorasmith.core.files import read_safetensors_header
from lorasmith.formats.embedding_keys import ENCODERS, WORD, split_bundle
from lorasmith.formats.torch_archive import read_torch_file
from lorasmith.formats.torch_pickle import BuiltTensor

PARAMETERS = "string_to_param"
"""What the web UI's own files call the vectors."""

_KEPT = 4096


@dataclass(frozen=True, slots=True)
class EmbeddingHeader:
    """
    Args:
        is_embedding: it is a file of one or of several, not a LoRA or a model; ``None``: nobody
            knows before it is read.
        bundled: vectors of those that it carries, or has several of, by name.
        word: that its only one was trained as; "" where it does not say.
        vectors: of its only one; ``None`` where that is not said.
    """

    is_embedding: bool | None
    bundled: Mapping[str, int] = field(default_factory=dict)
    word: str = ""
    vectors: int | None = None


_UNKNOWN = EmbeddingHeader(None)


def read_embedding_header(path: Path) -> EmbeddingHeader:
    """Of a file that cannot be read nothing is known: reading it as an embedding says why."""
    try:
        state = os.stat(path)
    except OSError:
        return _UNKNOWN
    return _read(path, state.st_size, state.st_mtime_ns)


@functools.lru_cache(_KEPT)
def _read(path: Path, size: int, changed: int) -> EmbeddingHeader:
    """A file is read again when it has changed."""
    try:
        if path.suffix.lower() == ".safetensors":
            return _of_safetensors(path)
        return _of_torch(read_torch_file(path).value)
    except (ValueError, OSError):
        return _UNKNOWN


def _of_safetensors(path: Path) -> EmbeddingHeader:
    header = read_safetensors_header(path)
    own, inner = split_bundle(header.tensors)
    if inner:
        bundled = {name: _count(next(iter(one.values())).shape) for name, one in inner.items()}
        return EmbeddingHeader(not own, bundled)
    shapes = [one.shape for one in own.values()]
    if not _are_of_one(own.keys()) or any(len(shape) > 2 for shape in shapes):
        return EmbeddingHeader(False)
    return EmbeddingHeader(True, word=header.metadata.get(WORD, ""), vectors=_count(shapes[0]))


def _of_torch(value: Any) -> EmbeddingHeader:
    """Of the web UI's file, or of diffusers' with one vector or table by its token."""
    if not isinstance(value, dict):
        return EmbeddingHeader(False)
    content = value.get(PARAMETERS, value)
    tensors = list(content.values()) if isinstance(content, dict) else []
    is_built = all(isinstance(one, BuiltTensor) and len(one.shape) <= 2 for one in tensors)
    if tensors and is_built and _are_of_one(map(str, content)):
        return EmbeddingHeader(True, vectors=_count(tensors[0].shape))
    # As an object of torch's, which says how many it has when it is read.
    return EmbeddingHeader(PARAMETERS in value)


def _are_of_one(names: Iterable[str]) -> bool:
    """Whether tensors of these names may be an embedding's: SDXL's two, or one under any name but
    such as a layer's weight has, peft's among them."""
    names = set(names)
    if len(names) != 1:
        return names == ENCODERS.keys()
    name = names.pop()
    return not name.endswith(".weight") and not name.startswith("base_model.")


def _count(shape: tuple[int, ...]) -> int:
    return shape[0] if len(shape) == 2 else 1
