"""Every layer of SD1, SD2 and SDXL that an adapter may change, by kohya's key. Torch-free.

The families' published sizes, as sd-scripts' own lists have them: 16 transformers of one block in
SD1 and SD2, 11 of one, two or ten in SDXL.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from lorasmith.formats.ldm_keys import UNetPlan, inverted, translate, unet_table


@dataclass(frozen=True, slots=True)
class UNetSizes:
    """
    Args:
        plan: its levels.
        depths: transformer blocks per transformer, by level; 0 where there is none.
        widths: channels by level.
    """

    plan: UNetPlan
    depths: tuple[int, ...]
    widths: tuple[int, ...]


_SMALL = UNetSizes(UNetPlan(2, (True, True, True, False)), (1, 1, 1, 0), (320, 640, 1280, 1280))
_LARGE = UNetSizes(UNetPlan(2, (False, True, True)), (0, 2, 10), (320, 640, 1280))
UNETS = {"sd1": _SMALL, "sd2": _SMALL, "sdxl": _LARGE}

TEXT_LAYERS: dict[str, tuple[tuple[str, str, int], ...]] = {
    "sd1": (("text_encoder", "lora_te", 12),),
    "sd2": (("text_encoder", "lora_te", 23),),
    "sdxl": (("text_encoder", "lora_te1", 12), ("text_encoder_2", "lora_te2", 32)),
}
"""By family: part, how its keys begin, and layers of the encoder."""

GROUPS = ("attention", "feed-forward", "projections", "convolutions", "time", "ends")
"""Kinds of layers. ``projections`` lead into a transformer and out of it; ``convolutions`` are of
residual blocks and resamplers; ``time`` are Linear layers of the time step (and SDXL's sizes);
``ends`` the first and the last convolution."""

ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
_TEXT_ATTENTION = ("q_proj", "k_proj", "v_proj", "out_proj")


@cache
def family_layers(family: str) -> dict[str, tuple[str, str]]:
    """Kohya's key -> (part, group) of all layers of a family, in its modules' order;
    empty for families that are not listed here."""
    if family not in UNETS:
        return {}
    layers: dict[str, tuple[str, str]] = {}
    sizes = UNETS[family]
    names = inverted(unet_table(sizes.plan)) if family == "sdxl" else {}
    for path, group in unet_layers(sizes):
        path = translate(f"{path}.", names) or path
        layers[f"lora_unet_{path.rstrip('.').replace('.', '_')}"] = "unet", group
    if family == "sdxl":
        for number in (0, 2):
            layers[f"lora_unet_label_emb_0_{number}"] = "unet", "time"
    for part, prefix, count in TEXT_LAYERS[family]:
        for number in range(count):
            layer = f"{prefix}_text_model_encoder_layers_{number}"
            for name in _TEXT_ATTENTION:
                layers[f"{layer}_self_attn_{name}"] = part, "attention"
            for name in ("fc1", "fc2"):
                layers[f"{layer}_mlp_{name}"] = part, "feed-forward"
    return layers


def unet_layers(sizes: UNetSizes) -> Iterator[tuple[str, str]]:
    """(diffusers' path, group) of a UNet's Linear and convolution layers."""
    yield "conv_in", "ends"
    for number in (1, 2):
        yield f"time_embedding.linear_{number}", "time"
    plan, last = sizes.plan, sizes.plan.levels - 1
    for level in range(plan.levels):
        block = f"down_blocks.{level}"
        for layer in range(plan.layers):
            if sizes.depths[level]:
                yield from transformer(f"{block}.attentions.{layer}", sizes.depths[level])
            widens = level > 0 and layer == 0 and sizes.widths[level] != sizes.widths[level - 1]
            yield from _resnet(f"{block}.resnets.{layer}", shortcut=widens)
        if level < last:
            yield f"{block}.downsamplers.0.conv", "convolutions"
    for up, level in enumerate(reversed(range(plan.levels))):
        block = f"up_blocks.{up}"
        for layer in range(plan.layers + 1):
            if sizes.depths[level]:
                yield from transformer(f"{block}.attentions.{layer}", sizes.depths[level])
            yield from _resnet(f"{block}.resnets.{layer}", shortcut=True)
        if up < last:
            yield f"{block}.upsamplers.0.conv", "convolutions"
    # The deepest level's transformers have as many blocks as the middle's.
    yield from transformer("mid_block.attentions.0", max(sizes.depths[-2:]))
    for number in (0, 1):
        yield from _resnet(f"mid_block.resnets.{number}", shortcut=False)
    yield "conv_out", "ends"


def transformer(path: str, depth: int) -> Iterator[tuple[str, str]]:
    """(diffusers' path, group) of a transformer's layers."""
    yield f"{path}.proj_in", "projections"
    for number in range(depth):
        block = f"{path}.transformer_blocks.{number}"
        for attention in ("attn1", "attn2"):
            for name in ATTENTION:
                yield f"{block}.{attention}.{name}", "attention"
        for name in ("ff.net.0.proj", "ff.net.2"):
            yield f"{block}.{name}", "feed-forward"
    yield f"{path}.proj_out", "projections"


def _resnet(path: str, *, shortcut: bool) -> Iterator[tuple[str, str]]:
    yield f"{path}.conv1", "convolutions"
    yield f"{path}.time_emb_proj", "time"
    yield f"{path}.conv2", "convolutions"
    if shortcut:
        yield f"{path}.conv_shortcut", "convolutions"
