"""Small random models of the real architectures, and SD1.5's layer list without its weights."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel

from lorasmith.adapters.network import AdapterNetwork
from lorasmith.formats.adapter_roots import AdapterRoot
from lorasmith.models.families.unet import UNET


def roots_of(unet: nn.Module, text_encoder: nn.Module) -> list[AdapterRoot]:
    return [
        AdapterRoot(
            "unet",
            "lora_unet",
            "",
            unet,
            UNET.targets,
            UNET.conv_targets,
            attention=UNET.attention,
            ends=UNET.ends,
        ),
        AdapterRoot(
            "text_encoder",
            "lora_te",
            "text_model",
            text_encoder,
            ("CLIPAttention", "CLIPMLP"),
            attention=("CLIPAttention",),
        ),
    ]


def clip(width: int, layers: int, heads: int, words: int) -> CLIPTextModel:
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=words,
            hidden_size=width,
            intermediate_size=4 * width,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            bos_token_id=words - 2,
            eos_token_id=words - 1,
        )
    )


def sd15() -> tuple[UNet2DConditionModel, CLIPTextModel]:
    """Full-size SD1.5 UNet and text encoder; build under ``torch.device("meta")``."""
    unet = UNet2DConditionModel(cross_attention_dim=768, attention_head_dim=8, sample_size=64)
    return unet, clip(768, 12, 12, 49408)


def randomise_up(network: AdapterNetwork, std: float = 0.3) -> None:
    """Give every adapter an effect."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for adapter in network.adapters.values():
            adapter.get_parameter("lora_up.weight").normal_(std=std, generator=generator)


class Tiny:
    """A two-level UNet and a two-layer text encoder, seeded."""

    def __init__(self) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.unet = UNet2DConditionModel(
                block_out_channels=(32, 64),
                down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
                up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
                layers_per_block=1,
                cross_attention_dim=32,
                attention_head_dim=8,
                norm_num_groups=8,
            ).eval()
            self.text_encoder = clip(32, 2, 4, 100).eval()
            self.noisy = torch.randn(2, 4, 16, 16)
            self.hidden = torch.randn(2, 7, 32)
        self.timesteps = torch.tensor([30, 700])
        self.ids = torch.arange(2 * 7).reshape(2, 7)
        self.roots = roots_of(self.unet, self.text_encoder)

    def predict(self) -> torch.Tensor:
        return self.unet(self.noisy, self.timesteps, self.hidden).sample

    def encode(self) -> torch.Tensor:
        return self.text_encoder(self.ids).last_hidden_state

    def network(self, **settings: object) -> AdapterNetwork:
        return AdapterNetwork.create(self.roots, **{"rank": 4, **settings})


@pytest.fixture
def tiny() -> Tiny:
    return Tiny()


@pytest.fixture
def randomised() -> Callable[[AdapterNetwork], None]:
    return randomise_up


@pytest.fixture(scope="session")
def sd15_roots() -> list[AdapterRoot]:
    with torch.device("meta"):
        return roots_of(*sd15())
