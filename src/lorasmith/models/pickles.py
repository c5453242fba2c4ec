"""Looking into a torch pickle without running anything it asks for, and without torch.

A ``.ckpt`` is a program for Python's unpickling machine, and may name any function to be called.
:func:`read_pickle_header` runs that program with every name bound to a dummy that does nothing,
so it learns which tensors the file holds and which names it wanted. Loading is then left to
``torch.load(weights_only=True)``, which knows only how to build tensors.
"""

from __future__ import annotations

import pickle
import re
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

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
    dtype: str
    shape: tuple[int, ...]


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
        return pid[1]


@dataclass(frozen=True, slots=True)
class _DType:
    name: str


def _rebuild_tensor(storage: Any, offset: int, size: Any, *rest: Any) -> PickledTensor:
    """Called where torch's ``_rebuild_tensor{,_v2,_v3}`` would be; v3 carries its dtype."""
    dtypes = [value for value in (*rest, storage) if isinstance(value, _DType)]
    shape = tuple(int(n) for n in size)
    return PickledTensor(dtypes[0].name if dtypes else "unknown", shape)


def _first(value: Any, *rest: Any) -> Any:
    return value


# What a damaged or hostile pickle can make the unpickling machine raise.
PICKLE_ERRORS = (
    pickle.UnpicklingError, zipfile.BadZipFile, EOFError, AttributeError, IndexError, KeyError,
    TypeError, ValueError, struct.error, ImportError, RecursionError, MemoryError, OverflowError,
    NotImplementedError,
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
