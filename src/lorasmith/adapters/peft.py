"""The scales that peft keeps apart from a file's tensors: in metadata, or in a file beside it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from lorasmith.core.files import parse_json
from lorasmith.formats.layer_names import split_tensor

_PEFT_PREFIX = "base_model.model."


def peft_alphas(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> dict[str, Tensor]:
    """The alphas of a file written by diffusers, which keeps peft's settings in its metadata.

    Returns:
        ``{layer path}.alpha`` scalars, as older files have them; none for other files.

    Raises:
        ValueError: the settings are not JSON, or not of the shape of peft's.
    """
    try:
        settings = parse_json(metadata.get("lora_adapter_metadata", "{}"))
    except RecursionError as error:
        raise ValueError("lora_adapter_metadata is nested too deeply") from error
    if not isinstance(settings, dict):
        raise ValueError("lora_adapter_metadata holds no settings")
    alphas: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        layer, declared = split_tensor(name)
        part, _, path = layer.partition(".")
        if declared != "lora_down.weight" or settings.get(f"{part}.lora_alpha") is None:
            continue
        part_settings = {key.removeprefix(f"{part}."): value for key, value in settings.items()}
        alphas[f"{layer}.alpha"] = _peft_alpha(part_settings, path, tensor.shape)
    return alphas


def _peft_alpha(settings: Mapping[str, Any], path: str, shape: tuple[int, ...]) -> Tensor:
    """alpha of a peft LoRA's layer, as readers that divide by the rank need it."""
    alpha = _peft_value(settings, "alpha_pattern", "lora_alpha", path)
    rank = shape[0] if shape else 0
    # With rslora its scale is alpha / sqrt(rank).
    return torch.tensor(alpha * math.sqrt(rank) if settings.get("use_rslora") else alpha)


def _peft_value(settings: Mapping[str, Any], patterns: str, usual: str, path: str) -> float:
    """
    Raises:
        ValueError: it is no number, or ``patterns`` are none.
        KeyError: there is no such setting.
    """
    by_pattern = settings.get(patterns) or {}
    try:
        for pattern, value in by_pattern.items():
            if re.fullmatch(rf"(.*\.)?({pattern})", path):
                return float(value)
    except (AttributeError, TypeError, OverflowError, re.error) as error:
        raise ValueError(
            f"{patterns} is {by_pattern!r:.80}, no numbers by layers' names"
        ) from error
    try:
        return float(settings[usual])
    except (TypeError, OverflowError) as error:
        raise ValueError(f"{usual} is {settings[usual]!r:.80}, no number") from error


def is_peft(names: Iterable[str]) -> bool:
    """Whether a file was saved by peft itself, whose settings lie beside it."""
    return any(name.startswith(_PEFT_PREFIX) for name in names)


_SCALED = ("lora_down.weight", "hada_w1_a", "lokr_w1", "lokr_w1_a")


def needs_peft_settings(names: Iterable[str]) -> bool:
    """Whether some of peft's tensors have a scale, which it keeps apart from them."""
    return any(split_tensor(name)[1] in _SCALED for name in names)


def with_peft_settings(
    tensors: Mapping[str, Tensor], settings: Mapping[str, Any]
) -> dict[str, Tensor]:
    """The tensors of a file of peft's, with what its ``adapter_config.json`` says of scale.

    LoRA and DoRA get their alphas. LoHa's and LoKr's first factor is multiplied by the scale
    instead, since LyCORIS has another rule for what alpha means where all of LoKr's are full.

    Raises:
        ValueError: a setting that the scale needs is not there.
    """
    result: dict[str, Tensor] = {}
    try:
        for name, tensor in tensors.items():
            result[name] = tensor
            layer, declared = split_tensor(name)
            path = layer.removeprefix(_PEFT_PREFIX)
            if declared == "lora_down.weight":
                result[f"{layer}.alpha"] = _peft_alpha(settings, path, tensor.shape)
            elif declared in _SCALED:
                alpha = _peft_value(settings, "alpha_pattern", "alpha", path)
                result[name] = tensor * (alpha / _peft_value(settings, "rank_pattern", "r", path))
    except KeyError as error:
        raise ValueError(f"adapter_config.json has no {error}") from error
    except ZeroDivisionError as error:
        raise ValueError("adapter_config.json says a rank of 0") from error
    return result
