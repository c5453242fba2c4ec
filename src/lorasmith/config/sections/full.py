"""Settings of full fine-tuning: which of the base's own weights are trained, and how it fits."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from lorasmith.config.fields import Section, setting
from lorasmith.config.values import Patterns


class FullSettings(Section):
    """Full fine-tuning (`train.kind = "full"`): the base's own weights, saved as a checkpoint."""

    unet: bool = setting(
        True, "train the UNet: what pictures look like", why="most is learned here"
    )
    text_encoder: bool = setting(
        False,
        "train the text encoder too, or alone: what words mean",
        why="words keep their meaning, and their features are encoded once",
    )
    layers: Patterns = setting(
        ["all"],
        "which weights of these are trained: all, attn, attn-mlp, full, or a list of these and of "
        "patterns, such as attn2.*; the presets are those of adapter.targets, without norms",
        why="all that can be learned",
    )
    exclude: Patterns = setting(
        [], "patterns of layers that stay as they are, such as time_embedding.*", why="none"
    )
    weights: Literal["fp32", "bf16"] = setting(
        "fp32",
        "number format of what is trained: bf16 takes half of the memory or less, and rounds each "
        "change by chance, so that small ones are right in the mean; it needs train.precision = "
        "bf16",
        why="nothing of a change is lost",
    )
    fused_backward: bool = setting(
        False,
        "let the optimizer step each weight within the backward pass, and forget its gradient: "
        "gradients then take no memory, and are clipped each by itself",
        why="takes one batch a step, no output preservation, and an optimizer that looks at one "
        "weight at a time",
    )
    diffusers: bool = setting(
        False,
        "write the result as a folder in diffusers' form, too, when training is done: diffusers/ "
        "in the run's folder",
        why="every program reads the single file, diffusers among them",
    )
    extract_rank: Annotated[int, Field(ge=1, le=1024)] | None = setting(
        None,
        "write the difference to the base as a LoRA of that rank too, when training is done",
        why="the checkpoint has it all",
        kind="whole number",
    )
