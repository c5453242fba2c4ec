"""What a family of models is, and how its files are told by the names and shapes in them.

Torch-free. A family is one file in :mod:`lorasmith.models.families` and one line of
:data:`lorasmith.models.families.table.FAMILIES`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from lorasmith.formats.block_weights import BlockMap

Shapes = Mapping[str, tuple[int, ...]]
Config = dict[str, Any]
ShapeTest = Callable[[Shapes], bool]

EOS = 49407
DENOISER = "unet"
"""The denoiser's name among the parts: in prompts, settings, reports and files, whatever it is."""


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
class DenoiserKind:
    """What a kind of denoiser is. ``config`` everywhere is a configuration of its class.

    Args:
        title: what people call it.
        module: where its class is; it is made of a configuration and called as
            ``(noisy_latents, timesteps, prompt_embeds, **inputs, return_dict=False)``, all on its
            device, and gives a tuple with the prediction first.
        prefix: what its weights' names begin with in a single file.
        pattern: what is found in names of any file that has one.
        names_in_file: from the names in a single file, without prefix, their beginnings with
            those of canonical names (the module's own); ValueError where they make no such model.
        other_paths: other names of the module's paths, which some LoRA files have.
        config: the configuration by the shapes of the canonical weights; the last argument has
            precedence. ``sample_size``, the side of the latents, is added to it. KeyError,
            ValueError or IndexError where a weight is missing.
        allowed: what key shapes do not say, and a header or a diffusers config may.
        misfits: what of the denoiser's, VAE's and text encoders' configurations does not fit.
        downscale: latents' sides are best multiples of it.
        inputs: what else than the embedding is given of a conditioning.
        block_paths: paths of the blocks, in the order in which they run: what is recomputed or
            kept in main memory as one.
        block_map: the blocks that people weigh.
        middle: the module whose output says most of what an image shows, (B, C, h, w).
        multiply_adds: of a forward pass for one sample of h x w latents and so many tokens.
        attention_multiply_adds: those of attention itself among them, which no weights take part
            in: scores, and the sums that they weigh.
        convolved: how many weights convolutions have.
        weights: how many there are, within a percent.
        activations: numbers that a step keeps for its backward pass, arguments as above.
        depth: how many pieces run one after the other, each of several calls to the device.
        targets, conv_targets: classes whose layers adapters attach to; ``conv_targets`` with
            convolutions alone.
        attention: classes of attention in these.
        ends: paths of layers outside of all blocks that the preset ``full`` adapts too.
        repeated_blocks: classes that are worth compiling one by one.
        classes: ends of module paths with the classes above, for models that are known from
            the names of their weights alone.
    """

    title: str
    module: str
    prefix: str
    pattern: str
    names_in_file: Callable[[Iterable[str]], Mapping[str, str]]
    config: Callable[[Shapes, Family, Config], Config]
    misfits: Callable[[Config, Config, Sequence[Config], Family], list[str]]
    downscale: Callable[[Config], int]
    block_paths: Callable[[Config], list[str]]
    block_map: Callable[[Config], BlockMap]
    middle: str
    multiply_adds: Callable[[Config, int, int, int], int]
    attention_multiply_adds: Callable[[Config, int, int, int], int]
    convolved: Callable[[Config], int]
    weights: Callable[[Config], int]
    activations: Callable[[Config, int, int, int], int]
    depth: Callable[[Config], int]
    targets: tuple[str, ...]
    conv_targets: tuple[str, ...] = ()
    attention: tuple[str, ...] = ()
    ends: tuple[str, ...] = ()
    repeated_blocks: tuple[str, ...] = ()
    classes: tuple[tuple[str, str], ...] = ()
    allowed: Mapping[str, tuple[type, ...]] = field(default_factory=dict)
    inputs: Callable[[Any], dict[str, Any]] = lambda conditioning: {}
    other_paths: Callable[[Iterable[str]], dict[str, str]] | None = None


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
        denoiser: its kind.
        denoiser_config, vae: configuration that key shapes do not say.
        text_encoders: in the order in which their states are joined.
        lora_names: whose names of the denoiser's layers stand in LoRA files: diffusers', which are
            the module's own, or LDM's, its kind's ``other_paths``.
        size_conditioning: whether the denoiser is told the image's size, crop and target.
        zero_negative: an empty negative prompt is no text at all, all zeros, as the published
            model was trained without its text; else it is the text "".
        prediction: what its models predict unless they say otherwise.
        v_prediction_marker: a weight whose spread tells models that predict v from those that
            predict noise, and the spread above which it is v; ``None`` where models that do not say
            what they predict are all of one kind.
        noise_schedule: its name in :data:`lorasmith.diffusion.schedule.NOISE_SCHEDULES`.
        card_version: the web UI's word for it, "sd version" in a LoRA's card.
        defaults: settings of training that suit its models, by setting ("optimizer.lr"), where
            they are others than everywhere.
        text_targets, text_attention: classes of the text encoders whose layers adapters attach
            to, and those of them that are attention.
    """

    name: str
    title: str
    matches: ShapeTest
    modelspec: Mapping[str, str]
    base_model_version: Mapping[str, str]
    native_resolution: Mapping[str, int]
    denoiser: DenoiserKind
    denoiser_config: Config
    vae: Config
    text_encoders: tuple[TextEncoderSpec, ...]
    lora_names: Literal["diffusers", "ldm"] = "diffusers"
    size_conditioning: bool = False
    zero_negative: bool = False
    prediction: str = "epsilon"
    v_prediction_marker: tuple[str, float] | None = None
    noise_schedule: str = "scaled_linear"
    card_version: str = "Unknown"
    defaults: Mapping[str, Any] = field(default_factory=dict)
    text_targets: tuple[str, ...] = ("CLIPAttention", "CLIPMLP")
    text_attention: tuple[str, ...] = ("CLIPAttention",)

    @property
    def parts(self) -> tuple[str, ...]:
        """The networks of a model: "unet", "vae", and its text encoders."""
        return (DENOISER, "vae", *(text.part for text in self.text_encoders))

    @property
    def takes_clip_skip(self) -> bool:
        """Whether CLIP skip chooses the layer of its text encoders; of others it is settled."""
        return all(text.layer is None for text in self.text_encoders)

    def text_encoder(self, part: str) -> TextEncoderSpec:
        return next(text for text in self.text_encoders if text.part == part)


# Guides give steps at a batch of 1, nearly whatever the number of images: 500 to 750 for half a
# dozen, about 1000 for 35 to 100, up to 3000 for a style.
GUIDES_LENGTH: Mapping[str, Any] = {
    "train.showings": 50,
    "train.showings_falloff": 0.85,
    "train.min_steps": 250,
    "train.max_steps": 4000,
}

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
