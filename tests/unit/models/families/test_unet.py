"""Estimates against models that diffusers and transformers build, counted on the meta device."""

import pytest
import torch
from diffusers import UNet2DConditionModel

from lorasmith.models.families.unet import (
    attention_multiply_adds,
    convolved,
    multiply_adds,
    weights,
)

SD15 = {
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": (320, 640, 1280, 1280),
    "layers_per_block": 2,
    "cross_attention_dim": 768,
    "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
}
TINY = {
    **SD15,
    "block_out_channels": (32, 64, 96),
    "layers_per_block": 1,
    "cross_attention_dim": 64,
    "down_block_types": ("CrossAttnDownBlock2D",) * 2 + ("DownBlock2D",),
    "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 2,
}


def build(config: dict) -> UNet2DConditionModel:
    with torch.device("meta"):
        return UNet2DConditionModel(**config, attention_head_dim=8, norm_num_groups=8)


@pytest.mark.parametrize("config", [SD15, TINY])
def test_weights(config: dict) -> None:
    actual = sum(p.numel() for p in build(config).parameters())
    assert weights(config) == pytest.approx(actual, rel=0.01)


@pytest.mark.parametrize("config", [SD15, TINY])
def test_weights_of_convolutions(config: dict) -> None:
    actual = sum(p.numel() for p in build(config).parameters() if p.shape[2:] == (3, 3))
    assert convolved(config) == pytest.approx(actual, rel=0.01)


def test_attention_grows_with_the_square_of_the_pixels() -> None:
    """Of one block: each of n queries with each of n keys and 77 words, twice."""
    config = TINY | {"block_out_channels": (32,), "down_block_types": ("CrossAttnDownBlock2D",)}
    config |= {"up_block_types": ("UpBlock2D",)}
    small, large = (attention_multiply_adds(config, side, side, 77) for side in (8, 32))
    blocks = 2  # One on the way down, one in the middle.
    assert small == blocks * 2 * 64 * (64 + 77) * 32
    assert large == blocks * 2 * 1024 * (1024 + 77) * 32
    assert large < multiply_adds(config, 32, 32, 77)


@pytest.mark.slow
@pytest.mark.parametrize(("config", "size"), [(SD15, 16), (SD15, 64), (TINY, 16)])
def test_multiply_adds_against_counted_flops(config: dict, size: int) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    unet = build(config)
    with torch.device("meta"):
        inputs = torch.empty(1, 4, size, size), torch.empty(1), torch.empty(1, 77, 768)
        text = torch.empty(1, 77, config["cross_attention_dim"])
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        unet(inputs[0], inputs[1], text)
    estimated = 2 * multiply_adds(config, size, size, 77)
    assert estimated == pytest.approx(counter.get_total_flops(), rel=0.1)
