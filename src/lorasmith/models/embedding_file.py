"""Files of textual-inversion embeddings.

Read are the web UI's ``.pt`` (``string_to_param``), diffusers' ``.bin`` (``{token: vector}``), and
``.safetensors`` of either kind or with ``clip_l`` and ``clip_g`` (SDXL), or ``emb_params``.

Shapes: n vectors of an embedding, D width of a text encoder.
"""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import load_file
from torch import Tensor

from lorasmith.core.errors import PromptError, RunError
from lorasmith.formats.embedding_header import PARAMETERS
from lorasmith.formats.embedding_keys import BUNDLE, ENCODERS, split_bundle
from lorasmith.models.tokenizer import ROW
from lorasmith.tensors.files import load_torch_file, save_tensors


def load_embedding(path: Path, name: str = "") -> dict[str, Tensor]:
    """Vectors (n, D), float32, under ``clip_l``, ``clip_g``, or a single name.

    Pickles are read by torch's safe reader, which builds tensors and calls nothing.

    Args:
        name: of an :class:`.EmbeddingHeader`'s ``bundled``; "" for a file of one embedding.

    Raises:
        PromptError: the file is damaged, or no embedding.
    """
    try:
        if path.suffix.lower() == ".safetensors":
            content: Any = load_bundled(path)[name] if name else load_file(path)
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
    where = f"{path}: {name}" if name else str(path)
    tensors = _vectors(content)
    counts = {len(vectors) for vectors in tensors.values()}
    names = set(tensors)
    if len(counts) != 1 or not (len(names) == 1 or names == set(ENCODERS)):
        raise PromptError.of(where, "is not a textual-inversion embedding", "choose another file")
    if not 1 <= counts.pop() <= ROW:
        raise PromptError.of(where, f"has more than {ROW} vectors", "a prompt cannot hold it")
    if not all(bool(torch.isfinite(vectors).all()) for vectors in tensors.values()):
        raise PromptError.of(where, "holds NaN or infinity", "choose another file")
    return tensors


def load_bundled(path: Path) -> dict[str, dict[str, Tensor]]:
    """The tensors of each embedding in a file, by its name; nothing else of the file is read.

    Raises:
        SafetensorError, OSError, ValueError: the file is damaged.
    """
    with safetensors.safe_open(path, "pt") as file:
        keys = [key for key in file.keys() if key.startswith(BUNDLE)]  # noqa: SIM118 - no mapping
        return split_bundle({key: file.get_tensor(key) for key in keys})[1]


def save_embedding(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write an embedding's file atomically; equal content gives an equal file, byte for byte.

    Args:
        tensors: (n, D) under the names of :func:`lorasmith.formats.embedding_keys.part_keys`.

    Raises:
        RunError: a number is none once rounded, or the file cannot be written.
    """
    if bad := [key for key, tensor in tensors.items() if not bool(torch.isfinite(tensor).all())]:
        what = f"{bad[0]} holds NaN or infinity; not written"
        raise RunError.of(path, what, "lower the learning rate")
    save_tensors(path, tensors, metadata)


def _vectors(content: Any) -> dict[str, Tensor]:
    if isinstance(content, Mapping) and PARAMETERS in content:
        content = content[PARAMETERS]
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
