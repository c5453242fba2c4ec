"""LoRA files: written safely, read with a clear word about what is not one."""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from lorasmith.adapters.peft import is_peft, needs_peft_settings, peft_alphas, with_peft_settings
from lorasmith.core.errors import LoraFileError, Problem, shortened
from lorasmith.core.files import (
    TensorBytes,
    parse_json,
    read_safetensors_header,
    safetensors_chunks,
    write_chunks,
)
from lorasmith.formats.layer_names import describe, looks_like_lora
from lorasmith.tensors.files import DTYPE_NAMES, LOAD_ERRORS, all_finite, as_bytes, load_torch_file

# What the first webui extension for LoRA hashed: 64 KiB from 1 MiB on (AddNet, "legacy").
_LEGACY_START, _LEGACY_LENGTH = 0x100000, 0x10000

_AGAIN = "copy or download it again"
# How torch says that a pickle asks for what it does not give; else its program makes no sense.
_WANTS_MORE = re.compile(
    r"unsupported global|unrecognized function|add_safe_globals|must be imported", re.IGNORECASE
)
# cloneofsimo's: "unet:0:up".
_NUMBERED = re.compile(r"(unet|text_encoder):\d+:(up|down)")
_NAME_IT = "give it names with `lorasmith convert`"
_SHOWN = 5
_BROKEN = "its training diverged, or the file is broken: take an earlier snapshot, or get it again"


@dataclass(frozen=True, slots=True)
class LoraFile:
    """A LoRA file's tensors, as stored, and its metadata (empty for pickles).

    Alphas that diffusers keeps in the metadata stand among the tensors.
    """

    path: Path
    tensors: dict[str, Tensor]
    metadata: dict[str, str]


def save_lora(
    path: Path,
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, str],
    *,
    dtype: torch.dtype | None = None,
) -> None:
    """Write a LoRA atomically; equal tensors and metadata give an equal file, byte for byte.

    The hashes that sd-scripts writes, and modelspec's where there is modelspec metadata, are added.

    Args:
        dtype: round to this; ``None`` writes the tensors as they are.

    Raises:
        LoraFileError: a tensor holds NaN or infinity, or does once rounded; nothing is written.
        RunError: the disk is full or the folder cannot be written to.
    """
    rounded = {name: t if dtype is None else t.to(dtype) for name, t in tensors.items()}
    problems = [
        _not_finite(path, name, tensors[name], tensor)
        for name, tensor in rounded.items()
        if tensor.is_floating_point() and not torch.isfinite(tensor).all()
    ]
    if problems:
        raise LoraFileError(problems)
    content = as_bytes(rounded)
    write_chunks(path, safetensors_chunks(content, {**metadata, **file_hashes(content, metadata)}))


def file_hashes(tensors: Mapping[str, TensorBytes], metadata: Mapping[str, str]) -> dict[str, str]:
    """``sshs_*`` as sd-scripts' ``precalculate_safetensors_hashes``, and modelspec's.

    Both ``sshs`` hashes are those of a file with the ``ss_`` metadata alone, since other metadata
    may be edited later: the whole content after the header, and 64 KiB at 1 MiB.
    """
    training = {key: value for key, value in metadata.items() if key.startswith("ss_")}
    content, legacy = sha256(), sha256()
    position = 0
    for number, chunk in enumerate(safetensors_chunks(tensors, training)):
        if number > 0:
            content.update(chunk)
        begin = max(_LEGACY_START - position, 0)
        end = max(_LEGACY_START + _LEGACY_LENGTH - position, 0)
        legacy.update(memoryview(chunk)[begin:end])
        position += len(chunk)
    hashes = {
        "sshs_model_hash": content.hexdigest(),
        "sshs_legacy_hash": legacy.hexdigest()[:8],
    }
    if any(key.startswith("modelspec.") for key in metadata):
        hashes["modelspec.hash_sha256"] = f"0x{content.hexdigest()}"
    return hashes


def _not_finite(path: Path, name: str, before: Tensor, after: Tensor) -> Problem:
    module = name.partition(".")[0]
    if bool(torch.isfinite(before).all()):
        largest = float(before.abs().max())
        return Problem(
            str(path),
            f"{module}: {largest:.3g} is beyond {str(after.dtype).removeprefix('torch.')}",
            "save in bf16 or fp32",
        )
    return Problem(
        str(path),
        f"{module}: {name.partition('.')[2]} holds NaN or infinity, so the training has diverged",
        "go back to an earlier snapshot and lower the learning rate",
    )


def load_lora(path: Path, *, finite: bool = True) -> LoraFile:
    """Read a LoRA from ``.safetensors``, ``.pt`` or ``.ckpt``.

    Args:
        finite: refuse numbers that are none; without, the caller tells of them.

    Raises:
        LoraFileError: the file cannot be read, is damaged, is something else (says what it is), or
            holds NaN or infinity (says in which layers).
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:
            start = file.read(512)
    except OSError as error:
        raise LoraFileError.of(
            path, f"cannot be read: {error.strerror}", "check the path"
        ) from error
    if not start:
        raise LoraFileError.of(path, "is empty", _AGAIN)
    metadata: dict[str, str] = {}
    if _is_pickle(start):
        tensors = _load_pickle(path)
    elif start[8:9] == b"{" and start[:1] != b"{":
        tensors, metadata = _load_safetensors(path)
    else:
        raise LoraFileError.of(path, f"is {_kind_of_text(start)}, not a LoRA", _AGAIN)
    if any(_NUMBERED.fullmatch(name) for name in tensors):
        raise LoraFileError.of(
            path, "has numbers for names, as the first LoRA programs had", _NAME_IT
        )
    if not looks_like_lora(tensors):
        raise LoraFileError.of(
            path, f"is {_kind_of_model(tensors)}, not a LoRA", "choose a LoRA file"
        )
    if odd := odd_tensors(path, tensors):
        raise LoraFileError(odd)
    if finite:
        check_numbers(path, tensors)
    return LoraFile(path, tensors, metadata)


def check_numbers(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """
    Raises:
        LoraFileError: some hold NaN or infinity, which would spoil all that is drawn or made of it;
            says in which layers.
    """
    broken: dict[str, list[str]] = {}
    for name, tensor in tensors.items():
        if not all_finite(tensor):
            module, _, rest = name.partition(".")
            broken.setdefault(module, []).append(rest or name)
    if broken:
        problems = [
            Problem(str(path), f"{module}: holds NaN or infinity ({', '.join(names)})", _BROKEN)
            for module, names in broken.items()
        ]
        raise LoraFileError(shortened(problems, _SHOWN, "layers are so"))


def _load_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        header = read_safetensors_header(path)
        names = list(header.tensors)
        if not looks_like_lora(names):
            # Names are enough; a base model is not read to find out that it is one.
            return dict.fromkeys(names, torch.empty(0)), header.metadata
        tensors = safetensors.torch.load_file(path)
        if is_peft(names) and needs_peft_settings(names):
            return with_peft_settings(tensors, _peft_settings(path)), header.metadata
        return {**peft_alphas(tensors, header.metadata), **tensors}, header.metadata
    except (ValueError, SafetensorError) as error:
        raise LoraFileError.of(path, f"is damaged: {error}", _AGAIN) from error


def _peft_settings(path: Path) -> dict[str, Any]:
    """What peft saves beside its tensors: alpha is nowhere else.

    Raises:
        LoraFileError: it is not there.
        ValueError: it is damaged.
    """
    beside = path.with_name("adapter_config.json")
    try:
        settings = parse_json(beside.read_text(encoding="utf-8"))
    except OSError as error:
        what = f"was saved by peft, and {beside.name}, which says its scale, is not beside it"
        raise LoraFileError.of(path, what, f"put {beside.name} into the same folder") from error
    if not isinstance(settings, dict):
        raise ValueError(f"{beside.name} holds no settings")
    return settings


def _is_pickle(start: bytes) -> bool:
    # A safetensors header may be 0x...80 bytes long, which begins like a pickle.
    safetensors_header = start[4:9] == b"\0\0\0\0{"
    return start.startswith(b"PK\x03\x04") or (start[:1] == b"\x80" and not safetensors_header)


def _load_pickle(path: Path) -> dict[str, Tensor]:
    try:
        content = load_torch_file(path)
    except LOAD_ERRORS as error:
        reason = " ".join((str(error) or type(error).__name__).split())
        detail = reason.partition("WeightsUnpickler error: ")[2] or reason
        if isinstance(error, pickle.UnpicklingError) and _WANTS_MORE.search(detail):
            raise LoraFileError.of(
                path,
                f"is a pickle that holds more than tensors, so it is not opened: {reason[:200]}",
                "get the LoRA as .safetensors",
            ) from error
        raise LoraFileError.of(path, f"is damaged: {detail[:200]}", _AGAIN) from error
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict):
        if isinstance(content, list) and content and all(isinstance(t, Tensor) for t in content):
            raise LoraFileError.of(
                path, "has numbers for names, as the first LoRA programs had", _NAME_IT
            )
        raise LoraFileError.of(
            path, f"holds a {type(content).__name__}, not a LoRA", "choose a LoRA file"
        )
    return {
        str(name): value.detach() for name, value in content.items() if isinstance(value, Tensor)
    }


def odd_tensors(path: Path, tensors: Mapping[str, Tensor]) -> list[Problem]:
    """What is wrong with those that have no plain numbers, as all of a LoRA's are."""
    odd = []
    for name, tensor in tensors.items():
        kind = str(tensor.dtype).removeprefix("torch.")
        if tensor.layout != torch.strided:
            kind = f"a sparse tensor of {kind}"
        elif tensor.is_meta:
            kind = f"{kind} without its numbers (on the meta device)"
        elif tensor.dtype in DTYPE_NAMES:
            continue
        hint = "get another version of this file"
        odd.append(Problem(str(path), f"{name} is {kind}, which no LoRA here can be of", hint))
    return odd[:_SHOWN]


def _kind_of_text(start: bytes) -> str:
    text = start.lstrip().lower()
    if text.startswith(b"version https://git-lfs"):
        return "a git-lfs pointer (the download fetched the note, not the file)"
    if text.startswith((b"<!doctype html", b"<html")):
        return "a web page"
    if start.startswith((b"\x89PNG", b"\xff\xd8\xff")) or start[8:12] == b"WEBP":
        return "a picture"
    return "of a format that is not known here"


# Beginnings of tensor names that betray other kinds of model, the most telling first.
_MODEL_KINDS = (
    (("model.diffusion_model.", "conditioner.embedders."), "a whole base model (a checkpoint)"),
    (("control_model.", "controlnet_cond_embedding."), "a ControlNet"),
    (("down_blocks.", "conv_in.", "time_embedding."), "a UNet in diffusers' names"),
    (("first_stage_model.", "decoder.conv_in", "encoder.conv_in"), "a VAE"),
    (("text_model.", "cond_stage_model.", "transformer.text_model."), "a text encoder"),
    (("emb_params", "string_to_param", "clip_l", "clip_g", "<"), "a textual inversion embedding"),
)


def _kind_of_model(names: Mapping[str, Tensor]) -> str:
    if not names:
        return "a file without tensors"
    for beginnings, kind in _MODEL_KINDS:
        if any(name.startswith(beginnings) for name in names):
            return kind
    return describe(names) or f"a file with unknown tensors ({next(iter(names))}, …)"
