"""The table of families, and how a file's key shapes tell which one it belongs to.

Torch-free, so that planning a run or refusing a wrong file costs nothing. Names here are those
of the file ("raw") in :func:`detect`, and diffusers' and transformers' ("canonical", see
:mod:`lorasmith.formats.ldm_keys`) in the configs. Whatever shapes cannot say (heads, groups, the
scale of the latents) is the family's default, unless the file's header says otherwise under
``lorasmith.model``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lorasmith.core.errors import CheckpointError, Problem
from lorasmith.core.files import parse_json
from lorasmith.core.text import quantity
from lorasmith.formats.adapter_roots import AdapterRoot
from lorasmith.formats.block_weights import BlockMap
from lorasmith.models.families.base import (
    DENOISER,
    Config,
    Family,
    Shapes,
    ShapeTest,
    has,
    lacks,
    reads_context,
    takes_channels,
)
from lorasmith.models.families.sd1 import SD1
from lorasmith.models.families.sd2 import SD2
from lorasmith.models.families.sdxl import SDXL

if TYPE_CHECKING:
    from torch import nn

METADATA_KEY = "lorasmith.model"

# In the order in which they are asked: the plainest is last, since its names are in all of them.
FAMILIES: dict[str, Family] = {family.name: family for family in (SDXL, SD2, SD1)}


@dataclass(frozen=True, slots=True)
class Architecture:
    """Everything about a model but its weights.

    Args:
        denoiser, vae: configurations for the family's kind of denoiser and for diffusers'
            ``AutoencoderKL``.
        texts: configurations for transformers' ``CLIPTextConfig``, one for each of the family's
            text encoders.
        prediction: what the denoiser predicts, "epsilon" or "v".
        latent_channels: channels of a latent.
        latent_factor: pixels per latent element, along each side.
        size_multiple: an image's sides are best multiples of this, in pixels.
        native_resolution: side in pixels that the model was trained at.
        zero_terminal_snr: its noise schedule ends in nothing but noise.
    """

    family_name: str
    denoiser: Config
    vae: Config
    texts: tuple[Config, ...]
    prediction: str
    latent_channels: int
    latent_factor: int
    size_multiple: int
    native_resolution: int
    zero_terminal_snr: bool = False

    @property
    def family(self) -> Family:
        return FAMILIES[self.family_name]

    @property
    def text_width(self) -> int:
        """Channels of what the text encoders write, side by side."""
        return sum(int(text["hidden_size"]) for text in self.texts)

    @property
    def denoiser_weights(self) -> int:
        """How many weights the denoiser has, within a percent."""
        return self.family.denoiser.weights(self.denoiser)

    @property
    def depth(self) -> int:
        """How many pieces of the denoiser run one after the other."""
        return self.family.denoiser.depth(self.denoiser)

    def multiply_adds(self, width: int, height: int, tokens: int) -> int:
        """Of one call of the denoiser for one image of this size in pixels."""
        h, w = height // self.latent_factor, width // self.latent_factor
        return self.family.denoiser.multiply_adds(self.denoiser, h, w, tokens)

    def attention_multiply_adds(self, width: int, height: int, tokens: int) -> int:
        """Those of attention itself among them: scores, and the sums that they weigh."""
        h, w = height // self.latent_factor, width // self.latent_factor
        return self.family.denoiser.attention_multiply_adds(self.denoiser, h, w, tokens)

    @property
    def convolved(self) -> int:
        """How many weights the denoiser's convolutions have, within a few percent."""
        return self.family.denoiser.convolved(self.denoiser)

    def activations(self, width: int, height: int, tokens: int) -> int:
        """Numbers that a training step keeps for its backward pass, for one image of this size;
        right within a factor of two."""
        h, w = height // self.latent_factor, width // self.latent_factor
        return self.family.denoiser.activations(self.denoiser, h, w, tokens)

    @property
    def blocks(self) -> BlockMap:
        """The blocks of the denoiser that people weigh."""
        return self.family.denoiser.block_map(self.denoiser)

    @property
    def block_paths(self) -> list[str]:
        """Paths of the denoiser's blocks, in the order in which they run."""
        return self.family.denoiser.block_paths(self.denoiser)

    def adapter_roots(
        self, denoiser: nn.Module, text_encoders: Mapping[str, nn.Module]
    ) -> list[AdapterRoot]:
        """Where adapters attach in the model's networks, the denoiser first."""
        family, kind = self.family, self.family.denoiser
        other = (
            kind.other_paths(name for name, _ in denoiser.named_modules())
            if kind.other_paths
            else None
        )
        renamed = other if family.lora_names == "ldm" else None
        root = AdapterRoot(
            DENOISER, "lora_unet", "", denoiser, kind.targets, kind.conv_targets,
            DENOISER, renamed, other, kind.attention, kind.ends,
        )  # fmt: skip
        return [root] + [
            AdapterRoot(
                "text_encoder", spec.key_prefix, "text_model", text_encoders[spec.part],
                family.text_targets, folder=spec.part, attention=family.text_attention,
            )
            for spec in family.text_encoders
        ]  # fmt: skip

    @property
    def text(self) -> Config:
        """Of the first text encoder; the only one of most families."""
        return self.texts[0]

    @property
    def summary(self) -> str:
        """For people: "Stable Diffusion XL, predicts the noise, trained at 1024 px"."""
        predicts = {"epsilon": "the noise", "v": "the velocity"}[self.prediction]
        schedule = ", down to nothing but noise" if self.zero_terminal_snr else ""
        side = self.native_resolution
        return f"{self.family.title}, predicts {predicts}{schedule}, trained at {side} px"


@dataclass(frozen=True, slots=True)
class Overrides:
    """What a header or a diffusers config says beyond the shapes; see :func:`parse_overrides`.

    Args:
        texts: by the part's name.
    """

    unet: Config = field(default_factory=dict)
    vae: Config = field(default_factory=dict)
    texts: Mapping[str, Config] = field(default_factory=dict)
    prediction: str | None = None
    native_resolution: int | None = None
    zero_terminal_snr: bool | None = None


@dataclass(frozen=True, slots=True)
class NotABase:
    """Something that people give as a base model and that is not one we can train."""

    what: str
    hint: str
    matches: ShapeTest


TEXT_NAMES = r"^(cond_stage_model|conditioner|text_encoder(_2)?)\.|(^|\.)token_embedding\."
BASE_HINT = "choose a checkpoint of Stable Diffusion 1, 2 or XL"


def has_denoiser(shapes: Shapes) -> bool:
    """Whether there is the denoiser of any family among these."""
    return any(has(pattern)(shapes) for pattern in {f.denoiser.pattern for f in FAMILIES.values()})


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
    NotABase("a Flux model", BASE_HINT, has(r"(^|\.)double_blocks\.|single_transformer_blocks\.")),
    NotABase("a Stable Diffusion 3 model", BASE_HINT, has(r"joint_blocks\.|\.attn\.add_k_proj\.")),
    NotABase("a PixArt-like model", BASE_HINT, has(r"adaln_single\.|caption_projection\.")),
    NotABase(
        "a Stable Cascade model", BASE_HINT, has(r"clip_txt_mapper|effnet_mapper|previewer\."),
    ),
    NotABase(
        "the refiner of Stable Diffusion XL, which paints over finished pictures",
        "give the base model that it refines", reads_context(1280),
    ),
    NotABase(
        "a model of another noise schedule (EDM: Playground 2.5, CosXL)",
        "choose a base model that is trained like Stable Diffusion XL's own",
        has(r"^edm_(mean|std|vpred\.)"),
    ),
    NotABase("an upscaling model (7 input channels)", BASE_HINT, takes_channels(7)),
    NotABase(
        "an inpainting model (its UNet takes 9 channels, a base model's takes 4)",
        "give the base model that it was made from", takes_channels(9),
    ),
    NotABase(
        "an InstructPix2Pix model (its UNet takes 8 channels, a base model's takes 4)",
        "give the base model that it was made from", takes_channels(8),
    ),
    NotABase(
        "a depth model (its UNet takes 5 channels, a base model's takes 4)",
        "give a plain text-to-image model", takes_channels(5),
    ),
    NotABase(
        "an unCLIP model, which paints after pictures", "give a plain text-to-image model",
        has(r"^noise_augmentor\.|(^|\.)class_embedding\."),
    ),
    NotABase(
        "a VAE alone", "give it as model.vae, and a whole checkpoint as model.path",
        lambda shapes: has(r"(^|\.)(encoder|decoder)\.conv_in\.")(shapes)
        and lacks(TEXT_NAMES)(shapes) and not has_denoiser(shapes),
    ),
    NotABase(
        "a text encoder alone", "give a whole checkpoint",
        lambda shapes: has(TEXT_NAMES)(shapes) and not has_denoiser(shapes),
    ),
    NotABase(
        "a UNet alone, without text encoder",
        "give the whole checkpoint that it belongs to",
        lambda shapes: has_denoiser(shapes) and lacks(TEXT_NAMES)(shapes),
    ),
)  # fmt: skip


def detect(shapes: Shapes, where: object = "", family: str = "auto") -> Family:
    """Which family a checkpoint belongs to, by its raw tensor names and shapes.

    ``where`` names the file in errors; ``family`` other than "auto" is the user's own word, which
    is taken: what does not fit it is then missing or too many.

    Raises:
        CheckpointError: it is of no family that we know; says what it is and what to do.
    """
    for kind in NOT_A_BASE:
        if kind.matches(shapes):
            raise CheckpointError.of(where, f"this is {kind.what}", kind.hint)
    if not has_denoiser(shapes):
        some = ", ".join(list(shapes)[:3]) or "none at all"
        what = (
            "these are not the weights of a diffusion model "
            f"({quantity(len(shapes), 'tensor')}: {some})"
        )
        raise CheckpointError.of(where, what, BASE_HINT)
    if family != "auto":
        return FAMILIES[family]
    return next(candidate for candidate in FAMILIES.values() if candidate.matches(shapes))


def check_clip_skip(architecture: Architecture, clip_skip: int, where: object) -> list[str]:
    """What there is to say of a CLIP skip.

    Raises:
        CheckpointError: the text encoder has no such layer.
    """
    family, layers = architecture.family, architecture.text["num_hidden_layers"]
    if clip_skip > 1 and not family.takes_clip_skip:
        return [f"{family.title} models always read the layer before the last: CLIP skip is unused"]
    if not 1 <= clip_skip <= layers:
        what = f"{clip_skip} is no CLIP skip of this model: its text encoder has {layers} layers"
        raise CheckpointError.of(where, what, f"choose 1 to {layers}")
    return []


# What key shapes do not say, and a header or a diffusers config may.
ALLOWED: dict[str, dict[str, tuple[type, ...]]] = {
    "vae": {"norm_num_groups": (int,), "act_fn": (str,), "scaling_factor": (float, int)},
    "text": {"num_attention_heads": (int,), "hidden_act": (str,), "layer_norm_eps": (float,)},
}  # fmt: skip
PREDICTIONS = {
    "epsilon": "epsilon", "eps": "epsilon", "v": "v", "v_prediction": "v", "v-prediction": "v",
}  # fmt: skip


def pick_allowed(part: str, config: Mapping[str, Any]) -> Config:
    """Those values of a configuration that key shapes do not already say."""
    allowed = ALLOWED[part] if part in ALLOWED else _denoisers_allow()
    return {
        key: value
        for key, value in config.items()
        if key in allowed and isinstance(value, allowed[key])
    }


def _denoisers_allow() -> dict[str, tuple[type, ...]]:
    return {
        key: kinds for family in FAMILIES.values() for key, kinds in family.denoiser.allowed.items()
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
        values = parse_json(text)
        unet, vae = (pick_allowed(part, values.get(part, {})) for part in ("unet", "vae"))
        # Files written before there were families with two text encoders have one, called "text".
        texts = {"text_encoder": values["text"]} if "text" in values else values.get("texts", {})
        texts = {part: pick_allowed("text", config) for part, config in texts.items()}
        resolution = values.get("native_resolution")
        to_noise = values.get("zero_terminal_snr")
        prediction = PREDICTIONS.get(values.get("prediction", ""), prediction)
    except (ValueError, AttributeError, TypeError) as error:
        raise CheckpointError(problem) from error
    if resolution is not None and not (isinstance(resolution, int) and 8 <= resolution <= 8192):
        raise CheckpointError(problem)
    return Overrides(
        unet, vae, texts, prediction, resolution, to_noise if isinstance(to_noise, bool) else None
    )
