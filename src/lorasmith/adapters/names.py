"""Names of tensors in LoRA files: kohya's, and those of diffusers and peft, which are read only."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

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
    ".alpha": "alpha",
}
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
            by_key[target.key] = target
            by_long_name.update(dict.fromkeys(root.long_names(target.path), target))
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
        found.layers[layer.key] = layer
        found.modules.setdefault(layer.key, {})[declared] = tensor
    return found


def split_long_name(name: str) -> tuple[str, str]:
    """(path of the layer, declared name) of a diffusers or peft tensor name.

    >>> split_long_name("unet.mid_block.attentions.0.proj_in.lora_A.weight")
    ('unet.mid_block.attentions.0.proj_in', 'lora_down.weight')
    """
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
        ValueError: the settings are not JSON.
    """
    settings = json.loads(metadata.get("lora_adapter_metadata", "{}"))
    alphas: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        layer, declared = split_long_name(name)
        part, _, path = layer.partition(".")
        alpha = settings.get(f"{part}.lora_alpha")
        if declared != "lora_down.weight" or alpha is None:
            continue
        patterns = settings.get(f"{part}.alpha_pattern") or {}
        own = [p for p in patterns if re.fullmatch(rf"(.*\.)?({p})", path)]
        value = float(patterns[own[0]] if own else alpha)
        if settings.get(f"{part}.use_rslora"):
            value *= math.sqrt(tensor.shape[0])  # its scale is alpha / sqrt(rank)
        alphas[f"{layer}.alpha"] = torch.tensor(value)
    return alphas


def looks_like_lora(names: Iterable[str]) -> bool:
    """Whether some tensor is called as those of adapters are, of whatever type."""
    return any(_ADAPTER_NAME.search(name) for name in names)


_ADAPTER_NAME = re.compile(
    r"\.(lora_(down|up|mid|A|B)\b|lora\.(down|up)\.|lora_linear_layer\.|hada_[wt][12]|lokr_[wt]"
    r"|oft_blocks|dora_scale|diff$|diff_b$|on_input$|[ab][12]\.weight$)"
    r"|_lora\.(down|up)\.weight$|^lora_\w+\.\w"
)
