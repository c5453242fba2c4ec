"""Which family of models a LoRA is for, from the shapes of its layers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from lorasmith.formats.kohya_keys import (
    PARTS,
    READS_HIDDEN,
    READS_TEXT,
    inputs_of,
    is_sdxl,
    said_family,
)
from lorasmith.formats.layer_names import OTHER_MODELS, is_named_as_stable_diffusion
from lorasmith.formats.unet_layers import UNETS, family_layers
from lorasmith.lora_tools.lora_file import LoraModule
from lorasmith.models.families.table import FAMILIES

CONTEXT = {768: "sd1", 1024: "sd2", 2048: "sdxl"}
"""Width of the texts that cross-attention reads -> family."""

EITHER, UNKNOWN = "Stable Diffusion 1 or 2", "a model of unknown sizes"
"""Titles of what is no family of its own."""

_TEXT = {768: "sd1", 1024: "sd2"}

GUESSED_BLOCKS = "its model is of no known family, and its blocks are numbered as in SD1"


@dataclass(frozen=True, slots=True)
class LoraFamily:
    """
    Args:
        name: "sd1", "sd2", "sdxl", or None where it is none of them or cannot be told.
        title: for people.
        why: what told it, or what did not.
        published: its layers have the sizes of a published model, as far as can be told.
    """

    name: str | None
    title: str
    why: str
    published: bool = True

    @property
    def guesses_blocks(self) -> bool:
        """Whether the model may have other levels than those that blocks are numbered by."""
        return not self.published


def lora_family(
    modules: Mapping[str, LoraModule],
    unmatched: Iterable[str] = (),
    metadata: Mapping[str, str] | None = None,
) -> LoraFamily:
    """The family, by the layers' names, their widths, and last by what the metadata says."""
    for title, sign in OTHER_MODELS:
        for name in (*modules, *unmatched):
            if sign.search(name):
                return LoraFamily(None, title, f"it has a layer {name.partition('.')[0]}")
    spec = (metadata or {}).get("modelspec.architecture", "").removesuffix("/lora")
    for name in FAMILIES.keys() - UNETS.keys():  # Those are told by their layers, below.
        if spec in FAMILIES[name].modelspec.values():
            return _named(name, "its metadata says so")
    if modules and not any(_is_known(key) for key in modules):
        why = f"it has a layer {next(iter(modules))}"
        return LoraFamily(None, "a model that is not known here", why)
    widths = _widths(modules, READS_TEXT)
    if widths:
        return _by_width(min(widths), len(widths), metadata or {})
    if is_sdxl(modules):
        return _named("sdxl", "its layers are those of Stable Diffusion XL")
    text = _widths(modules, READS_HIDDEN)
    if text and min(text) in _TEXT:
        return _named(_TEXT[min(text)], f"its text encoder is {min(text)} wide")
    if (metadata_family := said_family(metadata or {})) is not None:
        return _named(metadata_family, "its metadata says so")
    why = "it has no layer whose width tells SD1 and SD2 apart"
    return LoraFamily(None, EITHER, why)


def naming_family(family: LoraFamily, modules: Mapping[str, LoraModule], style: str) -> str | None:
    """The family whose layers' names hold for a file, or None where none does.

    SD1's and SD2's UNets are named alike. A model of other sizes has diffusers' paths where it is
    like them, which need no family; LDM's, as SDXL's are, depend on how many levels and layers
    there are, and hold where all of a file's are SDXL's.
    """
    if family.title == EITHER:
        return "sd1"
    if family.published:
        return family.name
    if not is_sdxl(modules):
        return "sd1" if style in ("kohya", "diffusers") else None
    layers = family_layers("sdxl")
    same = all(key in layers for key, module in modules.items() if module.has_matrix)
    return "sdxl" if style == "kohya" or (style == "diffusers" and same) else None


def _is_known(key: str) -> bool:
    beginning = next(each for each in PARTS if key.startswith(each))
    return is_named_as_stable_diffusion(PARTS[beginning], key.removeprefix(beginning))


def _named(name: str, why: str) -> LoraFamily:
    return LoraFamily(name, FAMILIES[name].title, why)


def _by_width(width: int, widths: int, metadata: Mapping[str, str]) -> LoraFamily:
    if widths == 1 and width in CONTEXT:
        return _named(CONTEXT[width], f"its cross-attention reads texts {width} wide")
    why = f"its cross-attention reads texts {width} wide, as no published model's does"
    metadata_family, base = said_family(metadata), metadata.get("ss_sd_model_name", "")
    if metadata_family is None:
        return LoraFamily(None, UNKNOWN, why, published=False)
    why += f"; its metadata names the base model{f' {base}' * bool(base)}"
    return LoraFamily(
        None, f"{FAMILIES[metadata_family].title} at other sizes", why, published=False
    )


def _widths(modules: Mapping[str, LoraModule], pattern: re.Pattern[str]) -> set[int]:
    """Inputs of the layers whose keys end so."""
    return {
        width
        for key, module in modules.items()
        if pattern.search(key) and (width := _inputs(module)) is not None
    }


def _inputs(module: LoraModule) -> int | None:
    tensors = module.tensors
    if module.algorithm == "ia3" and bool(tensors.get("on_input", False)):
        return tensors["weight"].numel()
    return inputs_of({name: tensor.shape for name, tensor in tensors.items()})
