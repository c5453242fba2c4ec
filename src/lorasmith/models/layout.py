"""Which tensor of a file is which weight of which part. Torch-free."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lorasmith.core.errors import CheckpointError
from lorasmith.core.files import TensorInfo
from lorasmith.formats.ldm_keys import (
    OPEN_CLIP_BLOCK,
    VAE_PREFIX,
    is_vae_projection,
    text_from_hf,
    text_from_open_clip,
    translate,
    vae_from_old_diffusers,
    vae_plan_of_ldm,
    vae_table,
)
from lorasmith.formats.pickle_header import PickleHeader
from lorasmith.models.families.base import DENOISER, Family, Shapes, TextEncoderSpec

VAE_ROOTS = ("encoder.", "decoder.", "quant_conv.", "post_quant_conv.")

# What training programs leave in checkpoints beside the model: averages, schedules, losses.
LEFTOVERS = re.compile(
    r"^model_ema\.|(^|\.)position_ids$|^(sqrt_|log_)?(one_minus_)?(betas|alphas|alphas_cumprod)"
    r"|^(sqrt_|log_)(one_minus_|recip|recipm1)|^posterior_|^(logvar|lvlb_weights|scale_factor)$"
    r"|^global_step$|^(first_stage_model\.)?(loss|model_ema)\.|^denoiser\.|^v_pred$|^ztsnr$"
    r"|^cond_stage_model\.(transformer\.|model\.)?(logit_scale|text_projection(\.weight)?)$"
    r"|(^|\.)(logit_scale|attn_mask)$"
)


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a file a weight is: the tensor called ``name``, or a part of it.

    Args:
        third: which third of its rows (OpenCLIP stores q, k and v as one).
        transposed: stored the other way round (OpenCLIP's projection).
    """

    name: str
    third: int | None = None
    transposed: bool = False


@dataclass(frozen=True, slots=True)
class WeightFile:
    """The header of one file.

    Args:
        tensors: where each tensor's bytes are: in safetensors files, and most torch files.
        pickle: of a torch file.
    """

    path: Path
    shapes: dict[str, tuple[int, ...]]
    metadata: dict[str, str]
    tensors: dict[str, TensorInfo] | None = None
    pickle: PickleHeader | None = None


@dataclass(slots=True)
class Layout:
    """``parts[part][canonical name]`` is the place in the file; what is left over is named.

    Args:
        parts: "unet", "vae", "text_encoder", …; absent when the file has none of it.
        unknown: tensors inside a part that are no weight of such a model.
        unused: tensors outside the parts that are not among the usual leftovers.
    """

    parts: dict[str, dict[str, Place]] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)

    def add(self, part: str, canonical: str | None, name: str) -> None:
        if canonical is None:
            self.unknown.append(name)
        else:
            self.parts.setdefault(part, {})[canonical] = Place(name)


FileLayout = tuple[WeightFile, Layout]


def single_file_layout(names: Iterable[str], family: Family, where: object = "") -> Layout:
    """The layout of a single file, in LDM names or with diffusers' names behind the part's own.

    Raises:
        CheckpointError: the blocks of its denoiser or VAE are not those of such a model.
    """
    names = [name for name in names if not LEFTOVERS.search(name)]
    layout = Layout()
    texts = {text.ldm_prefix: text for text in family.text_encoders}
    kind = family.denoiser
    ldm: dict[str, list[str]] = {prefix: [] for prefix in (kind.prefix, VAE_PREFIX, *texts)}
    for name in names:
        prefix = next((prefix for prefix in ldm if name.startswith(prefix)), None)
        part, _, inner_name = name.partition(".")
        if prefix is not None:
            ldm[prefix].append(name.removeprefix(prefix))
        elif part in family.parts:
            _add_diffusers(layout, part, inner_name, name)
        else:
            layout.unused.append(name)
    try:
        _add_translated(layout, DENOISER, kind.prefix, ldm[kind.prefix], kind.names_in_file)
        _add_translated(layout, "vae", VAE_PREFIX, ldm[VAE_PREFIX], vae_names)
    except ValueError as error:
        raise CheckpointError.of(where, f"not a Stable Diffusion checkpoint: {error}") from error
    for prefix, text in texts.items():
        if text.style == "open_clip":
            _add_open_clip(layout, text, ldm[prefix])
        else:
            for name in ldm[prefix]:
                layout.add(text.part, text_from_hf(name), prefix + name)
    return layout


def vae_names(names: Iterable[str]) -> Mapping[str, str]:
    return vae_table(vae_plan_of_ldm(names))


def _add_translated(
    layout: Layout,
    part: str,
    prefix: str,
    names: list[str],
    table_of: Callable[[Iterable[str]], Mapping[str, str]],
) -> None:
    """Raises ValueError where the names make no model."""
    if not names:
        return
    table = table_of(names)
    for name in names:
        layout.add(part, translate(name, table), prefix + name)


def _add_open_clip(layout: Layout, text: TextEncoderSpec, names: list[str]) -> None:
    blocks = [int(match[1]) for match in map(OPEN_CLIP_BLOCK.match, names) if match]
    count = max(blocks, default=-1) + 1
    last = count - 1 - (0 if count == text.pruned_layers else text.unused_layers)
    for name in names:
        stored = text.ldm_prefix + name
        match = OPEN_CLIP_BLOCK.match(name)
        if (match and int(match[1]) > last) or (name == "text_projection" and not text.projected):
            continue
        canonical_names = text_from_open_clip(name)
        if not canonical_names:
            layout.unknown.append(stored)
        for third, canonical in enumerate(canonical_names):
            layout.parts.setdefault(text.part, {})[canonical] = Place(
                stored, third if len(canonical_names) > 1 else None, name == "text_projection"
            )


def diffusers_layout(part: str, names: Iterable[str]) -> Layout:
    """The layout of one file of a diffusers folder, which holds one part."""
    layout = Layout()
    for name in names:
        if not LEFTOVERS.search(name):
            _add_diffusers(layout, part, name, name)
    return layout


def _add_diffusers(layout: Layout, part: str, name: str, stored_name: str) -> None:
    if part.startswith("text_encoder"):
        canonical = text_from_hf(name)
        if canonical == "text_projection.weight" and part == "text_encoder":
            return  # SD's own text encoder is read without it.
    else:
        canonical = vae_from_old_diffusers(name) if part == "vae" else name
    layout.add(part, canonical, stored_name)


def vae_layout(names: Iterable[str], where: object = "") -> Layout:
    """The layout of a VAE's own file, in LDM names (with or without prefix) or diffusers'.

    Raises:
        CheckpointError: there is no VAE in it.
    """
    names = list(names)
    if any(name.startswith(("encoder.down_blocks.", "decoder.up_blocks.")) for name in names):
        return diffusers_layout("vae", names)
    prefix = VAE_PREFIX if any(name.startswith(VAE_PREFIX) for name in names) else ""
    vae_names_in_file = [name for name in names if name.startswith(prefix or VAE_ROOTS)]
    layout = Layout()
    try:
        vae_names_in_file = [name.removeprefix(prefix) for name in vae_names_in_file]
        _add_translated(layout, "vae", VAE_PREFIX, vae_names_in_file, vae_names)
    except ValueError as error:
        raise CheckpointError.of(where, f"not a Stable Diffusion VAE: {error}") from error
    if "vae" not in layout.parts:
        raise CheckpointError.of(where, "there is no VAE in this file", "give a VAE as model.vae")

    def name_in_file(name: str) -> str:
        return prefix + name.removeprefix(VAE_PREFIX)

    places = {new: Place(name_in_file(old.name)) for new, old in layout.parts["vae"].items()}
    return Layout({"vae": places}, [name_in_file(name) for name in layout.unknown])


def canonical_shape(
    part: str, canonical: str, shape: tuple[int, ...], place: Place
) -> tuple[int, ...]:
    """The shape that the module wants: LDM's 1x1 convolutions of VAE attention are Linear."""
    if place.third is not None:
        return (shape[0] // 3, *shape[1:])
    if place.transposed:
        return shape[::-1]
    is_1x1 = len(shape) == 4 and shape[2:] == (1, 1)
    return shape[:2] if part == "vae" and is_1x1 and is_vae_projection(canonical) else shape


def canonical_shapes(layout: Layout, shapes: Shapes) -> dict[str, dict[str, tuple[int, ...]]]:
    """``{part: {canonical name: shape}}`` of what the layout found."""
    return {
        part: {
            new: canonical_shape(part, new, tuple(shapes[place.name]), place)
            for new, place in places.items()
        }
        for part, places in layout.parts.items()
    }
