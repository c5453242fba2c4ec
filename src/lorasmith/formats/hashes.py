"""The numbers that programs and model sites know a file by. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import file_digest, sha256
from pathlib import Path

from lorasmith.core.events import Controls, Observer, Progress
from lorasmith.core.files import read_safetensors_header

_CHUNK = 1 << 20
# AutoV1 is of 64 KiB from 1 MiB on, as the first web UI hashed its checkpoints.
_OLD_START, _OLD_LENGTH = 0x100000, 0x10000


@dataclass(frozen=True, slots=True)
class FileHashes:
    """
    Args:
        sha256: of the whole file, 64 hex digits.
        autov1: 8 hex digits; the web UI's old hash of checkpoints, and AddNet's of LoRAs.
        autov2: the first 10 of ``sha256``; what web UIs show of a checkpoint.
        autov3: the first 12 of the SHA-256 of what follows a safetensors header; what web UIs show
            of a LoRA. None for other files.
    """

    sha256: str
    autov1: str
    autov2: str
    autov3: str | None


def hash_file(path: Path) -> FileHashes:
    """All of them, in one reading.

    Raises:
        OSError: the file cannot be read.
    """
    full, old, content = sha256(), sha256(), sha256()
    position = 0
    with open(path, "rb") as file:
        start = file.read(9)
        safetensors = start[8:] == b"{"
        after_header = 8 + int.from_bytes(start[:8], "little") if safetensors else 0
        file.seek(0)
        while chunk := file.read(_CHUNK):
            view = memoryview(chunk)
            full.update(view)
            begin = max(_OLD_START - position, 0)
            old.update(view[begin : max(_OLD_START + _OLD_LENGTH - position, 0)])
            content.update(view[max(after_header - position, 0) :])
            position += len(chunk)
    return FileHashes(
        sha256=full.hexdigest(),
        autov1=old.hexdigest()[:8],
        autov2=full.hexdigest()[:10],
        autov3=content.hexdigest()[:12] if safetensors else None,
    )


def autov1(path: Path) -> str:
    """The 8 hex digits that web UIs once knew checkpoints by; reads 64 KiB."""
    with open(path, "rb") as file:
        file.seek(_OLD_START)
        return sha256(file.read(_OLD_LENGTH)).hexdigest()[:8]


def autov2(path: Path) -> str:
    """The 10 hex digits that web UIs know a checkpoint by; reads all of it."""
    return _sha256_from(path, 0)[:10]


def autov3(path: Path) -> str:
    """The 12 hex digits that web UIs know a LoRA by: SHA-256 of what follows the header, as the
    file says it or worked out."""
    try:
        stored = read_safetensors_header(path).metadata.get("sshs_model_hash")
    except ValueError:  # a pickle: web UIs hash the whole file
        return shorthash(path)
    if stored:
        return stored[:12]
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
    return _sha256_from(path, 8 + length)[:12]


def shorthash(path: Path) -> str:
    """The 12 hex digits that web UIs know an embedding by: SHA-256 of all of the file."""
    return _sha256_from(path, 0)[:12]


def _sha256_from(path: Path, start: int) -> str:
    with open(path, "rb") as file:
        file.seek(start)
        return file_digest(file, "sha256").hexdigest()


def sha256_of(path: Path, observer: Observer, controls: Controls) -> str:
    """Of a whole file, 64 hex digits.

    Raises:
        Stopped: asked to stop.
    """
    digest, done, size = sha256(), 0, path.stat().st_size
    buffer = bytearray(_CHUNK)
    with open(path, "rb", buffering=0) as file:
        while count := file.readinto(buffer):
            controls.check()
            digest.update(memoryview(buffer)[:count])
            done += count
            observer(Progress("hashing, MB", done // 1_000_000, size // 1_000_000))
    return digest.hexdigest()
