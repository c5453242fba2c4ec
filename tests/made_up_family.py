"""A family that nobody published: a small transformer that denoises, in one file, with a table of
its names. :data:`ROW` is its line in the table of families."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from lorasmith.formats.block_weights import INPUTS, BlockMap
from lorasmith.models.families.base import (
    LATENT_DIFFUSION_VAE,
    Config,
    DenoiserKind,
    Family,
    Shapes,
    TextEncoderSpec,
    has,
)
from tests.tiny_models import tiny_checkpoint

PREFIX = "drift."
NAMES = {"enter": "entry", "time": "clock", "leave": "exit"}
LAYER_NAMES = {"mix": "attn", "to_query": "q", "to_text": "kv", "to_rest": "out", "think": "mlp"}
"""The module's names, each with that in files."""


class Mixing(nn.Module):
    def __init__(self, width: int, text_width: int) -> None:
        super().__init__()
        self.to_query = nn.Linear(width, width)
        self.to_text = nn.Linear(text_width, 2 * width)
        self.to_rest = nn.Linear(width, width)

    def forward(self, x: Tensor, text: Tensor) -> Tensor:
        keys, values = self.to_text(text).chunk(2, dim=-1)
        found = nn.functional.scaled_dot_product_attention(self.to_query(x), keys, values)
        return self.to_rest(found)


class Piece(nn.Module):
    def __init__(self, width: int, text_width: int) -> None:
        super().__init__()
        self.mix = Mixing(width, text_width)
        self.think = nn.Linear(width, width)

    def forward(self, x: Tensor, text: Tensor) -> Tensor:
        x = x + self.mix(x, text)
        return x + self.think(nn.functional.silu(x))


class Drifter(nn.Module):
    """Every position of the latents is a token."""

    def __init__(
        self, channels: int, width: int, depth: int, text_width: int, sample_size: int
    ) -> None:
        super().__init__()
        self.config = SimpleNamespace(sample_size=sample_size)
        self.enter = nn.Linear(channels, width)
        self.time = nn.Linear(1, width)
        self.pieces = nn.ModuleList(Piece(width, text_width) for _ in range(depth))
        self.leave = nn.Linear(width, channels)

    def forward(
        self, noisy: Tensor, timesteps: Tensor, text: Tensor, *, return_dict: bool
    ) -> tuple[Tensor]:
        x = self.enter(noisy.flatten(2).transpose(1, 2))
        x = x + self.time(timesteps.reshape(-1, 1, 1).to(x.dtype) / 1000)
        for piece in self.pieces:
            x = piece(x, text)
        return (self.leave(x).transpose(1, 2).reshape(noisy.shape),)


def config(shapes: Shapes, family: Family, own: Config) -> Config:
    width, channels = shapes["enter.weight"]
    return {
        **family.denoiser_config,
        "channels": channels,
        "width": width,
        "depth": 1 + max(int(n.split(".")[1]) for n in shapes if n.startswith("pieces.")),
        "text_width": shapes["pieces.0.mix.to_text.weight"][1],
        **own,
    }


def names_in_file(names: Iterable[str]) -> dict[str, str]:
    table = {old: new for new, old in NAMES.items()}
    for name in names:
        if name.startswith("stack."):
            number = name.split(".")[1]
            for new, old in LAYER_NAMES.items():
                inner = "" if old in ("attn", "mlp") else "attn."
                inside = "" if old in ("attn", "mlp") else "mix."
                table[f"stack.{number}.{inner}{old}"] = f"pieces.{number}.{inside}{new}"
    return table


def misfits(denoiser: Config, vae: Config, texts: Any, family: Family) -> list[str]:
    fits = denoiser["channels"] == vae["latent_channels"]
    return [] if fits else ["its denoiser and its VAE have other channels"]


def block_map(denoiser: Config) -> BlockMap:
    def of_path(path: str) -> str:
        return INPUTS[int(path.split(".")[1])] if path.startswith("pieces.") else INPUTS[0]

    return BlockMap(denoiser["depth"], 0, of_path, middle=False)


def multiply_adds(denoiser: Config, h: int, w: int, tokens: int) -> int:
    c, n = denoiser["width"], h * w
    return denoiser["depth"] * (3 * n * c * c + 2 * n * tokens * c)


def attention_multiply_adds(denoiser: Config, h: int, w: int, tokens: int) -> int:
    return denoiser["depth"] * 2 * h * w * tokens * denoiser["width"]


ROW = Family(
    name="drift",
    title="Drift",
    matches=has(r"^drift\."),
    modelspec={"epsilon": "drift-v1", "v": "drift-v1"},
    base_model_version={"epsilon": "drift_v1", "v": "drift_v1"},
    native_resolution={"epsilon": 32, "v": 32},
    denoiser=DenoiserKind(
        title="transformer",
        module="tests.made_up_family.Drifter",
        prefix=PREFIX,
        pattern=r"^drift\.",
        names_in_file=names_in_file,
        config=config,
        misfits=misfits,
        downscale=lambda denoiser: 1,
        block_paths=lambda denoiser: [f"pieces.{i}" for i in range(denoiser["depth"])],
        block_map=block_map,
        middle="pieces.0",
        multiply_adds=multiply_adds,
        attention_multiply_adds=attention_multiply_adds,
        convolved=lambda denoiser: 0,
        weights=lambda denoiser: 5 * denoiser["depth"] * denoiser["width"] ** 2,
        activations=lambda denoiser, h, w, tokens: 8 * denoiser["width"] * h * w,
        depth=lambda denoiser: denoiser["depth"],
        targets=("Piece",),
        attention=("Mixing",),
        classes=((r"^pieces\.\d+$", "Piece"), (r"\.mix$", "Mixing")),
    ),
    denoiser_config={},
    vae=LATENT_DIFFUSION_VAE,
    text_encoders=(
        TextEncoderSpec(
            part="text_encoder",
            key_prefix="lora_te",
            ldm_prefix="cond_stage_model.transformer.",
            style="hf",
            config={"hidden_act": "quick_gelu", "layer_norm_eps": 1e-5},
        ),
    ),
)


def drift_checkpoint(path: Path) -> Path:
    """A model of the family as one file: VAE and text encoder as Stable Diffusion 1 has them."""
    from safetensors import safe_open

    tiny = tiny_checkpoint(path.with_name("tiny.safetensors"), dtype=torch.float32)
    with safe_open(tiny, "pt") as file:
        header = file.metadata()
    state = load_file(tiny)
    text_width = state[
        "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight"
    ].shape[1]
    state = {n: t for n, t in state.items() if not n.startswith("model.diffusion_model.")}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Drifter(4, 16, 2, text_width, 8)
    back = {new: old for old, new in names_in_file(["stack.0.x", "stack.1.x"]).items()}
    for name, tensor in network.state_dict().items():
        module, _, leaf = name.rpartition(".")
        state[f"{PREFIX}{back[module]}.{leaf}"] = tensor.contiguous()
    save_file(state, path, header)
    return path
