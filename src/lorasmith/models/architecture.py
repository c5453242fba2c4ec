"""Model configurations from key shapes alone.

No size is assumed: the latents' factor and the text encoder's depth are read off the shapes of the
canonical weights (diffusers' and transformers' names), as the denoiser's sizes are by its kind.
Torch-free.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial

from lorasmith.core.errors import CheckpointError, Problem
from lorasmith.formats.ldm_keys import vae_plan_of_diffusers
from lorasmith.models.families.base import DENOISER, EOS, Config, Family, Shapes, TextEncoderSpec
from lorasmith.models.families.table import Architecture, Overrides

BOS = 49406


def vae_config(shapes: Shapes, family: Family, overrides: Config) -> Config:
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
        **overrides,
    }


def text_config(shapes: Shapes, spec: TextEncoderSpec, overrides: Config) -> Config:
    """Arguments of transformers' ``CLIPTextConfig``.

    Raises:
        KeyError, ValueError, IndexError: a weight that decides the architecture is missing.
    """
    vocabulary, width = shapes["embeddings.token_embedding.weight"]
    matches = (re.match(r"encoder\.layers\.(\d+)\.", name) for name in shapes)
    projection = shapes["text_projection.weight"][0] if spec.projected else width
    return {
        **spec.config,
        "vocab_size": vocabulary,
        "hidden_size": width,
        "intermediate_size": shapes["encoder.layers.0.mlp.fc1.weight"][0],
        "num_hidden_layers": 1 + max(int(match[1]) for match in matches if match),
        "num_attention_heads": max(1, width // spec.head_size),
        "max_position_embeddings": shapes["embeddings.position_embedding.weight"][0],
        "projection_dim": projection,
        "bos_token_id": BOS,
        "eos_token_id": EOS,
        "pad_token_id": spec.pad,
        **overrides,
    }


def architecture_of_parts(
    parts: Mapping[str, Shapes], family: Family, overrides: Overrides, where: object = ""
) -> Architecture:
    """The architecture of a model from the shapes of its canonical weights, part by part.

    Raises:
        CheckpointError: the parts are incomplete, or do not fit one another.
    """
    allowed = family.denoiser.allowed
    denoiser_overrides = {key: value for key, value in overrides.unet.items() if key in allowed}
    makers: dict[str, Callable[[Shapes], Config]] = {
        DENOISER: lambda shapes: family.denoiser.config(shapes, family, denoiser_overrides),
        "vae": lambda shapes: vae_config(shapes, family, overrides.vae),
    }
    for spec in family.text_encoders:
        text_overrides = overrides.texts.get(spec.part, {})
        makers[spec.part] = partial(text_config, spec=spec, overrides=text_overrides)
    configs: dict[str, Config] = {}
    problems = []
    for part, make in makers.items():
        try:
            configs[part] = make(parts[part])
        except (KeyError, ValueError, IndexError) as error:
            reason = f"{error.args[0]} is missing" if isinstance(error, KeyError) else str(error)
            title = part.replace("_", " ")
            problems.append(Problem(str(where), f"its {title} cannot be read: {reason}"))
    if not problems:
        problems = _misfits(configs, family, str(where))
    if problems:
        raise CheckpointError(problems)
    unet, vae = configs[DENOISER], configs["vae"]
    factor = 2 ** (len(vae["block_out_channels"]) - 1)
    prediction = overrides.prediction or family.prediction
    resolution = overrides.native_resolution or family.native_resolution[prediction]
    unet["sample_size"] = max(1, resolution // factor)
    vae["sample_size"] = resolution
    return Architecture(
        family_name=family.name,
        denoiser=unet,
        vae=vae,
        texts=tuple(configs[text.part] for text in family.text_encoders),
        prediction=prediction,
        latent_channels=vae["latent_channels"],
        latent_factor=factor,
        size_multiple=factor * family.denoiser.downscale(unet),
        native_resolution=resolution,
        zero_terminal_snr=bool(overrides.zero_terminal_snr),
    )


def _misfits(configs: Mapping[str, Config], family: Family, where: str) -> list[Problem]:
    unet, vae = configs[DENOISER], configs["vae"]
    texts = [configs[text.part] for text in family.text_encoders]
    misfits = family.denoiser.misfits(unet, vae, texts, family)
    misfits += [line for text in texts for line in _text_misfits(text)]
    hint = "the parts belong to different models, or the file needs a lorasmith.model header"
    return [Problem(where, what, hint) for what in misfits]


def _text_misfits(text: Config) -> list[str]:
    misfits = []
    if text["num_attention_heads"] < 1 or text["hidden_size"] % text["num_attention_heads"]:
        misfits.append(
            f"its text encoder's width {text['hidden_size']} does not divide into "
            f"{text['num_attention_heads']} heads"
        )
    if text["vocab_size"] <= EOS:
        misfits.append(f"its text encoder knows {text['vocab_size']} tokens, CLIP has {EOS + 1}")
    return misfits


def header_entry(parts: Mapping[str, Shapes], family: Family, overrides: Overrides) -> Config:
    """What a file with these shapes must say in its header to be read as ``overrides``; empty when
    shapes and the family's defaults say it all."""
    entry: Config = {}
    defaults = {DENOISER: family.denoiser.config(parts[DENOISER], family, {}), "vae": family.vae}
    for part, usual in defaults.items():
        if differing := _differing(getattr(overrides, part), usual):
            entry[part] = differing
    for spec in family.text_encoders:
        usual = text_config(parts[spec.part], spec, {})
        if differing := _differing(overrides.texts.get(spec.part, {}), usual):
            entry.setdefault("texts", {})[spec.part] = differing
    if overrides.prediction not in (None, family.prediction):
        entry["prediction"] = overrides.prediction
    usual_side = family.native_resolution[overrides.prediction or family.prediction]
    if overrides.native_resolution not in (None, usual_side):
        entry["native_resolution"] = overrides.native_resolution
    if overrides.zero_terminal_snr:
        entry["zero_terminal_snr"] = True
    return entry


def _differing(config: Config, usual: Config) -> Config:
    return {key: value for key, value in config.items() if value != usual[key]}
