"""The only copy of file code: atomic writes, hashes, disk space, the safetensors header.

Standard library only, so that inspecting a checkpoint or planning a run never imports torch.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import re
import shutil
import stat
import struct
import sys
import tempfile
import threading
import tomllib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lorasmith.core.disk import discard, rename, replace_file, write_error
from lorasmith.core.errors import Problem, RunError

ASSETS = Path(__file__).parents[1] / "assets"

# The safetensors specification's own limit; a larger header is not a safetensors file.
MAX_HEADER_BYTES = 100_000_000

DTYPE_BYTES = {
    "F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2,
    "U16": 2, "I8": 1, "U8": 1, "BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1,
}  # fmt: skip

PrecisionName = Literal["fp32", "fp16", "bf16"]
"""What people call the types that are computed in and written."""


def user_path(text: str | Path) -> Path:
    """``~`` is the home folder; where nobody has that name, the text stays as it is."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        return Path(text)


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
    with _temporary(path, folder=False) as temporary:
        yield temporary
        with open(temporary, "r+b") as file:  # Windows flushes none that is open for reading.
            os.fsync(file.fileno())
        # mkstemp makes files private; a finished file gets what open() would have given it.
        os.chmod(temporary, 0o666 & ~_umask())


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside ``path``, which must not exist, that takes its name only when the
    block succeeds.

    Raises:
        RunError: the folder cannot be written to, or the disk is full; nothing is left behind.
    """
    with _temporary(Path(path), folder=True) as temporary:
        yield temporary
        os.chmod(temporary, 0o777 & ~_umask())


# What is written under another name first: `.NAME.` and eight characters of chance.
_TEMPORARY_SUFFIX = ".lorasmith.tmp"
# Python reads longer numbers in hexadecimal digits, but does not write them in decimal ones.
_LARGEST_BITS = 10_000
_TOML_PART = r"""[ \t]*+(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+"""
# Memory that tomllib takes grows with the square of the number of a key's parts.
_LONG_TOML_KEY = re.compile(rf"(?:^|[\[{{,]){_TOML_PART}(?:\.{_TOML_PART}){{100}}", re.MULTILINE)
_TEMPORARY = re.compile(r"\..*\.[a-z0-9_]{8}(\.lorasmith)?\.tmp", re.DOTALL)
# Bytes of the name that go into it, so that all fit into the 255 that file systems take.
_TEMPORARY_STEM = 200
_UNLOCKED = -1
# Folders that this process has cleaned up.
_swept: set[Path] = set()
_umask_change = threading.Lock()


@contextlib.contextmanager
def _temporary(path: Path, *, folder: bool) -> Iterator[Path]:
    """The new file or folder under a name of its own, then under that of ``path``; it is locked
    while it is written, which tells it from what a killed process left."""
    temporary, lock = None, None
    if not (folder or path.is_file() or path.is_dir()) and path.exists():
        what = "is no file: it would be replaced by one"  # a device, say /dev/null, or a pipe
        raise RunError(Problem(str(path), what, "choose another name"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.parent not in _swept:
            remove_abandoned(path.parent)
            _swept.add(path.parent)
        while lock is None:
            temporary = _new_temporary(path, folder=folder)
            lock = _lock_temporary(temporary)
        assert temporary is not None
        yield temporary
        if sys.platform == "win32":  # There what is open keeps its name.
            lock = _unlock(lock)
        if folder:
            rename(temporary, path)
        else:
            replace_file(temporary, path)
        temporary = None
    except OSError as error:
        raise write_error(path, error) from error
    finally:
        _unlock(lock)
        if temporary is not None:
            discard(temporary)


def _new_temporary(path: Path, *, folder: bool) -> Path:
    stem = os.fsdecode(os.fsencode(path.name)[:_TEMPORARY_STEM])
    if folder:
        return Path(tempfile.mkdtemp(_TEMPORARY_SUFFIX, f".{stem}.", path.parent))
    handle, name = tempfile.mkstemp(_TEMPORARY_SUFFIX, f".{stem}.", path.parent)
    os.close(handle)
    return Path(name)


def _lock_temporary(temporary: Path) -> int | None:
    """Hold what was just made, by a handle; ``None`` when a process that cleans up was quicker."""
    try:
        handle = os.open(temporary, os.O_RDONLY)
    except FileNotFoundError:
        return None
    except OSError:  # Windows opens no folders.
        return _UNLOCKED
    with contextlib.suppress(OSError):  # A file system without locks: then nobody cleans up.
        _flock(handle, wait=True)
    if temporary.exists():
        return handle
    os.close(handle)
    return None


def _unlock(lock: int | None) -> int:
    if lock is not None and lock != _UNLOCKED:
        os.close(lock)
    return _UNLOCKED


def _flock(handle: int, *, wait: bool) -> None:
    """A lock that ends with the process; on Windows being open is one.

    Raises:
        OSError: another process has it, or there are no locks here.
    """
    if sys.platform != "win32":
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))


def remove_abandoned(folder: Path, *, ours: bool = False) -> None:
    """Remove what killed processes left half-written in ``folder``; what a living one writes
    stays, since that is locked, and so does what cannot be told.

    Args:
        ours: nobody else writes into this folder now, so that locks do not matter.
    """
    try:
        with os.scandir(folder) as entries:
            names = [e.name for e in entries if _TEMPORARY.fullmatch(e.name)]
    except OSError:  # Not there, or not to be read.
        return
    for name in names:
        path = Path(folder) / name
        if ours:
            discard(path)
        elif name.endswith(_TEMPORARY_SUFFIX):
            _remove_unlocked(path)


def _remove_unlocked(temporary: Path) -> None:
    if sys.platform == "win32":  # What is open cannot be removed there; of folders nobody knows.
        with contextlib.suppress(OSError):
            if temporary.is_file():
                os.unlink(temporary)  # Not patiently: who has it open is most likely its writer.
        return
    try:
        handle = os.open(temporary, os.O_RDONLY)
    except OSError:
        return
    try:
        _flock(handle, wait=False)
        discard(temporary)  # Under the lock: its maker looks whether it is still there.
    except OSError:
        pass
    finally:
        os.close(handle)


def _umask() -> int:
    with _umask_change:  # It can only be read by changing it, which is for the whole process.
        current = os.umask(0)
        os.umask(current)
    return current


def write_bytes(path: Path, data: bytes) -> None:
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    write_bytes(path, text.encode("utf-8"))


def parse_json(text: str | bytes) -> Any:
    """
    Raises:
        ValueError: it is no JSON, or nested more deeply than Python can follow.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def parse_toml(text: str) -> dict[str, Any]:
    """
    Raises:
        tomllib.TOMLDecodeError: it is no TOML, or nested more deeply than Python can follow.
    """
    if _LONG_TOML_KEY.search(text):
        raise tomllib.TOMLDecodeError("a key has more than 100 parts")
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        raise
    except ValueError as error:  # of a number with thousands of digits, or a date that is none
        raise tomllib.TOMLDecodeError(f"{str(error).partition(':')[0]}") from error
    except RecursionError as error:
        raise tomllib.TOMLDecodeError("nested too deeply") from error
    waiting: list[Any] = [table]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict | list):
            waiting += value.values() if isinstance(value, dict) else value
        elif isinstance(value, int) and value.bit_length() > _LARGEST_BITS:
            raise tomllib.TOMLDecodeError("a number has thousands of digits")
    return table


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
        raise write_error(folder, error) from error


_PAGE = b"<!doctype html"


def check_page(path: Path) -> None:
    """Prove that a page can be written: only another page may be there already, so that a slip
    takes no picture's or caption's place.

    Raises:
        RunError: something else is there, or the operating system's reason.
    """
    try:
        is_page = stat.S_ISREG(path.lstat().st_mode)
        if is_page:
            with open(path, "rb") as file:
                is_page = file.read(len(_PAGE)).lower() == _PAGE
    except FileNotFoundError:
        is_page = True
    except OSError as error:
        raise write_error(path, error) from error
    if not is_page:
        what = "is there already, and is no page that could be replaced"
        raise RunError(Problem(str(path), what, "choose another name"))
    check_writable(path.absolute().parent)


def free_bytes(folder: Path) -> int:
    """Free space of the disk that ``folder`` is, or would be, on."""
    return shutil.disk_usage(nearest_existing(folder)).free


def nearest_existing(path: Path) -> Path:
    """``path``, or of the folders above it the first that is there."""
    path = Path(path).absolute()
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


def files_below(folder: Path | None, suffixes: Collection[str]) -> list[Path]:
    """The files of a folder and its sub-folders that have one of these endings, whatever its case,
    sorted; none of no folder. Hidden ones are left out, as a dataset's latents are and what was
    removed; so is one that a training removes meanwhile."""
    paths = []
    for place, folders, names in os.walk(folder) if folder is not None else ():
        folders[:] = [name for name in folders if not name.startswith(".")]
        # Before they are sorted: beside a few LoRAs there may be very many pictures.
        paths += [
            Path(place, name)
            for name in names
            if os.path.splitext(name)[1].lower() in suffixes and not name.startswith(".")
        ]
    return [path for path in sorted(paths) if path.is_file()]


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


def file_version(size: int, changed: int) -> str:
    """A short word that is another one whenever a file is, as far as its size (bytes) and the time
    of its last change (ns) say."""
    return hashlib.blake2b(f"{changed}-{size}".encode(), digest_size=5).hexdigest()


def version_of(path: Path) -> str:
    """:func:`file_version` of a file as it is now; "" where none is."""
    try:
        state = path.stat()
    except OSError:
        return ""
    return file_version(state.st_size, state.st_mtime_ns)


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
        return parse_safetensors_header(file.read(length), size)


def parse_safetensors_header(text: bytes, size: int) -> SafetensorsHeader:
    """A header's JSON, of a file of ``size`` bytes in all.

    Raises:
        ValueError: it is no such header, or its tensors do not lie side by side in the file.
    """
    first = 8 + len(text)
    try:
        header = parse_json(text)
        if b"\\ud" in text.lower():
            # Half a character, which could not be written again.
            json.dumps(header, ensure_ascii=False).encode()
        metadata = header.pop("__metadata__", None) or {}
        metadata = {str(key): str(value) for key, value in metadata.items()}
        tensors = {
            name: TensorInfo(
                str(info["dtype"]),
                tuple(int(n) for n in info["shape"]),
                first + int(info["data_offsets"][0]),
                first + int(info["data_offsets"][1]),
            )
            for name, info in header.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError) as error:
        raise ValueError(f"the header is not safetensors JSON: {error}") from error
    position = first
    for name, info in sorted(tensors.items(), key=lambda item: (item[1].begin, item[1].end)):
        length = DTYPE_BYTES.get(info.dtype, 0) * math.prod(info.shape)
        if info.dtype in DTYPE_BYTES and info.end - info.begin != length:
            raise ValueError(f"{name}: {info.end - info.begin} bytes, {length} expected")
        if info.end > size:
            raise ValueError(f"cut short: {name} ends at byte {info.end} of {size}")
        if min(info.shape, default=0) < 0 or not position <= info.begin <= info.end:
            raise ValueError(f"{name} overlaps another tensor or the header")
        position = info.end
    return SafetensorsHeader(metadata, tensors)


def safetensors_chunks(
    tensors: Mapping[str, TensorBytes], metadata: Mapping[str, str]
) -> Iterator[bytes | memoryview]:
    """The file's bytes in order. Sorted throughout: the same content is the same file.

    The format library keeps its metadata in a hash map, so its files differ from run to run.
    """
    shapes = {name: (tensor.dtype, tensor.shape) for name, tensor in tensors.items()}
    start, order = safetensors_start(shapes, metadata)
    yield start
    for name in order:
        yield tensors[name].data


def safetensors_start(
    shapes: Mapping[str, tuple[str, tuple[int, ...]]], metadata: Mapping[str, str]
) -> tuple[bytes, list[str]]:
    """What precedes the tensors' bytes in a file, and the order in which these follow.

    Args:
        shapes: (safetensors dtype name, shape) by name.
    """
    header: dict[str, Any] = {}
    if metadata:
        header["__metadata__"] = dict(sorted(metadata.items()))
    # Widest element first, as the format library does, so that every tensor is aligned.
    order = sorted(shapes, key=lambda name: (-DTYPE_BYTES[shapes[name][0]], name))
    offset = 0
    for name in order:
        dtype, shape = shapes[name]
        end = offset + DTYPE_BYTES[dtype] * math.prod(shape)
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text, order


def write_chunks(path: Path, chunks: Iterable[bytes | memoryview]) -> None:
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        for chunk in chunks:
            file.write(chunk)


def is_utf8(text: str) -> bool:
    """Whether a name or an argument is text: Linux gives bytes, and Python stands what is no UTF-8
    for by what no encoding takes."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
