"""What a converted run needs changed for the machine and the folders that it is to run on."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lorasmith.config.foreign.result import Conversion, Remark
from lorasmith.config.foreign.tables import user_path

_NUMBERED = re.compile(r"(\d+)(?:_.*)?\Z", re.DOTALL)
_PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".avif", ".jxl", ".gif", ".tif", ".tiff")

# Folders that lorasmith takes for regularisation where they lie beside the N_name folders.
_REG_NAMES = ("reg", "regularization", "regularisation", "class")

_FULL_SIZE = {
    "AdamW8bit": "AdamW", "PagedAdamW8bit": "AdamW", "Lion8bit": "Lion",
    "SGDNesterov8bit": "SGDNesterov", "bitsandbytes.optim.PagedAdamW": "AdamW",
    "bitsandbytes.optim.PagedAdamW32bit": "AdamW", "bitsandbytes.optim.PagedLion8bit": "Lion",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Machine:
    """
    Args:
        gpu: there is an accelerator that computes in fp16.
        cuda: it is one for which bitsandbytes is made.
    """

    gpu: bool
    cuda: bool


def fit(result: Conversion, machine: Machine) -> None:
    """Replace what this machine cannot do, and folders that hold nothing, and say why."""
    if not machine.gpu and result.values.get("train.precision") == "fp16":
        _replace(result, "train.precision", "auto", "there is no GPU here, and fp16 needs one")
    name = result.values.get("optimizer.name")
    if not machine.cuda and name in _FULL_SIZE:
        why = "8-bit and paged states are for NVIDIA GPUs; it learns the same"
        _replace(result, "optimizer.name", _FULL_SIZE[name], why)
    _check_reg(result)
    _leave_reg_beside(result)
    result.sort()


def _replace(result: Conversion, path: str, value: Any, why: str) -> None:
    made = result.settings[path]
    result.settings[path] = replace(made, value=value, note=why)
    result.remarks.append(Remark("noted", made.source, f"{value}: {why}"))


def _check_reg(result: Conversion) -> None:
    """sd-scripts takes a folder without ``N_name`` folders of pictures for none."""
    reg = result.values.get("data.reg")
    if reg is None or _numbered(user_path(reg)):
        return
    made = result.settings.pop("data.reg")
    why = "holds no N_name folder with pictures, so there are none; sd-scripts takes it so"
    result.remarks.append(Remark("dropped", made.source, why))


def _leave_reg_beside(result: Conversion) -> None:
    """A ``reg`` folder among the ``N_name`` folders means nothing to sd-scripts."""
    data = result.values.get("data.path")
    if data is None or "data.reg" in result.settings:
        return
    path = user_path(data)
    folders = _numbered(path)
    beside = [entry for entry in _entries(path) if entry.name.casefold() in _REG_NAMES]
    if not folders or not beside:
        return
    made = result.settings.pop("data.path")
    value = [{"path": str(folder), "repeats": repeats} for folder, repeats in folders]
    why = f"one by one, since {beside[0]} is not to be taken for regularisation pictures"
    result.settings["data.folders"] = replace(made, value=value, note=why)


def _numbered(folder: Path) -> list[tuple[Path, int]]:
    """The ``N_name`` folders with pictures, and N."""
    found = []
    for entry in _entries(folder):
        match = _NUMBERED.match(entry.name)
        repeats = int(match[1]) if match else 0
        if repeats and any(each.suffix.lower() in _PICTURES for each in _entries(entry)):
            found.append((entry, repeats))
    return found


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []
