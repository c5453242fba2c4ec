"""What the file tools share in writing: where to, in which precision, with which metadata."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lorasmith.core.errors import Problem
from lorasmith.core.files import free_bytes, parse_json, safetensors_start
from lorasmith.core.text import bytes_text
from lorasmith.tensors.files import DTYPE_NAMES, PRECISIONS

# What save_lora adds to the metadata, at the lengths that it has.
_HASHES = {"sshs_model_hash": "0" * 64, "sshs_legacy_hash": "0" * 8}
# What no longer holds once the tensors are others.
_GONE = (*_HASHES, "modelspec.hash_sha256", "lora_adapter_metadata", "lorasmith.original")


def check_output(
    out: Path, inputs: Iterable[Path], *, suffixes: Sequence[str] = (".safetensors",)
) -> list[Problem]:
    """What keeps ``out`` from being written: nothing that exists is ever overwritten."""
    where = str(out)
    if out.suffix.lower() not in suffixes:
        kinds = " or ".join(suffixes)
        return [Problem(where, f"its name does not end in {kinds}", "choose such a name")]
    if any(_same_file(out, path) for path in inputs):
        return [Problem(where, "is one of the inputs", "choose another name")]
    return check_new(out)


def check_new(out: Path) -> list[Problem]:
    """Whether there is nothing at ``out`` yet."""
    try:
        if not out.exists() and not out.is_symlink():
            return []
    except OSError as error:  # a folder that may not be entered, a name that is too long
        what = f"cannot be written: {error.strerror}"
        return [Problem(str(out), what, "choose another name or folder")]
    return [Problem(str(out), "exists already", "choose another name, or remove it first")]


def _same_file(one: Path, other: Path) -> bool:
    if one.absolute() == other.absolute():
        return True
    try:
        return one.samefile(other)
    except OSError:
        return False  # One is not there, or cannot be looked at: reading or writing it tells.


def check_space(out: Path, size: int) -> list[Problem]:
    """Whether ``size`` bytes fit onto the disk of ``out``."""
    free = free_bytes(out.parent)
    if size <= free:
        return []
    what = f"{bytes_text(size)} are to be written, and {bytes_text(free)} are free"
    return [Problem(str(out), what, "free some space, or write to another disk")]


def model_problems(option: str, model: str | Path) -> list[Problem]:
    """Whether a model is named at all: no name is the current folder's to the system."""
    if str(model).strip():
        return []
    return [Problem(option, "no model is named", "name a file, a folder or a hub id")]


def seed_problems(seed: int) -> list[Problem]:
    """Whether random numbers can be named by ``seed``."""
    if -(1 << 63) <= seed < 1 << 63:
        return []
    return [Problem("--seed", f"{seed} is too large", "choose a number below 2^63")]


def choice_problems(option: str, value: str | None, choices: Collection[str]) -> list[Problem]:
    """Whether ``value`` is one of ``choices``; None is the tool's own choice."""
    if value is None or value in choices:
        return []
    return [Problem(option, f"there is no {value!r}", f"choose one of {', '.join(choices)}")]


def precision_of(tensors: Iterable[Tensor]) -> torch.dtype:
    """The precision that most of the numbers have; fp32 if that is none that files have."""
    counts: dict[torch.dtype, int] = {}
    for tensor in tensors:
        if tensor.is_floating_point():
            counts[tensor.dtype] = counts.get(tensor.dtype, 0) + tensor.numel()
    most = max(counts, key=lambda dtype: counts[dtype], default=torch.float32)
    return most if most in PRECISIONS.values() else torch.float32


def alpha_tensor(alpha: float, dtype: torch.dtype) -> Tensor:
    """alpha in the file's precision, or in float32 where rounding would change the strength."""
    exact = torch.tensor(alpha, dtype=torch.float32)
    rounded = exact.to(dtype)
    return rounded if float(rounded) == float(exact) else exact


def carried_metadata(metadata: Mapping[str, str]) -> dict[str, str]:
    """Metadata that still holds for a file with other tensors: all but hashes, and the ranks that
    diffusers keeps there."""
    return {key: value for key, value in metadata.items() if key not in _GONE}


def network_metadata(
    metadata: Mapping[str, str],
    sizes: Iterable[tuple[int, float, bool]],
    *,
    comment: str,
    was_lora: bool,
) -> dict[str, str]:
    """The ``ss_network_*`` of a LoRA made from others, and a comment before theirs.

    As sd-scripts' tools write it: "Dynamic" where ranks differ, convolutions in the arguments.

    Args:
        metadata: what is to be completed.
        sizes: rank, alpha, and whether it is a convolution larger than 1 x 1, of each module.
        was_lora: the file was a LoRA already, so that its other arguments hold on.
    """
    sizes = list(sizes)
    linear, conv = ([(r, a) for r, a, c in sizes if c == which] for which in (False, True))
    dim, alpha = _said(linear or conv)
    args = read_object(metadata.get("ss_network_args")) if was_lora else {}
    if conv:
        args["conv_dim"], args["conv_alpha"] = _said(conv)
    before = metadata.get("ss_training_comment", "")
    made = {
        **metadata,
        "ss_network_dim": dim,
        "ss_network_alpha": alpha,
        "ss_training_comment": f"{comment}; {before}" if before not in ("", "None") else comment,
    }
    if not was_lora:
        made["ss_network_module"] = "networks.lora"
    made.pop("ss_network_args", None)
    return {**made, "ss_network_args": json.dumps(args)} if args else made


def read_object(text: str | None) -> dict[str, Any]:
    """A JSON object of a header; empty where it is none: another program's words are no reason to
    refuse a file."""
    try:
        value = parse_json(text or "{}")
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _said(sizes: Sequence[tuple[int, float]]) -> tuple[str, str]:
    ranks, alphas = {r for r, _ in sizes}, {a for _, a in sizes}
    if len(ranks) > 1 or len(alphas) > 1 or not sizes:
        return "Dynamic", "Dynamic"
    return str(ranks.pop()), str(alphas.pop())


def file_bytes(
    shapes: Mapping[str, tuple[torch.dtype, tuple[int, ...]]], metadata: Mapping[str, str]
) -> int:
    """Size of the LoRA file with such tensors, to the byte."""
    hashes = dict(_HASHES)
    if any(key.startswith("modelspec.") for key in metadata):
        hashes["modelspec.hash_sha256"] = "0x" + "0" * 64
    named = {name: (DTYPE_NAMES[dtype], shape) for name, (dtype, shape) in shapes.items()}
    start, _ = safetensors_start(named, {**metadata, **hashes})
    numbers = (dtype.itemsize * torch.Size(shape).numel() for dtype, shape in shapes.values())
    return len(start) + sum(numbers)
