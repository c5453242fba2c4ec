"""One name for each layer, whatever style a LoRA file has, without a base model to ask.

Kohya's keys: ``lora_unet_``, ``lora_te_`` (``lora_te1_`` and ``lora_te2_`` in SDXL) and the layer's
path with ``_`` for ``.``: diffusers' path of the UNet in SD1 and SD2, LDM's in SDXL. Names of
other programs (:mod:`formats.layer_names`) become these.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from lorasmith.formats.block_weights import BASE, INPUTS, MIDDLE, OUTPUTS, block_of
from lorasmith.formats.layer_names import TEXT_PROJECTION, LayerName, read_name
from lorasmith.formats.ldm_keys import UNetPlan, inverted, unet_table

PARTS = {
    "lora_unet_": "unet",
    "lora_te_": "text_encoder",
    "lora_te1_": "text_encoder",
    "lora_te2_": "text_encoder_2",
}
"""How kohya's keys begin, and the part that they mean."""

# What only one of the two kinds of UNet has.
_SD1_ONLY = re.compile(
    r"down_blocks_0_attentions|(down|up)_blocks_3_|input_blocks_[12]_1_|input_blocks_(9|1\d)_"
    r"|output_blocks_(9|1[01])_|output_blocks_[678]_1_(?!conv)"
)
READS_TEXT = re.compile(r"_attn2_to_[kv]$")
"""Layers whose inputs are the texts' width, by the ends of their names."""
READS_HIDDEN = re.compile(r"_self_attn_[kqv]_proj$|_mlp_fc1$")
"""Layers of a text encoder whose inputs are its own width."""
# Width of the texts that cross-attention reads -> whether it is SDXL's.
_TEXT_WIDTHS = {768: False, 1024: False, 2048: True}
# Of SD2's text encoder; the first of SDXL's is as wide as SD1's.
_SD2_WIDTH = 1024
_SDXL_IN_KOHYA = ("lora_te1_", *(f"lora_unet_{k}_block" for k in ("input", "output", "middle")))
# What metadata says of a base model, by the beginnings of the values.
_SAID = (
    ("sdxl", ("sdxl", "stable-diffusion-xl")),
    ("sd2", ("sd_v2", "stable-diffusion-v2")),
    ("sd1", ("sd_v1", "stable-diffusion-v1")),
)
_SDXL_ONLY = re.compile(
    r"^lora_te[12]_|up_blocks_0_attentions|output_blocks_[012]_1_(?!conv)"
    r"|transformer_blocks_[1-9]|label_emb|add_embedding"
)


def kohya_names(
    names: Iterable[str] | Mapping[str, Any], metadata: Mapping[str, str] | None = None
) -> dict[str, tuple[str, str]]:
    """Tensor name in a file -> (kohya's key of the layer, name of the tensor in its module).

    Names of no known style are left out.

    Args:
        names: or the tensors, whose shapes tell SD1 from SDXL where the names do not.
        metadata: tells it where neither names nor shapes do.

    >>> kohya_names(["unet.mid_block.attentions.0.proj_in.lora_A.weight"])
    {'unet.mid_block.attentions.0.proj_in.lora_A.weight': \
('lora_unet_mid_block_attentions_0_proj_in', 'lora_down.weight')}
    """
    layers = {name: layer for name in names if (layer := read_name(name)) is not None}
    sdxl = _is_of_sdxl(layers, names if isinstance(names, Mapping) else {}, metadata or {})
    return {name: (_key(layer, sdxl), layer.tensor) for name, layer in layers.items()}


def said_family(metadata: Mapping[str, str]) -> str | None:
    """The family of the base model that a LoRA's metadata names."""
    for key in ("ss_base_model_version", "modelspec.architecture"):
        for family, beginnings in _SAID:
            if metadata.get(key, "").startswith(beginnings):
                return family
    return None


def _is_of_sdxl(
    layers: Mapping[str, LayerName], tensors: Mapping[str, Any], metadata: Mapping[str, str]
) -> bool:
    """Whether a file is SDXL's, from names as it has them.

    ``lora_te1_`` is SDXL's in sd-scripts, and SD1's in what diffusers exports; LDM's names are
    SDXL's in sd-scripts, and every family's in ComfyUI. So layers that one family alone has go
    first, then widths, the metadata, and what most programs do.
    """
    paths = [layer.path for layer in layers.values() if layer.part == "unet"]
    if any(_SD1_ONLY.search(path) for path in paths):
        return False
    if any(layer.part == "text_encoder_2" for layer in layers.values()):
        return True
    if any(_SDXL_ONLY.search(path) for path in paths):
        return True
    shapes: dict[tuple[str, str], dict[str, Sequence[int]]] = {}
    for name, layer in layers.items():
        of_layer = shapes.setdefault((layer.part, layer.path), {})
        of_layer[layer.tensor] = getattr(tensors.get(name), "shape", ())
    for (part, path), of_layer in shapes.items():
        if part == "unet" and READS_TEXT.search(path) and inputs_of(of_layer) in _TEXT_WIDTHS:
            return _TEXT_WIDTHS[inputs_of(of_layer) or 0]
    for (part, path), of_layer in shapes.items():
        if (
            part == "text_encoder"
            and READS_HIDDEN.search(path)
            and inputs_of(of_layer) == _SD2_WIDTH
        ):
            return False
    if (family := said_family(metadata)) is not None:
        return family == "sdxl"
    return any(name.startswith(_SDXL_IN_KOHYA) for name in layers)


def inputs_of(shapes: Mapping[str, Sequence[int]]) -> int | None:
    """How many inputs a Linear layer has, as far as the shapes of an adapter's tensors tell.

    Args:
        shapes: by the tensor's name in its module.
    """
    for name in ("lora_down.weight", "hada_w1_b", "diff"):
        if len(shapes.get(name, ())) >= 2:
            return shapes[name][1]
    first, second = (
        next((shapes[name] for name in (f"lokr_{w}", f"lokr_{w}_b") if name in shapes), ())
        for w in ("w1", "w2")
    )
    if len(first) >= 2 and len(second) >= 2:
        return first[1] * second[1]
    if len(shapes.get("a2.weight", ())) >= 2:
        return max(shapes["a2.weight"][:2])  # GLoRA's inner factors, (r, I) or (I, r)
    lengths = shapes.get("dora_scale", ())
    return lengths[1] if len(lengths) >= 2 and lengths[0] == 1 and lengths[1] > 1 else None


def _key(layer: LayerName, sdxl: bool) -> str:
    """Kohya's key."""
    if layer.part == "unet":
        return f"lora_unet_{_renamed(layer.path, _tables()[sdxl])}"
    prefix = {"text_encoder_2": "lora_te2"}.get(layer.part, "lora_te1" if sdxl else "lora_te")
    between = "" if layer.path == TEXT_PROJECTION else "text_model_"
    return f"{prefix}_{between}{layer.path}"


def is_sdxl(keys: Iterable[str]) -> bool:
    """Whether kohya's ``keys`` are those of SDXL, from the layers that only one family has."""
    keys = list(keys)
    if any(_SD1_ONLY.search(key) for key in keys):
        return False
    return any(_SDXL_ONLY.search(key) for key in keys) or (
        # Kohya writes LDM's names for SDXL alone.
        any("_input_blocks_" in key or "_output_blocks_" in key for key in keys)
    )


def part_of(key: str) -> str:
    """ "unet", "text_encoder" or "text_encoder_2" of one of kohya's keys."""
    return next(part for beginning, part in PARTS.items() if key.startswith(beginning))


def block_of_key(key: str) -> str:
    """The name in :data:`block_weights.BLOCKS` of the block that kohya's ``key`` lies in.

    All of the text encoders are BASE. UNets are of 2 layers a level, as SD1's, SD2's and SDXL's.
    """
    if part_of(key) != "unet":
        return BASE
    path = key.removeprefix("lora_unet_")
    if ldm := re.match(r"(input|output)_blocks_(\d+)(?:_|$)", path):
        return (INPUTS if ldm[1] == "input" else OUTPUTS)[min(int(ldm[2]), len(INPUTS) - 1)]
    if path.startswith("middle_block"):
        return MIDDLE
    if path.startswith("out_"):
        return OUTPUTS[8]  # LDM's names are SDXL's.
    if match := re.match(r"(down_blocks|up_blocks)_(\d+)_([a-z]+)_(\d+)", path):
        path = ".".join(match.groups())
    return block_of(re.sub(r"^(mid_block|conv_norm_out|conv_out).*", r"\1", path))


@cache
def _tables() -> tuple[dict[str, str], dict[str, str]]:
    """LDM -> diffusers of SD1 and SD2, and diffusers -> LDM of SDXL, with ``_`` for ``.``."""
    to_diffusers = unet_table(UNetPlan(2, (True, True, True, False)))
    to_ldm = inverted(unet_table(UNetPlan(2, (False, True, True))))
    return tuple(  # type: ignore[return-value]
        {old.replace(".", "_"): new.replace(".", "_") for old, new in table.items()}
        for table in (to_diffusers, to_ldm)
    )


def _renamed(path: str, table: Mapping[str, str]) -> str:
    """A UNet's path with its longest known beginning replaced."""
    steps = path.split("_")
    for cut in range(len(steps), 0, -1):
        if new := table.get("_".join(steps[:cut])):
            return "_".join([new, *steps[cut:]])
    return path
