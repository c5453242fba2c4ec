"""Single weights out of memory-mapped checkpoints, in any order.

For tools that need a weight or two at a time: a tensor is a view of the file until something is
computed from it, and the pages that were read can be given back. Loading a whole model is
:mod:`lorasmith.models.weights`'s.
"""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lorasmith.core.errors import CheckpointError
from lorasmith.models.layout import canonical_shape
from lorasmith.models.open import AGAIN, WeightInFile
from lorasmith.models.weight_file import WeightFile
from lorasmith.models.weights import DTYPES, load_state, placed, said_plainly

OTHER_DTYPES = {
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8,
    "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip


class MappedFile:
    """A weights file, mapped.

    Nothing is written to it: the map is a private one because torch wants memory that it could
    write to.

    Raises:
        CheckpointError: the file cannot be read.
    """

    def __init__(self, file: WeightFile) -> None:
        self.file = file
        self._map: mmap.mmap | None = None
        self._state: dict[str, Any] = {}
        if file.tensors is None:
            self._state = load_state(file)
            return
        with said_plainly(file.path), open(file.path, "rb") as handle:
            self._map = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_COPY)

    def tensor(self, name: str) -> Tensor:
        """The tensor as stored; a view of the file.

        Raises:
            CheckpointError: it is stored in a type that is not known here.
        """
        if self.file.tensors is None:
            value = self._state.get(name)
            if not isinstance(value, Tensor):
                raise CheckpointError.of(self.file.path, f"{name} is not a tensor", AGAIN)
            return value.detach()
        info = self.file.tensors[name]
        dtype = {**DTYPES, **OTHER_DTYPES}.get(info.dtype)
        if dtype is None:
            what = f"{name} is stored as {info.dtype}, which is not a kind of number known here"
            hint = "choose a float32, float16, bfloat16 or float8 version"
            raise CheckpointError.of(self.file.path, what, hint)
        if info.begin == info.end:
            return torch.empty(info.shape, dtype=dtype)
        assert self._map is not None
        raw = torch.frombuffer(
            self._map, dtype=torch.uint8, count=info.end - info.begin, offset=info.begin
        )
        return raw.view(dtype).reshape(info.shape)

    def release(self, begin: int, end: int) -> None:
        """Give back the pages of these bytes; reading them again maps them again."""
        if self._map is None or not hasattr(self._map, "madvise"):
            return
        page = mmap.PAGESIZE
        first, last = -(-begin // page) * page, end // page * page
        if last > first:
            self._map.madvise(mmap.MADV_DONTNEED, first, last - first)


class MappedWeights:
    """The weights of a checkpoint by where they are stored; each file is mapped once."""

    def __init__(self) -> None:
        self._files: dict[Path, MappedFile] = {}

    def file(self, file: WeightFile) -> MappedFile:
        if file.path not in self._files:
            self._files[file.path] = MappedFile(file)
        return self._files[file.path]

    def read(self, part: str, name: str, stored: WeightInFile) -> Tensor:
        """The weight in its module's shape and its own type; a view of the file where it can be.

        Raises:
            CheckpointError: the file cannot be read, or the weight is no floating-point number.
        """
        whole = self.file(stored.file).tensor(stored.place.name)
        if not whole.is_floating_point():
            what = f"{stored.place.name} is stored as {str(whole.dtype)[6:]}, not as a weight"
            raise CheckpointError.of(stored.file.path, what, AGAIN)
        shape = canonical_shape(part, name, tuple(whole.shape), stored.place)
        return placed(whole, stored.place).reshape(shape)

    def release(self, stored: WeightInFile) -> None:
        """Give back the pages that :meth:`read` has read; the weight must not be used after."""
        if stored.file.tensors is not None:
            info = stored.file.tensors[stored.place.name]
            self.file(stored.file).release(info.begin, info.end)
