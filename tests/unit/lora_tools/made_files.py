"""LoRA files of every family's layers, at the families' widths and a small rank."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch
from safetensors.torch import save_file
from tests.published import PUBLISHED
from torch import Tensor, nn

from lorasmith.formats.unet_layers import family_layers
from lorasmith.models.load import empty_modules

CONTEXT = {"sd1": 768, "sd2": 1024, "sdxl": 2048}
TEXT = {("text_encoder", "sd1"): 768, ("text_encoder", "sd2"): 1024}
RANK = 2


def kohya_tensors(
    family: str = "sd1",
    *,
    groups: tuple[str, ...] = ("attention", "feed-forward", "projections"),
    dtype: torch.dtype = torch.float16,
    alpha: float = 1.0,
    blocks: str = "",
) -> dict[str, Tensor]:
    """A LoRA of the layers that kohya adapts; narrow but where a width tells the family.

    Args:
        blocks: only keys that hold this text.
    """
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for key, (part, group) in family_layers(family).items():
        if group not in groups or blocks not in key:
            continue
        inputs = 12
        if key.endswith(("attn2_to_k", "attn2_to_v")):
            inputs = CONTEXT[family]
        elif part.startswith("text") and family != "sdxl":
            inputs = TEXT[part, family]
        kernel = (3, 3) if group == "convolutions" else ()
        kernel = (1, 1) if group == "projections" and family == "sd1" else kernel
        ones = [1] * len(kernel)
        down = torch.randn(RANK, inputs, *kernel, generator=generator)
        tensors[f"{key}.lora_down.weight"] = down.to(dtype)
        tensors[f"{key}.lora_up.weight"] = torch.randn(10, RANK, *ones, generator=generator).to(
            dtype
        )
        tensors[f"{key}.alpha"] = torch.tensor(alpha, dtype=dtype)
    return tensors


METADATA = {
    "ss_network_module": "networks.lora",
    "ss_network_dim": "2",
    "ss_output_name": "zörp",
    "modelspec.title": "zorp",
    "other": "x",
}


def kohya_file(path: Path, family: str = "sd1", **options: object) -> Path:
    """As sd-scripts write it: through the format's own library, whose header is in no order."""
    save_file(kohya_tensors(family, **options), path, METADATA)  # type: ignore[arg-type]
    return path


@cache
def empty_networks(published: str) -> dict[str, nn.Module]:
    """The UNet and the text encoders of a published model, without weights."""
    modules = empty_modules(PUBLISHED[published])
    return {part: module for part, module in modules.items() if part != "vae"}
