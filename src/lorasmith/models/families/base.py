"""What a family of models is, and how its files are told by the names and shapes in them.

Torch-free. A family is one file in :mod:`lorasmith.models.families` and one line of
:data:`lorasmith.models.families.table.FAMILIES`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Shapes = Mapping[str, tuple[int, ...]]
Config = dict[str, Any]
ShapeTest = Callable[[Shapes], bool]

EOS = 49407


@dataclass(frozen=True, slots=True)
class TextEncoderSpec:
    """One text encoder of a family.

    Args:
        part: what it is called here, and its folder's name in a diffusers folder.
        key_prefix: how its keys in LoRA files begin.
        ldm_prefix: what its weights' names begin with in a single file.
        style: whose names follow that prefix: transformers' ("hf") or OpenCLIP's.
        config: configuration that key shapes do not say.
        head_size: channels per attention head.
        pad: token id that fills a row behind its end mark; SD 1 fills with the mark itself.
        layer: counted from the end (-1 is the last, -2 the one before) when the family fixes which
            hidden state is read, without the final norm; ``None`` leaves it to CLIP skip.
        projected: has a projection of the end mark's state, the pooled embedding.
        unused_layers: last layers of a single file that the family never runs.
        pruned_layers: how many layers files have that were written without those.
    """

    part: str
    key_prefix: str
    ldm_prefix: str
    style: Literal["hf", "open_clip"]
    config: Config
    head_size: int = 64
    pad: int = EOS
    layer: int | None = None
    projected: bool = False
    unused_layers: int = 0
    pruned_layers: int = 0


@dataclass(frozen=True, slots=True)
class Family:
    """One line of the family table.

    Args:
        title: the name that people know it by.
        matches: whether a checkpoint's raw names and shapes are this family's.
        modelspec: ``modelspec.architecture`` of a LoRA for it, without the ``/lora``; by what the
            model predicts.
        base_model_version: sd-scripts' ``ss_base_model_version``; by what the model predicts.
        native_resolution: side in pixels that it was trained at; by what the model predicts.
        denoiser_config, vae: configuration that key shapes do not say.
        text_encoders: in the order in which their states are joined.
        unet_names: whose names of UNet layers stand in LoRA files: diffusers' or LDM's.
        size_conditioning: whether the UNet is told the image's size, crop and target.
        zero_negative: an empty negative prompt is no text at all, all zeros, as the published
            model was trained without its text; else it is the text "".
        prediction: what its models predict unless they say otherwise.
        v_prediction_marker: a weight whose spread tells models that predict v from those that
            predict noise, and the spread above which it is v; ``None`` where models that do not say
            what they predict are all of one kind.
        unet_targets, unet_conv_targets, text_targets: classes whose layers adapters attach to.
        repeated_blocks: classes of the UNet that are worth compiling one by one.
    """

    name: str
    title: str
    matches: ShapeTest
    modelspec: Mapping[str, str]
    base_model_version: Mapping[str, str]
    native_resolution: Mapping[str, int]
    denoiser_config: Config
    vae: Config
    text_encoders: tuple[TextEncoderSpec, ...]
    unet_names: Literal["diffusers", "ldm"] = "diffusers"
    size_conditioning: bool = False
    zero_negative: bool = False
    prediction: str = "epsilon"
    v_prediction_marker: tuple[str, float] | None = None
    unet_targets: tuple[str, ...] = ("Transformer2DModel",)
    unet_conv_targets: tuple[str, ...] = ("ResnetBlock2D", "Downsample2D", "Upsample2D")
    text_targets: tuple[str, ...] = ("CLIPAttention", "CLIPMLP")
    repeated_blocks: tuple[str, ...] = ("BasicTransformerBlock", "ResnetBlock2D")

    @property
    def parts(self) -> tuple[str, ...]:
        """The networks of a model: "unet", "vae", and its text encoders."""
        return ("unet", "vae", *(text.part for text in self.text_encoders))

    def text_encoder(self, part: str) -> TextEncoderSpec:
        return next(text for text in self.text_encoders if text.part == part)


# "attention_head_dim" is the number of heads: a misnomer that diffusers keeps.
LATENT_DIFFUSION_UNET: Config = {
    "norm_num_groups": 32, "norm_eps": 1e-5, "act_fn": "silu", "flip_sin_to_cos": True,
    "freq_shift": 0, "center_input_sample": False, "downsample_padding": 1,
    "mid_block_scale_factor": 1.0, "upcast_attention": False,
}  # fmt: skip
LATENT_DIFFUSION_VAE: Config = {"norm_num_groups": 32, "act_fn": "silu", "scaling_factor": 0.18215}

CONTEXT = re.compile(r"\.attn2\.to_k\.weight$")
UNET_INPUT = ("model.diffusion_model.input_blocks.0.0.weight", "unet.conv_in.weight",
              "input_blocks.0.0.weight", "conv_in.weight")  # fmt: skip


def has(pattern: str) -> ShapeTest:
    """A test for any tensor name that ``pattern`` is found in."""
    regex = re.compile(pattern)
    return lambda shapes: any(regex.search(name) for name in shapes)


def lacks(*patterns: str) -> ShapeTest:
    """A test for files in which none of the patterns is found."""
    tests = [has(pattern) for pattern in patterns]
    return lambda shapes: not any(test(shapes) for test in tests)


def takes_channels(count: int) -> ShapeTest:
    """A test for UNets with so many input channels."""
    return lambda shapes: _input_channels(shapes) == count


def reads_context(width: int) -> ShapeTest:
    """A test for UNets whose cross-attention reads text features of that width."""
    return lambda shapes: any(
        CONTEXT.search(name) and len(shape) == 2 and shape[1] == width
        for name, shape in shapes.items()
    )


def _input_channels(shapes: Shapes) -> int:
    for name in UNET_INPUT:
        if len(shapes.get(name, ())) == 4:
            return shapes[name][1]
    return 0
