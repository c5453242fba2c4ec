"""The base model that other programs' readers are run on: its numbers are drawn from its names.

Nothing of lorasmith is imported: it is used in processes with other versions of its libraries.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any


def base_values(name: str, shape: tuple[int, ...]) -> Any:
    """The base model's weight: normal numbers of the usual size, by its name, float32."""
    import torch

    seed = sum(ord(c) * 31**i for i, c in enumerate(name)) % 2**31
    size = math.prod(shape[1:]) ** -0.5 if len(shape) > 1 else 1.0
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * size


class Base:
    """The base model, by stored name."""

    def __init__(self, folder: Path) -> None:
        import torch

        content = torch.load(folder / "base.pt")
        self.shapes: dict[str, tuple[int, ...]] = content["shapes"]
        self.names: dict[str, list[tuple[str, str]]] = content["names"]
        self.few: list[str] = content["few"]
        self.sdxl = any(name.startswith("conditioner.") for name in self.shapes)

    def values(self, name: str) -> Any:
        return base_values(name, self.shapes[name])

    def in_comfy(self) -> dict[str, tuple[str, int | None]]:
        """Names in ComfyUI's and Forge's models -> stored name, third of stacked q, k, v."""
        names: dict[str, tuple[str, int | None]] = {}
        renames = {
            "attn.out_proj.": "self_attn.out_proj.",
            "mlp.c_fc.": "mlp.fc1.",
            "mlp.c_proj.": "mlp.fc2.",
        }
        for stored in self.shapes:
            if stored.startswith("model.diffusion_model."):
                names[stored.removeprefix("model.")] = (stored, None)
            for prefix in ("cond_stage_model.transformer.", "conditioner.embedders.0.transformer."):
                if stored.startswith(prefix):
                    names[f"clip_l.transformer.{stored.removeprefix(prefix)}"] = (stored, None)
            blocks = r"conditioner\.embedders\.1\.model\.transformer\.resblocks\.(\d+)\.(.*)"
            if (match := re.match(blocks, stored)) is None:
                continue
            prefix = f"clip_g.transformer.text_model.encoder.layers.{match[1]}."
            for theirs, ours in renames.items():
                if match[2].startswith(theirs):
                    names[prefix + ours + match[2].removeprefix(theirs)] = (stored, None)
            for third, letter in enumerate("qkv"):
                if match[2] == "attn.in_proj_weight":
                    names[f"{prefix}self_attn.{letter}_proj.weight"] = (stored, third)
                if match[2] == "attn.in_proj_bias":
                    names[f"{prefix}self_attn.{letter}_proj.bias"] = (stored, third)
        return names
