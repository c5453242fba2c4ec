"""The families of models: what they are made of, and how a file's key shapes tell which it is.

Torch-free, so that planning a run or refusing a wrong file costs nothing. Names here are those
of the file ("raw") in :func:`detect`, and diffusers' and transformers' ("canonical", see
:mod:`lorasmith.models.key_maps`) in the configs. Whatever shapes cannot say (heads, groups, the
scale of the latents) is the family's default, unless the file's header says otherwise under
``lorasmith.model``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from lorasmith.errors import CheckpointError, Problem

Shapes = Mapping[str, tuple[int, ...]]
Config = dict[str, Any]

PARTS = ("unet", "vae", "text_encoder")
METADATA_KEY = "lorasmith.model"


@dataclass(frozen=True, slots=True)
class Family:
    """One line of the family table.

    Args:
        title: the name that people know it by.
        modelspec: ``modelspec.architecture`` of a LoRA for it, without the ``/lora``.
        base_model_version: sd-scripts' ``ss_base_model_version``.
        native_resolution: side in pixels that it was trained at.
        unet, vae, text: configuration that key shapes do not say.
        text_head_size: channels per attention head of the text encoder.
        unet_targets, unet_conv_targets, text_targets: classes whose layers adapters attach to.
        repeated_blocks: classes of the UNet that are worth compiling one by one.
    """

    name: str
    title: str
    modelspec: str
    base_model_version: str
    native_resolution: int
    unet: Config
    vae: Config
    text: Config
    text_head_size: int
    unet_targets: tuple[str, ...]
    unet_conv_targets: tuple[str, ...]
    text_targets: tuple[str, ...]
    repeated_blocks: tuple[str, ...]


FAMILIES: dict[str, Family] = {
    "sd1": Family(
        name="sd1",
        title="Stable Diffusion 1",
        modelspec="stable-diffusion-v1",
        base_model_version="sd_v1",
        native_resolution=512,
        # "attention_head_dim" is the number of heads: a misnomer that diffusers keeps.
        unet={
            "attention_head_dim": 8, "norm_num_groups": 32, "norm_eps": 1e-5, "act_fn": "silu",
            "flip_sin_to_cos": True, "freq_shift": 0, "center_input_sample": False,
            "downsample_padding": 1, "mid_block_scale_factor": 1.0, "upcast_attention": False,
        },
        vae={"norm_num_groups": 32, "act_fn": "silu", "scaling_factor": 0.18215},
        text={"hidden_act": "quick_gelu", "layer_norm_eps": 1e-5},
        text_head_size=64,
        unet_targets=("Transformer2DModel",),
        unet_conv_targets=("ResnetBlock2D", "Downsample2D", "Upsample2D"),
        text_targets=("CLIPAttention", "CLIPMLP"),
        repeated_blocks=("BasicTransformerBlock", "ResnetBlock2D"),
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Architecture:
    """Everything about a model but its weights.

    Args:
        unet, vae, text: configurations for diffusers' ``UNet2DConditionModel`` and
            ``AutoencoderKL`` and for transformers' ``CLIPTextConfig``.
        prediction: what the UNet predicts, "epsilon" or "v".
        latent_channels: channels of a latent.
        latent_factor: pixels per latent element, along each side.
        size_multiple: a picture's sides are best multiples of this, in pixels: the UNet halves
            latents once per level.
        native_resolution: side in pixels that the model was trained at.
    """

    family: str
    unet: Config
    vae: Config
    text: Config
    prediction: str
    latent_channels: int
    latent_factor: int
    size_multiple: int
    native_resolution: int

    @property
    def known_as(self) -> Family:
        return FAMILIES[self.family]


@dataclass(frozen=True, slots=True)
class Overrides:
    """What a header or a diffusers config says beyond the shapes; see :func:`parse_overrides`."""

    unet: Config = field(default_factory=dict)
    vae: Config = field(default_factory=dict)
    text: Config = field(default_factory=dict)
    prediction: str | None = None
    native_resolution: int | None = None


@dataclass(frozen=True, slots=True)
class NotABase:
    """Something that people give as a base model and that is not one we can train."""

    what: str
    todo: str
    recognised: Callable[[Shapes], bool]


def has(pattern: str) -> Callable[[Shapes], bool]:
    """A test for any tensor name that ``pattern`` is found in."""
    regex = re.compile(pattern)
    return lambda shapes: any(regex.search(name) for name in shapes)


UNET_INPUT = ("model.diffusion_model.input_blocks.0.0.weight", "unet.conv_in.weight",
              "input_blocks.0.0.weight", "conv_in.weight")  # fmt: skip
CONTEXT = re.compile(r"\.attn2\.to_k\.weight$")


def _input_channels(shapes: Shapes) -> int:
    for name in UNET_INPUT:
        if len(shapes.get(name, ())) == 4:
            return shapes[name][1]
    return 0


def _takes_channels(count: int) -> Callable[[Shapes], bool]:
    return lambda shapes: _input_channels(shapes) == count


def _reads_context(width: int) -> Callable[[Shapes], bool]:
    return lambda shapes: any(
        CONTEXT.search(name) and len(shape) == 2 and shape[1] == width
        for name, shape in shapes.items()
    )


def _lacks(*patterns: str) -> Callable[[Shapes], bool]:
    tests = [has(pattern) for pattern in patterns]
    return lambda shapes: not any(test(shapes) for test in tests)


UNET_NAMES = r"^(model\.diffusion_model|unet)\.|(^|\.)input_blocks\.|(^|\.)down_blocks\.\d+\.att"
TEXT_NAMES = r"^(cond_stage_model|text_encoder)\.|(^|\.)token_embedding\."
SD1_TODO = "choose a checkpoint of the Stable Diffusion 1 family"

EMBEDDING = has(r"^(emb_params|string_to_param|clip_[lg]|<.*>$)")

NOT_A_BASE: tuple[NotABase, ...] = (
    NotABase(
        "a LoRA (an adapter), not a base model",
        "give the checkpoint that it was trained on; to go on from a LoRA use adapter.init_from",
        has(r"\.lora_(up|down|A|B|mid)\.|\.hada_[wt]|\.lokr_[wt]|\.oft_|^lora_(unet|te\d?)_|\.diff_?b?$"),
    ),
    NotABase(
        "a textual-inversion embedding, not a base model", "give the checkpoint it is used with",
        lambda shapes: len(shapes) < 10 and EMBEDDING(shapes),
    ),
    NotABase(
        "a ControlNet, not a base model", "give the checkpoint that it steers",
        has(r"input_hint_block|controlnet_cond_embedding|^control_model\."),
    ),
    NotABase(
        "an AnimateDiff motion module, not a base model", "give the checkpoint it is used with",
        has(r"motion_modules\."),
    ),
    NotABase("a Flux model", SD1_TODO, has(r"(^|\.)double_blocks\.|single_transformer_blocks\.")),
    NotABase("a Stable Diffusion 3 model", SD1_TODO, has(r"joint_blocks\.|\.attn\.add_k_proj\.")),
    NotABase("a PixArt-like model", SD1_TODO, has(r"adaln_single\.|caption_projection\.")),
    NotABase(
        "a Stable Cascade model", SD1_TODO, has(r"clip_txt_mapper|effnet_mapper|previewer\."),
    ),
    NotABase(
        "a Stable Diffusion XL model", SD1_TODO,
        has(r"^conditioner\.embedders\.|\.label_emb\.|add_embedding\.|^text_encoder_2\."),
    ),
    NotABase("an upscaling model (7 input channels)", SD1_TODO, _takes_channels(7)),
    NotABase(
        "an inpainting model (its UNet takes 9 channels, a base model's takes 4)",
        "give the base model that it was made from", _takes_channels(9),
    ),
    NotABase(
        "an InstructPix2Pix model (its UNet takes 8 channels, a base model's takes 4)",
        "give the base model that it was made from", _takes_channels(8),
    ),
    NotABase(
        "a depth model (its UNet takes 5 channels, a base model's takes 4)",
        "give a plain text-to-image model", _takes_channels(5),
    ),
    NotABase("a Stable Diffusion 2 model", SD1_TODO, has(r"^cond_stage_model\.model\.")),
    NotABase("a Stable Diffusion 2 model", SD1_TODO, _reads_context(1024)),
    NotABase(
        "a VAE alone", "give it as model.vae, and a whole checkpoint as model.path",
        lambda shapes: has(r"(^|\.)(encoder|decoder)\.conv_in\.")(shapes)
        and _lacks(UNET_NAMES, TEXT_NAMES)(shapes),
    ),
    NotABase(
        "a text encoder alone", "give a whole checkpoint",
        lambda shapes: has(TEXT_NAMES)(shapes) and _lacks(UNET_NAMES)(shapes),
    ),
    NotABase(
        "a UNet alone, without text encoder",
        "give the whole checkpoint that it belongs to",
        lambda shapes: has(UNET_NAMES)(shapes) and _lacks(TEXT_NAMES)(shapes),
    ),
)  # fmt: skip


def detect(shapes: Shapes, where: object = "", family: str = "auto") -> Family:
    """Which family a checkpoint belongs to, by its raw tensor names and shapes.

    ``where`` names the file in errors; ``family`` other than "auto" is the user's own word.

    Raises:
        CheckpointError: it is of no family that we know; says what it is and what to do.
    """
    for kind in NOT_A_BASE:
        if kind.recognised(shapes):
            raise CheckpointError.of(where, f"this is {kind.what}", kind.todo)
    if not has(UNET_NAMES)(shapes):
        some = ", ".join(list(shapes)[:3]) or "none at all"
        what = f"these are not the weights of a diffusion model ({len(shapes)} tensors: {some})"
        raise CheckpointError.of(where, what, SD1_TODO)
    found = FAMILIES["sd1"]
    if family not in ("auto", found.name):
        what = f"this is a {found.title} model, and model.family asks for {family!r}"
        raise CheckpointError.of(where, what, 'set model.family to "auto"')
    return found


# What key shapes do not say, and a header or a diffusers config may.
ALLOWED: dict[str, dict[str, tuple[type, ...]]] = {
    "unet": {
        "attention_head_dim": (int, list), "norm_num_groups": (int,), "norm_eps": (float,),
        "act_fn": (str,), "flip_sin_to_cos": (bool,), "freq_shift": (int,),
        "center_input_sample": (bool,), "downsample_padding": (int,),
        "mid_block_scale_factor": (int, float), "upcast_attention": (bool,),
    },
    "vae": {"norm_num_groups": (int,), "act_fn": (str,), "scaling_factor": (float, int)},
    "text": {"num_attention_heads": (int,), "hidden_act": (str,), "layer_norm_eps": (float,)},
}  # fmt: skip
PREDICTIONS = {
    "epsilon": "epsilon", "eps": "epsilon", "v": "v", "v_prediction": "v", "v-prediction": "v",
}  # fmt: skip


def pick_allowed(part: str, config: Mapping[str, Any]) -> Config:
    """Those values of a configuration that key shapes do not already say."""
    allowed = ALLOWED[part]
    return {
        key: value
        for key, value in config.items()
        if key in allowed and isinstance(value, allowed[key])
    }


def parse_overrides(metadata: Mapping[str, str], where: object = "") -> Overrides:
    """What a single file's header says about its model.

    Raises:
        CheckpointError: ``lorasmith.model`` is not the JSON that it should be.
    """
    prediction = PREDICTIONS.get(metadata.get("modelspec.prediction_type", ""))
    text = metadata.get(METADATA_KEY)
    if text is None:
        return Overrides(prediction=prediction)
    problem = Problem(str(where), f"its header entry {METADATA_KEY} is damaged")
    try:
        values = json.loads(text)
        parts = {part: pick_allowed(part, values.get(part, {})) for part in ALLOWED}
        resolution = values.get("native_resolution")
        prediction = PREDICTIONS.get(values.get("prediction", ""), prediction)
    except (ValueError, AttributeError, TypeError) as error:
        raise CheckpointError(problem) from error
    if resolution is not None and not (isinstance(resolution, int) and 8 <= resolution <= 8192):
        raise CheckpointError(problem)
    return Overrides(**parts, prediction=prediction, native_resolution=resolution)
