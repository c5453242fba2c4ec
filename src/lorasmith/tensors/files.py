"""Torch tensors to and from safetensors files, and fingerprints of weights."""

from __future__ import annotations

import json
import pickle
import struct
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lorasmith.core.files import TensorBytes, safetensors_chunks, write_chunks
from lorasmith.formats.torch_archive import read_torch_file
from lorasmith.formats.torch_pickle import TorchFileError

DTYPE_NAMES: dict[torch.dtype, str] = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16",
    torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8",
    torch.uint8: "U8", torch.bool: "BOOL",
    torch.float8_e4m3fn: "F8_E4M3", torch.float8_e5m2: "F8_E5M2",
}  # fmt: skip

PRECISIONS: dict[str, torch.dtype] = {
    "fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16,
}  # fmt: skip
"""What people call the types that are computed in and written; see :data:`PrecisionName`."""

LOAD_ERRORS = (
    pickle.UnpicklingError, zipfile.BadZipFile, zlib.error, struct.error, OSError, EOFError,
    RuntimeError, ArithmeticError, AssertionError, AttributeError, ImportError, LookupError,
    MemoryError, TypeError, ValueError,
)  # fmt: skip
"""What :func:`load_torch_file` raises of a file that is damaged, by where it is."""


def load_torch_file(path: Path, *, mapped: bool = False, known: Sequence[Any] = ()) -> Any:
    """What a torch file holds, on the CPU: the one place where torch unpickles.

    By torch's own safe reader, which builds tensors and calls nothing, and only when the file is no
    larger inside than it should be (:mod:`lorasmith.formats.torch_archive`).

    Args:
        mapped: let the system read the numbers as they are used, where the format allows it.
        known: further classes that it may build, as for ``torch.serialization.safe_globals``.

    Raises:
        One of :data:`LOAD_ERRORS`; ``pickle.UnpicklingError`` for what asks for more than tensors.
    """
    try:
        read_torch_file(path)
    except TorchFileError as error:
        if other_names := sorted(
            n for n in error.names if not n.startswith(("torch.", "collections."))
        ):
            raise pickle.UnpicklingError(f"unsupported global {other_names[0]}") from error
        raise
    with torch.serialization.safe_globals(list(known)), open(path, "rb") as file:
        if mapped:
            try:
                return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
            except RuntimeError:  # written before torch 1.6: no zip archive, so nothing to map
                pass
        # By path, torch would go by the suffix.
        return torch.load(file, map_location="cpu", weights_only=True)


def raw_bytes(tensor: Tensor) -> memoryview:
    """The tensor's bytes, row-major, without a copy where it is already on the CPU so."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return memoryview(flat.view(torch.uint8).numpy().data) if flat.numel() else memoryview(b"")


def all_finite(tensor: Tensor) -> bool:
    """Whether there is neither NaN nor infinity; of 8-bit floats too, which torch cannot ask."""
    wide = tensor.float() if tensor.element_size() == 1 else tensor
    return bool(torch.isfinite(wide).all())


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file atomically; equal content gives an equal file, byte for byte.

    Raises:
        RunError: the disk is full or the folder cannot be written to.
    """
    write_chunks(path, safetensors_chunks(as_bytes(tensors), metadata))


def as_bytes(tensors: Mapping[str, Tensor]) -> dict[str, TensorBytes]:
    return {
        name: TensorBytes(DTYPE_NAMES[tensor.dtype], tuple(tensor.shape), raw_bytes(tensor))
        for name, tensor in tensors.items()
    }


def fingerprint(tensors: Iterable[tuple[str, Tensor]], **settings: object) -> str:
    """32 hex digits that change with any weight, name or setting: a key for what they lead to."""
    digest = blake2b(json.dumps(settings, sort_keys=True, default=str).encode(), digest_size=16)
    for name, tensor in sorted(tensors, key=lambda pair: pair[0]):
        digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)}".encode())
        digest.update(raw_bytes(tensor))
    return digest.hexdigest()
