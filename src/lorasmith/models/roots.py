"""Where adapters attach in a model's networks, and how files name these places."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from torch import nn

from lorasmith.formats.ldm_keys import ldm_paths
from lorasmith.models.families.table import Architecture


class AdapterRoot(NamedTuple):
    """A module that adapters attach to, and how their keys name it.

    Args:
        part: "unet" or "text_encoder".
        key_prefix: kohya's prefix, "lora_unet" or "lora_te".
        path_prefix: what stands before the module path in keys; transformers 5 dropped the
            ``text_model`` that every LoRA file has.
        module: the UNet or a text encoder.
        targets: classes whose Linear and 1x1 layers are adapted.
        conv_targets: classes whose convolutions can be adapted too.
        folder: its name in diffusers' LoRA files, "text_encoder_2".
        renamed: module paths whose keys have other names (LDM's, for SDXL's UNet).
        ldm: LDM's names of a UNet's module paths, which some programs' files have.
    """

    part: str
    key_prefix: str
    path_prefix: str
    module: nn.Module
    targets: tuple[str, ...]
    conv_targets: tuple[str, ...] = ()
    folder: str = ""
    renamed: Mapping[str, str] | None = None
    ldm: Mapping[str, str] | None = None


def adapter_roots(
    architecture: Architecture, unet: nn.Module, text_encoders: Mapping[str, nn.Module]
) -> list[AdapterRoot]:
    """Where adapters attach in a model's networks, the UNet first."""
    family = architecture.family
    ldm = ldm_paths(name for name, _ in unet.named_modules())
    renamed = ldm if family.unet_names == "ldm" else None
    root = AdapterRoot(
        "unet", "lora_unet", "", unet, family.unet_targets, family.unet_conv_targets,
        "unet", renamed, ldm,
    )  # fmt: skip
    return [root] + [
        AdapterRoot(
            "text_encoder", spec.key_prefix, "text_model", text_encoders[spec.part],
            family.text_targets, folder=spec.part,
        )
        for spec in family.text_encoders
    ]  # fmt: skip
