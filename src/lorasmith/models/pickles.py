"""Looking into a torch pickle without running anything it asks for, and without torch.

A ``.ckpt`` is a program for Python's unpickling machine, and may name any function to be called.
:func:`read_pickle_header` runs that program with every name bound to a dummy that does nothing,
so it learns which tensors the file holds and which names it wanted. torch has kept the numbers
themselves apart, as plain bytes in a zip archive, since 1.6: :func:`locate_tensors` says where they
are, and they are read as a safetensors file's. The rest (older files, odd strides) is left to
``torch.load(weights_only=True)``, which knows only how to build tensors.
"""

from __future__ import annotations

import math
import pickle
import re
import struct
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from lorasmith.files import DTYPE_BYTES, TensorInfo

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
    """``dummies``: harmless names that the file wants; ``dangerous``: all others."""

    tensors: dict[str, PickledTensor]
    dummies: tuple[str, ...]
    dangerous: tuple[str, ...]


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


class _Inspector(pickle.Unpickler):
    """An unpickler that imports nothing: names become dummies and tensors their shapes."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file, encoding="latin-1")
        self.wanted: set[str] = set()

    def find_class(self, module: str, name: str) -> Any:
        full = f"{module}.{name}"
        self.wanted.add(full)
        if full.startswith("torch._utils._rebuild_tensor"):
            return _rebuild_tensor
        if full.startswith("torch._utils._rebuild_parameter"):
            return _first
        if full == "collections.OrderedDict":
            return OrderedDict
        if module.startswith("torch") and name in DTYPES:
            return _DType(DTYPES[name])
        return Dummy

    def persistent_load(self, pid: Any) -> Any:
        return _Storage(pid[1], str(pid[2]))


@dataclass(frozen=True, slots=True)
class _DType:
    name: str


@dataclass(frozen=True, slots=True)
class _Storage:
    dtype: Any
    key: str


def _rebuild_tensor(storage: Any, offset: int, size: Any, stride: Any, *rest: Any) -> PickledTensor:
    """Called where torch's ``_rebuild_tensor{,_v2,_v3}`` would be; v3 carries its dtype."""
    kept = storage if isinstance(storage, _Storage) else _Storage(storage, "")
    dtypes = [value for value in (*rest, kept.dtype) if isinstance(value, _DType)]
    shape = tuple(int(n) for n in size)
    row_by_row = all(
        n == 1 or step == math.prod(shape[i + 1 :])
        for i, (n, step) in enumerate(zip(shape, stride, strict=True))
    )
    dtype = dtypes[0].name if dtypes else "unknown"
    return PickledTensor(dtype, shape, kept.key if row_by_row else "", int(offset))


def _first(value: Any, *rest: Any) -> Any:
    return value


# What a damaged or hostile pickle can make the unpickling machine raise.
PICKLE_ERRORS = (
    pickle.UnpicklingError, zipfile.BadZipFile, zlib.error, struct.error, EOFError, RuntimeError,
    ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, MemoryError,
    StopIteration, TypeError, ValueError,
)  # fmt: skip


def read_pickle_header(path: Path) -> PickleHeader:
    """Tensors and wanted names of a torch file (zip, or the single stream used before 1.6).

    Raises:
        ValueError: it is not a readable torch file; says why.
        OSError: it cannot be read.
    """
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                names = [name for name in archive.namelist() if name.endswith("data.pkl")]
                if not names:
                    raise ValueError("a zip archive, but not one that torch wrote")
                with archive.open(names[0]) as file:
                    return _inspect(file, programs=1)
        with open(path, "rb") as file:
            # magic number, protocol and system information come before the object
            return _inspect(file, programs=4)
    except PICKLE_ERRORS as error:
        raise ValueError(str(error) or type(error).__name__) from error


def locate_tensors(path: Path, header: PickleHeader) -> dict[str, TensorInfo] | None:
    """Where in the file the numbers of every tensor are, or ``None`` where that cannot be said.

    Raises:
        ValueError: a tensor reaches beyond the record that holds its numbers, or the archive is
            damaged.
        OSError: the file cannot be read.
    """
    try:
        records = _records(path) if zipfile.is_zipfile(path) else {}
    except PICKLE_ERRORS as error:
        raise ValueError(str(error) or type(error).__name__) from error
    found = {}
    for name, tensor in header.tensors.items():
        if tensor.storage not in records or tensor.dtype not in DTYPE_BYTES:
            return None
        start, end = records[tensor.storage]
        width = DTYPE_BYTES[tensor.dtype]
        begin = start + tensor.offset * width
        after = begin + math.prod(tensor.shape) * width
        if not start <= begin <= after <= end:
            raise ValueError(f"{name} reaches beyond its part of the file")
        found[name] = TensorInfo(tensor.dtype, tensor.shape, begin, after)
    return found


def _records(path: Path) -> dict[str, tuple[int, int]]:
    """First and last byte of each record of numbers, by its key; none that are compressed."""
    found: dict[str, tuple[int, int]] = {}
    with zipfile.ZipFile(path) as archive, open(path, "rb") as file:
        root = next(name for name in archive.namelist() if name.endswith("data.pkl"))[:-8]
        orders = [name for name in archive.namelist() if name == f"{root}byteorder"]
        if orders and archive.read(orders[0]) != b"little":
            return {}
        for entry in archive.infolist():
            key = entry.filename.removeprefix(f"{root}data/")
            if key != entry.filename and entry.compress_type == zipfile.ZIP_STORED:
                # The directory at the end does not say how long the entry's own header is.
                file.seek(entry.header_offset)
                name_length, extra_length = struct.unpack("<26xHH", file.read(30))
                begin = entry.header_offset + 30 + name_length + extra_length
                found[key] = (begin, begin + entry.file_size)
    return found


def _inspect(file: IO[bytes], programs: int) -> PickleHeader:
    wanted: set[str] = set()
    value: Any = None
    for _ in range(programs):
        inspector = _Inspector(file)
        try:
            value = inspector.load()
        except PICKLE_ERRORS:
            wanted |= inspector.wanted
            if not any(not _is_fine(name) for name in wanted):
                raise
            break  # what it wanted is reason enough to refuse it
        wanted |= inspector.wanted
        if not isinstance(value, int | dict):
            break
    return PickleHeader(
        _tensors(value),
        tuple(sorted(name for name in wanted if HARMLESS.match(name) and not TORCH.match(name))),
        tuple(sorted(name for name in wanted if not _is_fine(name))),
    )


def _is_fine(name: str) -> bool:
    return bool(TORCH.match(name) or HARMLESS.match(name))


def state_dict_of(value: Any) -> dict[str, Any]:
    """The state dict in what a torch file holds: training programs nest it."""
    if isinstance(value, dict) and isinstance(value.get("state_dict"), dict):
        value = value["state_dict"]
    return value if isinstance(value, dict) else {}


def _tensors(value: Any) -> dict[str, PickledTensor]:
    return {
        str(name): tensor
        for name, tensor in state_dict_of(value).items()
        if isinstance(tensor, PickledTensor)
    }


def stubs(header: PickleHeader) -> list[Callable[..., Any] | tuple[Callable[..., Any], str]]:
    """The dummies that ``torch.serialization.safe_globals`` needs to read such a file."""
    return [(Dummy, name) for name in header.dummies]
