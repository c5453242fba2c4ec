"""Torch tensors to and from safetensors files, and fingerprints of weights."""

from __future__ import annotations

import json
import pickle
import struct
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from pathlib import Path

import torch
from torch import Tensor

from lorasmith.files import TensorBytes, safetensors_chunks, write_chunks

DTYPE_NAMES: dict[torch.dtype, str] = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16",
    torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8",
    torch.uint8: "U8", torch.bool: "BOOL",
    torch.float8_e4m3fn: "F8_E4M3", torch.float8_e5m2: "F8_E5M2",
}  # fmt: skip

LOAD_ERRORS = (
    pickle.UnpicklingError, zipfile.BadZipFile, zlib.error, struct.error, OSError, EOFError,
    RuntimeError, ArithmeticError, AssertionError, AttributeError, ImportError, LookupError,
    MemoryError, TypeError, ValueError,
)  # fmt: skip
"""What ``torch.load(weights_only=True)`` raises of a file that is damaged, by where it is."""


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
