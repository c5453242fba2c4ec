"""A LoRA file that a tool makes: where to, in which precision, with which metadata."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lorasmith.adapters.file import save_lora
from lorasmith.core.errors import Problem, UserError
from lorasmith.core.files import free_bytes, parse_json, safetensors_start
from lorasmith.core.text import bytes_text
from lorasmith.lora_tools.lora_file import DOWN, UP
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


def carried_metadata(metadata: Mapping[str, str]) -> dict[str, str]:
    """Metadata that still holds for a file with other tensors: all but hashes, and the ranks that
    diffusers keeps there."""
    return {key: value for key, value in metadata.items() if key not in _GONE}


class LoraWriter:
    """A LoRA file in the making: tensors are added to it module by module.

    A tensor without numbers, on the device "meta", stands for one of its size: what only plans a
    file knows its bytes as well.

    Args:
        dtype: of the numbers.
    """

    def __init__(self, out: Path, dtype: torch.dtype) -> None:
        self.out, self.dtype = out, dtype
        self.tensors: dict[str, Tensor] = {}

    def add(self, key: str, tensors: Mapping[str, Tensor], alpha: float | None = None) -> None:
        """A module's tensors, rounded; DoRA's lengths stay as they are.

        alpha is in the file's precision, or in float32 where rounding would change the strength.
        """
        for name, tensor in tensors.items():
            if name != "alpha":
                rounds = name != "dora_scale"
                self.tensors[f"{key}.{name}"] = tensor.to(self.dtype) if rounds else tensor
        if alpha is not None:
            exact = torch.tensor(alpha, dtype=torch.float32)
            rounded = exact.to(self.dtype)
            same = float(rounded) == float(exact)
            self.tensors[f"{key}.alpha"] = rounded if same else exact

    def add_product(self, key: str, up: Tensor, down: Tensor, kernel: Sequence[int] = ()) -> None:
        """up (O, r) and down (r, I times the kernel's size) as kohya's LoRA, with alpha = r."""
        rank = down.shape[0]
        factors = {
            UP: up.reshape(-1, rank, *(1 for _ in kernel)),
            DOWN: down.reshape(rank, -1, *kernel),
        }
        self.add(key, factors, float(rank))

    def add_words(self, words: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Embeddings that a LoRA file carries, as they are, in whatever precision."""
        for tensors in words.values():
            self.tensors.update(tensors)

    def size(self, metadata: Mapping[str, str]) -> int:
        """Of the file, to the byte."""
        hashes = dict(_HASHES)
        if any(key.startswith("modelspec.") for key in metadata):
            hashes["modelspec.hash_sha256"] = "0x" + "0" * 64
        shapes = {n: (DTYPE_NAMES[t.dtype], tuple(t.shape)) for n, t in self.tensors.items()}
        start, _ = safetensors_start(shapes, {**metadata, **hashes})
        return len(start) + sum(t.numel() * t.itemsize for t in self.tensors.values())

    def save(self, metadata: Mapping[str, str]) -> None:
        """
        Raises:
            UserError: the disk has no room for it.
        """
        if problems := check_space(self.out, self.size(metadata)):
            raise UserError(problems)
        save_lora(self.out, self.tensors, metadata)

    def sizes(self) -> tuple[set[tuple[int, float]], set[tuple[int, float]]]:
        """(rank, alpha) that LoRA's modules have: of Linear layers and 1 x 1 convolutions, and of
        larger ones."""
        linear: set[tuple[int, float]] = set()
        conv: set[tuple[int, float]] = set()
        for name, down in self.tensors.items():
            if name.endswith(f".{DOWN}"):
                sizes = conv if down.shape[2:].numel() > 1 else linear
                sizes.add((down.shape[0], float(self.tensors[f"{name.removesuffix(DOWN)}alpha"])))
        return linear, conv

    def network_metadata(
        self, metadata: Mapping[str, str], *, comment: str, was_lora: bool
    ) -> dict[str, str]:
        """The ``ss_network_*`` of a LoRA made from others, and a comment before theirs.

        As sd-scripts' tools write it: "Dynamic" where ranks differ, convolutions in the arguments.

        Args:
            metadata: what is to be completed.
            was_lora: the file was a LoRA already, so that its other arguments hold on.
        """
        linear, conv = self.sizes()
        dim, alpha = _one_size(linear or conv)
        args = read_object(metadata.get("ss_network_args")) if was_lora else {}
        if conv:
            args["conv_dim"], args["conv_alpha"] = _one_size(conv)
        before = metadata.get("ss_training_comment", "")
        own_values = {
            **metadata,
            "ss_network_dim": dim,
            "ss_network_alpha": alpha,
            "ss_training_comment": f"{comment}; {before}"
            if before not in ("", "None")
            else comment,
        }
        if not was_lora:
            own_values["ss_network_module"] = "networks.lora"
        own_values.pop("ss_network_args", None)
        return {**own_values, "ss_network_args": json.dumps(args)} if args else own_values


class Approximated:
    """A module of a new file, and how near it is to the change that it stands for.

    Args:
        norm: Frobenius norm of the change, ‖ΔW‖.
        error: ‖ΔW - what the module adds‖, before rounding to the file's precision.
    """

    __slots__ = ()
    norm: float
    error: float

    @property
    def retained(self) -> float:
        """Share of the energy ‖ΔW‖² that the module holds."""
        return 1.0 - (self.error / self.norm) ** 2 if self.norm > 0 else 1.0


def relative_error(modules: Sequence[Approximated]) -> float:
    """Of all modules together, over their norm."""
    norm = sum(module.norm**2 for module in modules)
    return math.sqrt(sum(m.error**2 for m in modules) / norm) if norm > 0 else 0.0


def empty_factors(sides: tuple[int, int], rank: int) -> tuple[Tensor, Tensor]:
    """up and down of that rank, or the most that is possible, without numbers."""
    (outputs, inputs), rank = sides, min(rank, *sides)
    return torch.empty(outputs, rank, device="meta"), torch.empty(rank, inputs, device="meta")


def _one_size(sizes: Set[tuple[int, float]]) -> tuple[str, str]:
    """(rank, alpha) of modules that have the same, or "Dynamic"."""
    ranks, alphas = {r for r, _ in sizes}, {a for _, a in sizes}
    if len(ranks) > 1 or len(alphas) > 1 or not sizes:
        return "Dynamic", "Dynamic"
    return str(ranks.pop()), str(alphas.pop())


def read_object(text: str | None) -> dict[str, Any]:
    """A JSON object of a header; empty where it is none: another program's words are no reason to
    refuse a file."""
    try:
        value = parse_json(text or "{}")
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
