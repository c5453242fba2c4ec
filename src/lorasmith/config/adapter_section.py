"""Settings of the adapter: its type and size, and the parts of the model that it changes."""

from __future__ import annotations

from typing import Literal

from pydantic import field_validator

from lorasmith.config.fields import Section, setting
from lorasmith.config.values import UserPath


class AdapterSettings(Section):
    """The LoRA itself: its size, and the parts of the model that it changes."""

    type: Literal["lora"] = setting(
        "lora", "kind of adapter", why="read by every program; enough for most subjects"
    )
    rank: int = setting(
        16,
        "rank of the matrices (network dim): how much the LoRA can hold",
        why="enough for most characters; 32 to 64 for intricate ones and styles",
        ge=1,
        le=1024,
    )
    alpha: float | None = setting(
        None,
        "the LoRA is scaled by alpha / rank; 0 and none mean the rank itself",
        why="a factor of 1, so that lr means what it says",
        kind="number",
        ge=0,
        le=4096,
    )
    conv_rank: int = setting(
        0,
        "rank for the 3x3 convolutions (LoRA-C3Lier); 0 leaves them alone",
        why="attention and feed-forward layers are enough for most, and files stay small",
        ge=0,
        le=1024,
    )
    conv_alpha: float | None = setting(
        None,
        "alpha for the convolutions; 0 and none mean conv_rank",
        why="a factor of 1",
        kind="number",
        ge=0,
        le=4096,
    )
    unet: bool = setting(
        True, "train the UNet: what pictures look like", why="most is learned here"
    )
    text_encoder: bool = setting(
        True, "train the text encoder: what words mean", why="binds the trigger word to the subject"
    )
    dropout: float = setting(
        0.0, "share of the inputs' numbers that are zeroed in training", why="off", ge=0, lt=1
    )
    rank_dropout: float = setting(
        0.0, "share of the ranks that are left out of a step", why="off", ge=0, lt=1
    )
    module_dropout: float = setting(
        0.0, "share of the layers whose LoRA is left out of a step", why="off", ge=0, lt=1
    )
    scale_weight_norms: float | None = setting(
        None,
        "largest norm of a layer's change; larger ones are scaled down after each step; "
        "1 is common, 0 and none are off",
        why="needed only against burning, or for LoRAs that are to be combined",
        kind="number",
        ge=0,
        le=1000,
    )
    init_from: UserPath | None = setting(
        None, "LoRA file to go on from", why="training starts from no change at all"
    )

    @field_validator("alpha", "conv_alpha", "scale_weight_norms")
    @classmethod
    def _zero_is_none(cls, value: float | None) -> float | None:
        return value or None

    @property
    def effective_alpha(self) -> float:
        return float(self.rank) if self.alpha is None else self.alpha

    @property
    def effective_conv_alpha(self) -> float:
        return float(self.conv_rank) if self.conv_alpha is None else self.conv_alpha
