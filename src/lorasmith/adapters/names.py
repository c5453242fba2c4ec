"""A file's tensors by the layers of a model, and the scales that peft keeps apart from them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from lorasmith.adapters.targets import Target, modules_of
from lorasmith.core.errors import Problem
from lorasmith.core.files import parse_json
from lorasmith.formats.adapter_roots import AdapterRoot
from lorasmith.formats.layer_names import read_name, split_tensor

_PEFT_PREFIX = "base_model.model."


@dataclass(slots=True)
class NamedTensors:
    """A file's tensors by the layer that they belong to.

    Args:
        modules: layer's key -> declared name -> tensor.
        layers: layer's key -> the layer.
        unmatched: names in the file that belong to no layer of the model.
        twice: names of tensors that the file holds under another name too.
    """

    modules: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    layers: dict[str, Target] = field(default_factory=dict)
    unmatched: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)


def match_names(tensors: Mapping[str, Tensor], roots: Sequence[AdapterRoot]) -> NamedTensors:
    """Find the layer of each tensor. Names of several styles may stand side by side."""
    layers: dict[tuple[str, str], Target] = {}
    for root in roots:
        for target in modules_of(root):
            for path in root.paths(target.path):
                layers.setdefault((root.folder or root.part, path.replace(".", "_")), target)
    found = NamedTensors()
    for name, tensor in tensors.items():
        read = read_name(name)
        layer = layers.get((read.part, read.path)) if read is not None else None
        if read is None or layer is None:
            found.unmatched.append(name)
            continue
        if ".lora_magnitude_vector" in name:
            tensor = tensor.flatten()  # (1, O, 1, 1) of a convolution is per output all the same
        found.layers[layer.key] = layer
        own = found.modules.setdefault(layer.key, {})
        if read.tensor in own:
            found.twice.append(name)
        own[read.tensor] = tensor
    return found


def twice(found: NamedTensors, where: str) -> list[Problem]:
    """That a file holds the same tensor under names of two styles."""
    what = "is of a layer that has such a tensor under another name too"
    hint = "keep one of the two"
    return [Problem(where, f"{name} {what}", hint) for name in found.twice]


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
        own = {key.removeprefix(f"{part}."): value for key, value in settings.items()}
        alphas[f"{layer}.alpha"] = _peft_alpha(own, path, tensor.shape)
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
    own = settings.get(patterns) or {}
    try:
        for pattern, value in own.items():
            if re.fullmatch(rf"(.*\.)?({pattern})", path):
                return float(value)
    except (AttributeError, TypeError, OverflowError, re.error) as error:
        raise ValueError(f"{patterns} is {own!r:.80}, no numbers by layers' names") from error
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
    made: dict[str, Tensor] = {}
    try:
        for name, tensor in tensors.items():
            made[name] = tensor
            layer, declared = split_tensor(name)
            path = layer.removeprefix(_PEFT_PREFIX)
            if declared == "lora_down.weight":
                made[f"{layer}.alpha"] = _peft_alpha(settings, path, tensor.shape)
            elif declared in _SCALED:
                alpha = _peft_value(settings, "alpha_pattern", "alpha", path)
                made[name] = tensor * (alpha / _peft_value(settings, "rank_pattern", "r", path))
    except KeyError as error:
        raise ValueError(f"adapter_config.json has no {error}") from error
    except ZeroDivisionError as error:
        raise ValueError("adapter_config.json says a rank of 0") from error
    return made
