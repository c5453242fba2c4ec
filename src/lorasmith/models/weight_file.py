"""The header of a weights file, and a file with what lies where in it. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lorasmith.core.files import TensorInfo
from lorasmith.formats.pickle_header import PickleHeader
from lorasmith.models.layout import Layout


@dataclass(frozen=True, slots=True)
class WeightFile:
    """The header of one file.

    Args:
        tensors: where each tensor's bytes are: in safetensors files, and most torch files.
        pickle: of a torch file.
    """

    path: Path
    shapes: dict[str, tuple[int, ...]]
    metadata: dict[str, str]
    tensors: dict[str, TensorInfo] | None = None
    pickle: PickleHeader | None = None


FileLayout = tuple[WeightFile, Layout]
