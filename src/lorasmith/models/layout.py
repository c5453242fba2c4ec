"""Which tensor of a file is which weight of which part. Torch-free."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from lorasmith.errors import CheckpointError
from lorasmith.models.family import Shapes
from lorasmith.models.key_maps import (
    UNET_PREFIX,
    VAE_PREFIX,
    is_vae_projection,
    text_from_ldm,
    translate,
    unet_plan_of_ldm,
    unet_table,
    vae_from_old_diffusers,
    vae_plan_of_ldm,
    vae_table,
)

VAE_ROOTS = ("encoder.", "decoder.", "quant_conv.", "post_quant_conv.")
TEXT_ROOT = "cond_stage_model.transformer."

# What training programs leave in checkpoints beside the model: averages, schedules, losses.
LEFTOVERS = re.compile(
    r"^model_ema\.|(^|\.)position_ids$|^(sqrt_|log_)?(one_minus_)?(betas|alphas|alphas_cumprod)"
    r"|^(sqrt_|log_)(one_minus_|recip|recipm1)|^posterior_|^(logvar|lvlb_weights|scale_factor)$"
    r"|^global_step$|^(first_stage_model\.)?(loss|model_ema)\.|^denoiser\.|^v_pred$|^ztsnr$"
    r"|^cond_stage_model\.(transformer\.)?(logit_scale|text_projection(\.weight)?)$"
    r"|^(logit_scale|text_projection\.weight)$"
)


@dataclass(slots=True)
class Layout:
    """``parts[part][canonical name]`` is the name in the file; what is left over is named.

    Args:
        parts: "unet", "vae", "text_encoder"; absent when the file has none of it.
        unknown: tensors inside a part that are no weight of such a model.
        unused: tensors outside the parts that are not among the usual leftovers.
    """

    parts: dict[str, dict[str, str]] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)

    def add(self, part: str, canonical: str | None, name: str) -> None:
        if canonical is None:
            self.unknown.append(name)
        else:
            self.parts.setdefault(part, {})[canonical] = name


def ldm_layout(names: Iterable[str], where: object = "") -> Layout:
    """The layout of a single LDM file.

    Raises:
        CheckpointError: the blocks of its UNet or VAE are not those of an LDM model.
    """
    layout = Layout()
    groups: dict[str, list[str]] = {UNET_PREFIX: [], VAE_PREFIX: []}
    for name in names:
        if LEFTOVERS.search(name):
            continue
        prefix = next((prefix for prefix in groups if name.startswith(prefix)), None)
        if prefix is not None:
            groups[prefix].append(name.removeprefix(prefix))
        elif name.startswith(TEXT_ROOT):
            layout.add("text_encoder", text_from_ldm(name.removeprefix(TEXT_ROOT)), name)
        else:
            layout.unused.append(name)
    try:
        unet, vae = groups[UNET_PREFIX], groups[VAE_PREFIX]
        if unet:
            table = unet_table(unet_plan_of_ldm(unet))
            for name in unet:
                layout.add("unet", translate(name, table), UNET_PREFIX + name)
        if vae:
            table = vae_table(vae_plan_of_ldm(vae))
            for name in vae:
                layout.add("vae", translate(name, table), VAE_PREFIX + name)
    except ValueError as error:
        raise CheckpointError.of(where, f"not a Stable Diffusion checkpoint: {error}") from error
    return layout


def diffusers_layout(part: str, names: Iterable[str]) -> Layout:
    """The layout of one file of a diffusers folder, which holds one part."""
    layout = Layout()
    for name in names:
        if LEFTOVERS.search(name):
            continue
        if part == "text_encoder":
            layout.add(part, text_from_ldm(name), name)
        else:
            layout.add(part, vae_from_old_diffusers(name) if part == "vae" else name, name)
    return layout


def vae_layout(names: Iterable[str], where: object = "") -> Layout:
    """The layout of a VAE's own file, in LDM names (with or without prefix) or diffusers'.

    Raises:
        CheckpointError: there is no VAE in it.
    """
    names = list(names)
    if any(name.startswith(("encoder.down_blocks.", "decoder.up_blocks.")) for name in names):
        return diffusers_layout("vae", names)
    prefix = VAE_PREFIX if any(name.startswith(VAE_PREFIX) for name in names) else ""
    own = [name for name in names if name.startswith(prefix or VAE_ROOTS)]
    layout = ldm_layout([VAE_PREFIX + name.removeprefix(prefix) for name in own], where)
    if "vae" not in layout.parts:
        raise CheckpointError.of(where, "there is no VAE in this file", "give a VAE as model.vae")

    def stored(name: str) -> str:
        return prefix + name.removeprefix(VAE_PREFIX)

    found = {new: stored(old) for new, old in layout.parts["vae"].items()}
    return Layout({"vae": found}, [stored(name) for name in layout.unknown])


def canonical_shape(part: str, canonical: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape that the module wants: LDM's 1x1 convolutions of VAE attention are Linear."""
    is_1x1 = len(shape) == 4 and shape[2:] == (1, 1)
    return shape[:2] if part == "vae" and is_1x1 and is_vae_projection(canonical) else shape


def canonical_shapes(layout: Layout, shapes: Shapes) -> dict[str, dict[str, tuple[int, ...]]]:
    """``{part: {canonical name: shape}}`` of what the layout found."""
    return {
        part: {new: canonical_shape(part, new, tuple(shapes[old])) for new, old in names.items()}
        for part, names in layout.parts.items()
    }
