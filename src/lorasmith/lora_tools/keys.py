"""One name for each layer, whatever style a LoRA file has, without a base model to ask.

Kohya's keys: ``lora_unet_``, ``lora_te_`` (``lora_te1_`` and ``lora_te2_`` in SDXL) and the layer's
path with ``_`` for ``.``: diffusers' path of the UNet in SD1 and SD2, LDM's in SDXL. Names of
diffusers, peft and ComfyUI become these. Torch-free but for the suffixes that it shares.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache

from lorasmith.adapters.names import split_long_name
from lorasmith.block_weights import BASE, INPUTS, MIDDLE, OUTPUTS, block_of
from lorasmith.models.key_maps import UNetPlan, inverted, unet_table

PARTS = {
    "lora_unet_": "unet",
    "lora_te_": "text_encoder",
    "lora_te1_": "text_encoder",
    "lora_te2_": "text_encoder_2",
}
"""How kohya's keys begin, and the part that they mean."""

# Beginnings of long names -> part. Longer ones first.
_LONG_PARTS = (
    ("model.diffusion_model.", "unet"),
    ("diffusion_model.", "unet"),
    ("unet.", "unet"),
    ("text_encoders.clip_g.transformer.", "text_encoder_2"),
    ("text_encoders.clip_l.transformer.", "text_encoder"),
    ("text_encoders.clip_h.transformer.", "text_encoder"),
    ("clip_g.transformer.", "text_encoder_2"),
    ("clip_l.transformer.", "text_encoder"),
    ("clip_h.transformer.", "text_encoder"),
    ("text_encoder_2.", "text_encoder_2"),
    ("text_encoder.", "text_encoder"),
    ("base_model.model.", ""),
    ("lycoris_", ""),
)
_UNET_ROOTS = re.compile(
    r"(down|up)_blocks|mid_block|(input|output)_blocks|middle_block|time_embed|label_emb"
    r"|add_embedding|conv_(in|out|norm_out)|out[._][02]\b"
)
_TEXT_ROOTS = re.compile(r"text_model|encoder[._]layers")

# What only one of the two kinds of UNet has.
_SD1_ONLY = re.compile(
    r"down_blocks_0_attentions|(down|up)_blocks_3_|input_blocks_[12]_1_|input_blocks_(9|1\d)_"
    r"|output_blocks_(9|1[01])_|output_blocks_[678]_1_(?!conv)"
)
_SDXL_ONLY = re.compile(
    r"^lora_te[12]_|up_blocks_0_attentions|output_blocks_[012]_1_(?!conv)"
    r"|transformer_blocks_[1-9]|label_emb|add_embedding"
)


def kohya_names(names: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Tensor name in a file -> (kohya's key of the layer, name of the tensor in its module).

    Names of no known style are left out.

    >>> kohya_names(["unet.mid_block.attentions.0.proj_in.lora_A.weight"])
    {'unet.mid_block.attentions.0.proj_in.lora_A.weight': \
('lora_unet_mid_block_attentions_0_proj_in', 'lora_down.weight')}
    """
    found: dict[str, tuple[str, str]] = {}
    for name in names:
        key, dot, declared = name.partition(".")
        if not (dot and key.startswith((*PARTS, "lycoris_"))):
            key, declared = split_long_name(name)
            if not declared:
                key, declared = _split_plain(name)
        flat = _flat_key(key)
        if flat and declared:
            found[name] = flat, declared
    keys = {key for key, _ in found.values()}
    table = _renamed_to(keys)
    sdxl = is_sdxl(keys)
    return {name: (_final(key, table, sdxl), declared) for name, (key, declared) in found.items()}


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
    if found := re.match(r"(down_blocks|up_blocks)_(\d+)_([a-z]+)_(\d+)", path):
        path = ".".join(found.groups())
    return block_of(re.sub(r"^(mid_block|conv_norm_out|conv_out).*", r"\1", path))


def _split_plain(name: str) -> tuple[str, str]:
    """ComfyUI's and LyCORIS' tensors under a path with dots: ``….lora_up.weight``, ``….alpha``."""
    found = re.search(
        r"\.((?:lora_(?:up|down|mid)|[ab][12])\.weight|dora_scale|diff|diff_b|[wb]_norm|alpha"
        r"|oft_(?:blocks|diag)|rescale|on_input|weight)$",
        name,
    )
    return (name[: found.start()], found[1]) if found else (name, "")


def _flat_key(path: str) -> str:
    """Kohya's key of a path in any style, UNet paths still as they were; "" where unknown."""
    if path.startswith(tuple(PARTS)):
        return path
    for beginning, part in _LONG_PARTS:
        if not path.startswith(beginning):
            continue
        inner = path.removeprefix(beginning)
        part = part or _guess_part(inner)
        if part == "unet":
            return f"lora_unet_{inner.replace('.', '_')}"
        if part:
            number = "te2" if part == "text_encoder_2" else "te"
            inner = inner.removeprefix("text_model").lstrip("._").replace(".", "_")
            return f"lora_{number}_text_model_{inner}"
    return ""


def _guess_part(path: str) -> str:
    if _UNET_ROOTS.match(path):
        return "unet"
    return "text_encoder" if _TEXT_ROOTS.match(path) else ""


def _renamed_to(keys: set[str]) -> Mapping[str, str]:
    """Beginnings of UNet paths that are to be named otherwise in this file."""
    return _tables()[is_sdxl(keys)]


@cache
def _tables() -> tuple[dict[str, str], dict[str, str]]:
    """LDM -> diffusers of SD1 and SD2, and diffusers -> LDM of SDXL, with ``_`` for ``.``."""
    to_diffusers = unet_table(UNetPlan(2, (True, True, True, False)))
    to_ldm = inverted(unet_table(UNetPlan(2, (False, True, True))))
    return tuple(  # type: ignore[return-value]
        {old.replace(".", "_"): new.replace(".", "_") for old, new in table.items()}
        for table in (to_diffusers, to_ldm)
    )


def _final(key: str, table: Mapping[str, str], sdxl: bool) -> str:
    if sdxl and key.startswith("lora_te_"):
        return key.replace("lora_te_", "lora_te1_", 1)
    if not key.startswith("lora_unet_"):
        return key
    steps = key.removeprefix("lora_unet_").split("_")
    for cut in range(len(steps), 0, -1):
        if new := table.get("_".join(steps[:cut])):
            return "_".join(["lora_unet", new, *steps[cut:]])
    return key
