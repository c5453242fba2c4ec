"""Model configurations from key shapes alone.

No size is assumed: levels, layers, widths, attention, projections, the latents' factor and the
text encoder's depth are all read off the shapes of the canonical weights (diffusers' and
transformers' names). Torch-free.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from lorasmith.errors import CheckpointError, Problem
from lorasmith.models.family import Architecture, Config, Family, Overrides, Shapes
from lorasmith.models.key_maps import unet_plan_of_diffusers, vae_plan_of_diffusers

BOS, EOS = 49406, 49407


def unet_config(shapes: Shapes, family: Family, own: Config) -> Config:
    """Arguments of diffusers' ``UNet2DConditionModel``.

    Raises:
        KeyError, ValueError, IndexError: a weight that decides the architecture is missing.
    """
    plan = unet_plan_of_diffusers(shapes)
    levels = range(plan.levels)
    down = ["CrossAttnDownBlock2D" if plan.attention[i] else "DownBlock2D" for i in levels]
    up = [name.replace("Down", "Up") for name in reversed(down)]
    return {
        **family.unet,
        "in_channels": shapes["conv_in.weight"][1],
        "out_channels": shapes["conv_out.weight"][0],
        "block_out_channels": [
            shapes[f"down_blocks.{i}.resnets.0.conv1.weight"][0] for i in levels
        ],
        "layers_per_block": plan.layers,
        "down_block_types": down,
        "up_block_types": up,
        "mid_block_type": "UNetMidBlock2DCrossAttn",
        "cross_attention_dim": _context_width(shapes),
        "transformer_layers_per_block": _transformer_depth(shapes),
        "use_linear_projection": len(shapes["mid_block.attentions.0.proj_in.weight"]) == 2,
        **own,
    }


def _context_width(shapes: Shapes) -> int:
    widths = {shape[1] for name, shape in shapes.items() if name.endswith(".attn2.to_k.weight")}
    if len(widths) != 1:
        raise ValueError(f"cross-attention reads texts of several widths: {sorted(widths)}")
    return widths.pop()


def _transformer_depth(shapes: Shapes) -> int:
    matches = (re.search(r"attentions\.\d+\.transformer_blocks\.(\d+)\.", name) for name in shapes)
    return 1 + max(int(match[1]) for match in matches if match)


def vae_config(shapes: Shapes, family: Family, own: Config) -> Config:
    """Arguments of diffusers' ``AutoencoderKL``.

    Raises:
        KeyError, ValueError, IndexError: a weight that decides the architecture is missing.
    """
    plan = vae_plan_of_diffusers(shapes)
    return {
        **family.vae,
        "in_channels": shapes["encoder.conv_in.weight"][1],
        "out_channels": shapes["decoder.conv_out.weight"][0],
        "latent_channels": shapes["decoder.conv_in.weight"][1],
        "block_out_channels": [
            shapes[f"encoder.down_blocks.{i}.resnets.0.conv1.weight"][0] for i in range(plan.levels)
        ],
        "layers_per_block": plan.layers,
        "down_block_types": ["DownEncoderBlock2D"] * plan.levels,
        "up_block_types": ["UpDecoderBlock2D"] * plan.levels,
        "use_quant_conv": "quant_conv.weight" in shapes,
        "use_post_quant_conv": "post_quant_conv.weight" in shapes,
        "mid_block_add_attention": any(".mid_block.attentions." in name for name in shapes),
        **own,
    }


def text_config(shapes: Shapes, family: Family, own: Config) -> Config:
    """Arguments of transformers' ``CLIPTextConfig``.

    Raises:
        KeyError, ValueError, IndexError: a weight that decides the architecture is missing.
    """
    vocabulary, hidden = shapes["embeddings.token_embedding.weight"]
    matches = (re.match(r"encoder\.layers\.(\d+)\.", name) for name in shapes)
    return {
        **family.text,
        "vocab_size": vocabulary,
        "hidden_size": hidden,
        "intermediate_size": shapes["encoder.layers.0.mlp.fc1.weight"][0],
        "num_hidden_layers": 1 + max(int(match[1]) for match in matches if match),
        "num_attention_heads": max(1, hidden // family.text_head_size),
        "max_position_embeddings": shapes["embeddings.position_embedding.weight"][0],
        "projection_dim": hidden,
        "bos_token_id": BOS,
        "eos_token_id": EOS,
        "pad_token_id": EOS,
        **own,
    }


def architecture_of_parts(
    parts: Mapping[str, Shapes], family: Family, overrides: Overrides, where: object = ""
) -> Architecture:
    """The architecture of a model from the shapes of its canonical weights, part by part.

    Raises:
        CheckpointError: the parts are incomplete, or do not fit one another.
    """
    makers = {
        "unet": (unet_config, overrides.unet),
        "vae": (vae_config, overrides.vae),
        "text_encoder": (text_config, overrides.text),
    }
    configs: dict[str, Config] = {}
    problems = []
    for part, (make, own) in makers.items():
        try:
            configs[part] = make(parts[part], family, own)
        except (KeyError, ValueError, IndexError) as error:
            reason = f"{error.args[0]} is missing" if isinstance(error, KeyError) else str(error)
            title = part.replace("_", " ")
            problems.append(Problem(str(where), f"its {title} cannot be read: {reason}"))
    if not problems:
        problems = _misfits(configs, str(where))
    if problems:
        raise CheckpointError(problems)
    unet, vae = configs["unet"], configs["vae"]
    factor = 2 ** (len(vae["block_out_channels"]) - 1)
    resolution = overrides.native_resolution or family.native_resolution
    unet["sample_size"] = max(1, resolution // factor)
    vae["sample_size"] = resolution
    return Architecture(
        family=family.name,
        unet=unet,
        vae=vae,
        text=configs["text_encoder"],
        prediction=overrides.prediction or "epsilon",
        latent_channels=vae["latent_channels"],
        latent_factor=factor,
        size_multiple=factor * 2 ** (len(unet["block_out_channels"]) - 1),
        native_resolution=resolution,
    )


def _misfits(configs: Mapping[str, Config], where: str) -> list[Problem]:
    unet, vae, text = configs["unet"], configs["vae"], configs["text_encoder"]
    found = []
    if unet["cross_attention_dim"] != text["hidden_size"]:
        found.append(
            f"its UNet reads texts {unet['cross_attention_dim']} wide, its text encoder writes "
            f"{text['hidden_size']}"
        )
    if unet["in_channels"] != vae["latent_channels"]:
        found.append(
            f"its UNet takes {unet['in_channels']} channels, its VAE's latents have "
            f"{vae['latent_channels']}"
        )
    for title, config in (("UNet", unet), ("VAE", vae)):
        groups = config["norm_num_groups"]
        if groups < 1 or any(width % groups for width in config["block_out_channels"]):
            widths = config["block_out_channels"]
            found.append(f"its {title}'s widths {widths} do not divide into {groups} groups")
    heads = unet["attention_head_dim"]
    heads = heads if isinstance(heads, list) else [heads] * len(unet["block_out_channels"])
    with_heads = zip(unet["block_out_channels"], heads, unet["down_block_types"], strict=False)
    if any(n < 1 or (width % n and "Attn" in kind) for width, n, kind in with_heads):
        found.append(f"its UNet's widths do not divide into {unet['attention_head_dim']} heads")
    if text["num_attention_heads"] < 1 or text["hidden_size"] % text["num_attention_heads"]:
        found.append(
            f"its text encoder's width {text['hidden_size']} does not divide into "
            f"{text['num_attention_heads']} heads"
        )
    if text["vocab_size"] <= EOS:
        found.append(f"its text encoder knows {text['vocab_size']} tokens, CLIP has {EOS + 1}")
    todo = "the parts belong to different models, or the file needs a lorasmith.model header"
    return [Problem(where, what, todo) for what in found]


def header_entry(parts: Mapping[str, Shapes], family: Family, own: Overrides) -> Config:
    """What a file with these shapes must say in its header to be read as ``own``; empty when
    shapes and the family's defaults say it all."""
    text = parts["text_encoder"]
    usual: dict[str, Config] = {
        "unet": family.unet,
        "vae": family.vae,
        "text": text_config(text, family, {}),
    }
    said: Config = {}
    for part, defaults in usual.items():
        values: Config = getattr(own, part)
        differing = {key: value for key, value in values.items() if value != defaults[key]}
        if differing:
            said[part] = differing
    if own.prediction not in (None, "epsilon"):
        said["prediction"] = own.prediction
    if own.native_resolution not in (None, family.native_resolution):
        said["native_resolution"] = own.native_resolution
    return said
