"""Names of weights: LDM (CompVis) files to diffusers and transformers modules, and back.

Single-file checkpoints keep the names of CompVis' latent-diffusion code; the modules that run
here are diffusers' and transformers'. One table is built from the plan of a model (its levels,
layers and where it has attention), so any size is covered, and the way back is the same table
turned round::

    model.diffusion_model.input_blocks.4.1.proj_in.weight    LDM, UNet
    down_blocks.1.attentions.0.proj_in.weight                diffusers
    first_stage_model.decoder.up.3.block.0.nin_shortcut.*    LDM, VAE
    decoder.up_blocks.0.resnets.0.conv_shortcut.*            diffusers
    cond_stage_model.transformer.text_model.encoder.*        LDM, CLIP text encoder
    encoder.*                                                transformers 5 (4 had text_model.)
    conditioner.embedders.1.model.transformer.resblocks.3.*  SDXL, OpenCLIP text encoder
    encoder.layers.3.*                                       transformers
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

UNET_PREFIX = "model.diffusion_model."
VAE_PREFIX = "first_stage_model."

# LDM's names inside a UNet residual block -> diffusers'.
UNET_RESNET = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
VAE_RESNET = {
    "norm1": "norm1",
    "conv1": "conv1",
    "norm2": "norm2",
    "conv2": "conv2",
    "nin_shortcut": "conv_shortcut",
}
VAE_ATTENTION = {
    "norm": "group_norm",
    "q": "to_q",
    "k": "to_k",
    "v": "to_v",
    "proj_out": "to_out.0",
}
# OpenCLIP's names -> transformers'. Its three attention projections are one weight, "in_proj".
OPEN_CLIP = {
    "positional_embedding": "embeddings.position_embedding.weight",
    "token_embedding.weight": "embeddings.token_embedding.weight",
    "ln_final.weight": "final_layer_norm.weight",
    "ln_final.bias": "final_layer_norm.bias",
    "text_projection": "text_projection.weight",
}
OPEN_CLIP_LAYER = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
    "attn.out_proj": "self_attn.out_proj",
}
OPEN_CLIP_BLOCK = re.compile(r"transformer\.resblocks\.(\d+)\.(.+?)(?:\.|_)(weight|bias)$")
QKV = ("q_proj", "k_proj", "v_proj")
# diffusers' own names before 0.17; the VAE of the SD 1.5 repository still has them.
OLD_VAE_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


@dataclass(frozen=True, slots=True)
class UNetPlan:
    """What decides a UNet's names.

    Args:
        layers: residual blocks per level on the way down (one more on the way up).
        attention: for each level, from the full resolution down, whether it has transformers.
    """

    layers: int
    attention: tuple[bool, ...]

    @property
    def levels(self) -> int:
        return len(self.attention)


@dataclass(frozen=True, slots=True)
class VaePlan:
    """``layers``: residual blocks per encoder level; ``levels``: resolutions."""

    layers: int
    levels: int


def _numbers(names: Iterable[str], pattern: str) -> set[tuple[int, ...]]:
    """The numbers that ``pattern``'s groups take over all names that begin with it."""
    matches = (re.match(pattern, name) for name in names)
    return {tuple(int(group) for group in match.groups()) for match in matches if match}


def unet_plan_of_ldm(names: Iterable[str]) -> UNetPlan:
    """The plan of a UNet from its LDM names (without their prefix).

    Raises:
        ValueError: the blocks are not those of an LDM UNet.
    """
    names = list(names)
    blocks = {n for (n,) in _numbers(names, r"input_blocks\.(\d+)\.")}
    downsamplers = sorted(n for (n,) in _numbers(names, r"input_blocks\.(\d+)\.0\.op\."))
    attentions = {n for (n,) in _numbers(names, r"input_blocks\.(\d+)\.1\.")}
    layers = (downsamplers[0] if downsamplers else max(blocks, default=0) + 1) - 1
    levels = len(downsamplers) + 1
    if layers < 1 or max(blocks) != levels * (layers + 1) - 1:
        raise ValueError("its input blocks are not in levels of equal size")
    return UNetPlan(
        layers, tuple(1 + level * (layers + 1) in attentions for level in range(levels))
    )


def unet_plan_of_diffusers(names: Iterable[str]) -> UNetPlan:
    """The plan of a UNet from its diffusers names.

    Raises:
        ValueError: there are no such blocks.
    """
    names = list(names)
    resnets = _numbers(names, r"down_blocks\.(\d+)\.resnets\.(\d+)\.")
    attentions = {n for (n,) in _numbers(names, r"down_blocks\.(\d+)\.attentions\.")}
    if not resnets:
        raise ValueError("it has no down_blocks")
    levels = 1 + max(level for level, _ in resnets)
    layers = 1 + max(layer for level, layer in resnets if level == 0)
    return UNetPlan(layers, tuple(level in attentions for level in range(levels)))


def vae_plan_of_ldm(names: Iterable[str]) -> VaePlan:
    """The plan of a VAE from its LDM names (without their prefix).

    Raises:
        ValueError: there are no such blocks.
    """
    return _vae_plan(_numbers(names, r"encoder\.down\.(\d+)\.block\.(\d+)\."))


def vae_plan_of_diffusers(names: Iterable[str]) -> VaePlan:
    """The plan of a VAE from its diffusers names.

    Raises:
        ValueError: there are no such blocks.
    """
    return _vae_plan(_numbers(names, r"encoder\.down_blocks\.(\d+)\.resnets\.(\d+)\."))


def _vae_plan(blocks: set[tuple[int, ...]]) -> VaePlan:
    if not blocks:
        raise ValueError("it has no encoder blocks")
    levels = 1 + max(level for level, _ in blocks)
    return VaePlan(1 + max(layer for _, layer in blocks), levels)


def unet_table(plan: UNetPlan) -> dict[str, str]:
    """LDM module name -> diffusers module name for every module (group) of a UNet."""
    table = {
        "time_embed.0": "time_embedding.linear_1",
        "time_embed.2": "time_embedding.linear_2",
        "label_emb.0.0": "add_embedding.linear_1",
        "label_emb.0.2": "add_embedding.linear_2",
        "input_blocks.0.0": "conv_in",
        "middle_block.1": "mid_block.attentions.0",
        "out.0": "conv_norm_out",
        "out.2": "conv_out",
    }

    def resnet(ldm: str, diffusers: str) -> None:
        table.update({f"{ldm}.{a}": f"{diffusers}.{b}" for a, b in UNET_RESNET.items()})

    resnet("middle_block.0", "mid_block.resnets.0")
    resnet("middle_block.2", "mid_block.resnets.1")
    for level in range(plan.levels):
        first = 1 + level * (plan.layers + 1)
        for layer in range(plan.layers):
            block = f"input_blocks.{first + layer}"
            resnet(f"{block}.0", f"down_blocks.{level}.resnets.{layer}")
            if plan.attention[level]:
                table[f"{block}.1"] = f"down_blocks.{level}.attentions.{layer}"
        if level < plan.levels - 1:
            name = f"down_blocks.{level}.downsamplers.0.conv"
            table[f"input_blocks.{first + plan.layers}.0.op"] = name
    for level in range(plan.levels):
        has_attention = plan.attention[plan.levels - 1 - level]
        for layer in range(plan.layers + 1):
            block = f"output_blocks.{level * (plan.layers + 1) + layer}"
            resnet(f"{block}.0", f"up_blocks.{level}.resnets.{layer}")
            if has_attention:
                table[f"{block}.1"] = f"up_blocks.{level}.attentions.{layer}"
        if level < plan.levels - 1:
            name = f"{block}.{2 if has_attention else 1}.conv"
            table[name] = f"up_blocks.{level}.upsamplers.0.conv"
    return table


def vae_table(plan: VaePlan) -> dict[str, str]:
    """LDM module name -> diffusers module name for every module of a VAE."""
    table = {name: name for name in ("quant_conv", "post_quant_conv")}
    for half in ("encoder", "decoder"):
        table |= {f"{half}.{name}": f"{half}.{name}" for name in ("conv_in", "conv_out")}
        table[f"{half}.norm_out"] = f"{half}.conv_norm_out"
        attention = f"{half}.mid_block.attentions.0"
        table |= {f"{half}.mid.attn_1.{a}": f"{attention}.{b}" for a, b in VAE_ATTENTION.items()}
        for number in (1, 2):
            resnet = f"{half}.mid_block.resnets.{number - 1}"
            block = f"{half}.mid.block_{number}"
            table |= {f"{block}.{a}": f"{resnet}.{b}" for a, b in VAE_RESNET.items()}
    for level in range(plan.levels):
        up = plan.levels - 1 - level  # LDM counts the decoder's levels from the full resolution
        for layer in range(plan.layers + 1):
            down_block, down_resnet = f"encoder.down.{level}.block.{layer}", "encoder.down_blocks"
            up_block, up_resnet = f"decoder.up.{up}.block.{layer}", "decoder.up_blocks"
            for a, b in VAE_RESNET.items():
                table[f"{up_block}.{a}"] = f"{up_resnet}.{level}.resnets.{layer}.{b}"
                if layer < plan.layers:
                    table[f"{down_block}.{a}"] = f"{down_resnet}.{level}.resnets.{layer}.{b}"
        if level < plan.levels - 1:
            down = f"encoder.down_blocks.{level}.downsamplers.0.conv"
            table[f"encoder.down.{level}.downsample.conv"] = down
            table[f"decoder.up.{up}.upsample.conv"] = f"decoder.up_blocks.{level}.upsamplers.0.conv"
    return table


def inverted(table: Mapping[str, str]) -> dict[str, str]:
    """The table for the way back; every entry must have a name of its own."""
    back = {new: old for old, new in table.items()}
    assert len(back) == len(table), "two modules share a name"
    return back


def translate(name: str, table: Mapping[str, str]) -> str | None:
    """The name of a weight with its longest known module prefix replaced; None if none is."""
    parts = name.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        module = table.get(".".join(parts[:cut]))
        if module is not None:
            return ".".join([module, *parts[cut:]])
    return None


def text_from_hf(name: str) -> str:
    """A CLIP text weight's name of transformers 4, or below ``…transformer.`` in a single file."""
    return name.removeprefix("text_model.")


def text_from_open_clip(name: str) -> list[str]:
    """The names of an OpenCLIP text weight: three for the joined attention projections, none for a
    name that is no such weight."""
    if name in OPEN_CLIP:
        return [OPEN_CLIP[name]]
    match = OPEN_CLIP_BLOCK.match(name)
    if match is None:
        return []
    layer, module, kind = f"encoder.layers.{match[1]}", match[2], match[3]
    if module == "attn.in_proj":
        return [f"{layer}.self_attn.{projection}.{kind}" for projection in QKV]
    submodule = OPEN_CLIP_LAYER.get(module)
    return [f"{layer}.{submodule}.{kind}"] if submodule else []


def vae_from_old_diffusers(name: str) -> str:
    """The present name of a VAE weight; other names pass through."""
    head, _, tail = name.rpartition(".attentions.0.")
    module, dot, kind = tail.rpartition(".")
    if head and module in OLD_VAE_ATTENTION:
        return f"{head}.attentions.0.{OLD_VAE_ATTENTION[module]}{dot}{kind}"
    return name


def is_vae_projection(name: str) -> bool:
    """Whether LDM stores this VAE weight (diffusers name) as a 1x1 convolution, (O, I, 1, 1)."""
    return ".attentions.0.to_" in name and name.endswith(".weight")


def ldm_paths(paths: Iterable[str]) -> dict[str, str]:
    """LDM's paths of a UNet's modules, by diffusers' paths; modules that LDM has not are left out.

    >>> paths = ["down_blocks.0.resnets.0.conv1", "down_blocks.0.resnets.0"]
    >>> ldm_paths(paths)
    {'down_blocks.0.resnets.0.conv1': 'input_blocks.1.0.in_layers.2'}
    """
    paths = [path for path in paths if path]
    names = inverted(unet_table(unet_plan_of_diffusers(f"{path}." for path in paths)))
    by_path = {path: translate(f"{path}.weight", names) for path in paths}
    return {old: new.removesuffix(".weight") for old, new in by_path.items() if new is not None}
