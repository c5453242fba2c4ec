"""The ways that programs name a LoRA's tensors, and names in each of them. Torch-free."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from lorasmith.formats.kohya_keys import PARTS, is_sdxl, kohya_names
from lorasmith.formats.layer_names import read_name
from lorasmith.formats.ldm_keys import UNetPlan, inverted, translate, unet_table
from lorasmith.formats.unet_layers import UNETS


@dataclass(frozen=True, slots=True)
class KeyStyle:
    """
    Args:
        title: for people.
        detail: what else there is to say of it.
        beginnings: of its names, which tell it from others; none where something else does.
        written: files can be converted to it.
        read_by: programs that know its names.
        partly_by: programs that know those of some layers.
    """

    title: str
    detail: str = ""
    beginnings: tuple[str, ...] = ()
    written: bool = False
    read_by: tuple[str, ...] = ()
    partly_by: tuple[str, ...] = ()


_ALL_BUT_LYCORIS = ("AUTOMATIC1111", "Forge", "ComfyUI", "sd-scripts", "diffusers")
_CLIP = tuple(f"clip_{size}.{start}" for size in "lg" for start in ("text_model", "encoder"))
STYLES = {
    # lora_unet_down_blocks_0_…_to_q.lora_down.weight; SDXL's UNet in LDM's names
    "kohya": KeyStyle(
        "kohya's names", beginnings=(*PARTS, "oft_unet_"), written=True,
        read_by=(*_ALL_BUT_LYCORIS, "lycoris-lora"),
    ),
    # the same, SDXL's UNet in diffusers' names
    "kohya-diffusers": KeyStyle(
        "kohya's names", ", the UNet's as diffusers'", written=True, read_by=_ALL_BUT_LYCORIS
    ),
    "onetrainer": KeyStyle(
        "OneTrainer's names", beginnings=(*(f"{start[:-1]}." for start in PARTS), *_CLIP)
    ),
    "lycoris": KeyStyle(
        "LyCORIS' own names", beginnings=("lycoris_",), read_by=("ComfyUI", "lycoris-lora")
    ),
    # diffusion_model.input_blocks.1.1.….to_q.lora_down.weight
    "comfy": KeyStyle(
        "ComfyUI's names", written=True, read_by=("ComfyUI",), partly_by=("Forge",),
        beginnings=("diffusion_model.", "model.diffusion_model.", "text_encoders.", "clip_"),
    ),
    "peft": KeyStyle(
        "peft's names",
        beginnings=tuple(f"{part}base_model.model." for part in ("", "unet.", "text_encoder.")),
    ),
    # unet.down_blocks.0.….to_q.lora_A.weight, and peft's own
    "diffusers": KeyStyle(
        "diffusers' names", beginnings=("unet.", "text_encoder.", "text_encoder_2."), written=True,
        read_by=("diffusers",), partly_by=("ComfyUI",),
    ),
    # unet.….attn1.processor.to_q_lora.down.weight
    "diffusers-old": KeyStyle(
        "diffusers' old names", read_by=("diffusers",), partly_by=("ComfyUI",)
    ),
    # unet:0:up: numbered in the order of the model's modules
    "cloneofsimo": KeyStyle("numbers for names", " (cloneofsimo's program)"),
}  # fmt: skip
UNKNOWN = KeyStyle("names of no known style")
WRITTEN = tuple(name for name, style in STYLES.items() if style.written)
"""The styles that files can be converted to."""

# Names of modules that hold a "_" themselves, so that it is no dot in disguise.
_WITH_UNDERSCORE = frozenset({
    "down_blocks", "up_blocks", "mid_block", "transformer_blocks", "proj_in", "proj_out", "to_q",
    "to_k", "to_v", "to_out", "time_emb_proj", "conv_shortcut", "conv_in", "conv_out",
    "conv_norm_out", "time_embedding", "add_embedding", "linear_1", "linear_2", "input_blocks",
    "output_blocks", "middle_block", "time_embed", "label_emb", "in_layers", "out_layers",
    "emb_layers", "skip_connection", "text_model", "self_attn", "q_proj", "k_proj", "v_proj",
    "out_proj", "layer_norm1", "layer_norm2", "final_layer_norm", "token_embedding",
    "position_embedding", "text_projection",
})  # fmt: skip
_LONGEST = max(name.count("_") for name in _WITH_UNDERSCORE) + 1

_PEFT = {
    "lora_down.weight": "lora_A.weight",
    "lora_up.weight": "lora_B.weight",
    "dora_scale": "lora_magnitude_vector",
}
# ComfyUI's names of text encoders, by (part, family).
_COMFY_TEXT = {
    ("text_encoder", "sd1"): "clip_l",
    ("text_encoder", "sd2"): "clip_h",
    ("text_encoder", "sdxl"): "clip_l",
    ("text_encoder_2", "sdxl"): "clip_g",
}


def style_of(tensors: Iterable[str]) -> str:
    """The style that a file's names are of: one of :data:`STYLES`, or "unknown".

    Args:
        tensors: names, or tensors by name.
    """
    names = list(tensors)
    if any(":up" in name for name in names) and any(":down" in name for name in names):
        return "cloneofsimo"
    counts = {
        style: sum(name.startswith(row.beginnings) for name in names)
        for style, row in STYLES.items()
    }
    style = max(counts, key=lambda each: counts[each])
    if not counts[style]:
        old = any(".processor." in name for name in names)
        if old or any(read_name(name) for name in names):
            return "diffusers-old"  # Without a beginning, as diffusers saved a UNet's alone.
        return "unknown"
    if style == "diffusers" and any(".processor." in name or "_lora." in name for name in names):
        return "diffusers-old"
    if style == "kohya" and is_sdxl(key for key, _ in kohya_names(tensors).values()):
        diffusers = ("lora_unet_down_blocks_", "lora_unet_up_blocks_", "lora_unet_mid_block_")
        if any(name.startswith(diffusers) for name in names):
            return "kohya-diffusers"
    return style


def styled_name(key: str, declared: str, style: str, family: str) -> str | None:
    """What a tensor is called in a style; None where the style has no name for it.

    Args:
        key: kohya's, as :func:`lorasmith.formats.kohya_keys.kohya_names` gives it.
        declared: the tensor's name in its module: ``lora_down.weight``.
        style: one of :data:`WRITTEN`.
        family: "sd1", "sd2" or "sdxl".

    >>> styled_name("lora_unet_mid_block_attentions_0_proj_in", "alpha", "comfy", "sd1")
    'diffusion_model.middle_block.1.proj_in.alpha'
    """
    prefix = next(beginning for beginning in PARTS if key.startswith(beginning))
    part, path = PARTS[prefix], key.removeprefix(prefix)
    if style == "kohya" or (style == "kohya-diffusers" and (part != "unet" or family != "sdxl")):
        return f"{key}.{declared}"
    dotted = with_dots(path)
    if style == "kohya-diffusers":
        return f"{prefix}{_diffusers_path(dotted, family).replace('.', '_')}.{declared}"
    if style == "comfy":
        if part == "unet":
            return f"diffusion_model.{_ldm_path(dotted, family)}.{declared}"
        encoder = _COMFY_TEXT[part, family]
        return f"text_encoders.{encoder}.transformer.{dotted}.{declared}"
    assert style == "diffusers", style
    if declared not in _PEFT:
        return None
    if part == "unet":
        return f"unet.{_diffusers_path(dotted, family)}.{_PEFT[declared]}"
    # transformers reads a text encoder's lengths under peft's own name, peft the UNet's without.
    ending = ".weight" if declared == "dora_scale" else ""
    return f"{part}.{dotted}.{_PEFT[declared]}{ending}"


def with_dots(path: str) -> str:
    """A module's path from its form with ``_`` for ``.``.

    >>> with_dots("down_blocks_0_attentions_1_transformer_blocks_0_attn1_to_out_0")
    'down_blocks.0.attentions.1.transformer_blocks.0.attn1.to_out.0'
    """
    words = path.split("_")
    steps: list[str] = []
    while words:
        lengths = range(min(_LONGEST, len(words)), 0, -1)
        count = next(n for n in lengths if n == 1 or "_".join(words[:n]) in _WITH_UNDERSCORE)
        steps.append("_".join(words[:count]))
        del words[:count]
    return ".".join(steps)


def _diffusers_path(path: str, family: str) -> str:
    """Diffusers' path of a UNet's layer, from LDM's or its own."""
    return _translated(path, unet_names(family)[0])


def _ldm_path(path: str, family: str) -> str:
    return _translated(path, unet_names(family)[1])


def _translated(path: str, table: dict[str, str]) -> str:
    return (translate(f"{path}.", table) or path).rstrip(".")


@cache
def unet_names(family: str) -> tuple[dict[str, str], dict[str, str]]:
    """LDM -> diffusers, and diffusers -> LDM, of a family's UNet."""
    plan: UNetPlan = UNETS[family].plan
    table = unet_table(plan)
    return table, inverted(table)
