"""The UNet of Stable Diffusion 1, 2 and XL: its configuration, its blocks, its names, its cost.

Torch-free. Sizes are read off the shapes of the canonical weights (diffusers' names). Costs are
counts of multiply-adds, from the configuration alone. Letters: C channels, N positions (h x w), T
text tokens, X width of the text features. Only the terms that matter are counted: convolutions,
projections, attention.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from lorasmith.formats.block_weights import BlockMap, unet_block_map
from lorasmith.formats.ldm_keys import (
    UNET_PREFIX,
    ldm_paths,
    unet_plan_of_diffusers,
    unet_plan_of_ldm,
    unet_table,
)
from lorasmith.models.families.base import Config, DenoiserKind, Family, Shapes

SIZE_NUMBERS = 6  # original, crop and target size, two numbers each

# "attention_head_dim" is the number of heads: a misnomer that diffusers keeps.
LATENT_DIFFUSION_UNET: Config = {
    "norm_num_groups": 32, "norm_eps": 1e-5, "act_fn": "silu", "flip_sin_to_cos": True,
    "freq_shift": 0, "center_input_sample": False, "downsample_padding": 1,
    "mid_block_scale_factor": 1.0, "upcast_attention": False,
}  # fmt: skip


def unet_config(shapes: Shapes, family: Family, overrides: Config) -> Config:
    """Arguments of diffusers' ``UNet2DConditionModel``.

    Raises:
        KeyError, ValueError, IndexError: a weight that decides the architecture is missing.
    """
    plan = unet_plan_of_diffusers(shapes)
    levels = range(plan.levels)
    down = ["CrossAttnDownBlock2D" if plan.attention[i] else "DownBlock2D" for i in levels]
    up = [name.replace("Down", "Up") for name in reversed(down)]
    widths = [shapes[f"down_blocks.{i}.resnets.0.conv1.weight"][0] for i in levels]
    defaults = dict(family.denoiser_config)
    if head_width := defaults.pop("head_width", 0):
        defaults["attention_head_dim"] = [width // head_width for width in widths]
    if "add_embedding.linear_1.weight" in shapes:
        width = shapes["add_embedding.linear_1.weight"][1]
        defaults["projection_class_embeddings_input_dim"] = width
    return {
        **defaults,
        "in_channels": shapes["conv_in.weight"][1],
        "out_channels": shapes["conv_out.weight"][0],
        "block_out_channels": widths,
        "layers_per_block": plan.layers,
        "down_block_types": down,
        "up_block_types": up,
        "mid_block_type": "UNetMidBlock2DCrossAttn",
        "cross_attention_dim": _context_width(shapes),
        "transformer_layers_per_block": _transformer_depths(shapes, plan.attention),
        "use_linear_projection": len(shapes["mid_block.attentions.0.proj_in.weight"]) == 2,
        **overrides,
    }


def _context_width(shapes: Shapes) -> int:
    widths = {shape[1] for name, shape in shapes.items() if name.endswith(".attn2.to_k.weight")}
    if len(widths) != 1:
        raise ValueError(f"cross-attention reads texts of several widths: {sorted(widths)}")
    return widths.pop()


def _transformer_depths(shapes: Shapes, attention: Sequence[bool]) -> int | list[int]:
    """Transformer blocks per level, one number where all levels that have any have as many."""
    pattern = re.compile(r"down_blocks\.(\d+)\.attentions\.\d+\.transformer_blocks\.(\d+)\.")
    depths = [1] * len(attention)
    for match in filter(None, map(pattern.match, shapes)):
        level, block = int(match[1]), int(match[2])
        depths[level] = max(depths[level], block + 1)
    distinct = {depth for depth, has in zip(depths, attention, strict=True) if has}
    return distinct.pop() if len(distinct) == 1 else depths


def misfits(unet: Config, vae: Config, texts: Sequence[Config], family: Family) -> list[str]:
    """What of a configuration does not fit itself or the other parts."""
    messages = []
    text_width = sum(text["hidden_size"] for text in texts)
    if unet["cross_attention_dim"] != text_width:
        wide = f"its UNet reads texts {unet['cross_attention_dim']} wide"
        messages.append(f"{wide}, its text encoder writes {text_width}")
    if family.size_conditioning:
        pooled = texts[-1]["projection_dim"] + SIZE_NUMBERS * unet["addition_time_embed_dim"]
        if unet["projection_class_embeddings_input_dim"] != pooled:
            messages.append(
                "its UNet's embedding of size and text has another width than they have"
            )
    if unet["in_channels"] != vae["latent_channels"]:
        takes = f"its UNet takes {unet['in_channels']} channels"
        messages.append(f"{takes}, its VAE's latents have {vae['latent_channels']}")
    for title, config in (("UNet", unet), ("VAE", vae)):
        groups = config["norm_num_groups"]
        if groups < 1 or any(width % groups for width in config["block_out_channels"]):
            widths = config["block_out_channels"]
            messages.append(f"its {title}'s widths {widths} do not divide into {groups} groups")
    heads = unet["attention_head_dim"]
    heads = heads if isinstance(heads, list) else [heads] * len(unet["block_out_channels"])
    with_heads = zip(unet["block_out_channels"], heads, unet["down_block_types"], strict=False)
    if any(n < 1 or (width % n and "Attn" in kind) for width, n, kind in with_heads):
        messages.append(f"its UNet's widths do not divide into {unet['attention_head_dim']} heads")
    return messages


def block_paths(unet: Config) -> list[str]:
    """In the order in which they run: "down_blocks.0", …, "mid_block", "up_blocks.0", …"""
    down, up = (range(len(unet[f"{side}_block_types"])) for side in ("down", "up"))
    return [*(f"down_blocks.{i}" for i in down), "mid_block", *(f"up_blocks.{i}" for i in up)]


def block_map(unet: Config) -> BlockMap:
    return unet_block_map(len(unet["block_out_channels"]), unet["layers_per_block"])


def names_in_file(names: Iterable[str]) -> dict[str, str]:
    """LDM's beginnings of names, each with diffusers'.

    Raises:
        ValueError: the names make no UNet.
    """
    return unet_table(unet_plan_of_ldm(names))


def inputs(conditioning: Any) -> dict[str, Any]:
    if conditioning.sizes is None:
        return {}
    added = {"text_embeds": conditioning.pooled, "time_ids": conditioning.sizes}
    return {"added_cond_kwargs": added}


@dataclass(frozen=True, slots=True)
class Stage:
    """One residual block of the UNet, with its transformer where it has one.

    Args:
        c_in, c_out: channels before and after.
        scale: the latent's side is divided by this here.
        depth: transformer blocks, 0 for none.
    """

    c_in: int
    c_out: int
    scale: int
    depth: int


def stages(unet: Mapping[str, Any]) -> Iterator[Stage]:
    """The residual blocks of a UNet in diffusers' configuration, in the order they run."""
    widths: Sequence[int] = unet["block_out_channels"]
    layers: int = unet["layers_per_block"]
    depths = unet.get("transformer_layers_per_block", 1)
    depth_of = [depths] * len(widths) if isinstance(depths, int) else list(depths)
    skips = [widths[0]]
    channels = widths[0]
    for level, (width, kind) in enumerate(zip(widths, unet["down_block_types"], strict=True)):
        depth = depth_of[level] if "CrossAttn" in kind else 0
        for _ in range(layers):
            yield Stage(channels, width, 2**level, depth)
            channels = width
            skips.append(width)
        if level < len(widths) - 1:
            skips.append(width)
    bottom = 2 ** (len(widths) - 1)
    yield Stage(channels, channels, bottom, depth_of[-1])
    yield Stage(channels, channels, bottom, 0)
    for index, kind in enumerate(unet["up_block_types"]):
        level = len(widths) - 1 - index
        depth = depth_of[level] if "CrossAttn" in kind else 0
        for _ in range(layers + 1):
            yield Stage(channels + skips.pop(), widths[level], 2**level, depth)
            channels = widths[level]


def multiply_adds(unet: Mapping[str, Any], h: int, w: int, tokens: int) -> int:
    """Multiply-adds of one forward pass for one sample of ``h`` x ``w`` latents."""
    total = sum(
        _stage_multiply_adds(stage, (h // stage.scale) * (w // stage.scale), tokens, unet)
        for stage in stages(unet)
    )
    widths = unet["block_out_channels"]
    for level, (width, below) in enumerate(pairwise(widths)):
        n = (h // 2**level) * (w // 2**level)
        # The convolution that halves reads this level and writes a quarter of it; the one that
        # doubles runs at this level's size with the width of the level below.
        total += 9 * width * width * n // 4 + 9 * below * below * n
    return total


def _stage_multiply_adds(stage: Stage, n: int, tokens: int, unet: Mapping[str, Any]) -> int:
    c, text_width = stage.c_out, unet["cross_attention_dim"]
    convolutions = 9 * (stage.c_in * c + c * c) * n
    if stage.c_in != c:
        convolutions += stage.c_in * c * n
    projections = 2 * c * c * n if stage.depth else 0
    self_attention = 4 * c * c * n
    cross_attention = 2 * c * c * n + 2 * text_width * c * tokens
    feed_forward = 12 * c * c * n
    block = self_attention + cross_attention + feed_forward
    attention = _stage_attention(stage, n, tokens)
    return convolutions + projections + stage.depth * block + attention


def attention_multiply_adds(unet: Mapping[str, Any], h: int, w: int, tokens: int) -> int:
    """Those of :func:`multiply_adds` that are scores, or sums that scores weigh."""
    return sum(
        _stage_attention(stage, (h // stage.scale) * (w // stage.scale), tokens)
        for stage in stages(unet)
    )


def _stage_attention(stage: Stage, n: int, tokens: int) -> int:
    return stage.depth * 2 * n * (n + tokens) * stage.c_out


def convolved(unet: Mapping[str, Any]) -> int:
    """Weights of the 3x3 convolutions of a UNet, but for the first and the last one."""
    widths = unet["block_out_channels"]
    between = 9 * sum(w * w for w in widths[:-1]) + 9 * sum(w * w for w in widths[1:])
    return between + sum(9 * (one.c_in + one.c_out) * one.c_out for one in stages(unet))


def weights(unet: Mapping[str, Any]) -> int:
    """Weights of a UNet, without biases and norms (under one percent)."""
    widths, text_width = unet["block_out_channels"], unet["cross_attention_dim"]
    time_width = 4 * widths[0]
    total = time_width * (widths[0] + time_width) + 9 * widths[0] * (
        unet["in_channels"] + unet["out_channels"]
    )
    # Each level but the last has one 3x3 convolution to halve it; likewise on the way up.
    total += sum(9 * width * width for width in widths[:-1])
    total += sum(9 * width * width for width in widths[1:])
    for stage in stages(unet):
        c = stage.c_out
        total += 9 * (stage.c_in * c + c * c) + time_width * c
        total += stage.c_in * c if stage.c_in != c else 0
        if stage.depth:
            total += 2 * c * c + stage.depth * (18 * c * c + 2 * text_width * c)
    return total


def activations(unet: Mapping[str, Any], h: int, w: int, tokens: int) -> int:
    """Numbers that a training step keeps for its backward pass, for one sample of ``h`` x ``w``
    latents; right within a factor of two, and for models that fit many times over.

    What autograd keeps of a residual block: inputs of its norms, activations and convolutions. Of
    a transformer: those of three norms, queries, keys and values of two attentions and what they
    give, and the feed-forward, which is eight and four times as wide as the rest.
    """
    total = 0
    for stage in stages(unet):
        n = (h // stage.scale) * (w // stage.scale)
        block = 24 * stage.c_out * n + 2 * stage.c_out * tokens
        total += (3 * stage.c_in + 5 * stage.c_out) * n + stage.depth * block
    return total


UNET = DenoiserKind(
    title="UNet",
    module="diffusers.UNet2DConditionModel",
    prefix=UNET_PREFIX,
    pattern=r"^(model\.diffusion_model|unet)\.|(^|\.)input_blocks\.|(^|\.)down_blocks\.\d+\.att",
    names_in_file=names_in_file,
    other_paths=ldm_paths,
    config=unet_config,
    allowed={
        "attention_head_dim": (int, list), "norm_num_groups": (int,), "norm_eps": (float,),
        "act_fn": (str,), "flip_sin_to_cos": (bool,), "freq_shift": (int,),
        "center_input_sample": (bool,), "downsample_padding": (int,),
        "mid_block_scale_factor": (int, float), "upcast_attention": (bool,),
    },
    misfits=misfits,
    downscale=lambda unet: 2 ** (len(unet["block_out_channels"]) - 1),
    inputs=inputs,
    block_paths=block_paths,
    block_map=block_map,
    middle="mid_block",
    multiply_adds=multiply_adds,
    attention_multiply_adds=attention_multiply_adds,
    convolved=convolved,
    weights=weights,
    activations=activations,
    depth=lambda unet: sum(1 for _ in stages(unet)),
    targets=("Transformer2DModel",),
    conv_targets=("ResnetBlock2D", "Downsample2D", "Upsample2D"),
    attention=("Attention",),
    ends=("conv_in", "conv_out", "time_embedding.linear_1", "time_embedding.linear_2"),
    repeated_blocks=("BasicTransformerBlock", "ResnetBlock2D"),
    classes=(
        (r"(^|\.)attentions\.\d+$", "Transformer2DModel"),
        (r"(^|\.)resnets\.\d+$", "ResnetBlock2D"),
        (r"(^|\.)downsamplers\.\d+$", "Downsample2D"),
        (r"(^|\.)upsamplers\.\d+$", "Upsample2D"),
        (r"\.attn[12]$", "Attention"),
    ),
)  # fmt: skip
