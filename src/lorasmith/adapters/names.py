"""Names of tensors in LoRA files: kohya's, and those of diffusers and peft, which are read only."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from lorasmith.adapters.targets import AdapterRoot, Target, layers_of

# Suffixes of diffusers (three generations of them) and peft -> the declared names.
_LONG_SUFFIXES = {
    ".lora_A.weight": "lora_down.weight",
    ".lora_B.weight": "lora_up.weight",
    ".lora_A.default.weight": "lora_down.weight",
    ".lora_B.default.weight": "lora_up.weight",
    ".lora.down.weight": "lora_down.weight",
    ".lora.up.weight": "lora_up.weight",
    ".lora_linear_layer.down.weight": "lora_down.weight",
    ".lora_linear_layer.up.weight": "lora_up.weight",
    "_lora.down.weight": "lora_down.weight",
    "_lora.up.weight": "lora_up.weight",
    ".lora_magnitude_vector": "dora_scale",
    ".lora_magnitude_vector.weight": "dora_scale",
    ".lora_magnitude_vector.default.weight": "dora_scale",
    ".alpha": "alpha",
}
# peft's other types; their names end as LyCORIS' do, where there is a LyCORIS type at all.
_PEFT_NAME = re.compile(
    r"\.((?:hada_(?:w[12]_[ab]|t[12])|lokr_(?:w[12](?:_[ab])?|t2)|ia3_l|b?oft_[Rs](?=\.|$))"
    r")(?:\.default)?(?:\.weight)?$"
)
_PEFT_PREFIX = "base_model.model."
_PROCESSOR = re.compile(r"\.processor\.(to_out|to_[qkv])$")


@dataclass(slots=True)
class NamedTensors:
    """A file's tensors by the layer that they belong to.

    Args:
        modules: layer's key -> declared name -> tensor.
        layers: layer's key -> the layer.
        unmatched: names in the file that belong to no layer of the model.
    """

    modules: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    layers: dict[str, Target] = field(default_factory=dict)
    unmatched: list[str] = field(default_factory=list)


def match_names(tensors: Mapping[str, Tensor], roots: Sequence[AdapterRoot]) -> NamedTensors:
    """Find the layer of each tensor. Kohya's and the long names may stand side by side."""
    by_key: dict[str, Target] = {}
    by_long_name: dict[str, Target] = {}
    for root in roots:
        for target in layers_of(root):
            # LyCORIS takes the module's own path, and asked to adapt one network "lycoris".
            named = (target.key, root.plain_key(target.path))
            for path in (*(key.removeprefix(root.key_prefix) for key in named), f"_{target.path}"):
                for prefix in (root.key_prefix, "lycoris"):
                    by_key.setdefault(prefix + path.replace(".", "_"), target)
            for name in root.long_names(target.path):
                by_long_name[name] = target
                by_long_name.setdefault(_PEFT_PREFIX + name.partition(".")[2], target)
    found = NamedTensors()
    for name, tensor in tensors.items():
        key, _, declared = name.partition(".")
        layer = by_key.get(key)
        if layer is None:
            path, declared = split_long_name(name)
            layer = by_long_name.get(path)
        if layer is None:
            found.unmatched.append(name)
            continue
        if name.partition(".lora_magnitude_vector")[1]:
            tensor = tensor.flatten()  # (1, O, 1, 1) of a convolution is per output all the same
        found.layers[layer.key] = layer
        found.modules.setdefault(layer.key, {})[declared] = tensor
    return found


def split_long_name(name: str) -> tuple[str, str]:
    """(path of the layer, declared name) of a diffusers or peft tensor name.

    >>> split_long_name("unet.mid_block.attentions.0.proj_in.lora_A.weight")
    ('unet.mid_block.attentions.0.proj_in', 'lora_down.weight')
    """
    if peft := _PEFT_NAME.search(name):
        return name[: peft.start()], peft[1]
    for suffix, declared in _LONG_SUFFIXES.items():
        if name.endswith(suffix):
            # The oldest files name the attention's processor, which stood for its four layers.
            layer = _PROCESSOR.sub(r".\1", name.removesuffix(suffix))
            return (f"{layer}.0" if layer.endswith(".to_out") else layer), declared
    return name, ""


def peft_alphas(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> dict[str, Tensor]:
    """The alphas of a file written by diffusers, which keeps peft's settings in its metadata.

    Returns:
        ``{layer path}.alpha`` scalars, as older files have them; none for other files.

    Raises:
        ValueError: the settings are not JSON, or not of the shape of peft's.
    """
    try:
        settings = json.loads(metadata.get("lora_adapter_metadata", "{}"))
    except RecursionError as error:
        raise ValueError("lora_adapter_metadata is nested too deeply") from error
    if not isinstance(settings, dict):
        raise ValueError("lora_adapter_metadata holds no settings")
    alphas: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        layer, declared = split_long_name(name)
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
            layer, declared = split_long_name(name)
            path = layer.removeprefix(_PEFT_PREFIX)
            if declared == "lora_down.weight":
                made[f"{layer}.alpha"] = _peft_alpha(settings, path, tensor.shape)
            elif declared in ("hada_w1_a", "lokr_w1", "lokr_w1_a"):
                alpha = _peft_value(settings, "alpha_pattern", "alpha", path)
                made[name] = tensor * (alpha / _peft_value(settings, "rank_pattern", "r", path))
    except KeyError as error:
        raise ValueError(f"adapter_config.json has no {error}") from error
    except ZeroDivisionError as error:
        raise ValueError("adapter_config.json says a rank of 0") from error
    return made


def looks_like_lora(names: Iterable[str]) -> bool:
    """Whether some tensor is called as those of adapters are, of whatever type."""
    return any(_ADAPTER_NAME.search(name) for name in names)


_ADAPTER_NAME = re.compile(
    r"\.(lora_(down|up|mid|A|B)\b|lora\.(down|up)\.|lora_linear_layer\.|hada_[wt][12]|lokr_[wt]"
    r"|b?oft_(blocks|diag|R)\b|lora_magnitude_vector|ia3_l\b|dora_scale|on_input$"
    r"|diff$|diff_b$|[wb]_norm$|[ab][12]\.weight$)"
    r"|_lora\.(down|up)\.weight$|^lora_\w+\.\w"
)
