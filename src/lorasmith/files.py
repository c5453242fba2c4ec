"""The only copy of file code: atomic writes, hashes, disk space, the safetensors header.

Standard library only, so that inspecting a checkpoint or planning a run never imports torch.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import math
import os
import shutil
import struct
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorasmith.errors import RunError, UserError

ASSETS = Path(__file__).parent / "assets"

# The safetensors specification's own limit; a larger header is not a safetensors file.
MAX_HEADER_BYTES = 100_000_000

DTYPE_BYTES = {
    "F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2,
    "U16": 2, "I8": 1, "U8": 1, "BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One line of a safetensors header. ``begin`` and ``end`` are absolute file offsets."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class TensorBytes:
    """A tensor ready to be written: safetensors dtype name, shape, raw little-endian bytes."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes | memoryview


@dataclass(frozen=True, slots=True)
class SafetensorsHeader:
    metadata: dict[str, str]
    tensors: dict[str, TensorInfo]


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its name only when the block succeeds.

    Raises:
        RunError: the folder cannot be written to, or the disk is full; the old file is intact.
    """
    path = Path(path)
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        # mkstemp makes files private; a finished file gets what open() would have given it.
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except OSError as error:
        raise _write_error(path, error) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def _write_error(path: Path, error: OSError) -> UserError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return RunError.of(
            path, "the disk is full; nothing was overwritten", "free some space and run again"
        )
    return RunError.of(
        path,
        f"cannot be written: {error.strerror}",
        "choose another folder or mend its permissions",
    )


def write_bytes(path: Path, data: bytes) -> None:
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def check_writable(folder: Path) -> None:
    """Prove that files can be made in ``folder`` (created if need be).

    Raises:
        RunError: with the operating system's reason.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"lorasmith")
    except OSError as error:
        raise _write_error(folder, error) from error


def free_bytes(folder: Path) -> int:
    """Free space of the disk that ``folder`` is, or would be, on."""
    folder = Path(folder).absolute()
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def quick_fingerprint(path: Path) -> str:
    """Changes with a file's size, beginning or end: tells checkpoints apart without reading them.

    Of a folder, over all of its files.
    """
    path = Path(path)
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    digest = hashlib.blake2b(digest_size=16)
    for file in files:
        size = file.stat().st_size
        digest.update(f"{file.name}:{size}".encode())
        with open(file, "rb") as stream:
            digest.update(stream.read(1 << 20))
            stream.seek(max(0, size - (1 << 20)))
            digest.update(stream.read())
    return digest.hexdigest()


def read_safetensors_header(path: Path) -> SafetensorsHeader:
    """Names, shapes and metadata of a safetensors file, from its first bytes alone.

    Raises:
        ValueError: the file is not a complete safetensors file; says what is wrong with it.
        OSError: it cannot be read.
    """
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        prefix = file.read(8)
        if len(prefix) < 8:
            raise ValueError(f"{size} bytes are too few for a safetensors file")
        (length,) = struct.unpack("<Q", prefix)
        if length > min(MAX_HEADER_BYTES, size - 8):
            raise ValueError("the header is longer than the file: not safetensors, or cut short")
        try:
            header = json.loads(file.read(length))
            metadata = header.pop("__metadata__", None) or {}
            tensors = {
                name: TensorInfo(
                    str(info["dtype"]),
                    tuple(int(n) for n in info["shape"]),
                    8 + length + int(info["data_offsets"][0]),
                    8 + length + int(info["data_offsets"][1]),
                )
                for name, info in header.items()
            }
        except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            raise ValueError(f"the header is not safetensors JSON: {error}") from error
    for name, info in tensors.items():
        wanted = DTYPE_BYTES.get(info.dtype, 0) * math.prod(info.shape)
        if info.dtype in DTYPE_BYTES and info.end - info.begin != wanted:
            raise ValueError(f"{name}: {info.end - info.begin} bytes, {wanted} expected")
        if info.end > size:
            raise ValueError(f"cut short: {name} ends at byte {info.end} of {size}")
    return SafetensorsHeader({str(k): str(v) for k, v in metadata.items()}, tensors)


def safetensors_chunks(
    tensors: Mapping[str, TensorBytes], metadata: Mapping[str, str]
) -> Iterator[bytes | memoryview]:
    """The file's bytes in order. Sorted throughout: the same content is the same file.

    The format library keeps its metadata in a hash map, so its files differ from run to run.
    """
    header: dict[str, Any] = {}
    if metadata:
        header["__metadata__"] = dict(sorted(metadata.items()))
    # Widest element first, as the format library does, so that every tensor is aligned.
    order = sorted(tensors, key=lambda name: (-DTYPE_BYTES[tensors[name].dtype], name))
    offset = 0
    for name in order:
        tensor = tensors[name]
        end = offset + len(tensor.data)
        header[name] = {
            "dtype": tensor.dtype,
            "shape": list(tensor.shape),
            "data_offsets": [offset, end],
        }
        offset = end
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    text += b" " * (-len(text) % 8)
    yield struct.pack("<Q", len(text)) + text
    for name in order:
        yield tensors[name].data


def write_chunks(path: Path, chunks: Iterable[bytes | memoryview]) -> None:
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        for chunk in chunks:
            file.write(chunk)
