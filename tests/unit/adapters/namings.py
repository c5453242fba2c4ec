"""One LoRA under the names of every program that writes them, spelt out here from what those
programs write: not by the tables of the package."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from diffusers.utils import convert_state_dict_to_kohya
from torch import Tensor

from lorasmith.adapters.network import AdapterNetwork
from lorasmith.adapters.targets import Target

# LDM's names of a UNet with two levels of ... layers are asked of the model; see ldm().
Namer = Callable[[Target, str], str]

_PEFT = {"lora_down.weight": "lora_A", "lora_up.weight": "lora_B"}
_CLIP = {"text_encoder": "clip_l", "text_encoder_2": "clip_g"}
_TE = {"text_encoder": "lora_te1", "text_encoder_2": "lora_te2"}


def full(target: Target) -> str:
    """diffusers' path, a text encoder's as transformers 4 had it."""
    return f"text_model.{target.path}" if target.part == "text_encoder" else target.path


def folder(target: Target) -> str:
    return target.root.folder or target.root.part


def ldm(target: Target) -> str:
    """The UNet's path in the checkpoint."""
    assert target.root.other_names is not None
    return target.root.other_names[target.path]


def _unet_or(
    text: Callable[[Target], str], unet: Callable[[Target], str]
) -> Callable[[Target], str]:
    return lambda target: unet(target) if target.part == "unet" else text(target)


def _peft(beginning: Callable[[Target], str], ending: str = ".weight") -> Namer:
    def named(target: Target, tensor: str) -> str:
        if tensor == "alpha":
            return f"{beginning(target)}.alpha"
        return f"{beginning(target)}.{_PEFT[tensor]}{ending}"

    return named


def _plain(beginning: Callable[[Target], str]) -> Namer:
    return lambda target, tensor: f"{beginning(target)}.{tensor}"


def _flat(path: str) -> str:
    return path.replace(".", "_")


def _processor(target: Target, tensor: str) -> str:
    """diffusers before 0.22: attention by its processor, the rest as ``.lora.`` of the layer."""
    side = "down" if "down" in tensor else "up"
    path = f"{folder(target)}.{full(target)}"
    attention = re.fullmatch(r"(.*\.attn[12])\.(to_[qkv]|to_out)(\.0)?", path)
    text = re.fullmatch(r"(.*\.self_attn)\.([qkv]|out)_proj", path)
    if attention:
        path = f"{attention[1]}.processor.{attention[2]}"
    elif text:
        path = f"{text[1]}.to_{text[2]}"
    if tensor == "alpha":
        return f"{path}.alpha"
    if attention or text:
        return f"{path}_lora.{side}.weight"
    between = "lora" if target.part == "unet" else "lora_linear_layer"
    return f"{path}.{between}.{side}.weight"


NAMINGS: dict[str, Namer] = {
    "kohya": lambda target, tensor: f"{target.key}.{tensor}",
    "kohya in diffusers' names": _plain(
        _unet_or(lambda t: t.key, lambda t: f"lora_unet_{_flat(t.path)}")
    ),
    "kohya in LDM's names": _plain(
        _unet_or(lambda t: t.key, lambda t: f"lora_unet_{_flat(ldm(t))}")
    ),
    "te1 in any family": _plain(
        _unet_or(lambda t: f"{_TE[folder(t)]}_{_flat(full(t))}", lambda t: t.key)
    ),
    "OneTrainer, raw": _plain(
        _unet_or(lambda t: f"{t.root.key_prefix}.{full(t)}", lambda t: f"lora_unet.{t.path}")
    ),
    "OneTrainer, OMI": _plain(
        _unet_or(lambda t: f"{_CLIP[folder(t)]}.{full(t)}", lambda t: f"unet.{ldm(t)}")
    ),
    "ComfyUI": _plain(
        _unet_or(
            lambda t: f"text_encoders.{_CLIP[folder(t)]}.transformer.{full(t)}",
            lambda t: f"diffusion_model.{ldm(t)}",
        )
    ),
    "ComfyUI, peft's tensors": _peft(
        _unet_or(
            lambda t: f"text_encoders.{_CLIP[folder(t)]}.transformer.{full(t)}",
            lambda t: f"diffusion_model.{ldm(t)}",
        )
    ),
    "diffusers": _peft(lambda t: f"{folder(t)}.{full(t)}"),
    "diffusers with transformers 5": _peft(lambda t: f"{folder(t)}.{t.path}"),
    "diffusers, an adapter's name": _peft(lambda t: f"{folder(t)}.{full(t)}", ".my_adapter.weight"),
    "diffusers 0.21": _processor,
    "peft within": _peft(lambda t: f"{folder(t)}.base_model.model.{full(t)}"),
}  # fmt: skip
UNET_ONLY: dict[str, Namer] = {
    "diffusers' save_attn_procs": lambda t, tensor: _processor(t, tensor).removeprefix("unet."),
    "peft": _peft(lambda t: f"base_model.model.{t.path}", ".default.weight"),
    "LyCORIS": _plain(lambda t: f"lycoris_{_flat(t.path)}"),
}


def renamed(
    network: AdapterNetwork, naming: Namer, *, unet_only: bool = False
) -> dict[str, Tensor]:
    """The network's tensors under another program's names."""
    tensors: dict[str, Tensor] = {}
    for key, tensor in network.state_dict().items():
        key, _, own = key.partition(".")
        target = network.targets[key]
        if target.part == "unet" or not unet_only:
            tensors[naming(target, own)] = tensor
    return tensors


def exported(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """diffusers' own export to kohya of a file in its names."""
    named = {name: tensor for name, tensor in tensors.items() if not name.endswith(".alpha")}
    made: dict[str, Tensor] = convert_state_dict_to_kohya(named)
    return made
