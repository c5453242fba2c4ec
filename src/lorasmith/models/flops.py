"""What a UNet costs to run, from the shapes alone: nothing is loaded and nothing is run.

Counts are of multiply-adds. Letters: C channels, N positions (h x w), T text tokens, X width of
the text features. Only the terms that matter are counted: convolutions, projections, attention.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any


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


def forward_multiply_adds(unet: Mapping[str, Any], h: int, w: int, tokens: int) -> int:
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
    self_attention = 4 * c * c * n + 2 * n * n * c
    cross_attention = 2 * c * c * n + 2 * text_width * c * tokens + 2 * n * tokens * c
    feed_forward = 12 * c * c * n
    block = self_attention + cross_attention + feed_forward
    return convolutions + projections + stage.depth * block


def unet_weights(unet: Mapping[str, Any]) -> int:
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


def step_activations(unet: Mapping[str, Any], h: int, w: int, tokens: int) -> int:
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
