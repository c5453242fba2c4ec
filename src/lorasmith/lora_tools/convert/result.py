"""What a conversion did, and how it is stopped."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lorasmith.core.events import Controls


@dataclass(frozen=True, slots=True)
class Conversion:
    """
    Args:
        out: the file that was written, or would have been.
        kind: "lora" or "checkpoint".
        before, after: styles of names, see :mod:`lorasmith.formats.key_styles`; of a checkpoint
            "pickle" and "safetensors".
        tensors: how many were written.
        size: of the file, in bytes.
        notes: what the user should know.
        exact: the file is one that was there before, byte for byte.
    """

    out: Path
    kind: str
    before: str
    after: str
    tensors: int
    size: int
    notes: tuple[str, ...] = ()
    exact: bool = False


def until_stopped(
    chunks: Iterator[bytes | memoryview], controls: Controls | None
) -> Iterator[bytes | memoryview]:
    """``chunks`` one by one.

    Raises:
        Stopped: asked to stop.
    """
    for chunk in chunks:
        if controls is not None:
            controls.check()
        yield chunk
