"""Looking into a torch pickle without running anything it asks for, and without torch.

A ``.ckpt`` is a program for Python's unpickling machine, and may name any function to be called.
:func:`read_pickle_header` learns which tensors the file holds and which names it wants, by
:mod:`lorasmith.formats.torch_archive`, which runs nothing. torch has kept the numbers themselves
apart, as plain bytes in a zip archive, since 1.6: :func:`locate_tensors` says where they are, and
they are read as a safetensors file's. The rest (older files, odd strides) is left to
``torch.load(weights_only=True)``, which knows only how to build tensors.
"""

from __future__ import annotations

import math
import pickle
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorasmith.core.files import DTYPE_BYTES, TensorInfo
from lorasmith.formats.torch_archive import TorchFile, read_torch_file
from lorasmith.formats.torch_pickle import BuiltTensor, TorchFileError

# Names of which a dummy will do: they describe the training program's state, not weights.
HARMLESS = re.compile(
    r"^(pytorch_lightning|lightning|lightning_fabric|omegaconf)\."
    r"|^numpy\.(dtype|ndarray|core\.multiarray\.\w+|_core\.multiarray\.\w+)$"
    r"|^(typing\.Any|pathlib\.\w+|datetime\.\w+|collections\.defaultdict|_codecs\.encode)$"
    r"|^(builtins|__builtin__)\.(dict|list|tuple|set|frozenset|int|float|str|bool|bytes|bytearray"
    r"|object|complex)$"
)
# Names that torch.load(weights_only=True) itself understands.
TORCH = re.compile(
    r"^torch\._utils\._rebuild_\w+$|^torch\._tensor\._rebuild_from_type_v2$"
    r"|^torch\.(nn\.parameter\.Parameter|Tensor|Size|device|storage\.\w+|serialization\._get_layout)$"
    r"|^torch\.(\w*Storage|b?float\w*|u?int\d+|half|double|long|short|bool|complex\w+)$"
    r"|^collections\.(OrderedDict|Counter)$"
)
DTYPES = {
    "FloatStorage": "F32", "HalfStorage": "F16", "BFloat16Storage": "BF16", "DoubleStorage": "F64",
    "LongStorage": "I64", "IntStorage": "I32", "ShortStorage": "I16", "CharStorage": "I8",
    "ByteStorage": "U8", "BoolStorage": "BOOL", "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2", "float32": "F32", "float16": "F16", "bfloat16": "BF16",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class PickledTensor:
    """``storage``: the record that holds its numbers, from number ``offset`` on; empty where they
    do not lie there row by row."""

    dtype: str
    shape: tuple[int, ...]
    storage: str = ""
    offset: int = 0


@dataclass(frozen=True, slots=True)
class PickleHeader:
    """``dummies``: harmless names that the file wants; ``dangerous``: all others; ``records``:
    first byte and length of each storage, where they are known."""

    tensors: dict[str, PickledTensor]
    dummies: tuple[str, ...]
    dangerous: tuple[str, ...]
    records: dict[str, tuple[int, int]] | None = None


class Dummy(dict[Any, Any]):
    """Stands in for any class or function that a pickle names, and does nothing."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__()

    def __setstate__(self, state: object) -> None:
        """Take no state."""

    __hash__ = object.__hash__  # type: ignore[assignment]  # it may be the key of a dict

    def append(self, item: object) -> None:
        """Keep nothing."""

    def extend(self, items: object) -> None:
        """Keep nothing."""


# What a damaged or hostile pickle can make the unpickling machine raise.
PICKLE_ERRORS = (
    pickle.UnpicklingError, zipfile.BadZipFile, zlib.error, struct.error, EOFError, RuntimeError,
    ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, MemoryError,
    StopIteration, TypeError, ValueError,
)  # fmt: skip


def read_pickle_header(path: Path) -> PickleHeader:
    """Tensors and wanted names of a torch file (zip, or the single stream used before 1.6).

    Raises:
        ValueError: it is not a readable torch file, or far larger inside than such a file is; says
            why.
        OSError: it cannot be read.
    """
    try:
        file = read_torch_file(path)
    except TorchFileError as error:
        header = _header(TorchFile(None, frozenset(error.names), None))
        if header.dangerous:  # what it wanted is reason enough to refuse it
            return header
        raise
    return _header(file)


def _header(file: TorchFile) -> PickleHeader:
    return PickleHeader(
        _tensors(file.value),
        tuple(sorted(n for n in file.names if HARMLESS.match(n) and not TORCH.match(n))),
        tuple(sorted(n for n in file.names if not HARMLESS.match(n) and not TORCH.match(n))),
        file.records,
    )


def locate_tensors(header: PickleHeader) -> dict[str, TensorInfo] | None:
    """Where in the file the numbers of every tensor are, or ``None`` where that cannot be said.

    Raises:
        ValueError: a tensor reaches beyond the record that holds its numbers.
    """
    infos = {}
    for name, tensor in header.tensors.items():
        records = header.records or {}
        if tensor.storage not in records or tensor.dtype not in DTYPE_BYTES:
            return None
        start, length = records[tensor.storage]
        width = DTYPE_BYTES[tensor.dtype]
        begin = start + tensor.offset * width
        after = begin + math.prod(tensor.shape) * width
        if not start <= begin <= after <= start + length:
            raise ValueError(f"{name} reaches beyond its part of the file")
        infos[name] = TensorInfo(tensor.dtype, tensor.shape, begin, after)
    return infos


def state_dict_of(value: Any) -> dict[str, Any]:
    """The state dict in what a torch file holds: training programs nest it."""
    if isinstance(value, dict) and isinstance(value.get("state_dict"), dict):
        value = value["state_dict"]
    return value if isinstance(value, dict) else {}


def _tensors(value: Any) -> dict[str, PickledTensor]:
    return {
        str(name): _pickled(tensor)
        for name, tensor in state_dict_of(value).items()
        if isinstance(tensor, BuiltTensor)
    }


def _pickled(tensor: BuiltTensor) -> PickledTensor:
    shape = tensor.shape
    row_by_row = all(
        n == 1 or step == math.prod(shape[i + 1 :])
        for i, (n, step) in enumerate(zip(shape, tensor.strides, strict=True))
    )
    storage = tensor.storage
    kinds = (tensor.dtype.rpartition(".")[2], storage.kind if storage is not None else "")
    dtype = next((DTYPES[kind] for kind in kinds if kind in DTYPES), "unknown")
    key = storage.key if storage is not None and row_by_row else ""
    return PickledTensor(dtype, shape, key, tensor.offset)


def stubs(header: PickleHeader) -> list[Callable[..., Any] | tuple[Callable[..., Any], str]]:
    """The dummies that ``torch.serialization.safe_globals`` needs to read such a file."""
    return [(Dummy, name) for name in header.dummies]
