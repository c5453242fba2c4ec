"""What an image says of its base model. Torch-free."""

from __future__ import annotations

from hashlib import file_digest
from pathlib import Path

FILES = (".safetensors", ".ckpt")
_HASH_LENGTH = 10


def model_name(source: str) -> str:
    """As web UIs call it: a file's name without its ending, a folder's or hub id's last part."""
    path = Path(source)
    return path.stem if path.suffix in FILES else path.name


def model_hash(source: str) -> str:
    """The first 10 hex digits of a file's SHA-256; empty for what is no single file.

    Raises:
        OSError: the file cannot be read.
    """
    path = Path(source)
    if path.suffix not in FILES or not path.is_file():
        return ""
    with open(path, "rb") as file:
        return file_digest(file, "sha256").hexdigest()[:_HASH_LENGTH]
