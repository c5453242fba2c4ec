"""A store of tensors by key, in memory-mapped safetensors files.

A key is the hash of everything that its tensors follow from, so an entry can be missing but never
stale. Entries are written in *shards*: safetensors files that appear whole or not at all, named by
a hash of their keys. Nothing is ever changed in place, so any number of processes may share a
folder; at worst two of them make the same entry.
"""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import torch
from torch import Tensor

from lorasmith.core.disk import discard, is_disk_full
from lorasmith.core.errors import Problem, RunError, WriteError
from lorasmith.core.files import TensorInfo, read_safetensors_header, remove_abandoned
from lorasmith.tensors.files import DTYPE_NAMES, raw_bytes, save_tensors

FORMAT = "lorasmith-cache-1"

_DTYPES = {name: dtype for dtype, name in DTYPE_NAMES.items()}


@dataclass(frozen=True, slots=True)
class _Entry:
    shard: Path
    checksum: int
    tensors: dict[str, TensorInfo]


class TensorStore:
    """Tensors by key, in ``folder`` (made when something is first stored).

    ``damaged`` lists the shards that could not be used; their entries count as missing.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self.damaged: list[Problem] = []
        self._entries: dict[str, _Entry] = {}
        self._shards: set[Path] = set()
        self._mapped: dict[Path, torch.UntypedStorage] = {}
        self._verified: set[str] = set()
        remove_abandoned(self.folder)
        self.refresh()

    def __len__(self) -> int:
        return len(self._entries)

    def refresh(self) -> None:
        """Take in what other processes have stored since."""
        for path in sorted(self.folder.glob("*.safetensors")):
            if path not in self._shards:
                self._take_in(path)

    def missing(self, keys: Iterable[str]) -> list[str]:
        """Those of ``keys`` that are not stored, in order, each once."""
        return [key for key in dict.fromkeys(keys) if key not in self._entries]

    def put(self, group: str, entries: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Store entries as one shard, whole or not at all.

        Args:
            group: what the file's name begins with, to a person's use ("512x512").
            entries: by key (no dots), named tensors of any device.

        Raises:
            RunError: the folder cannot be written to, or the disk is full.
        """
        assert entries
        digest = blake2b("\n".join(sorted(entries)).encode(), digest_size=8).hexdigest()
        path = self.folder / f"{group}-{digest}.safetensors"
        on_cpu = {
            key: {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
            for key, tensors in entries.items()
        }
        metadata = {key: f"{_checksum(tensors):08x}" for key, tensors in on_cpu.items()}
        flat = {
            f"{key}.{name}": tensor
            for key, tensors in on_cpu.items()
            for name, tensor in tensors.items()
        }
        self._mapped.pop(path, None)
        try:
            save_tensors(path, flat, {"format": FORMAT, **metadata})
        except WriteError as error:
            # On Windows nothing replaces what another process has mapped: the same entries.
            if is_disk_full(error) or not path.exists():
                raise
        self._take_in(path)

    def get(self, key: str) -> dict[str, Tensor]:
        """The tensors of ``key``, as slices of the mapped file (copy-on-write, on the CPU).

        Raises:
            KeyError: it is not stored.
            RunError: its file has been removed or damaged since.
        """
        entry = self._entries[key]
        storage = self._map(entry.shard)
        tensors = {name: _slice(storage, info) for name, info in entry.tensors.items()}
        if key not in self._verified:
            if _checksum(tensors) != entry.checksum:
                del tensors, storage
                self._mapped.pop(entry.shard, None)  # Windows removes nothing that is mapped.
                discard(entry.shard)
                what = "a file of the cache was damaged and has been removed"
                raise RunError.of(entry.shard, what, "run again: what is missing is made anew")
            self._verified.add(key)
        return tensors

    def _take_in(self, path: Path) -> None:
        """Index a shard from its header."""
        self._shards.add(path)
        inode: int | None = None
        try:
            inode = path.stat().st_ino
            header = read_safetensors_header(path)
            checksums = {k: int(v, 16) for k, v in header.metadata.items() if k != "format"}
        except FileNotFoundError:
            return  # removed by another process since it was listed
        except (OSError, ValueError) as error:
            self._give_up(path, inode, str(error))
            return
        if header.metadata.get("format") != FORMAT:
            self._give_up(path, None, "it was not written by this version of lorasmith")
            return
        tensors: dict[str, dict[str, TensorInfo]] = {}
        for name, info in header.tensors.items():
            key, _, tensor = name.partition(".")
            tensors.setdefault(key, {})[tensor] = info
        for key, checksum in checksums.items():
            # The first shard that has a key keeps it: slices of it may be in use.
            if key in tensors:
                self._entries.setdefault(key, _Entry(path, checksum, tensors[key]))

    def _give_up(self, path: Path, inode: int | None, reason: str) -> None:
        """Do without a shard. Remove it if it is broken and still the same file."""
        what = f"a file of the cache is not used: {reason}"
        self.damaged.append(Problem(str(path), what, "its entries are made anew"))
        with contextlib.suppress(OSError):
            if inode is not None and path.stat().st_ino == inode:
                discard(path)

    def _map(self, path: Path) -> torch.UntypedStorage:
        """The whole file as memory; holds no file descriptor, so shards may be many."""
        if path not in self._mapped:
            try:
                size = path.stat().st_size
                storage = torch.UntypedStorage.from_file(str(path), False, size)
            except (OSError, RuntimeError) as error:
                what = f"a file of the cache cannot be read any more: {error}"
                raise RunError.of(path, what, "run again: what is missing is made anew") from error
            assert isinstance(storage, torch.UntypedStorage)
            self._mapped[path] = storage
        return self._mapped[path]


def _slice(storage: torch.UntypedStorage, info: TensorInfo) -> Tensor:
    dtype = _DTYPES[info.dtype]
    tensor = torch.empty(0, dtype=dtype)
    # Shards are written widest type first behind a padded header: every tensor is aligned.
    return tensor.set_(storage, info.begin // dtype.itemsize, info.shape)  # type: ignore[call-overload]


def _checksum(tensors: Mapping[str, Tensor]) -> int:
    value = 0
    for name in sorted(tensors):
        value = zlib.crc32(raw_bytes(tensors[name]), value)
    return value
