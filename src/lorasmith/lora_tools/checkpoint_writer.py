"""A weights file written anew with some of its tensors changed, tensor by tensor.

What is not changed goes from file to file byte for byte, within the kernel where it can. Names,
their order in the header, the order of the data and the types stay as they were; where types
change, wide ones come first, as the format wants it for alignment. Torch files become safetensors:
of what they hold beside their state dict, nothing is left.
"""

from __future__ import annotations

import errno
import json
import math
import os
import struct
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from io import FileIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lorasmith.core.errors import CheckpointError
from lorasmith.core.events import Controls
from lorasmith.core.files import DTYPE_BYTES, atomic_path, safetensors_start
from lorasmith.models.layout import WeightFile
from lorasmith.models.weights import MappedFile
from lorasmith.tensors.files import DTYPE_NAMES, raw_bytes

Change = Callable[[Tensor], None]
"""Changes a float32 copy of a stored tensor in place."""

FLOATS = ("F64", "F32", "F16", "BF16")
"""Types that another precision replaces; 8-bit ones have scales that belong to them."""

_TORCH = {name: dtype for dtype, name in DTYPE_NAMES.items()}
# Linux takes a large write into its page cache several times more slowly than the same in pieces.
_PIECE = 1 << 16
# How a file system, or two, say that they cannot copy within the kernel.
_NO_COPY = (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM)


@dataclass(frozen=True, slots=True)
class _Entry:
    """A tensor of the new file."""

    name: str
    shape: tuple[int, ...]
    stored: str  # safetensors' name of its type, as it is
    dtype: str  # and as it will be
    place: int  # where it stood among the data

    @property
    def size(self) -> int:
        return DTYPE_BYTES[self.dtype] * math.prod(self.shape)


class CheckpointRewriter:
    """
    Args:
        file: what is read.
        changes: by name; tensors that are not here stay as they are.
        dtype: of all floating-point numbers of 16 bits or more; ``None`` leaves each its own.
        widened: tensors that are float32 whatever ``dtype`` says.
        like_library: tensors are in the order of the format's own library, whatever order they
            had, and what is only rounded may hold NaN, as a copy may.

    Raises:
        CheckpointError: a tensor is of a type that safetensors does not know.
    """

    def __init__(
        self,
        file: WeightFile,
        changes: Mapping[str, Change],
        dtype: torch.dtype | None,
        *,
        widened: Collection[str] = (),
        like_library: bool = False,
    ) -> None:
        self.file, self.changes = file, changes
        self._like_library = like_library
        self._wanted = None if dtype is None else DTYPE_NAMES[dtype]
        self._widened = widened
        self._entries = self._read_entries()
        self._scratch = torch.empty(0)

    def size(self, metadata: Mapping[str, str]) -> int:
        """Of the new file with this metadata, in bytes."""
        return len(self._start(metadata)) + self.data_size

    @property
    def count(self) -> int:
        """How many tensors there are."""
        return len(self._entries)

    @property
    def data_size(self) -> int:
        return sum(entry.size for entry in self._entries)

    def write(
        self,
        path: Path,
        metadata: Mapping[str, str],
        controls: Controls,
        written: Callable[[int], None],
    ) -> None:
        """Write the new file atomically.

        Args:
            metadata: of the new file.
            written: is told how many bytes of data each step was.

        Raises:
            CheckpointError: a changed tensor holds NaN or infinity, or would once rounded.
            RunError: the disk is full or the folder cannot be written to.
            Stopped: asked to stop.
        """
        with (
            atomic_path(path) as temporary,
            open(temporary, "wb", buffering=0) as out,
            open(self.file.path, "rb", buffering=0) as stored,
        ):
            source = _Source(self.file, stored)
            _put(out, memoryview(self._start(metadata)))
            for entry in self._order:
                controls.check()
                if entry.name in self.changes or entry.stored != entry.dtype:
                    _put(out, raw_bytes(self._changed(source.tensor(entry.name), entry)))
                else:
                    source.copy(entry.name, out)
                written(entry.size)

    def _changed(self, stored: Tensor, entry: _Entry) -> Tensor:
        """The new tensor, summed in float32 and rounded once."""
        values = stored
        if entry.name in self.changes:
            if self._scratch.numel() < stored.numel():
                self._scratch = torch.empty(stored.numel())
            values = self._scratch[: stored.numel()].view(stored.shape).copy_(stored)
            self.changes[entry.name](values)
        dtype = _TORCH[entry.dtype]
        if values.numel():
            low, high = (float(value) for value in torch.aminmax(values))
            self._check(entry, stored, max(-low, high), dtype)
        return values if values.dtype == dtype else values.to(dtype)

    def _check(self, entry: _Entry, stored: Tensor, largest: float, dtype: torch.dtype) -> None:
        if bool(torch.tensor(largest, dtype=torch.float64).to(dtype).isfinite()):
            return
        where = self.file.path
        if not bool(stored.isfinite().all()):
            if self._like_library:
                return
            what = f"{entry.name} holds NaN or infinity"
            raise CheckpointError.of(where, what, "get another version of this file")
        if math.isfinite(largest):
            what = f"{entry.name}: {largest:.3g} is beyond {str(dtype)[6:]}"
            raise CheckpointError.of(where, what, "choose --precision bf16 or fp32")
        what = f"{entry.name} becomes NaN or infinity by what is added to it"
        raise CheckpointError.of(where, what, "choose smaller strengths")

    def _read_entries(self) -> list[_Entry]:
        """In the order of the header."""
        file = self.file
        if file.tensors is not None:
            layouts = {n: (t.dtype, t.shape, t.begin) for n, t in file.tensors.items()}
        else:
            assert file.pickle is not None
            layouts = {
                name: (tensor.dtype, tensor.shape, place)
                for place, (name, tensor) in enumerate(file.pickle.tensors.items())
            }
        odd = [name for name, (dtype, *_) in layouts.items() if dtype not in _TORCH]
        if odd:
            what = f"{odd[0]} is stored as {layouts[odd[0]][0]}, which is not known here"
            raise CheckpointError.of(file.path, what, "get another version of this file")
        return [
            _Entry(name, shape, dtype, self._new_dtype(name, dtype), place)
            for name, (dtype, shape, place) in layouts.items()
        ]

    def _new_dtype(self, name: str, dtype: str) -> str:
        if name in self._widened:
            return DTYPE_NAMES[torch.float32]
        return self._wanted if self._wanted is not None and dtype in FLOATS else dtype

    @property
    def _shapes(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        return {entry.name: (entry.dtype, entry.shape) for entry in self._entries}

    @cached_property
    def _order(self) -> list[_Entry]:
        """In the order of the data."""
        if self._like_library:
            by_name = {entry.name: entry for entry in self._entries}
            return [by_name[name] for name in safetensors_start(self._shapes, {})[1]]
        entries = sorted(self._entries, key=lambda entry: entry.place)
        as_it_was = self.file.pickle is None and all(e.stored == e.dtype for e in entries)
        if not as_it_was:
            entries.sort(key=lambda entry: -DTYPE_BYTES[entry.dtype])
        return entries

    def _start(self, metadata: Mapping[str, str]) -> bytes:
        """The header, and the length before it."""
        if self._like_library:
            return safetensors_start(self._shapes, metadata)[0]
        offsets: dict[str, tuple[int, int]] = {}
        end = 0
        for entry in self._order:
            begin, end = end, end + entry.size
            offsets[entry.name] = begin, end
        header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
        for entry in self._entries:
            header[entry.name] = {
                "dtype": entry.dtype,
                "shape": list(entry.shape),
                "data_offsets": list(offsets[entry.name]),
            }
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
        text += b" " * (-len(text) % 8)
        return struct.pack("<Q", len(text)) + text


class _Source:
    """The stored tensors, of which one is in memory at a time.

    They are read, not mapped: a page fault costs more than copying the page.

    Args:
        stored: the file, open.
    """

    def __init__(self, file: WeightFile, stored: FileIO) -> None:
        self._infos, self._stored = file.tensors, stored
        self._pickled = MappedFile(file) if file.tensors is None else None
        self._buffer = torch.empty(0, dtype=torch.uint8)

    def tensor(self, name: str) -> Tensor:
        """As stored; until the next one is asked for."""
        if self._pickled is not None:
            return self._pickled.tensor(name)
        assert self._infos is not None
        info = self._infos[name]
        size = info.end - info.begin
        if self._buffer.numel() < size:
            self._buffer = torch.empty(size, dtype=torch.uint8)
        raw = self._buffer[:size]
        place = raw.numpy().data
        self._stored.seek(info.begin)
        while place:
            count = self._stored.readinto(place)
            if not count:
                raise _cut_short()
            place = place[count:]
        return raw.view(_TORCH[info.dtype]).reshape(info.shape)

    def copy(self, name: str, out: FileIO) -> None:
        """Append its bytes to ``out``."""
        if self._pickled is not None:
            _put(out, raw_bytes(self._pickled.tensor(name)))
            return
        assert self._infos is not None
        copy_range(self._stored, out, self._infos[name].begin, self._infos[name].end)


def copy_range(source: FileIO, out: FileIO, begin: int, end: int) -> None:
    """Append the bytes from ``begin`` to ``end`` of one file to another."""
    if hasattr(os, "copy_file_range"):
        try:
            while begin < end:
                # Within the kernel, and without a copy at all where the file system shares blocks.
                count = os.copy_file_range(source.fileno(), out.fileno(), end - begin, begin)
                begin += count
                if count == 0:
                    break
        except OSError as error:
            if error.errno not in _NO_COPY:
                raise
    source.seek(begin)
    while begin < end:
        data = source.read(min(end - begin, 1 << 20))
        if not data:
            raise _cut_short()
        _put(out, memoryview(data))
        begin += len(data)


def _cut_short() -> OSError:
    return OSError(errno.EIO, "the checkpoint was cut short while it was read")


def _put(out: FileIO, data: memoryview) -> None:
    while data:
        data = data[out.write(data[:_PIECE]) :]
