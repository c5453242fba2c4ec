"""What a conversion did."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Conversion:
    """
    Args:
        out: the file that was written, or would have been.
        kind: "lora" or "checkpoint".
        before, after: styles of names, see :mod:`lorasmith.lora_tools.key_styles`; of a checkpoint
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
