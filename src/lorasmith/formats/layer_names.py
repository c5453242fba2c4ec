"""What programs call the tensors of LoRA files: the one place that takes such names apart.

A name is the part of the model, the path of a layer in it, and the tensor's own name. All three are
written in many ways; here they become ``unet``, ``mid_block_attentions_0_proj_in`` and
``lora_down.weight``. The paths stay diffusers' or LDM's, whichever the file has: whoever knows the
model's layers, or its family, looks them up. Torch-free.

==================  ==========================================================================
kohya               ``lora_unet_…``, ``lora_te_…``, ``lora_te1_…``; ``oft_unet_…`` of its OFT
OneTrainer          ``lora_unet.…``, ``clip_l.…``
LyCORIS             ``lycoris_…``
ComfyUI             ``diffusion_model.…``, ``text_encoders.clip_l.transformer.…``
diffusers           ``unet.….lora_A.weight``, ``unet.….lora.down.weight``
older diffusers     ``….attn1.processor.to_q_lora.down.weight``, with ``unet.`` or without,
                    ``text_encoder.….self_attn.to_q_lora.down.weight``
its kohya export    ``lora_unet_…_to_q_lora.down.weight``
peft                ``base_model.model.….lora_A.default.weight``, ``unet.base_model.model.…``
==================  ==========================================================================
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple


class LayerName(NamedTuple):
    """
    Args:
        part: "unet", "text_encoder" or "text_encoder_2".
        path: of the layer, with ``_`` for ``.``; of a text encoder without ``text_model``.
        tensor: within the layer's module, as kohya and LyCORIS call it: "lora_down.weight".
    """

    part: str
    path: str
    tensor: str


# The end of a name. Leftmost wins, so that ".lora_up.weight" is not taken for (IA)^3's ".weight".
_TENSOR = re.compile(
    r"(?:[._]lora(?:_linear_layer)?\.(?P<old>up|down)\.weight"
    r"|\.lora_(?P<peft>[AB])(?:\.(?!weight$|bias$)[^.]+)?(?:\.weight)?"
    r"|\.(?P<length>lora_magnitude_vector)(?:\.[^.]+){0,2}"
    r"|\.(?P<named>hada_(?:w[12]_[ab]|t[12])|lokr_(?:w[12](?:_[ab])?|t[12])|ia3_l|b?oft_[Rs])"
    r"(?:\.(?!weight$)[^.]+)?(?:\.weight)?"
    r"|\.(?P<own>lora_(?:up|down|mid)\.weight|[ab][12]\.weight|bm\.weight|dora_scale|diff|diff_b"
    r"|[wb]_norm|alpha|scalar|oft_(?:blocks|diag)|rescale|on_input|bias_(?:indices|values|size)"
    r"|set_weight|reshape_weight|lora_B\.bias|weight))$"
)
_OF_GROUP = {
    ("old", "down"): "lora_down.weight",
    ("old", "up"): "lora_up.weight",
    ("peft", "A"): "lora_down.weight",
    ("peft", "B"): "lora_up.weight",
    ("length", "lora_magnitude_vector"): "dora_scale",
}
# The beginning of a name, one after the other; the first that names a part decides it.
_BEGINNINGS = tuple(
    (re.compile(pattern), part)
    for pattern, part in (
        (r"base_model[._]model[._]", ""),
        (r"lycoris[._]", ""),
        (r"(?:model[._])?diffusion_model[._]", "unet"),
        (r"(?:lora_|oft_)?unet[._]", "unet"),
        (r"(?:text_encoders[._])?clip_g[._](?:transformer[._])?", "text_encoder_2"),
        (r"(?:text_encoders[._])?clip_[lh][._](?:transformer[._])?", "text_encoder"),
        (r"(?:lora_te2|text_encoder_2)[._]", "text_encoder_2"),
        (r"(?:lora_te1?|text_encoder(?:_1)?)[._]", "text_encoder"),
    )
)
# What the path itself tells of the part, where the beginning does not.
_OF_UNET = re.compile(
    r"(?:down|up)_blocks_\d|mid_block_|(?:input|output)_blocks_\d|middle_block_|time_embed"
    r"|label_emb|(?:add|class)_embedding|conv_(?:in|out|norm_out)$|out_[02]$"
)
_OF_TEXT = re.compile(r"encoder_layers_\d|final_layer_norm$|text_projection$")
# A name that begins so has its layer before the first dot, whatever follows.
_FLAT = re.compile(r"(?:lora_unet|lora_te[12]?|oft_unet|lycoris)_")

TEXT_PROJECTION = "text_projection"
"""The one layer of a text encoder that lies beside its ``text_model``."""


def read_name(name: str) -> LayerName | None:
    """What a tensor's name says; None for names of no kind that is known.

    >>> read_name("unet.mid_block.attentions.0.proj_in.lora_A.weight")
    LayerName(part='unet', path='mid_block_attentions_0_proj_in', tensor='lora_down.weight')
    """
    layer, tensor = split_tensor(name)
    if _FLAT.match(name) and (not tensor or "." in layer):
        layer, _, tensor = name.partition(".")
    if not tensor:
        return None
    part, path = _part_of(layer)
    path = path.replace(".", "_")
    if part != "unet":
        path = path.removeprefix("text_model_")
    part = part or ("unet" if _OF_UNET.match(path) else "")
    part = part or ("text_encoder" if _OF_TEXT.match(path) else "")
    return LayerName(part, _usual_path(part, path), tensor) if part and path and tensor else None


def is_named_as_stable_diffusion(part: str, path: str) -> bool:
    """Whether a layer is called as one of a UNet or a CLIP, in diffusers' names or LDM's.

    >>> is_named_as_stable_diffusion("unet", "layers_0_attention_to_q")
    False
    """
    pattern = _OF_UNET if part == "unet" else _OF_TEXT
    return pattern.match(path.removeprefix("text_model_")) is not None


def split_tensor(name: str) -> tuple[str, str]:
    """(the layer as the file calls it, the tensor's usual name), that "" where it is not known.

    >>> split_tensor("unet.conv_in.lora.down.weight")
    ('unet.conv_in', 'lora_down.weight')
    """
    match = _TENSOR.search(name)
    if match is None:
        return name, ""
    group = match.lastgroup or ""
    return name[: match.start()], _OF_GROUP.get((group, match[group]), match[group])


def _part_of(layer: str) -> tuple[str, str]:
    """(part or "", what follows)."""
    part, rest = "", layer
    while match := next((m for pattern, _ in _BEGINNINGS if (m := pattern.match(rest))), None):
        own = next(own for pattern, own in _BEGINNINGS if pattern is match.re)
        if part and own and own != part:
            break
        part, rest = part or own, rest[match.end() :]
    return part, rest


def _usual_path(part: str, path: str) -> str:
    # The oldest files name the attention's processor, which stood for its four layers.
    path = re.sub(r"_processor_(to_(?:q|k|v|out))$", r"_\1", path)
    if part == "unet":
        path = path.replace("class_embedding_linear_", "add_embedding_linear_")
        return f"{path}_0" if path.endswith("_to_out") else path
    path = re.sub(r"(_self_attn)_to_([qkv])$", r"\1_\2_proj", path)
    return re.sub(r"(_self_attn)_to_out(?:_0)?$", r"\1_out_proj", path)


def looks_like_lora(names: Iterable[str]) -> bool:
    """Whether some tensor is called as those of adapters are, of whatever type."""
    return any(_ADAPTER.search(name) for name in names)


_ADAPTER = re.compile(
    r"\.(lora_(down|up|mid|A|B)\b|lora\.(down|up)\.|lora_linear_layer\.|hada_[wt][12]|lokr_[wt]"
    r"|b?oft_(blocks|diag|R)\b|lora_magnitude_vector|ia3_l\b|dora_scale|on_input$"
    r"|diff$|diff_b$|[wb]_norm$|[ab][12]\.weight$|set_weight$|reshape_weight$)"
    r"|_lora\.(down|up)\.weight$|^(lora|oft)_\w+\.\w|^base_model\.model\."
)

OTHER_MODELS = (
    ("Flux", re.compile(r"double_blocks|single_blocks|single_transformer_blocks")),
    ("Stable Diffusion 3", re.compile(r"joint_blocks|_add_[kqv]_proj|joint_transformer")),
    ("PixArt", re.compile(r"adaln_single|caption_projection")),
    ("Stable Cascade", re.compile(r"prior_unet|lora_prior_|kv_mapper|clf_")),
    ("a video model", re.compile(r"temporal|motion_modules|blocks_\d+_cross_attn")),
    ("Qwen-Image", re.compile(r"transformer_blocks[._]\d+[._](img|txt)_(mlp|mod)")),
    (
        "a transformer such as Z-Image or Lumina",
        re.compile(r"context_refiner|noise_refiner|layers[._]\d+[._]adaLN_modulation"),
    ),
)
"""Models that are not known here, and parts of layers' names that only they have."""

_OTHER_THINGS = (
    ("an embedding that is bundled with the LoRA", re.compile(r"^bundle_emb\.")),
    ("a ControlNet-LLLite", re.compile(r"^lllite_")),
    ("a ControlLoRA", re.compile(r"^lora_controlnet$|^(input_hint_block|zero_convs)\.")),
    ("an IP-Adapter", re.compile(r"^(image_proj|ip_adapter)\.")),
    ("a T5 text encoder's LoRA", re.compile(r"^(lora_te3|text_encoder_3|t5xxl)[._]")),
    (
        "an adapter of peft of a type or a model that is not known here",
        re.compile(r"^base_model\."),
    ),
    ("a LoRA of a transformer", re.compile(r"^(transformer|lora_transformer)[._]")),
)


def describe(names: Iterable[str]) -> str:
    """What tensors that belong to no layer are, for people: "an embedding that …"; "" if unknown.

    The first of the kinds that are known; a file rarely has two.
    """
    names = list(names)
    for title, pattern in OTHER_MODELS:
        if any(pattern.search(name) for name in names):
            return f"a LoRA of {title}"
    for title, pattern in _OTHER_THINGS:
        if any(pattern.search(name) for name in names):
            return title
    return ""
