"""What a model predicts, where nothing but its weights can tell. Torch-free."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lorasmith.models.families.base import Family
from lorasmith.models.weight_file import FileLayout, WeightFile

NUMPY_TYPES = {"F64": np.float64, "F32": np.float32, "F16": np.float16}


def guess_prediction(family: Family, pieces: Sequence[FileLayout]) -> tuple[str, str]:
    """What a model of this family predicts, and how that was told.

    One small weight is read; a file from which it cannot be read so (a pickle, an 8-bit file)
    is taken for what is usual in the family.
    """
    assert family.v_prediction_marker is not None
    name, limit = family.v_prediction_marker
    ask = "if that is wrong, set model.prediction"
    for file, layout in pieces:
        place = layout.parts.get("unet", {}).get(name)
        values = _read(file, place.name) if place else None
        if values is not None:
            found = "v" if float(values.std()) > limit else "epsilon"
            return found, f"it predicts {found}, as one of its weights tells; {ask}"
    return family.prediction, f"taken to predict {family.prediction}, as is usual; {ask}"


def _read(file: WeightFile, name: str) -> np.ndarray | None:
    info = file.tensors[name] if file.tensors is not None else None
    if info is None or info.dtype not in (*NUMPY_TYPES, "BF16"):
        return None
    with open(file.path, "rb") as handle:
        handle.seek(info.begin)
        data = handle.read(info.end - info.begin)
    if info.dtype == "BF16":  # The upper half of a float32.
        return (np.frombuffer(data, np.uint16).astype(np.uint32) << 16).view(np.float32)
    return np.frombuffer(data, NUMPY_TYPES[info.dtype]).astype(np.float32)
